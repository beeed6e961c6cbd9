"""Choice of the calibration, weights of populations, prediction sets: against known truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from xai_engine.classifier.types import ConformalLimits
from xai_engine.train import calibrate, conformal, metrics
from xai_engine.train.evaluate import Outcome
from xai_engine.train.sample import Sample


def outcomes(seed: int, counts: dict[str, int], slope: float = 1.0) -> list[Outcome]:
    """Logits z whose true probability is sigmoid(slope z), in each population."""
    rng = np.random.default_rng(seed)
    out = []
    for population, count in counts.items():
        for k in range(count):
            z = float(rng.normal() * 3)
            label = float(rng.random() < 1 / (1 + np.exp(-slope * z)))
            sample = Sample(Path(f"{k}"), label, 1, True, f"{k}", "val", population, 1.0)
            out.append(Outcome(sample, z, 0.5, 0, "", 0, 0, np.zeros(1, np.float32)))
    return out


def test_the_true_temperature_is_found_and_beats_isotonic() -> None:
    found = calibrate.fit(outcomes(0, {"a": 600}, slope=0.4))
    nll = {row["method"]: row["nll"] for row in found.candidates}
    assert nll["isotonic"] > min(nll.values())
    z = np.linspace(-6, 6, 30)
    assert np.abs(found.calibration(z) - 1 / (1 + np.exp(-0.4 * z))).max() < 0.07
    assert [p.name for p in found.points] == ["balanced", "screening", "confirming"]


@pytest.mark.parametrize("few", [True, False])
def test_the_balanced_threshold_follows_a_calibration_that_holds_and_not_a_handful_of_images(
    few: bool,
) -> None:
    if few:  # probabilities are true: Bayes' threshold is at even odds, and a maximum over 60 images strays from it
        cases = outcomes(3, {"a": 60}, slope=0.7)
    else:  # a share of certain positives below the middle: no line through the logits is true there, and many images tell so
        cases = outcomes(3, {"a": 600}, slope=3.0)
        for k, case in enumerate(cases):
            if -2 < case.logit < 0:
                cases[k] = replace(case, sample=replace(case.sample, label=1.0))
            if case.logit > 6:
                cases[k] = replace(case, sample=replace(case.sample, label=0.0))
    found = calibrate.fit(cases)
    rules = {row["rule"]: row for row in found.rules}
    even, largest = rules[calibrate.EVEN_ODDS], rules[calibrate.LARGEST]
    assert even["spread"] < largest["spread"] or not few
    assert (even["youden"] > largest["youden"]) is few
    balanced = found.points[0]
    assert (balanced.threshold == 0.5) is few
    if not few:
        labels = np.array([c.sample.label for c in cases])
        p = found.calibration([c.logit for c in cases])
        best = max(metrics.youden(labels, p, t) for t in np.linspace(0, 1, 2001))
        assert metrics.youden(labels, p, balanced.threshold) == pytest.approx(best, abs=0.02)


def test_a_group_of_one_image_leaves_no_draw_to_compare_rules_on() -> None:
    cases = [*outcomes(3, {"a": 60}), *outcomes(0, {"b": 1})]
    found = calibrate.fit(cases)
    assert found.rules == ()
    assert found.points[0].threshold == 0.5


def test_folds_spread_every_stratum_and_never_see_themselves() -> None:
    strata = ["a/0"] * 11 + ["a/1"] * 23 + ["b/1"] * 3
    fold = calibrate.folds(strata, 5, 3)
    for name in set(strata):
        sizes = np.bincount(fold[[s == name for s in strata]], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    seen: list[tuple[set[float], float]] = []
    logits, labels = np.arange(37.0), np.tile([0.0, 1.0], 19)[:37]

    def make(z: np.ndarray, y: np.ndarray, w: np.ndarray):  # type: ignore[no-untyped-def]
        return lambda new: [seen.append((set(z), v)) or 0.5 for v in new]

    calibrate.held_out(logits, labels, np.ones(37), fold, make)
    assert len(seen) == 37
    assert all(own not in others for others, own in seen)


def test_classes_of_populations_weigh_the_same() -> None:
    samples = [o.sample for o in outcomes(1, {"a": 90, "b": 10})]
    weights = calibrate.population_weights(samples)
    groups = {(s.population, s.label): 0.0 for s in samples}
    for sample, weight in zip(samples, weights, strict=True):
        groups[sample.population, sample.label] += weight
    assert list(groups.values()) == pytest.approx([25.0] * 4)


def test_weighted_quantile_equals_repeating_and_counts_the_new_image_as_the_heaviest() -> None:
    # weights 1, 1, 2 and a new image of weight 2: masses 1/6, 2/6, 4/6, then the new one
    assert conformal.quantile([0.1, 0.2, 0.3], 0.35, [1, 1, 2]) == 0.3
    assert conformal.quantile([0.1, 0.2, 0.3], 0.7, [1, 1, 2]) == 0.2
    assert conformal.quantile([0.1, 0.2, 0.3], 0.3, [1, 1, 2]) == np.inf
    assert conformal.quantile([], 0.1) == np.inf


def test_a_small_population_is_covered_in_an_even_mixture() -> None:
    rng = np.random.default_rng(2)
    shares = []
    for _ in range(60):
        y = np.ones(440)
        small = np.arange(440) >= 400
        p = 1 / (1 + np.exp(-(rng.normal(2.0, 1, 440) - 2.5 * small)))  # the small population is read worse
        limits = conformal.fit(
            np.append(y, 0), np.append(p, 0.1), 0.1, weights=np.append(np.where(small, 10.0, 1), 1)
        )
        new = 1 / (1 + np.exp(-(rng.normal(2.0, 1, 200) - 2.5 * (np.arange(200) >= 100))))
        shares.append(conformal.measure(np.ones(200), new, limits)["coverage"][0])
    assert 0.88 < np.mean(shares) < 0.96


def test_the_set_shown_with_a_prediction_is_the_set_that_was_measured() -> None:
    limits = ConformalLimits(0.1, (0.3, 0.45), "a test")
    p = np.linspace(0, 1, 41)
    assert np.array_equal(conformal.sets(p, limits.limits), [limits.members(float(v)) for v in p])


def test_expected_error_of_a_perfect_model_is_what_perfect_models_show() -> None:
    rng = np.random.default_rng(3)
    p = rng.random(60)
    shown = [metrics.calibration_error(rng.random(60) < p, p) for _ in range(300)]
    assert metrics.perfect_calibration_errors(p).mean() == pytest.approx(np.mean(shown), rel=0.06)
    assert metrics.perfect_calibration_errors(p).mean() > 0.1  # so few images cannot show 0.03


def test_bootstrap_interval_of_a_mean_is_the_normal_one() -> None:
    rng = np.random.default_rng(4)
    p = rng.normal(size=400)
    found = metrics.bootstrap(np.zeros(400), p, lambda _, values: float(values.mean()), draws=2000)
    assert found.upper - found.lower == pytest.approx(2 * 1.96 * p.std() / 20, rel=0.08)
