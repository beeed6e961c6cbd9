"""Split conformal prediction sets (Vovk 2005; Angelopoulos & Bates 2021): how sure a set {normal, pneumonia} can be."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.train import metrics


def quantile(scores: npt.ArrayLike, error_rate: float, weights: npt.ArrayLike | None = None) -> float:
    """The ceil((n + 1)(1 - error_rate))-th smallest score; infinity where n is too small to promise that rate.

    weights: (n,), for images of another mixture than the one to be promised for (weighted split conformal, Tibshirani
    et al. 2019); the new image, whose weight is not known, counts as the heaviest. Raises ValueError for an error rate
    outside (0, 1).
    """
    if not 0 < error_rate < 1:
        raise ValueError(f"error rate {error_rate} is not between 0 and 1")
    s = np.asarray(scores, np.float64)
    if len(s) == 0:
        return float("inf")
    w = np.ones(len(s)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(s, kind="stable")
    mass = np.cumsum(w[order]) / (w.sum() + w.max())
    enough = np.flatnonzero(mass >= 1 - error_rate - 1e-9)
    return float(s[order[enough[0]]]) if len(enough) else float("inf")


def fit(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    error_rate: float,
    class_conditional: bool = True,
    weights: npt.ArrayLike | None = None,
) -> tuple[float, float]:
    """Largest nonconformity (1 - probability of the class) that is let in, for class 0 and class 1.

    class_conditional: the promise holds within each class (Mondrian), not only on average over both.
    weights: see `quantile`.
    """
    y, p = np.asarray(labels) >= 0.5, np.asarray(probabilities, np.float64)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    scores = np.where(y, 1 - p, p)
    if not class_conditional:
        both = quantile(scores, error_rate, w)
        return both, both
    return quantile(scores[~y], error_rate, w[~y]), quantile(scores[y], error_rate, w[y])


def sets(probabilities: npt.ArrayLike, limits: tuple[float, float]) -> npt.NDArray[np.bool_]:
    """(n, 2): whether class 0 and class 1 belong to the prediction set of each image."""
    p = np.asarray(probabilities, np.float64)
    return np.stack([p <= limits[0], 1 - p <= limits[1]], axis=1)


def measure(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, limits: tuple[float, float]
) -> dict[str, Any]:
    """Coverage with Wilson's interval, overall and per class, mean set size, and counts of sets of 0, 1, 2 classes."""
    y = (np.asarray(labels) >= 0.5).astype(int)
    members = sets(probabilities, limits)
    covered = members[np.arange(len(y)), y]
    size = members.sum(1)

    def share(which: npt.NDArray[np.bool_]) -> list[float | None]:
        interval = metrics.wilson(int(covered[which].sum()), int(which.sum()))
        return [v if np.isfinite(v) else None for v in interval.as_tuple()]

    return {
        "images": len(y),
        "coverage": share(np.ones(len(y), bool)),
        "coverage_normal": share(y == 0),
        "coverage_pneumonia": share(y == 1),
        "mean_size": float(size.mean()) if len(y) else None,
        "sizes": [int((size == k).sum()) for k in range(3)],
    }
