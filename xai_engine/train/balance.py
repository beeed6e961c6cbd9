"""Which images an epoch shows, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.train.sample import Sample

POSITIVE = 0.4  # a label from here on counts as positive when classes are balanced


def weighed(
    samples: Sequence[Sample], which: npt.NDArray[np.intp], config: Mapping[str, Any]
) -> list[Sample]:
    """With balance "weights", training images weigh inversely to the frequency of their class; the mean stays 1."""
    out = list(samples)
    if config["balance"] == "weights":
        positive = np.array([samples[i].label >= POSITIVE for i in which])
        for i, p in zip(which, positive, strict=True):
            factor = len(which) / 2 / int((positive == p).sum())
            out[i] = replace(samples[i], weight=samples[i].weight * factor)
    return out


def order(
    which: npt.NDArray[np.intp],
    probability: npt.NDArray[np.float64] | None,
    count: int,
    seed: tuple[int, ...],
) -> npt.NDArray[np.intp]:
    """`count` indices for one epoch: drawn with their probabilities, or each once before any comes again."""
    rng = np.random.default_rng(list(seed))
    if probability is not None:
        return which[rng.choice(len(which), count, p=probability)]
    rounds = [rng.permutation(which) for _ in range(-(-count // len(which)))]
    return np.concatenate(rounds)[:count]
