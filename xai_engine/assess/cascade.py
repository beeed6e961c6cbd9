"""Model randomisation of a method, measured once per model: what is left of its map when weights are random.

The score belongs to (model, method, parameters), not to one patient's image: it is measured on two synthetic chests of
fixed seeds, shown to the network as the model's own preprocessing does, and kept: for the process, and on disk (`memory`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from torch import nn

from xai_engine.assess import memory, randomise, rerun, similarity
from xai_engine.classifier.types import ModelInput
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.registry import Method
from xai_engine.radiograph import phantom
from xai_engine.radiograph.types import Radiograph, StudyInfo
from xai_engine.runtime.run import Run

RULE = 1  # raise it when the measure changes: files of another rule are not read
REFERENCES = (
    (101, phantom.Consolidation("right lower")),
    (102, phantom.Consolidation("left lower", 36.0)),
)
SEED = 0  # of the copies and of the maps: the score must not depend on who asked first


@dataclass(frozen=True, slots=True)
class Cascade:
    """shares: of the layers randomised, from the output down, increasing to 1. ranks: Spearman with the map of the
    untouched network (the larger of the map's and its magnitude's), mean over the images; alike: SSIM, NaN where none.
    forwards: what it cost, 0 when it was remembered.
    """

    shares: tuple[float, ...]
    ranks: tuple[float, ...]
    alike: tuple[float, ...]
    forwards: int = 0


_KEPT: dict[str, Cascade] = {}


def measured(
    classifier: Explainable, target: str, method: Method, stages: int, run: Run, tick: Callable[[], object]
) -> Cascade | None:
    """The score of this method on this model, remembered or measured. None: no finite map, or stopped.

    `tick` is called in long steps that explain nothing and may raise Interrupted.
    """
    name = memory.key(
        classifier,
        target,
        measure="randomisation",
        rule=RULE,
        method=method.name,
        params=method.values(),
        stages=stages,
    )
    if name not in _KEPT:
        found = _read(name)
        if found is None:
            found = _measure(classifier, target, method, stages, run, tick)
            if found is None:
                return None
            _KEPT[name] = Cascade(found.shares, found.ranks, found.alike)
            _write(name, found)
            return found
        _KEPT[name] = found
    return _KEPT[name]


def steps_of(network: nn.Module, stages: int) -> list[float]:
    """Shares of the layers to randomise, increasing to 1."""
    count = len(randomise.layers(network))
    return [float(s) for s in np.unique(np.round(np.linspace(1, count, stages)) / count)]


def compare(
    original: npt.NDArray[np.float32], again: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """Rank correlation (of the maps or of their magnitudes, the larger) and structural similarity, NaN where none."""
    rank = max(
        similarity.spearman(original, again, valid),
        similarity.spearman(np.abs(original), np.abs(again), valid),
    )
    alike = similarity.ssim(original, again, valid)
    return rank, math.nan if alike is None else alike


def _measure(
    classifier: Explainable, target: str, method: Method, stages: int, run: Run, tick: Callable[[], object]
) -> Cascade | None:
    steps = steps_of(classifier.network, stages)
    inputs = references(classifier)
    total = len(inputs) * (1 + len(steps))
    done = forwards = 0
    found = np.full((len(steps), len(inputs), 2), np.nan)
    for index, model_input in enumerate(inputs):
        bench = rerun.Bench(classifier, model_input, target)
        original = bench.map(method, run.part(done / total, (done + 1) / total), SEED)
        done += 1
        if original is None:
            return None
        for step, share in enumerate(steps):
            try:
                other = randomise.randomised(classifier, share, SEED, 0, tick)
            except Interrupted:
                return None
            again = bench.map(method, run.part(done / total, (done + 1) / total), SEED, classifier=other)
            done += 1
            if run.cancelled:
                return None
            if again is not None:  # None: this copy gives no finite map
                found[step, index] = compare(original, again, model_input.valid)
        forwards += bench.forwards
    known = ~np.isnan(found[:, :, 0]).any(1)
    if not known[-1]:
        return None
    return Cascade(
        tuple(s for s, k in zip(steps, known, strict=True) if k),
        tuple(float(v) for v in found[known, :, 0].mean(1)),
        tuple(float(v) for v in found[known, :, 1].mean(1)),
        forwards,
    )


# ---- reference images --------------------------------------------------------------------------------------------


def references(classifier: Explainable) -> list[ModelInput]:
    """The synthetic chests as this model is shown them; the classifier's own `prepare` where it has one."""
    prepare = getattr(classifier, "prepare", None)
    if prepare is not None:
        return [prepare(_radiograph(i)) for i in range(len(REFERENCES))]
    from xai_engine.classifier import preprocess
    from xai_engine.explain.adapter import input_of

    channels, rows, columns = classifier.info.input_shape
    out = []
    for index in range(len(REFERENCES)):
        grey, valid = preprocess.upright_grey(_radiograph(index))
        image, inside = preprocess.sample(grey, valid, preprocess.letterbox(grey.shape, rows))
        plane = preprocess.standardise(image, inside, preprocess.PreprocessSpec(rows))[:, :columns]
        out.append(input_of(np.repeat(plane[None], channels, axis=0), inside[:, :columns]))
    return out


@cache
def _radiograph(index: int) -> Radiograph:
    seed, lesion = REFERENCES[index]
    pixels = phantom.make(seed, consolidation=lesion, rows=560, columns=540).pixels
    pixels.setflags(write=False)
    digest = hashlib.sha256(pixels.tobytes()).hexdigest()
    return Radiograph(
        path=Path(f"synthetic reference {index + 1}"),
        sha256=digest,
        file_format="synthetic",
        pixels=pixels,
        photometric="MONOCHROME2",
        source_photometric="MONOCHROME2",
        bits_stored=phantom.BITS,
        modality="CR",
        unit="",
        voi=(),
        padding=None,
        spacing=None,
        orientation=("L", "F"),
        frames=1,
        transfer_syntax="",
        study=StudyInfo(synthetic=True),
        tags=(),
        notices=(),
    )


# ---- memory ------------------------------------------------------------------------------------------------------


def _read(name: str) -> Cascade | None:
    """None where there is no file, or none that makes sense: it is measured again."""
    data = memory.read(name)
    try:
        shares, ranks, alike = (
            tuple(math.nan if v is None else float(v) for v in data[key])
            for key in ("shares", "ranks", "alike")
        )
    except (ValueError, KeyError, TypeError):
        return None
    if not 0 < len(shares) == len(ranks) == len(alike) or any(not -1 <= v <= 1 for v in (*shares, *ranks)):
        return None
    return Cascade(shares, ranks, alike)


def _write(name: str, found: Cascade) -> None:
    alike = [None if math.isnan(v) else v for v in found.alike]
    memory.write(name, {"shares": found.shares, "ranks": found.ranks, "alike": alike})
