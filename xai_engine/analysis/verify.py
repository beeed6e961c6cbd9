"""An earlier result computed anew and compared with what its folder says: every number, every map, every overlay."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_engine.errors import Cancelled, UsageError
from xai_engine.evidence import record

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier
    from xai_engine.evidence.case import CaseReview
    from xai_engine.explain.registry import Method
    from xai_engine.radiograph.types import Radiograph
    from xai_engine.runtime.run import Run

TOLERANCE = 1e-5  # of a number's or a map's own size: another thread count or batch size stays below
_FLOOR = 1e-7  # numbers smaller than this count as zero
# effort, place and moment differ between runs (which backend is the fastest depends on what else the machine does); what
# the reader wrote and chose to see is no result
_NOT_COMPARED = {
    "seconds", "created", "command", "options", "path", "environment", "backend", "engine_version", "reader", "voi", "style",
}  # fmt: skip
_EFFORT = {"forwards", "backwards"}  # not compared where it was remembered


def verify(
    folder: Path | str,
    run: Run,
    image: Path | str | None = None,
    model: Path | str | None = None,
    tolerance: float = TOLERANCE,
) -> list[str]:
    """Compute the result in `folder` anew on its own device and precision; one line per item that differs.

    image, model: where they are now; as recorded when None. tolerance: the largest difference that passes, relative to
    the number or to the map's largest magnitude. Not compared: seconds, paths, dates, the reader's words, `report.pdf`.
    Raises UsageError (no result there), UnreadableImage, ModelError (no such model), Cancelled.
    """
    from xai_engine.classifier import bundle
    from xai_engine.radiograph import correct
    from xai_engine.radiograph.read import read
    from xai_engine.runtime import device

    if not 0 <= tolerance < 1:
        raise UsageError(f"--tolerance {tolerance}: must be from 0 to below 1")
    saved = record.load(folder)
    data = saved.data
    where = saved.folder / record.FILE_NAME
    try:
        radiograph = read(image or data["image"]["path"])
        if radiograph.file_sha256 != data["image"]["sha256"]:
            return [f"image: {radiograph.path} is another one (its SHA-256 differs); nothing was computed"]
        found = bundle.find(model or data.get("options", {}).get("model") or data["model"]["name"])
        if bundle.info(found).sha256 != data["model"]["sha256"]:
            return [f"model: {found.name} is another one (its SHA-256 differs); nothing was computed"]
        environment = data["environment"]
        policy = device.choose(
            environment["device"],
            environment["precision"],
            environment.get("backend", "auto"),
            threads=environment.get("threads") or 0,
        )
        radiograph = correct.apply(radiograph, data["image"].get("corrections", ()))
        again = _again(data, radiograph, bundle.load(found, policy), run)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(f"{where}: is incomplete or was changed; analyse the image again") from error
    names = record.file_names(again)
    lines = list(differences(data, record.to_json(again, names), tolerance))
    for index, name in enumerate(again.names()):
        lines += _map(saved, index, name, again, tolerance)
    return lines


def _again(data: Mapping[str, Any], radiograph: Radiograph, classifier: Classifier, run: Run) -> CaseReview:
    """The case as the record describes it, computed here and now."""
    from xai_engine.analysis import pipeline
    from xai_engine.assess import options
    from xai_engine.explain import registry
    from xai_engine.radiograph.regions import Region

    known = {d.name: {p.name for p in d.parameters} for d in registry.describe()}
    entries = data["explanations"]
    methods = []
    for entry in entries:
        allowed = known.get(entry["method"], set())
        params = {key: value for key, value in entry["params"].items() if key in allowed}
        methods.append(registry.create(entry["method"], **params))
    roi = tuple(
        Region(item["kind"], np.asarray(item["points"], float), item["name"], item["id"])
        for item in data["rois"]
    )
    fills = {item["what_if"]["fill"] for item in data["rois"] if item.get("what_if")}
    prediction = classifier.predict([radiograph], run.part(0.0, 0.1))[0]
    order: dict[tuple[str, int, str | None], list[int]] = {}  # what can run together as it did
    for index, entry in enumerate(entries):
        card = entry["reliability"]
        key = (entry["target"], int(entry["seed"]), card.get("preset") if card else None)
        order.setdefault(key, []).append(index)
    maps: dict[int, Any] = {}
    cards: dict[int, Any] = {}
    for number, ((target, seed, preset), members) in enumerate(order.items()):
        part = run.part(0.1 + 0.7 * number / len(order), 0.1 + 0.7 * (number + 1) / len(order))
        chosen: Sequence[Method] = [methods[i] for i in members]
        shared = [_shared_with(entries, methods, members, i) for i in members]
        case = pipeline.analyze(
            radiograph, classifier, chosen, target, seed, (), part, prediction=prediction,
            cards=options.preset(preset) if preset else None, what_if=None, shared_with=shared,
        )  # fmt: skip
        for i, name, e in zip(members, case.names(), case.explanations, strict=False):
            maps[i] = e
            cards[i] = case.reliability.get(name)
    base = pipeline.analyze(
        radiograph, classifier, (), None, int(data["seed"]), (), run.part(0.8, 0.82), prediction=prediction
    )
    # what made no map has no number to compare
    skipped = {entry["method"]: entry["reason"] for entry in data.get("skipped", [])}
    case = replace(base, explanations=tuple(maps[i] for i in sorted(maps)), regions=roi, skipped=skipped)
    trust = {name: cards[i] for i, name in zip(sorted(maps), case.names(), strict=True) if cards[i]}
    case = replace(case, reliability=trust)
    if roi:
        named = dict(zip(case.names(), case.explanations, strict=True))
        line = classifier.midline(radiograph)
        case = replace(case, statistics=pipeline.measure(radiograph, roi, named))
        if any(item.get("mirror") for item in data["rois"]):
            mirrors = pipeline.mirror_regions(radiograph, roi, line, named)
            case = replace(case, mirrors=_kept(mirrors, data, roi, "mirror"))
        asked: dict[str, Any] = {}
        for fill in sorted(fills):
            of_fill = [r for r, i in zip(roi, data["rois"], strict=True) if _fill(i) == fill]
            seed = next(int(i["what_if"]["seed"]) for i in data["rois"] if _fill(i) == fill)
            asked |= pipeline.ask_all(radiograph, classifier, of_fill, fill, line, seed, run.part(0.85, 1.0))
        case = replace(case, what_if=asked)
    if run.cancelled:
        raise Cancelled("cancelled")
    return case


def _shared_with(
    entries: Sequence[Mapping[str, Any]], methods: Sequence[Method], members: Sequence[int], index: int
) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The pool of forwards that a map drew from; as it must have been where an older version did not record it."""
    entry = entries[index]
    if "shared_with" in entry:
        return tuple((item["method"], item["params"]) for item in entry["shared_with"])
    if "forwards_shared" not in (entry.get("extra") or {}):
        return ()
    drew = [i for i in members if "forwards_shared" in (entries[i].get("extra") or {})]
    return tuple((methods[i].name, methods[i].values()) for i in drew)


