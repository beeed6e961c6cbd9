"""`analysis.json`: the public record of one analysis, schema 1 (`docs/analysis.schema.json`).

It names the image by path and digest and holds no patient data of the file's header.
"""

from __future__ import annotations

import dataclasses
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xai_engine import __version__
from xai_engine.errors import UsageError
from xai_engine.evidence.case import CaseReview
from xai_engine.explain.what_if import WhatIf
from xai_engine.radiograph import display
from xai_engine.radiograph.mirror import Mirror
from xai_engine.radiograph.regions import Region, RegionStatistics
from xai_engine.radiograph.types import Radiograph, Voi, Window

SCHEMA = 1
FILE_NAME = "analysis.json"
REGIONS = "regions.json"


class MapFiles(NamedTuple):
    """File names of one map, relative to the folder of the record."""

    map: str
    overlay: str


def file_names(case: CaseReview) -> dict[str, MapFiles]:
    """The files that the maps of a case are written to, by their name in `case.names()`."""
    return {name: MapFiles(f"{name}.npy", f"{name}.png") for name in case.names()}


def to_json(
    case: CaseReview, files: Mapping[str, MapFiles | tuple[str, str]] | None = None
) -> dict[str, Any]:
    """The record as plain JSON values: every key always there, null for what does not exist, never NaN.

    files: (map, overlay) by map name, as written beside the record; a map without files gets null for both.
    The numbers of a prediction on an image that the model may not read are null: they mean nothing.
    """
    r, p = case.radiograph, case.prediction
    files = files or {}
    record = {
        "schema": SCHEMA,
        "image": {
            "path": str(r.path),
            "sha256": r.file_sha256,
            "corrections": r.corrections,
            "rows": r.rows,
            "columns": r.columns,
            "modality": r.modality,
            "photometric": r.source_photometric or r.photometric,
            "pixel_spacing_mm": [r.spacing.row_mm, r.spacing.column_mm] if r.spacing else None,
            "spacing_source": r.spacing.source if r.spacing else "unknown",
            "format": r.file_format,
            "unit": r.unit,
            "voi": {"preset": case.voi_key, "inverted": case.invert, **_window(case)},
            "synthetic": r.study.synthetic,
            "notices": r.notices,
        },
        "model": {"name": p.model.name, "version": p.model.version, "sha256": p.model.sha256},
        "prediction": {
            "label": p.label if p.readable else None,
            "probability": p.probability if p.readable else None,
            "logit": p.logit if p.readable else None,
            "threshold": p.threshold,
            "uncertainty": p.uncertainty if p.readable else None,
            "readable": p.readable,
            "refusal": p.refusal or None,
            "operating_point": p.operating_point,
            "prediction_set": p.prediction_set if p.readable else None,
            "seconds": p.seconds,
        },
        "explanations": [
            {
                "method": e.method,
                "params": e.params,
                "target": e.target,
                "unit": e.unit,
                "seed": e.seed,
                "map": files[name][0] if name in files else None,
                "overlay": files[name][1] if name in files else None,
                "seconds": e.seconds,
                "forwards": e.forwards,
                "partial": e.partial,
                "completeness_error": e.completeness_error,
                "reliability": case.reliability.get(name, {}),
                "backwards": e.backwards,
                "converged": e.converged,
                "full_scale": e.full_scale,
                "notes": e.notes,
                "extra": e.extra,
                "device": e.device,
                "precision": e.precision,
                "backend": e.backend,
                "shared_with": [{"method": name, "params": params} for name, params in e.shared_with],
                "style": case.style(name),
            }
            for name, e in zip(case.names(), case.explanations, strict=True)
        ],
        "skipped": [{"method": name, "reason": why} for name, why in case.skipped.items()],
        "rois": [
            region_json(region, case.statistics.get(key), case.mirrors.get(key), case.what_if.get(key))
            for key, region in zip(region_ids(case.regions), case.regions, strict=True)
        ],
        "environment": {
            "engine": __version__,
            "torch": None,
            "device": p.device,
            "precision": p.precision,
            "threads": None,
            **case.environment,
        },
        "engine_version": __version__,
        "created": case.created,
        "seed": case.seed,
        "options": dict(case.options),
        "command": command(case),
        "reader": {"name": case.reader, "impression": case.impression},
    }
    result: dict[str, Any] = plain(record)
    return result


