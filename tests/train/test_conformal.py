"""Split conformal sets against a worked example and the guarantee itself."""

import numpy as np
import pytest

from xai_engine.train import conformal


def test_quantile_worked_example():
    scores = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.4, 0.8, 0.6]  # n = 9: rank ceil(10 * 0.8) = 8
    assert conformal.quantile(scores, 0.2) == 0.8
    assert conformal.quantile(scores, 0.05) == np.inf  # rank 10 of 9: nothing can be promised
    with pytest.raises(ValueError, match="error rate"):
        conformal.quantile(scores, 1.0)


def test_sets_worked_example():
    result = conformal.measure([0, 1, 1, 0], [0.1, 0.9, 0.4, 0.5], (0.45, 0.55))
    # p=0.1 {0} right; 0.9 {1} right; 0.4 {0} wrong (1-p = 0.6); 0.5 {1} wrong (p > 0.45, 1-p = 0.5)
    assert result["coverage"][0] == 0.5
    assert result["sizes"] == [0, 4, 0]
    assert result["coverage_pneumonia"][0] == 0.5


def test_coverage_is_kept_in_each_class():
    rng = np.random.default_rng(3)
    covered = []
    for _ in range(200):
        y = rng.random(400) < 0.3
        p = 1 / (1 + np.exp(-(rng.normal(0, 1, 400) + 1.2 * y)))  # badly calibrated on purpose
        limits = conformal.fit(y[:200], p[:200], 0.1)
        found = conformal.measure(y[200:], p[200:], limits)
        covered.append((found["coverage_normal"][0], found["coverage_pneumonia"][0]))
    assert (np.mean(covered, axis=0) >= 0.895).all()
    assert (np.mean(covered, axis=0) <= 0.93).all()  # not by letting everything in
