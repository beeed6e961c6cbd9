"""Figures of merit with their intervals. numpy only; each is tested against an independent implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

Floats = npt.NDArray[np.float64]
Z95 = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Interval:
    """A value with its 95 % interval."""

    value: float
    lower: float
    upper: float

    def as_tuple(self) -> tuple[float, float, float]:
        return self.value, self.lower, self.upper


def auc(labels: npt.ArrayLike, scores: npt.ArrayLike) -> Interval:
    """Area under the ROC curve with DeLong's 95 % interval on the logit scale (DeLong 1988; Sun & Xu 2014).

    labels: (n,) 0 or 1; scores: (n,), ties count half. NaN interval where a class has fewer than two cases;
    NaN value where one class is missing. At 0 and 1, where DeLong's variance is none however few the cases are, the
    interval is Newcombe's (`newcombe`).
    """
    y, s = np.asarray(labels).astype(bool), np.asarray(scores, np.float64)
    m, n = int(y.sum()), int((~y).sum())
    if m == 0 or n == 0:
        return Interval(np.nan, np.nan, np.nan)
    everything = rankdata(s)
    positive, negative = rankdata(s[y]), rankdata(s[~y])
    v10 = (everything[y] - positive) / n
    v01 = 1.0 - (everything[~y] - negative) / m
    value = float(v10.mean())
    if m < 2 or n < 2:
        return Interval(value, np.nan, np.nan)
    variance = float(v10.var(ddof=1) / m + v01.var(ddof=1) / n)
    if not 0 < value < 1 or variance == 0:
        return newcombe(value, m, n)
    half = Z95 * np.sqrt(variance) / (value * (1 - value))
    centre = np.log(value / (1 - value))
    return Interval(
        value, float(1 / (1 + np.exp(-(centre - half)))), float(1 / (1 + np.exp(-(centre + half))))
    )


def newcombe(value: float, positives: int, negatives: int) -> Interval:
    """95 % interval of an AUC from its value and the counts alone (Newcombe 2006, Statistics in Medicine 25:559, method 5).

    The bounds are the areas whose standard error, in the exponential model of Hanley and McNeil 1982 with the mean of
    the counts in place of each, is the distance to `value` over 1.96. Never without width.
    """
    cases = (positives + negatives) / 2 - 1

    def excess(area: float) -> float:
        more = cases * ((1 - area) / (2 - area) + area / (1 + area))
        return (area - value) ** 2 - Z95**2 * area * (1 - area) * (1 + more) / (positives * negatives)

    # at 0 and 1 the error is none: the bound lies where the distance is the larger again, or at the end itself
    tiny = 1e-12
    lower = 0.0 if value <= 0 else float(brentq(excess, tiny, value - tiny * (value >= 1)))
    upper = 1.0 if value >= 1 else float(brentq(excess, value + tiny * (value <= 0), 1 - tiny))
    return Interval(value, lower, upper)


def average_precision(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """Sum over thresholds of precision x gain in recall; tied scores are one threshold. NaN without positives."""
    y, s = np.asarray(labels, np.float64), np.asarray(scores, np.float64)
    if y.sum() == 0:
        return float("nan")
    order = np.argsort(-s, kind="stable")
    y, s = y[order], s[order]
    last = np.append(np.flatnonzero(np.diff(s)), len(s) - 1)
    hits = np.cumsum(y)[last]
    precision, recall = hits / (last + 1), hits / y.sum()
    return float((np.diff(np.concatenate([[0.0], recall])) * precision).sum())


def wilson(successes: int, trials: int) -> Interval:
    """Proportion with Wilson's 95 % score interval (Wilson 1927). NaN for no trials."""
    if trials == 0:
        return Interval(np.nan, np.nan, np.nan)
    p, z = successes / trials, Z95
    centre = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials * trials)) / (1 + z * z / trials)
    return Interval(p, float(max(0.0, centre - half)), float(min(1.0, centre + half)))


