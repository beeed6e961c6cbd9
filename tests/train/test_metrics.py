"""Metrics against scikit-learn, brute force and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_engine.train import metrics

sklearn_metrics = pytest.importorskip("sklearn.metrics")


def _case(seed: int, ties: bool) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, 60)
    labels[:2] = (0, 1)
    scores = rng.normal(size=60) + labels
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("ties", [False, True])
def test_auc_and_average_precision_equal_scikit_learn(seed: int, ties: bool) -> None:
    labels, scores = _case(seed, ties)
    assert metrics.auc(labels, scores).value == pytest.approx(
        sklearn_metrics.roc_auc_score(labels, scores), abs=1e-12
    )
    expected = sklearn_metrics.average_precision_score(labels, scores)
    assert metrics.average_precision(labels, scores) == pytest.approx(expected, abs=1e-12)


def test_delong_variance_equals_the_double_sum() -> None:
    labels, scores = _case(3, True)
    x, y = scores[labels == 1], scores[labels == 0]
    psi = (x[:, None] > y[None, :]) + 0.5 * (x[:, None] == y[None, :])
    variance = psi.mean(1).var(ddof=1) / len(x) + psi.mean(0).var(ddof=1) / len(y)
    a = psi.mean()
    half = 1.959963984540054 * np.sqrt(variance) / (a * (1 - a))
    logit = np.log(a / (1 - a))
    interval = metrics.auc(labels, scores)
    assert interval.lower == pytest.approx(1 / (1 + np.exp(half - logit)), abs=1e-12)
    assert interval.upper == pytest.approx(1 / (1 + np.exp(-half - logit)), abs=1e-12)


@pytest.mark.parametrize(("m", "n"), [(14, 14), (2, 2), (5, 40), (60, 500)])
def test_interval_of_a_perfect_separation_has_a_width(m: int, n: int) -> None:
    """The lower bound is the area at which so clean a result begins to surprise: the equation by hand, and the mirror."""
    labels = [1] * m + [0] * n
    found = metrics.auc(labels, labels)
    assert (found.value, found.upper) == (1.0, 1.0)
    a, many = found.lower, (m + n) / 2 - 1
    variance = a * (1 - a) * (1 + many * (1 - a) / (2 - a) + many * a / (1 + a)) / (m * n)
    assert 1 - a == pytest.approx(1.959963984540054 * np.sqrt(variance), rel=1e-6)
    assert 0 < a < 1
    other = metrics.auc(labels, 1 - np.array(labels))
    assert (other.value, other.lower) == (0.0, 0.0)
    assert other.upper == pytest.approx(1 - found.lower, abs=1e-9)


def test_newcombe_is_like_delong_where_both_can_be_had() -> None:
    labels, scores = _case(3, False)
    delong = metrics.auc(labels, scores)
    found = metrics.newcombe(delong.value, int(sum(labels)), int(sum(1 - labels)))
    assert (found.lower, found.upper) == pytest.approx((delong.lower, delong.upper), abs=0.04)


def test_an_interval_at_one_covers_as_often_as_it_says() -> None:
    """Simulation: areas of 0.97, 20 + 20 cases, 4,000 draws; intervals of no width would miss whenever 1 is observed."""
    rng = np.random.default_rng(0)
    shift = np.sqrt(2) * 1.8807936081512509  # the normal quantile of 0.97
    labels = np.repeat([1, 0], 20)
    hits = []
    for _ in range(4000):
        scores = np.concatenate([rng.normal(shift, 1, 20), rng.normal(0, 1, 20)])
        found = metrics.auc(labels, scores)
        hits.append(found.lower <= 0.97 <= found.upper)
    assert np.mean(hits) >= 0.94


def test_delong_difference_of_a_model_with_itself_is_nothing() -> None:
    labels, scores = _case(1, False)
    assert metrics.delong_difference(labels, scores, scores) == (0.0, 1.0)
    difference, p = metrics.delong_difference(labels, scores, np.random.default_rng(0).normal(size=60))
    assert difference > 0.1
    assert p < 0.05


def test_wilson_worked_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81/263 -> 0.2553 to 0.3662; 0/20 -> 0 to 0.1611
    interval = metrics.wilson(81, 263)
    assert (interval.lower, interval.upper) == (
        pytest.approx(0.2553, abs=5e-5),
        pytest.approx(0.3662, abs=5e-5),
    )
    assert metrics.wilson(0, 20).upper == pytest.approx(0.1611, abs=5e-5)


def test_calibration_error_of_known_bins() -> None:
    labels = np.array([0, 0, 0, 1, 1, 1, 1, 1])
    probabilities = np.array([0.1, 0.1, 0.1, 0.1, 0.8, 0.8, 0.8, 0.8])
    # two bins of four: |0.1 - 0.25| and |0.8 - 1|
    assert metrics.calibration_error(labels, probabilities, bins=2) == pytest.approx((0.15 + 0.2) / 2)
    assert metrics.brier(labels, probabilities) == pytest.approx(
        sklearn_metrics.brier_score_loss(labels, probabilities)
    )


def test_calibration_error_at_a_prevalence_of_one_half_equals_repeating_the_rarer_class() -> None:
    labels = np.array([1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0])  # 3 of 12: a positive stands for three
    probabilities = np.linspace(0.9, 0.1, 12)
    one_bin = metrics.even_calibration_error(labels, probabilities, bins=1)
    repeats = np.where(labels == 1, 3, 1)
    even = metrics.calibration_error(np.repeat(labels, repeats), np.repeat(probabilities, repeats), bins=1)
    assert one_bin == pytest.approx(even)
    assert np.isnan(metrics.even_calibration_error(np.ones(4), np.full(4, 0.5)))


def test_a_perfect_model_stands_among_the_perfect_ones() -> None:
    rng = np.random.default_rng(5)
    p = rng.random(300)
    drawn = metrics.perfect_calibration_errors(p)
    shares = [(drawn >= metrics.calibration_error(rng.random(300) < p, p)).mean() for _ in range(60)]
    assert 0.35 < np.mean(shares) < 0.65  # uniform where the model is perfect
    assert (drawn >= metrics.calibration_error(rng.random(300) < p**3, p)).mean() < 0.01


def test_youden_is_sensitivity_and_specificity_less_one() -> None:
    labels, p = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.2, 0.8, 0.3, 0.1])
    assert metrics.youden(labels, p, 0.5) == pytest.approx(1 / 2 + 2 / 3 - 1)
    assert metrics.youden(labels, p, 0.5, [3, 1, 2, 1, 1]) == pytest.approx(3 / 4 + 2 / 4 - 1)


def test_net_benefit_of_treating_everyone() -> None:
    labels = np.array([1, 1, 0, 0, 0])
    assert metrics.net_benefit(labels, np.ones(5), 0.2) == pytest.approx(0.4 - 0.6 * 0.25)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_operating_points_hold_what_they_promise(seed: int) -> None:
    labels, scores = _case(seed, bool(seed % 2))
    probabilities = 1 / (1 + np.exp(-scores))
    found = metrics.thresholds(labels, probabilities)
    candidates = np.concatenate([np.linspace(0, 1, 500), np.unique(probabilities)])

    def at(t: float) -> tuple[float, float]:
        called = probabilities >= t
        return called[labels == 1].mean(), (~called)[labels == 0].mean()

    best = max(sum(at(t)) for t in candidates)
    assert sum(at(found["balanced"])) == pytest.approx(best, abs=1e-9)
    assert at(found["screening"])[0] >= 0.95
    assert at(found["screening"])[1] >= max(b for a, b in map(at, candidates) if a >= 0.95) - 1e-9
    assert at(found["confirming"])[1] >= 0.95


def test_weighted_thresholds_equal_repeated_cases() -> None:
    labels, scores = _case(4, False)
    probabilities = 1 / (1 + np.exp(-scores))
    weights = np.where(np.arange(60) % 3 == 0, 3, 1)
    repeated = metrics.thresholds(np.repeat(labels, weights), np.repeat(probabilities, weights))
    assert metrics.thresholds(labels, probabilities, weights) == pytest.approx(repeated)
