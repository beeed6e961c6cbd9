"""Localisation figures against counts made by hand."""

import numpy as np
import pytest

from xai_engine.train import localisation


def test_box_mask_counts_pixels_of_a_small_image():
    mask = localisation.box_mask([(2.0, 1.0, 3.0, 2.0)], 6, 8)
    expected = np.zeros((6, 8), bool)
    expected[1:3, 2:5] = True
    assert np.array_equal(mask, expected)


def test_box_mask_of_a_large_image_keeps_the_share_of_area():
    mask = localisation.box_mask([(512.0, 256.0, 256.0, 512.0)], 1024, 1024)
    assert mask.shape == (128, 128)
    assert mask.mean() == 0.125


def test_hit_shares_ties_and_misses_when_empty():
    mask = np.array([[True, False], [False, False]])
    assert localisation.hit(np.array([[1.0, 0.2], [0, 0]], np.float32), mask) == 1.0
    assert localisation.hit(np.ones((2, 2), np.float32), mask) == 0.25
    assert localisation.hit(np.zeros((2, 2), np.float32), mask) == 0.0


def test_both_slices_of_an_empty_prediction():
    mask = np.array([[True, True, False, False]])
    good = np.array([[1.0, 0.6, 0.5, 0.0]], np.float32)
    found = localisation.score([(good, mask), (np.zeros((1, 4), np.float32), mask)], 0.5)
    assert found["miou_non_empty"] == pytest.approx(2 / 3)
    assert found["miou"] == pytest.approx(1 / 3)
    assert (found["hit_rate"], found["hit_rate_non_empty"], found["empty"]) == (0.5, 1.0, 1)
    assert found["auprc_mean"] == pytest.approx((1.0 + 0.5) / 2)  # an empty map ranks nothing: the prevalence
    # pooled: 1 of 1, 2 of 2, 2 of 3, then all tied zeros bring 4 of 8
    assert found["auprc_pooled"] == pytest.approx(0.25 + 0.25 + 0.5 * 4 / 8)


def test_random_floor_is_the_prevalence():
    rng = np.random.default_rng(1)
    mask = localisation.box_mask([(0.0, 0.0, 64.0, 32.0)], 128, 128)
    pairs = [(rng.random(mask.shape, np.float32), mask) for _ in range(10)]
    assert localisation.score(pairs, 0.5)["auprc_mean"] == pytest.approx(mask.mean(), abs=0.01)


def test_threshold_comes_from_the_best_mean_overlap():
    mask = np.array([[True, False, False]])
    assert 0.4 < localisation.best_threshold([(np.array([[1.0, 0.4, 0.1]], np.float32), mask)]) <= 0.95
    assert localisation.best_threshold([]) == 0.5
