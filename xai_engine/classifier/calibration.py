"""From the network's logit to a probability that means something."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Calibration(Protocol):
    """A monotone way from logits to probabilities of the last class, in [0, 1]; JSON-ready by `to_json`."""

    def __call__(self, logits: npt.ArrayLike) -> Floats: ...

    def to_json(self) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Platt:
    """p = sigmoid(slope x logit + intercept) (Platt 1999); temperature scaling (Guo et al. 2017) is intercept 0."""

    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, logits: npt.ArrayLike) -> Floats:
        return _sigmoid(self.slope * np.asarray(logits, np.float64) + self.intercept)

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> Platt:
        return Platt(float(value["slope"]), float(value.get("intercept", 0.0)))

    def to_json(self) -> dict[str, Any]:
        return {"method": "platt", "slope": self.slope, "intercept": self.intercept}


@dataclass(frozen=True, slots=True)
class Beta:
    """logit(p) = a ln q - b ln(1 - q) + c with q = sigmoid(logit) (Kull, Silva Filho & Flach 2017); a, b >= 0."""

    a: float = 1.0
    b: float = 1.0
    c: float = 0.0

    def __call__(self, logits: npt.ArrayLike) -> Floats:
        z = np.asarray(logits, np.float64)
        return _sigmoid(-self.a * np.logaddexp(0, -z) + self.b * np.logaddexp(0, z) + self.c)

    def to_json(self) -> dict[str, Any]:
        return {"method": "beta", "a": self.a, "b": self.b, "c": self.c}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Isotonic regression (Zadrozny & Elkan 2002), linear between its blocks so that different logits stay apart.

    logits, probabilities: knots, both ascending; constant beyond the outermost.
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __call__(self, logits: npt.ArrayLike) -> Floats:
        return np.asarray(np.interp(np.asarray(logits, np.float64), self.logits, self.probabilities))

    def to_json(self) -> dict[str, Any]:
        return {"method": "isotonic", "logits": list(self.logits), "probabilities": list(self.probabilities)}


def from_json(value: Mapping[str, Any]) -> Calibration:
    """What a bundle recorded. Raises KeyError, TypeError or ValueError for anything else."""
    method = value.get("method", "platt")
    if method in ("platt", "temperature"):
        return Platt.from_json(value)
    if method == "beta":
        return Beta(*(float(value[k]) for k in ("a", "b", "c")))
    if method == "isotonic":
        knots = tuple(float(v) for v in value["logits"])
        heights = tuple(float(v) for v in value["probabilities"])
        if len(knots) != len(heights) or not knots or sorted(heights) != list(heights):
            raise ValueError("isotonic calibration needs ascending knots")
        return Isotonic(knots, heights)
    raise ValueError(f"unknown calibration {method!r}")


def fit_platt(
    logits: npt.ArrayLike,
    labels: npt.ArrayLike,
    weights: npt.ArrayLike | None = None,
    slope_only: bool = False,
) -> Platt:
    """Maximum likelihood by Newton's method on Platt's smoothed targets.

    logits, labels (0 or 1), weights: (n,). Raises ValueError where one class is missing or a logit is no number.
    """
    z, y, w = _checked(logits, labels, weights)
    columns = z[:, None] if slope_only else np.stack([z, np.ones_like(z)], 1)
    beta = _logistic(columns, _targets(y, w), w, np.array([1.0] if slope_only else [1.0, 0.0]))
    return Platt(float(beta[0]), 0.0 if slope_only else float(beta[1]))


def fit_temperature(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Platt:
    """Temperature scaling: `fit_platt` without intercept."""
    return fit_platt(logits, labels, weights, slope_only=True)


def fit_beta(logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None) -> Beta:
    """Maximum likelihood of the three parameters; a negative a or b is set to 0 and the rest fitted again.

    Arguments and errors as `fit_platt`.
    """
    z, y, w = _checked(logits, labels, weights)
    columns = np.stack([-np.logaddexp(0, -z), np.logaddexp(0, z), np.ones_like(z)], 1)
    used = [0, 1, 2]
    while True:
        beta = np.zeros(3)
        beta[used] = _logistic(
            columns[:, used], _targets(y, w), w, np.ones(len(used)) * [1.0 * (k < 2) for k in used]
        )
        wrong = [k for k in used if k < 2 and beta[k] < 0]
        if not wrong:
            return Beta(*(float(v) for v in beta))
        used.remove(min(wrong, key=lambda k: beta[k]))


def fit_isotonic(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> Isotonic:
    """Pool adjacent violators on Platt's smoothed targets (so that no probability is 0 or 1).

    Arguments and errors as `fit_platt`.
    """
    z, y, w = _checked(logits, labels, weights)
    target = _targets(y, w)
    blocks: list[list[float]] = []  # weight, weighted logit, weighted target
    for k in np.argsort(z, kind="stable"):
        blocks.append([w[k], w[k] * z[k], w[k] * target[k]])
        while len(blocks) > 1 and blocks[-2][2] * blocks[-1][0] >= blocks[-1][2] * blocks[-2][0]:
            last = blocks.pop()
            blocks[-1] = [a + b for a, b in zip(blocks[-1], last, strict=True)]
    return Isotonic(tuple(b[1] / b[0] for b in blocks), tuple(b[2] / b[0] for b in blocks))


FITS: Mapping[str, Callable[..., Calibration]] = {
    "platt": fit_platt,
    "temperature": fit_temperature,
    "beta": fit_beta,
    "isotonic": fit_isotonic,
}


def _sigmoid(z: Floats) -> Floats:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * z)))  # without overflow


def _checked(
    logits: npt.ArrayLike, labels: npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats]:
    z, y = np.asarray(logits, np.float64), np.asarray(labels, np.float64)
    w = np.ones_like(z) if weights is None else np.asarray(weights, np.float64)
    if not np.isfinite(z).all():
        raise ValueError("calibration needs finite logits")
    if (w * y).sum() <= 0 or (w * (1 - y)).sum() <= 0:
        raise ValueError("calibration needs both classes")
    return z, y, w


def _targets(y: Floats, w: Floats) -> Floats:
    """Platt's targets: they keep the slope finite on separable data."""
    positives, negatives = float((w * y).sum()), float((w * (1 - y)).sum())
    return np.where(y > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _logistic(columns: Floats, target: Floats, w: Floats, start: Floats) -> Floats:
    """Coefficients of a weighted logistic regression on soft targets, by damped Newton steps."""
    beta = np.asarray(start, np.float64)

    def loss(b: Floats) -> float:
        s = columns @ b
        return float((w * (np.logaddexp(0, s) - target * s)).sum())

    for _ in range(100):
        p = _sigmoid(columns @ beta)
        gradient = columns.T @ (w * (p - target))
        hessian = (columns * (w * p * (1 - p))[:, None]).T @ columns + 1e-9 * np.eye(len(beta))
        step = np.linalg.solve(hessian, gradient)
        rate = 1.0
        while rate > 1e-6 and loss(beta - rate * step) > loss(beta):
            rate /= 2
        beta = beta - rate * step
        if float(np.abs(rate * step).max()) < 1e-9:
            break
    return beta
