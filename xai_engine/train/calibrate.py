"""What a bundle learns from validation images: calibration, operating points, limits of prediction sets.

The population (child or adult) is not known when an image is read: a PNG does not say, and a DICOM age may be missing or
wrong. So there is one calibration for all, in which each class of each population counts the same; its error is measured
in each population apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.classifier import calibration as calibrations
from xai_engine.classifier.calibration import Calibration
from xai_engine.classifier.types import ConformalLimits, OperatingPoint
from xai_engine.train import conformal, metrics
from xai_engine.train.evaluate import Outcome
from xai_engine.train.manifest import Sample

Floats = npt.NDArray[np.float64]
ERROR_RATE = 0.1  # of prediction sets
FOLDS, REPEATS = 5, 10


@dataclass(frozen=True)
class Fitted:
    """What goes into the bundle. candidates: one row per method with its cross-validated figures, JSON-ready."""

    calibration: Calibration
    points: tuple[OperatingPoint, ...]
    limits: ConformalLimits
    candidates: tuple[dict[str, Any], ...]
    whom: str


def fit(outcomes: Sequence[Outcome], error_rate: float = ERROR_RATE) -> Fitted:
    """Fit on the surely labelled outcomes of a validation split. Raises ValueError where a class is missing."""
    sure = [o for o in outcomes if o.sample.sure]
    samples = [o.sample for o in sure]
    labels = np.array([float(s.label >= 0.5) for s in samples])
    logits = np.array([o.logit for o in sure])
    weights = population_weights(samples)
    rows = compare(logits, labels, weights, [s.population for s in samples])
    best = min(rows, key=lambda r: r["nll"])["method"]
    calibration = calibrations.FITS[best](logits, labels, weights)
    probabilities = calibration(logits)
    first, last = conformal.fit(labels, probabilities, error_rate, weights=weights)
    whom = describe(samples)
    return Fitted(
        calibration,
        operating_points(samples, labels, probabilities, weights),
        ConformalLimits(error_rate, (min(first, 1.0), min(last, 1.0)), whom),
        tuple(rows),
        whom,
    )


def compare(
    logits: Floats, labels: Floats, weights: Floats, populations: Sequence[str], seed: int = 0
) -> list[dict[str, Any]]:
    """Every calibration by repeated stratified cross-validation: weighted NLL and Brier score, ECE per population.

    Strata are the classes of the populations.
    """
    strata = [f"{p}/{y:.0f}" for p, y in zip(populations, labels, strict=True)]
    rows = []
    for name, make in calibrations.FITS.items():
        nll, brier = [], []
        errors: dict[str, list[float]] = {p: [] for p in sorted(set(populations))}
        for repeat in range(REPEATS):
            p = held_out(logits, labels, weights, folds(strata, FOLDS, seed + repeat), make)
            clipped = np.clip(p, 1e-6, 1 - 1e-6)
            losses = -labels * np.log(clipped) - (1 - labels) * np.log1p(-clipped)
            nll.append(float(np.average(losses, weights=weights)))
            brier.append(float(np.average((p - labels) ** 2, weights=weights)))
            for population, found in errors.items():
                here = np.array(populations) == population
                found.append(metrics.calibration_error(labels[here], p[here]))
        row: dict[str, Any] = {"method": name, "nll": float(np.mean(nll)), "brier": float(np.mean(brier))}
        rows.append(row | {f"ece {population}": float(np.mean(e)) for population, e in errors.items()})
    return rows


def folds(strata: Sequence[str], count: int, seed: int) -> npt.NDArray[np.intp]:
    """Fold of each item, 0 to count - 1, every stratum spread as evenly as it can be."""
    rng = np.random.default_rng(seed)
    out = np.zeros(len(strata), np.intp)
    offset = 0
    for name in sorted(set(strata)):
        members = rng.permutation([i for i, s in enumerate(strata) if s == name])
        out[members] = (np.arange(len(members)) + offset) % count
        offset += len(members)
    return out


def held_out(
    logits: Floats,
    labels: Floats,
    weights: Floats,
    fold: npt.NDArray[np.intp],
    make: Callable[[Floats, Floats, Floats], Calibration],
) -> Floats:
    """Probability of each item by a calibration that was fitted without its fold."""
    out = np.full(len(logits), np.nan)
    for k in np.unique(fold):
        rest = fold != k
        if len(np.unique(labels[rest])) < 2:  # too few cases to leave any out
            rest = np.ones(len(fold), bool)
        out[fold == k] = make(logits[rest], labels[rest], weights[rest])(logits[fold == k])
    return out


def population_weights(samples: Sequence[Sample]) -> Floats:
    """Weights that let every class of every population count the same; they sum to the number of samples."""
    names = [(s.population, s.label >= 0.5) for s in samples]
    counts = {name: names.count(name) for name in set(names)}
    return np.array([len(names) / len(counts) / counts[name] for name in names])


def describe(samples: Sequence[Sample]) -> str:
    """Whom something was fitted on, for people."""
    names = sorted({s.population for s in samples})
    return "validation images: " + ", ".join(f"{sum(s.population == n for s in samples)} {n}" for n in names)


def operating_points(
    samples: Sequence[Sample], labels: Floats, probabilities: Floats, weights: Floats
) -> tuple[OperatingPoint, ...]:
    """Balanced, screening and confirming thresholds with what they gave on these images (unweighted, Wilson)."""
    whom = describe(samples)
    points = []
    for name, threshold in metrics.thresholds(labels, probabilities, weights).items():
        sensitivity, specificity = metrics.sensitivity_specificity(labels, probabilities, threshold)
        points.append(OperatingPoint(name, threshold, sensitivity.as_tuple(), specificity.as_tuple(), whom))
    return tuple(points)
