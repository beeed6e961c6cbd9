"""Calibrations against scikit-learn, closed forms and what they promise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.classifier import calibration as c

CASES = (c.Platt(1.3, -0.4), c.Beta(0.7, 1.4, 0.2), c.Isotonic((-2.0, 0.5, 3.0), (0.1, 0.4, 0.95)))


def data(seed: int = 1, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n).astype(float)
    return rng.normal(size=n) * 2 + 3 * labels - 1, labels


@pytest.mark.parametrize("calibration", CASES)
def test_what_a_bundle_records_is_what_it_uses(calibration: c.Calibration) -> None:
    again = c.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again == calibration
    z = np.linspace(-9, 9, 50)
    assert np.array_equal(again(z), calibration(z))
    assert (np.diff(calibration(z)) >= 0).all()


@pytest.mark.parametrize(
    "value", [{"method": "magic"}, {"method": "beta"}, {"method": "isotonic", "logits": [0, 1], "probabilities": [1, 0]}]
)  # fmt: skip
def test_what_is_no_calibration_is_refused(value: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError)):
        c.from_json(value)


def test_isotonic_blocks_equal_scikit_learn() -> None:
    isotonic = pytest.importorskip("sklearn.isotonic")
    logits, labels = data()
    weights = np.random.default_rng(0).uniform(0.5, 2, len(labels))
    found = c.fit_isotonic(logits, labels, weights)
    positives, negatives = (weights * labels).sum(), (weights * (1 - labels)).sum()
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    reference = isotonic.IsotonicRegression().fit(logits, target, weights).predict(logits)
    heights = np.unique(np.round(reference, 9))
    assert np.allclose(np.unique(np.round(found.probabilities, 9)), heights)
    # each knot lies at the weighted mean logit of its block
    knot = int(np.argmin(np.abs(np.array(found.probabilities) - heights[1])))
    block = np.isclose(reference, heights[1])
    assert found.logits[knot] == pytest.approx(np.average(logits[block], weights=weights[block]))


def test_beta_is_logistic_regression_on_two_logarithms() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    logits, labels = data(4)
    found = c.fit_beta(logits, labels)
    q = 1 / (1 + np.exp(-logits))
    x = np.repeat(np.stack([np.log(q), -np.log1p(-q)], 1), 2, axis=0)
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    weight = np.stack([target, 1 - target], 1).ravel()
    y = np.tile([1, 0], len(labels))
    reference = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=5000).fit(x, y, weight)
    assert (found.a, found.b) == pytest.approx(tuple(reference.coef_[0]), rel=2e-3)
    assert found.c == pytest.approx(reference.intercept_[0], rel=2e-3, abs=2e-3)
    assert c.Beta(1, 1, 0)(logits) == pytest.approx(q)


@given(st.integers(0, 300))
def test_every_calibration_stays_monotone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits, labels = rng.normal(size=30) * 3, (rng.random(30) < 0.4).astype(float)
    labels[:2] = (0, 1)
    z = np.linspace(-12, 12, 80)
    beta = c.fit_beta(logits, labels)
    assert min(beta.a, beta.b) >= 0
    for calibration in (beta, c.fit_isotonic(logits, labels)):
        p = calibration(z)
        assert (np.diff(p) >= -1e-12).all()
        assert ((p >= 0) & (p <= 1)).all()
