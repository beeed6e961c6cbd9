"""From the network's logit to a probability that means something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Platt:
    """p = sigmoid(slope x logit + intercept) (Platt 1999); temperature scaling (Guo et al. 2017) is intercept 0."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: npt.ArrayLike) -> npt.NDArray[np.float64]:
        z = self.slope * np.asarray(logits, np.float64) + self.intercept
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))  # the sigmoid, without overflow

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Platt:
        return Platt(float(value["slope"]), float(value["intercept"]))

    def to_json(self) -> dict[str, float | str]:
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}


def fit_platt(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    slope_only: bool = False,
) -> Platt:
    """Maximum likelihood by Newton's method on Platt's smoothed targets.

    logits, labels (0 or 1), weights: (n,). Raises ValueError where one class is missing or a logit is no number.
    """
    z = np.asarray(logits, np.float64)
    y = np.asarray(labels, np.float64)
    w = np.ones_like(z) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(z).all():
        raise ValueError("calibration needs finite logits")
    positives, negatives = float((w * y).sum()), float((w * (1 - y)).sum())
    if positives <= 0 or negatives <= 0:
        raise ValueError("calibration needs both classes")
    # Platt's targets keep the slope finite on separable data
    target = np.where(y > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    columns = z[:, None] if slope_only else np.stack([z, np.ones_like(z)], 1)
    beta = np.array([1.0] if slope_only else [1.0, 0.0])

    def loss(b: npt.NDArray[np.float64]) -> float:
        s = columns @ b
        return float((w * (np.logaddexp(0, s) - target * s)).sum())

    for _ in range(100):
        p = 0.5 * (1 + np.tanh(0.5 * (columns @ beta)))
        gradient = columns.T @ (w * (p - target))
        hessian = (columns * (w * p * (1 - p))[:, None]).T @ columns + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        rate = 1.0
        while rate > 1e-6 and loss(beta - rate * step) > loss(beta):
            rate /= 2
        beta = beta - rate * step
        if float(np.abs(rate * step).max()) < 1e-9:
            break
    return Platt(float(beta[0]), 0.0 if slope_only else float(beta[1]))
