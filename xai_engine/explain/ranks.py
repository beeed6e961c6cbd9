"""Ranks and Spearman's correlation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


def rank_correlation(a: FloatArray, b: FloatArray) -> float:
    """Spearman's correlation; 1 where both are constant, 0 where one is."""
    ranked = [ranks(np.ravel(v)) for v in (a, b)]
    spread = [float(r.std()) for r in ranked]
    if min(spread) == 0.0:
        return float(max(spread) == 0.0)
    return float(np.corrcoef(ranked[0], ranked[1])[0, 1])


def ranks(values: FloatArray) -> FloatArray:
    """Ranks from 0; ties share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts + 1) / 2.0)[inverse], np.float64)
