"""Training images: read once, brought to one grid, kept as bytes on disk so that an epoch costs no decoding."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.classifier import preprocess
from xai_engine.train.sample import ManifestError, Sample

T = TypeVar("T")
LONG_SIDE = 640  # no training image here has more detail; bounds the work


def read_grey(sample: Sample) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], float]:
    """Upright grey in [0, 1], validity, pixel aspect (height over width) of one training image.

    Stored pixels of a squashed image are not square: `sample.aspect` holds the true proportions.
    """
    from xai_engine.radiograph.read import read

    radiograph = read(sample.path)
    grey, valid = preprocess.upright_grey(radiograph)
    rows, columns = grey.shape
    aspect = sample.aspect * columns / rows if sample.aspect != 1.0 else preprocess.pixel_aspect(radiograph)
    longest = max(rows, columns)
    if longest > LONG_SIDE:
        size = (max(1, round(columns * LONG_SIDE / longest)), max(1, round(rows * LONG_SIDE / longest)))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        valid = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    return grey, valid, aspect


def read_mask(sample: Sample) -> npt.NDArray[np.bool_]:
    """Lung mask (rows, columns) of a sample that has one."""
    from PIL import Image

    assert sample.mask is not None
    return np.asarray(Image.open(sample.mask)) > 0


def digest(samples: Sequence[Sample], extra: object) -> str:
    """Key of a cache: which files (size and time), in which order, brought to what."""
    content = [(str(s.path), s.path.stat().st_size, s.path.stat().st_mtime_ns, s.aspect) for s in samples]
    return hashlib.sha256(json.dumps([content, repr(extra)]).encode()).hexdigest()[:16]


def map_images(
    function: Callable[[Sample], T], samples: Sequence[Sample], where: Path, workers: int = 2
) -> list[T]:
    """`function` over samples in processes; every file that fails is listed in one ManifestError."""
    results: list[T] = []
    problems: list[str] = []
    with ProcessPoolExecutor(workers) as pool:
        for sample, outcome in zip(samples, pool.map(_Guard(function), samples, chunksize=32), strict=True):
            if isinstance(outcome, _Failure):
                problems.append(f"{sample.place or sample.path.name}: {outcome.message}")
            else:
                results.append(outcome)
    if problems:
        raise ManifestError(where, problems)
    return results


@dataclass(frozen=True)
class _Failure:
    message: str


@dataclass(frozen=True)
class _Guard(Generic[T]):
    function: Callable[[Sample], T]

    def __call__(self, sample: Sample) -> T | _Failure:
        try:
            return self.function(sample)
        except Exception as error:  # any file may be broken in any way; all are listed together
            return _Failure(str(error).splitlines()[0] if str(error) else type(error).__name__)