def _window(case: CaseReview) -> dict[str, Any]:
    """A window of the reader's own, in modality units: it stands nowhere else."""
    if case.voi_key != "manual" or not isinstance(case.voi, Window):
        return {}
    return {"center": case.voi.center, "width": case.voi.width, "function": case.voi.function}


def shown_window(radiograph: Radiograph, voi: Mapping[str, Any]) -> tuple[Voi, str] | None:
    """The window that a record's `image.voi` tells of, and its key; None where it does not say how the reader had set it."""
    if voi["preset"] != "manual":
        return display.select(radiograph, voi["preset"]), voi["preset"]
    if "center" not in voi:  # records of the versions before
        return None
    return Window(float(voi["center"]), float(voi["width"]), voi["function"]), "manual"


def region_ids(regions: tuple[Region, ...]) -> tuple[str, ...]:
    """Ids of the regions; the number in the list for one without an id, as `regions.dump` does."""
    return tuple(region.id or str(number) for number, region in enumerate(regions, 1))


def region_json(
    region: Region,
    statistics: RegionStatistics | None,
    mirror: Mirror | None = None,
    what_if: WhatIf | None = None,
) -> dict[str, Any]:
    """One entry of "rois": the figure and, once measured, its numbers; its mirror and what changing it does, if known."""
    entry: dict[str, Any] = {
        "id": region.id,
        "name": region.name,
        "kind": region.kind,
        "points": region.points,
        "pixels": None,
        "excluded_pixels": None,
        "area_mm2": None,
        "length_px": None,
        "length_mm": None,
        "spacing_source": None,
        "mean": None,
        "sd": None,
        "minimum": None,
        "maximum": None,
        "median": None,
        "unit": "",
        "maps": {},
        "mirror": None if mirror is None else mirror.to_json(),
        "what_if": None if what_if is None else what_if.to_json(),
    }
    if statistics is not None:
        entry |= {key: value for key, value in dataclasses.asdict(statistics).items() if key in entry}
        entry |= {"id": region.id or statistics.id, "name": region.name, "kind": region.kind}
    return entry


def command(case: CaseReview, *, report: bool = True) -> str:
    """The command line that repeats the analysis, quoted for a POSIX shell.

    Every parameter that is not the method's default is in it, exactly; the regions where `options` names their file.
    """
    environment = case.environment
    options: dict[str, str] = {
        "model": case.prediction.model.name,
        "methods": ",".join(case.names()) or "none",
    }
    if case.explanations:
        options["target"] = case.explanations[0].target
    options |= {
        "seed": str(case.seed),
        "device": str(environment.get("device") or case.prediction.device),
        "precision": str(environment.get("precision") or case.prediction.precision),
    }
    if backend := _backend(case):
        options["backend"] = backend
    options |= {key: str(value) for key, value in case.options.items() if key != "param"}
    if case.explanations:
        presets = {str(card.get("preset", "")) for card in case.reliability.values() if card}
        options["cards"] = presets.pop() if len(presets) == 1 else "none" if not presets else "quick"
    if "roi" in options and case.prediction.readable:
        fills = {asked.fill for asked in case.what_if.values()}
        options["what-if"] = fills.pop() if len(fills) == 1 else "none" if not fills else "inpaint"
    words = ["radiolucent", "analyze", str(case.radiograph.path)]
    for key, value in options.items():
        words += [f"--{key}", value]
    for text in parameters(case):
        words += ["--param", text]
    if case.radiograph.corrections:
        words.append("--correct")
    return shlex.join(words + (["--report"] if report else []))


def _backend(case: CaseReview) -> str:
    """What ran the passes: the one asked for, or of a free choice ("auto") the compiled one that was taken, as the choice is timed and another
    run might choose otherwise; "" where nothing but torch was used, or nothing is known."""
    asked = str(case.environment.get("backend") or "")
    if asked not in ("", "auto"):
        return asked
    taken = sorted({e.backend for e in case.explanations} - {"", "torch"})
    return taken[0] if len(taken) == 1 else ""