def _fill(item: Mapping[str, Any]) -> str | None:
    asked = item.get("what_if")
    return asked["fill"] if asked else None


def _kept(found: Mapping[str, Any], data: Mapping[str, Any], roi: Sequence[Any], key: str) -> dict[str, Any]:
    ids = record.region_ids(tuple(roi))
    return {i: found[i] for i, item in zip(ids, data["rois"], strict=True) if item.get(key)}


def differences(saved: Any, again: Any, tolerance: float, place: str = "") -> Iterator[str]:
    """One line per value of two JSON trees that differs, named by its place, as in "explanations[0].params.steps"."""
    if isinstance(saved, Mapping) and isinstance(again, Mapping):
        for key in dict.fromkeys((*again, *saved)):
            if key in _NOT_COMPARED or (key in _EFFORT and _remembered(saved, place)):
                continue
            if key == "shared_with" and key not in saved:  # written by an older version
                continue
            at = f"{place}.{key}" if place else str(key)
            if key not in saved:
                if again[key] not in (None, {}, []):  # written by an older version
                    yield f"{at}: is missing"
            elif key not in again:
                yield f"{at}: is unknown"
            else:
                yield from differences(saved[key], again[key], tolerance, at)
    elif isinstance(saved, list) and isinstance(again, list):
        if len(saved) != len(again):
            yield f"{place}: {len(saved)} recorded, {len(again)} computed"
            return
        for index, (one, other) in enumerate(zip(saved, again, strict=True)):
            yield from differences(one, other, tolerance, f"{place}[{index}]")
    elif _number(saved) and _number(again):
        if not math.isclose(saved, again, rel_tol=tolerance, abs_tol=_FLOOR):
            yield f"{place}: {saved:.9g} recorded, {again:.9g} computed"
    elif saved != again or type(saved) is not type(again):
        yield f"{place}: {_short(saved)} recorded, {_short(again)} computed"


def _remembered(saved: Mapping[str, Any], place: str) -> bool:
    """Whether what was done for this entry depends on what was done before it: forwards that were there are not made again."""
    shared = saved.get("shared_with") or "forwards_shared" in (saved.get("extra") or {})
    return ".reliability" in place or ".what_if" in place or bool(shared)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:59]}…"


def _map(saved: record.Record, index: int, name: str, again: CaseReview, tolerance: float) -> Iterator[str]:
    """Whether the stored map is the computed one, and the stored overlay the picture of the stored map."""
    from PIL import Image

    from xai_engine.radiograph import colour, display
    from xai_engine.radiograph.colour import LayerStyle

    entry = saved.data["explanations"][index]
    try:
        values = saved.map(index)
    except UsageError as error:
        yield str(error)
        return
    computed = again.explanations[index].in_source()
    largest = float(np.abs(computed).max())
    difference = np.abs(values.astype(np.float64) - computed)
    wrong = ~(difference <= max(tolerance * largest, 1e-12))  # NaN counts as wrong
    if wrong.any():
        share = float(np.nanmax(difference, initial=0.0)) / largest if largest else math.inf
        yield f"{entry['map']}: {int(wrong.sum())} pixels differ, at most by {share:.2g} of the largest value"
    voi = saved.data["image"]["voi"]
    r = again.radiograph
    window = record.shown_window(r, voi)
    if window is None:  # nor can its picture be made again
        return
    grey = display.picture(r, window[0], voi["inverted"])
    expected = colour.blend(grey, values, LayerStyle(**entry["style"]), float(entry["full_scale"]))
    path = saved.folder / str(entry["overlay"])
    try:
        if path.parent != saved.folder:
            raise OSError("elsewhere")
        with Image.open(path) as picture:
            shown = np.asarray(picture)
    except (OSError, ValueError):
        yield f"{entry['overlay']}: cannot be read"
        return
    if shown.shape != expected.shape:
        yield f"{entry['overlay']}: has another size"
    elif (count := int((shown != expected).any(axis=-1).sum())) > 0:
        yield f"{entry['overlay']}: {count} pixels differ from the picture of {name}"
