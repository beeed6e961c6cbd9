"""Fills against closed forms: harmonic functions come back, deviations match, nothing outside the mask moves."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from xai_engine.errors import UsageError
from xai_engine.radiograph import fill, mirror

ROWS, COLUMNS = 60, 50
Y, X = np.mgrid[0:ROWS, 0:COLUMNS].astype(np.float32)
ALL = np.ones((ROWS, COLUMNS), bool)
DISC = (Y - 30) ** 2 + (X - 20) ** 2 < 100
RNG = np.random.default_rng


@pytest.mark.parametrize(
    "surface",
    [
        0.2 + 0.005 * X + 0.004 * Y,
        0.5 + 1e-4 * (X - 25) * (Y - 30),
        0.5 + 1e-4 * ((X - 25) ** 2 - (Y - 30) ** 2),
    ],
    ids=["plane", "saddle", "quadric"],
)
def test_a_harmonic_surface_is_filled_in_exactly(surface: np.ndarray) -> None:
    grey = surface.astype(np.float32)
    spoiled = np.where(DISC, np.float32(0.9), grey)
    values = fill._harmonic(spoiled, DISC, ALL, 0.5)
    assert np.allclose(values, grey[DISC], atol=2e-6)


def test_only_the_mask_changes_and_padding_is_no_boundary() -> None:
    grey = np.where(X < 25, 0.3, 0.8).astype(np.float32)
    valid = X < 25
    mask = (np.abs(Y - 30) < 8) & (X >= 15) & (X < 25)  # touches the padding
    for changed in (
        fill.inpaint(grey, valid, mask, RNG(0)),
        fill.blur(grey, valid, mask),
        fill.mean(grey, valid, mask),
    ):
        assert np.array_equal(changed[~mask], grey[~mask])
        assert np.allclose(changed[mask], 0.3, atol=1e-5)  # the 0.8 beyond the padding's edge never bleeds in


def test_texture_has_the_surroundings_deviation_and_grain() -> None:
    rng = RNG(5)
    noise = ndimage.gaussian_filter(rng.standard_normal((200, 200)), 0.8).astype(np.float32)
    grey = 0.5 + 0.03 * noise / noise.std()
    y, x = np.mgrid[0:200, 0:200]
    disc = (y - 100) ** 2 + (x - 100) ** 2 < 45**2
    filled = fill.inpaint(grey, np.ones_like(disc), disc, RNG(1))

    def fine(values: np.ndarray, where: np.ndarray) -> tuple[float, float]:
        part = values - ndimage.gaussian_filter(values, fill.DETAIL)
        pairs = where[:, :-1] & where[:, 1:]
        product = (part[:, :-1] * part[:, 1:])[pairs].mean()
        return float(part[where].std()), float(product / part[where].var())

    inner = ndimage.binary_erosion(disc, iterations=8)
    outer = ~ndimage.binary_dilation(disc, iterations=8)
    (deviation, grain), (wanted, wanted_grain) = fine(filled, inner), fine(grey, outer)
    assert deviation == pytest.approx(wanted, rel=0.2)
    assert grain == pytest.approx(wanted_grain, abs=0.2)
    assert np.array_equal(filled, fill.inpaint(grey, np.ones_like(disc), disc, RNG(1)))
    assert not np.array_equal(filled, fill.inpaint(grey, np.ones_like(disc), disc, RNG(2)))


def test_blur_and_mean_are_what_they_say() -> None:
    grey = RNG(3).random((ROWS, COLUMNS)).astype(np.float32)
    sigma = fill.BLUR * fill.radius(DISC)
    expected = ndimage.gaussian_filter(grey.astype(np.float64), sigma, mode="nearest", truncate=8.0)
    assert np.allclose(fill.blur(grey, ALL, DISC)[DISC], expected[DISC], atol=2e-3)
    width = max(3, round(fill.RING * fill.radius(DISC)))
    distance = ndimage.distance_transform_edt(~DISC)
    ring = (distance > 0) & (distance <= width)
    assert fill.mean(grey, ALL, DISC)[30, 20] == pytest.approx(grey[ring].mean(), abs=0.01)


def test_mirror_takes_the_other_side() -> None:
    grey = RNG(3).random((ROWS, COLUMNS)).astype(np.float32)
    changed, share = fill.mirror(grey, ALL, DISC, mirror.of_image((ROWS, COLUMNS)), (1.0, 1.0))
    assert share == 1.0
    assert np.allclose(changed[DISC], grey[:, ::-1][DISC], atol=1e-6)
    assert np.array_equal(changed[~DISC], grey[~DISC])
    line = mirror.Midline((0.0, 45.0), (60.0, 45.0), 1.0, "lungs")
    changed, share = fill.mirror(grey, ALL, DISC, line, (1.0, 1.0))
    assert share == 0.0  # columns 60 to 80 do not exist
    assert np.array_equal(changed, grey)


def test_a_region_without_surroundings_is_refused() -> None:
    grey = np.full((ROWS, COLUMNS), 0.5, np.float32)
    with pytest.raises(UsageError, match="surroundings"):
        fill.inpaint(grey, ALL, ALL, RNG(0))
    with pytest.raises(UsageError, match="surroundings"):
        fill.mean(grey, ALL, ALL)
