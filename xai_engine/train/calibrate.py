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
from xai_engine.train.sample import Sample

Floats = npt.NDArray[np.float64]
ERROR_RATE = 0.1  # of prediction sets
FOLDS, REPEATS = 5, 10


@dataclass(frozen=True)
class Fitted:
    """What goes into the bundle. candidates, rules: one row per calibration, and per rule for the balanced threshold,
    with its figures on images that it was not fitted on, JSON-ready."""

    calibration: Calibration
    points: tuple[OperatingPoint, ...]
    limits: ConformalLimits
    candidates: tuple[dict[str, Any], ...]
    rules: tuple[dict[str, Any], ...]
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
    rules = compare_rules(logits, labels, samples, calibrations.FITS[best])
    rule = max(rules, key=lambda r: r["youden"])["rule"] if rules else EVEN_ODDS
    first, last = conformal.fit(labels, probabilities, error_rate, weights=weights)
    whom = describe(samples)
    return Fitted(
        calibration,
        operating_points(samples, labels, probabilities, weights, rule),
        ConformalLimits(error_rate, (min(first, 1.0), min(last, 1.0)), whom),
        tuple(rows),
        tuple(rules),
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


EVEN_ODDS, LARGEST = "even odds", "largest sum"  # rules for the balanced threshold
BOOTSTRAPS = 200


def balanced_threshold(rule: str, labels: Floats, probabilities: Floats, weights: Floats) -> float:
    """The threshold with the largest sensitivity + specificity: "largest sum" looks for it among these images; "even odds"
    takes 0.5, where a calibration for a prevalence of one half says that it lies (Bayes' rule for equal costs)."""
    if rule == EVEN_ODDS:
        return 0.5
    return metrics.thresholds(labels, probabilities, weights)["balanced"]


def compare_rules(
    logits: Floats,
    labels: Floats,
    samples: Sequence[Sample],
    make: Callable[[Floats, Floats, Floats], Calibration],
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Both rules for the balanced threshold by a stratified bootstrap (Efron & Tibshirani 1993): mean Youden index on the images
    left out, and the standard deviation of the threshold from draw to draw, as a logit of the network.

    A maximum over few images follows their accidents; where there are many, it knows better than a calibration of
    two parameters. So it is measured, as the calibration is.
    """
    strata = np.array([f"{s.population}/{y:.0f}" for s, y in zip(samples, labels, strict=True)])
    rng = np.random.default_rng(seed)
    sums: dict[str, list[float]] = {EVEN_ODDS: [], LARGEST: []}
    places: dict[str, list[float]] = {EVEN_ODDS: [], LARGEST: []}
    for _ in range(BOOTSTRAPS):
        drawn = np.concatenate(
            [rng.choice(m, len(m)) for m in (np.flatnonzero(strata == name) for name in np.unique(strata))]
        )
        left = np.setdiff1d(np.arange(len(labels)), drawn)
        if len(np.unique(strata[left])) < len(np.unique(strata)):
            continue
        weights = population_weights([samples[i] for i in drawn])
        calibration = make(logits[drawn], labels[drawn], weights)
        inside, outside = calibration(logits[drawn]), calibration(logits[left])
        others = population_weights([samples[i] for i in left])
        for rule, found in sums.items():
            threshold = balanced_threshold(rule, labels[drawn], inside, weights)
            found.append(metrics.youden(labels[left], outside, threshold, others))
            order = np.sort(logits)
            called = np.searchsorted(calibration(order), threshold)
            places[rule].append(float(order[min(int(called), len(order) - 1)]))
    return [
        {"rule": rule, "youden": float(np.mean(found)), "spread": float(np.std(places[rule]))}
        for rule, found in sums.items()
        if found  # where a group is one image, no draw leaves it out
    ]


def operating_points(
    samples: Sequence[Sample], labels: Floats, probabilities: Floats, weights: Floats, rule: str
) -> tuple[OperatingPoint, ...]:
    """Balanced (by a rule, see `balanced_threshold`), screening and confirming thresholds with what they gave on these images
    (unweighted, Wilson)."""
    whom = describe(samples)
    cuts = metrics.thresholds(labels, probabilities, weights)
    cuts["balanced"] = balanced_threshold(rule, labels, probabilities, weights)
    points = []
    for name, threshold in cuts.items():
        sensitivity, specificity = metrics.sensitivity_specificity(labels, probabilities, threshold)
        points.append(OperatingPoint(name, threshold, sensitivity.as_tuple(), specificity.as_tuple(), whom))
    return tuple(points)
