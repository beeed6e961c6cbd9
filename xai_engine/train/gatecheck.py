"""Does the gate refuse what it must? Measured on images that were not used to build it.

Everything goes through the ordinary path: a file that is read, or a radiograph of the evaluated split that was turned,
inverted or cut. The pictures come from other packages and other generators than those of `negatives` and `gateviews`, which
trained the gate; what could not be made independent says so in its note.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.classifier.gate import MIN_SIDE
from xai_engine.classifier.predict import Classifier
from xai_engine.errors import UnreadableImage
from xai_engine.radiograph import correct
from xai_engine.radiograph.read import read
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.run import Run
from xai_engine.train import evaluate, metrics, pictures
from xai_engine.train.sample import Sample

PER_POPULATION = 20  # radiographs of the split that each kind made from them is made from
SEED = 77


@dataclass(frozen=True)
class Kind:
    """One kind of image to refuse. make(radiograph, rng) -> radiograph; word: what the refusal must contain to be right."""

    name: str
    make: Callable[[Radiograph, np.random.Generator], Radiograph]
    word: str = ""
    note: str = "made from radiographs of this split"


def _with_pixels(radiograph: Radiograph, pixels: npt.NDArray[Any]) -> Radiograph:
    values = np.ascontiguousarray(pixels)
    values.flags.writeable = False
    digest = hashlib.sha256(values.tobytes() + repr(values.shape).encode()).hexdigest()
    return replace(radiograph, pixels=values, padding=None, sha256=digest, source_sha256="")


def inverted(radiograph: Radiograph, rng: np.random.Generator) -> Radiograph:
    """Grey values turned about: dense becomes dark."""
    pixels = radiograph.pixels.astype(np.float64)
    return _with_pixels(radiograph, (pixels.max() + pixels.min() - pixels).astype(radiograph.pixels.dtype))


def _turned(degrees: int) -> Callable[[Radiograph, np.random.Generator], Radiograph]:
    def make(radiograph: Radiograph, rng: np.random.Generator) -> Radiograph:
        return correct.apply(radiograph, (f"rotate-{degrees}",))

    return make


def half(radiograph: Radiograph, rng: np.random.Generator) -> Radiograph:
    """The left or right 45 % of the image: one lung."""
    width = round(0.45 * radiograph.columns)
    part = radiograph.pixels[:, :width] if rng.random() < 0.5 else radiograph.pixels[:, -width:]
    return _with_pixels(radiograph, part)


def third(radiograph: Radiograph, rng: np.random.Generator) -> Radiograph:
    """The upper or lower third of the image."""
    height = round(radiograph.rows / 3)
    part = radiograph.pixels[:height] if rng.random() < 0.5 else radiograph.pixels[-height:]
    return _with_pixels(radiograph, _enlarged(part))


def detail(radiograph: Radiograph, rng: np.random.Generator) -> Radiograph:
    """A window of 35 % of each side from anywhere: a detail of one lung, the heart, a shoulder."""
    rows, columns = round(0.35 * radiograph.rows), round(0.35 * radiograph.columns)
    top = int(rng.integers(0, radiograph.rows - rows + 1))
    left = int(rng.integers(0, radiograph.columns - columns + 1))
    part = radiograph.pixels[top : top + rows, left : left + columns]
    return _with_pixels(radiograph, _enlarged(part))


def _enlarged(part: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Whole multiples of the size until it is large enough to be judged at all: refusing it as small would be easy."""
    factor = max(1, -(-MIN_SIDE // min(part.shape)))
    return np.repeat(np.repeat(part, factor, 0), factor, 1)


KINDS = (
    Kind("inverted", inverted, "inverted"),
    Kind("upside down", _turned(180), "upside down"),
    Kind("turned by 90° to the right", _turned(90), "90° to the right"),
    Kind("turned by 90° to the left", _turned(270), "90° to the left"),
    Kind("part: one half", half),
    Kind("part: a third", third),
    Kind("part: a detail", detail),
)


def measure(
    classifier: Classifier,
    samples: Sequence[Sample],
    outcomes: Sequence[evaluate.Outcome],
    data: Path | None,
    run: Run,
) -> dict[str, Any]:
    """Shares refused per kind with Wilson's interval, and of the split's own radiographs. Raises Cancelled.

    data: folder that may hold `dicom/` with one folder per sort of file (`chest/` is to be accepted).
    """
    rows: list[dict[str, Any]] = []
    sources = _chosen(samples)
    for number, kind in enumerate(KINDS):
        run.check(0.8 * number / len(KINDS), f"gate: {kind.name}")
        rng = np.random.default_rng([SEED, number])
        refusals = []
        for sample in sources:
            try:
                image = kind.make(evaluate.read_sample(sample), rng)
            except UnreadableImage:
                continue
            refusals.append(refusal(classifier, image))
            run.check(0.8 * (number + len(refusals) / len(sources)) / len(KINDS))
        rows.append(_row(kind.name, refusals, kind.word, kind.note))
    files: dict[str, list[str]] = {}
    with TemporaryDirectory() as folder:
        for name, path in pictures.write(Path(folder), np.random.default_rng(SEED)):
            run.check(0.85, f"gate: {name}")
            files.setdefault(name, []).append(refusal_of_file(classifier, path))
    rows += [_row(name, found, "", pictures.NOTES[name]) for name, found in files.items()]
    result: dict[str, Any] = {}
    if data is not None and (data / "dicom").is_dir():
        run.check(0.95, "gate: DICOM files")
        others, chests = _dicom(classifier, data / "dicom")
        note = "real files; they were looked at while the rules were written, so they prove less"
        rows.append(_row("DICOM: other parts, other modalities", others, "", note))
        result["dicom_chests"] = _row("DICOM: frontal chests", chests, "", note)
    independent = [r for r in rows if "looked at" not in r["note"]]
    shares = [r["refused"][0] for r in independent if r["images"]]
    populations = sorted({o.sample.population for o in outcomes})
    result |= {
        "kinds": rows,
        "refused_mean_of_kinds": float(np.mean(shares)) if shares else None,
        "refused_all": _share(sum(r["count"] for r in independent), sum(r["images"] for r in independent)),
        "frontal_refused": {
            name: _share(
                sum(bool(o.refusal) for o in outcomes if o.sample.population == name),
                sum(o.sample.population == name for o in outcomes),
            )
            for name in populations
        },
        "not_measured": ["lateral radiographs: none at hand (projections of CT: docs/decisions/0015)"],
    }
    return result


def refusal(classifier: Classifier, radiograph: Radiograph) -> str:
    """The gate's sentence on an image, "" where it may be read."""
    return classifier.prepared([radiograph])[0].refusal


def refusal_of_file(classifier: Classifier, path: Path) -> str:
    """The same for a file; one that cannot be read is refused in the reader's words."""
    try:
        return refusal(classifier, read(path))
    except UnreadableImage as error:
        return str(error)


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    out: list[Sample] = []
    for population in sorted({s.population for s in samples}):
        members = [s for s in samples if s.population == population]
        order = np.random.default_rng(SEED).permutation(len(members))[:PER_POPULATION]
        out += [members[i] for i in order]
    return out


def _dicom(classifier: Classifier, folder: Path) -> tuple[list[str], list[str]]:
    """Refusals of the readable files that are no frontal chest, and of those that are."""
    others: list[str] = []
    chests: list[str] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix in (".dcm", "")):
        sort = path.relative_to(folder).parts[0]
        try:
            radiograph = read(path)
        except UnreadableImage:
            continue  # not the gate's work
        chest = sort == "chest" or "chest" in path.name.lower()
        (chests if chest else others).append(refusal(classifier, radiograph))
    return others, chests


def _row(name: str, refusals: Sequence[str], word: str, note: str) -> dict[str, Any]:
    count = sum(bool(r) for r in refusals)
    reasons: dict[str, int] = {}
    for sentence in refusals:
        reasons[reason(sentence)] = reasons.get(reason(sentence), 0) + 1
    return {
        "kind": name,
        "images": len(refusals),
        "count": count,
        "refused": _share(count, len(refusals)),
        "right_reason": _share(sum(word in r for r in refusals), len(refusals)) if word else None,
        "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])),
        "note": note,
    }


def reason(sentence: str) -> str:
    """A refusal in two or three words, for tables."""
    words = {
        "not look like": "no frontal chest",
        "No lung fields": "no lungs found",
        "inverted": "inverted",
        "upside down": "upside down",
        "90°": "turned by 90°",
        "Only one lung": "one lung",
        "much smaller than the other": "one lung",
        "too small for": "lungs too small",
        "too large": "lungs too large",
        "too small to judge": "image too small",
        "blank": "blank",
        "uncertain": "lungs uncertain",
        "cut off": "lungs cut off",
        "too wide": "lungs too wide",
        "fill the whole": "lungs fill the image",
        "tilted": "tilted",
        "lost in noise": "lost in noise",
        "The file says": "stated by the file",
    }
    return next(
        (short for part, short in words.items() if part in sentence), "unreadable" if sentence else "accepted"
    )


def _share(count: int, total: int) -> list[float | None]:
    return [v if np.isfinite(v) else None for v in metrics.wilson(count, total).as_tuple()]
