"""Reduced precision put right by a few exact scores, against maps whose fp32 truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from xai_engine.explain.precision import MOST, STEP, Correction, _hanging, checked, enough, offset_only
from xai_engine.explain.ranks import rank_correlation


def scores(seed: int, systematic: float, chance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(sets, exact, reduced): a sum with interactions; reduced adds another sum, and noise of its own to each image."""
    rng = np.random.default_rng(seed)
    sets = rng.integers(0, 2, (1000, 50)).astype(float)
    exact = sets @ rng.normal(size=50) + 2.0 * sets[:, 0] * sets[:, 1] + 0.3 * rng.normal(size=1000)
    reduced = exact + 1.5 + systematic * (sets @ rng.normal(size=50)) + chance * rng.normal(size=1000)
    return sets, exact, reduced


def slopes(sets: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Ordinary least squares by numpy."""
    design = np.column_stack([np.ones(len(sets)), sets])
    return np.asarray(np.linalg.lstsq(design, values, rcond=None)[0][1:])


def test_a_systematic_difference_is_taken_away() -> None:
    sets, exact, reduced = scores(0, 0.3, 0.0)
    n = checked(50, 1000)
    correction = Correction.of(sets[:n], exact[:n], reduced[:n], 1000)
    truth = slopes(sets, exact)
    assert rank_correlation(truth, slopes(sets, reduced)) < 0.99
    after = slopes(sets, reduced + correction(sets))
    assert rank_correlation(truth, after) > 0.995
    assert np.abs(reduced + correction(sets) - exact).mean() < 0.1 * np.abs(reduced - exact).mean()


@pytest.mark.parametrize("chance", [0.05, 0.3, 1.0, 3.0])
def test_what_is_expected_is_what_comes(chance: float) -> None:
    """Over twelve models: the true rank correlation of the map is seldom below what was expected, nor far above."""
    expected, found = [], []
    for seed in range(12):
        sets, exact, reduced = scores(seed, 0.2, chance)
        n = checked(50, 1000)
        correction = Correction.of(sets[:n], exact[:n], reduced[:n], 1000)
        values = reduced + correction(sets)
        values[:n] = exact[:n]
        expected.append(correction.expected)
        found.append(rank_correlation(slopes(sets, exact), slopes(sets, values)))
    assert np.mean(np.array(found) >= np.array(expected) - 0.001) >= 0.75
    assert 1.0 - np.mean(expected) <= 3.0 * (1.0 - np.mean(found)) + 0.004


@pytest.mark.parametrize(
    ("systematic", "chance"), [(0.0, 0.03), (0.02, 0.0), (0.05, 0.05), (0.1, 0.2), (0.5, 0.1)]
)
@pytest.mark.parametrize("means", [False, True])
def test_without_slopes_no_more_is_expected_than_comes(systematic: float, chance: float, means: bool) -> None:
    """Also where the difference is all of it another map, which chance would average out and a map does not."""
    expected, found = [], []
    for seed in range(12):
        sets, exact, reduced = scores(seed, systematic, chance)
        plain = offset_only(sets[:125], exact[:64], reduced[:125], 1000, means)
        assert not plain.slope.any()
        assert plain.offset == pytest.approx(np.mean(exact[:64] - reduced[:64]))
        maps = [y @ (sets - sets.mean(0)) if means else slopes(sets, y) for y in (exact, reduced)]
        expected.append(plain.expected)
        found.append(rank_correlation(*maps))
    assert np.mean(np.array(found) >= np.array(expected) - 0.001) >= 0.8
    assert 1.0 - np.mean(expected) <= 4.0 * (1.0 - np.mean(found)) + 0.006


def test_what_hangs_on_the_features_is_estimated_without_bias() -> None:
    rng = np.random.default_rng(0)
    parts, found, doubts = (0.0, 0.3, 1.0), {0.0: [], 0.3: [], 1.0: []}, []
    for _ in range(300):
        sets = rng.integers(0, 2, (120, 20)).astype(float)
        z = sets - sets.mean(0)
        left, _, _ = np.linalg.svd(z, full_matrices=False)
        alike = left @ left.T * len(z)
        along = left @ rng.normal(size=20)
        along /= along.std()
        for share in parts:
            values = np.sqrt(share) * along + np.sqrt(1.0 - share) * rng.normal(size=120)
            variance, doubt = _hanging(alike, values[:60])
            found[share].append(variance)
            doubts.append(doubt)
    for share in parts:
        assert np.mean(found[share]) == pytest.approx(share, abs=0.05)
    assert np.std(found[0.0]) == pytest.approx(np.mean(doubts), rel=0.25)


def test_how_many_images_it_will_take_is_foretold_from_the_first_look() -> None:
    for seed in range(8):
        sets, exact, reduced = scores(seed, 0.2, 0.35)
        first = Correction.of(sets[:125], exact[:125], reduced[:125], 100_000).expected
        wanted = 1.0 - (1.0 - first) / 3.0  # three times as near
        n = enough(125, first, wanted)
        assert n == pytest.approx(375, abs=1)
        then = Correction.of(sets[:n], exact[:n], reduced[:n], 100_000).expected
        assert 1.0 - then == pytest.approx(1.0 - wanted, rel=0.5)
    assert enough(125, 0.9949, 0.995) == 125 + STEP


def test_a_map_of_chance_is_never_expected_to_last() -> None:
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (125, 50)).astype(float)
    exact, reduced = rng.normal(size=125), rng.normal(size=125)
    assert Correction.of(sets, exact, reduced, 1000).expected < 0.9


def test_no_more_are_scored_twice_than_pays() -> None:
    assert checked(50, 1000) == 125
    assert checked(4, 1000) == 96
    for columns in (4, 50, 64, 400):
        for count in (100, 384, 1000, 4000):
            assert checked(columns, count) <= MOST * count
    assert checked(400, 1000) == 0


@pytest.mark.parametrize("chance", [0.05, 0.5, 2.0])
def test_what_is_expected_of_covariances_is_what_comes(chance: float) -> None:
    """Cells that are shown together with their neighbours, as RISE's: the map is the covariance with each, and what the
    correction leaves of the error moves it less than it moves slopes."""
    expected, slopes_expected, found = [], [], []
    smooth = np.array([[max(0.0, 1.0 - abs(i - j) / 3.0) for j in range(40)] for i in range(40)])
    for seed in range(12):
        rng = np.random.default_rng(seed)
        cells = rng.integers(0, 2, (2000, 40)) @ smooth / smooth.sum(0)
        exact = cells @ rng.normal(size=40) + 0.1 * rng.normal(size=2000)
        reduced = exact - 0.3 + 0.05 * cells @ rng.normal(size=40) + 0.02 * chance * rng.normal(size=2000)
        correction = Correction.of(cells[:128], exact[:128], reduced[:128], 2000, means=True)
        slopes_expected.append(Correction.of(cells[:128], exact[:128], reduced[:128], 2000).expected)
        values = reduced + correction(cells)
        values[:128] = exact[:128]
        centred = cells - cells.mean(0)
        expected.append(correction.expected)
        found.append(rank_correlation(exact @ centred, values @ centred))
    assert np.mean(np.array(found) >= np.array(expected) - 0.001) >= 0.75
    assert np.mean(expected) > np.mean(slopes_expected)
    assert 1.0 - np.mean(expected) <= 4.0 * (1.0 - np.mean(found)) + 0.004