def confusion(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> dict[str, int]:
    """Counts tp, fp, tn, fn of "probability >= threshold"."""
    y, called = np.asarray(labels).astype(bool), np.asarray(probabilities) >= threshold
    return {
        "tp": int((called & y).sum()),
        "fp": int((called & ~y).sum()),
        "tn": int((~called & ~y).sum()),
        "fn": int((~called & y).sum()),
    }


def sensitivity_specificity(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float
) -> tuple[Interval, Interval]:
    """Sensitivity and specificity of "probability >= threshold" with Wilson intervals."""
    c = confusion(labels, probabilities, threshold)
    return wilson(c["tp"], c["tp"] + c["fn"]), wilson(c["tn"], c["tn"] + c["fp"])


def calibration_error(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    bins: int = 15,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Expected calibration error over bins of as many cases each (Nguyen & O'Connor 2015): Σ w_b/w |mean p - mean y|.

    weights: (n,), for a prevalence other than that of these cases.
    """
    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    order = np.argsort(p, kind="stable")
    parts = [part for part in np.array_split(order, min(bins, len(p))) if len(part)]
    if not len(p):
        return float("nan")
    return float(sum(abs((w[i] * (p[i] - y[i])).sum()) for i in parts) / w.sum())


def even_calibration_error(labels: npt.ArrayLike, probabilities: npt.ArrayLike, bins: int = 15) -> float:
    """`calibration_error` at a prevalence of one half, for which bundles are calibrated: both classes weigh the same."""
    y = np.asarray(labels, np.float64) >= 0.5
    positive = int(y.sum())
    if positive in (0, len(y)):
        return float("nan")
    weights = np.where(y, 0.5 / positive, 0.5 / (len(y) - positive))
    return calibration_error(labels, probabilities, bins, weights)


def brier(labels: npt.ArrayLike, probabilities: npt.ArrayLike) -> float:
    """Mean squared difference of probability and outcome (Brier 1950)."""
    return float(np.mean((np.asarray(probabilities, np.float64) - np.asarray(labels, np.float64)) ** 2))


def log_loss(labels: npt.ArrayLike, logits: npt.ArrayLike, weights: npt.ArrayLike) -> float:
    """Weighted mean of -log(probability of what is true), from logits, without overflow. NaN for no cases."""
    y, z, w = (np.asarray(v, np.float64) for v in (labels, logits, weights))
    return (
        float((w * np.logaddexp(0.0, np.where(y > 0.5, -z, z))).sum() / w.sum()) if len(z) else float("nan")
    )


def net_benefit(labels: npt.ArrayLike, probabilities: npt.ArrayLike, threshold: float) -> float:
    """Decision curve (Vickers & Elkin 2006): tp/n - fp/n x t/(1-t)."""
    c = confusion(labels, probabilities, threshold)
    total = sum(c.values())
    return (
        (c["tp"] - c["fp"] * threshold / (1 - threshold)) / total if total and threshold < 1 else float("nan")
    )


def thresholds(
    labels: npt.ArrayLike, probabilities: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> dict[str, float]:
    """Operating points: balanced (largest sensitivity + specificity), screening (sensitivity >= 0.95 at the best
    specificity), confirming (specificity >= 0.95 at the best sensitivity). Thresholds lie midway between scores.

    weights: (n,), e.g. to let a small population count as much as a large one. Raises ValueError where a class is missing.
    """
    y, p = np.asarray(labels).astype(bool), np.asarray(probabilities, np.float64)
    w = np.ones(len(p)) if weights is None else np.asarray(weights, np.float64)
    if y.all() or not y.any():
        raise ValueError("operating points need both classes")
    values = np.unique(p)
    cuts = np.concatenate([[values[0]], (values[1:] + values[:-1]) / 2, [min(1.0, values[-1] + 1e-6)]])
    called = p[None, :] >= cuts[:, None]
    sensitivity = (called * (w * y)).sum(1) / (w * y).sum()
    specificity = (~called * (w * ~y)).sum(1) / (w * ~y).sum()
    balanced = cuts[int(np.argmax(sensitivity + specificity))]
    screening = cuts[int(np.flatnonzero(sensitivity >= 0.95)[-1])]
    confirming = cuts[int(np.flatnonzero(specificity >= 0.95)[0])]
    return {"balanced": float(balanced), "screening": float(screening), "confirming": float(confirming)}


def youden(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    threshold: float,
    weights: npt.ArrayLike | None = None,
) -> float:
    """Sensitivity + specificity - 1 at a threshold, in [-1, 1] (Youden 1950). weights: as for `thresholds`; both classes
    must be there.
    """
    y, called = np.asarray(labels).astype(bool), np.asarray(probabilities, np.float64) >= threshold
    w = np.ones(len(y)) if weights is None else np.asarray(weights, np.float64)
    return float(np.average(called[y], weights=w[y]) + np.average(~called[~y], weights=w[~y]) - 1.0)


def delong_difference(
    labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike
) -> tuple[float, float]:
    """AUC(first) - AUC(second) on the same cases and its two-sided p value (DeLong 1988)."""
    difference, variance = _difference(labels, first, second)
    if variance <= 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, float(2 * norm.sf(abs(difference) / np.sqrt(variance)))


def auc_difference(labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike) -> Interval:
    """AUC(first) - AUC(second) on the same cases with DeLong's 95 % interval; NaN where a class has fewer than two."""
    y = np.asarray(labels).astype(bool)
    if min(int(y.sum()), int((~y).sum())) < 2:
        return Interval(np.nan, np.nan, np.nan)
    difference, variance = _difference(labels, first, second)
    half = Z95 * float(np.sqrt(max(variance, 0.0)))
    return Interval(difference, difference - half, difference + half)


def _difference(labels: npt.ArrayLike, first: npt.ArrayLike, second: npt.ArrayLike) -> tuple[float, float]:
    """Difference of two AUCs on the same cases and its variance."""
    y = np.asarray(labels).astype(bool)
    m, n = int(y.sum()), int((~y).sum())
    v10, v01, areas = [], [], []
    for scores in (first, second):
        s = np.asarray(scores, np.float64)
        ranks = rankdata(s)
        v10.append((ranks[y] - rankdata(s[y])) / n)
        v01.append(1.0 - (ranks[~y] - rankdata(s[~y])) / m)
        areas.append(float(v10[-1].mean()))
    contrast = np.array([1.0, -1.0])
    covariance = np.cov(np.stack(v10)) / m + np.cov(np.stack(v01)) / n
    return areas[0] - areas[1], float(contrast @ covariance @ contrast)


def perfect_calibration_errors(
    probabilities: npt.ArrayLike, bins: int = 15, draws: int = 400
) -> npt.NDArray[np.float64]:
    """The ECEs (draws,) that a perfectly calibrated model with these probabilities would show on so few images: labels drawn
    from them (consistency resampling, Bröcker & Smith 2007). What the measured ECE is to be judged by."""
    p = np.asarray(probabilities, np.float64)
    rng = np.random.default_rng(0)
    if not len(p):
        return np.zeros(0)
    return np.array([calibration_error(rng.random(len(p)) < p, p, bins) for _ in range(draws)])


def bootstrap(
    labels: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    figure: Callable[[Floats, Floats], float],
    draws: int = 400,
) -> Interval:
    """`figure(labels, probabilities)` with its 95 % percentile bootstrap interval, classes resampled apart."""
    y, p = np.asarray(labels, np.float64), np.asarray(probabilities, np.float64)
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(y >= 0.5), np.flatnonzero(y < 0.5)]
    values = []
    for _ in range(draws):
        which = np.concatenate([rng.choice(g, len(g)) for g in groups if len(g)])
        values.append(figure(y[which], p[which]))
    lower, upper = np.percentile(values, (2.5, 97.5))
    return Interval(float(figure(y, p)), float(lower), float(upper))