def parameters(case: CaseReview) -> list[str]:
    """`--param` values, map by map: parameters that are not the method's defaults, as "lime.samples=300"."""
    from xai_engine.explain import registry

    defaults = {d.name: {p.name: p.default for p in d.parameters} for d in registry.describe()}
    out = []
    for name, explanation in zip(case.names(), case.explanations, strict=True):
        usual = defaults.get(explanation.method, {})
        for key, value in explanation.params.items():
            if key not in usual or usual[key] == value:
                continue
            text = str(value).lower() if isinstance(value, bool) else str(value)
            out.append(f"{name}.{key}={text}")
    return out


def untold(case: CaseReview) -> list[str]:
    """What `command` cannot say, one sentence part each: then it does not repeat the analysis exactly."""
    out = []
    pools = _pools(case)
    for name, e in zip(case.names(), case.explanations, strict=True):
        if e.shared_with != pools[name]:
            names = [name for name, _ in e.shared_with if name != e.method]
            out.append(f"{name} was made {'beside ' + ' and '.join(names) if names else 'by itself'}")
        if e.seed != case.seed:
            out.append(f"{name} was run with seed {e.seed}")
        if e.target != case.explanations[0].target:
            out.append(f"{name} is of the target {e.target}")
        if e.partial:
            out.append(f"{name} was stopped before its end")
    if case.regions and "roi" not in case.options:
        out.append("the regions, which were not saved to a file")
    elif len({asked.fill for asked in case.what_if.values()}) > 1:
        out.append("the regions were changed in several ways")
    if len({card.get("preset") for card in case.reliability.values() if card}) > 1:
        out.append("the cards were made with several presets")
    return out


def _pools(case: CaseReview) -> dict[str, tuple[tuple[str, dict[str, Any]], ...]]:
    """Which maps would share forwards (Explanation.shared_with) if the maps of the case were made together."""
    from xai_engine.explain import registry
    from xai_engine.explain.pool import Pool

    known = {d.name: {p.name for p in d.parameters} for d in registry.describe()}
    methods = {
        name: registry.create(e.method, **{k: v for k, v in e.params.items() if k in known[e.method]})
        for name, e in zip(case.names(), case.explanations, strict=True)
        if e.method in known
    }
    pool = Pool.of(list(methods.values()))
    return {
        name: pool.asked if name in methods and pool.serves(methods[name]) else () for name in case.names()
    }


def dumps(record: Mapping[str, Any]) -> str:
    """Strict JSON text, Unicode kept, one line feed at the end."""
    return json.dumps(record, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A record read back. data: the JSON object; folder: where its files are."""

    folder: Path
    data: Mapping[str, Any]

    def map(self, index: int) -> npt.NDArray[np.float32]:
        """The map of explanation `index`: float32 (rows, columns) of the image. Raises UsageError."""
        name = self.data["explanations"][index]["map"]
        if not isinstance(name, str) or PurePath(name).name != name or name.startswith("."):
            raise UsageError(f"{self.folder / FILE_NAME}: explanation {index} names no file of this folder")
        path = self.folder / name
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise UsageError(f"{path}: no map can be read from it; analyse the image again") from error
        shape = (self.data["image"]["rows"], self.data["image"]["columns"])
        if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != np.float32:
            raise UsageError(f"{path}: is no float32 map of {shape[0]} × {shape[1]}; analyse the image again")
        return values


def load(folder: Path | str) -> Record:
    """The record in `folder`. Raises UsageError when there is none or it is of another schema."""
    path = Path(folder) / FILE_NAME
    try:
        data = json.loads(path.read_bytes().decode("utf-8"), parse_constant=_no_constant)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror or error}); name a result folder"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: is no strict JSON; analyse the image again") from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or isinstance(data["schema"], bool):
        raise UsageError(f"{path}: is no record of schema {SCHEMA}; this version reads no other")
    missing = [
        key
        for key in ("image", "model", "prediction", "explanations", "rois", "environment")
        if key not in data
    ]
    if missing:
        raise UsageError(f"{path}: “{missing[0]}” is missing; analyse the image again")
    return Record(Path(folder), data)


def plain(value: Any) -> Any:
    """JSON values: numpy and dataclasses become Python's own, what is not finite becomes None."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, str):
        # names of files that are not valid text arrive with lone surrogates, which UTF-8 cannot hold
        return value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(plain(str(key))): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(item) for item in value), key=str)
    return str(plain(str(value)))


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
