"""What the network is shown: geometry, polarity, intensity."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_engine.classifier import preprocess
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import Radiograph, StudyInfo, Window


def radiograph(pixels: np.ndarray, photometric: str = "MONOCHROME2", **changes: object) -> Radiograph:
    values: dict[str, object] = {
        "path": Path("a.png"),
        "sha256": f"{pixels.sum():.0f}{photometric}",
        "file_format": "PNG",
        "pixels": pixels,
        "photometric": photometric,
        "source_photometric": photometric,
        "bits_stored": 16,
        "modality": "CR",
        "unit": "",
        "voi": (),
        "padding": None,
        "spacing": None,
        "orientation": ("", ""),
        "frames": 1,
        "transfer_syntax": "",
        "study": StudyInfo(),
        "tags": (),
        "notices": (),
    }
    return Radiograph(**(values | changes))  # type: ignore[arg-type]


def blob(shape: tuple[int, int], row: float, column: float, sigma: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2)).astype(np.float32)


def centroid(image: np.ndarray) -> tuple[float, float]:
    y, x = np.mgrid[: image.shape[0], : image.shape[1]] + 0.5
    return float((image * y).sum() / image.sum()), float((image * x).sum() / image.sum())


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(150, 900),
    columns=st.integers(150, 900),
    where=st.tuples(st.floats(0.3, 0.7), st.floats(0.3, 0.7)),
    box=st.tuples(st.floats(0.0, 0.2), st.floats(0.8, 1.1)),
    aspect=st.floats(0.6, 1.6),
)
def test_a_spot_lands_where_the_transform_says(
    rows: int, columns: int, where: tuple[float, float], box: tuple[float, float], aspect: float
) -> None:
    row, column = where[0] * rows, where[1] * columns
    image = blob((rows, columns), row, column, 0.02 * min(rows, columns) + 2)
    transform = preprocess.square_around(
        (box[0] * rows, box[0] * columns, box[1] * rows, box[1] * columns), 0.1, 128, (rows, columns), aspect
    )
    out, _ = preprocess.sample(image, np.ones(image.shape, bool), transform)
    expected = transform.to_grid(row, column)
    assert centroid(out) == pytest.approx(expected, abs=0.35)


def test_true_proportions_are_kept_by_the_letterbox() -> None:
    transform = preprocess.letterbox((300, 600), 128)
    assert transform.scale_row == transform.scale_column == 600 / 128
    assert transform.inside().sum() == 64 * 128
    squashed = preprocess.letterbox((224, 224), 128, aspect=0.5)  # a pixel is twice as wide as high
    assert squashed.inside().sum() == 64 * 128


def test_monochrome1_shows_the_network_the_same_as_its_inverse() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 4000, (200, 180)).astype(np.uint16)
    a, _ = preprocess.upright_grey(radiograph(pixels, "MONOCHROME1"))
    b, _ = preprocess.upright_grey(radiograph((4095 - pixels).astype(np.uint16), "MONOCHROME2"))
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_the_window_chosen_for_display_changes_nothing() -> None:
    pixels = np.random.default_rng(1).integers(0, 4000, (128, 128)).astype(np.uint16)
    plain, _ = preprocess.upright_grey(radiograph(pixels))
    windowed, _ = preprocess.upright_grey(radiograph(pixels, voi=(Window(100.0, 50.0),)))
    np.testing.assert_array_equal(plain, windowed)


def test_standardised_values_ignore_exposure_and_padding() -> None:
    rng = np.random.default_rng(2)
    grey = rng.random((64, 64)).astype(np.float32)
    valid = np.ones((64, 64), bool)
    valid[:, :10] = False
    spec = PreprocessSpec(size=64)
    one = preprocess.standardise(grey, valid, spec)
    two = preprocess.standardise(0.2 + 0.5 * grey + np.where(valid, 0, 7).astype(np.float32), valid, spec)
    np.testing.assert_allclose(one, two, atol=1e-4)
    assert one[valid].mean() == pytest.approx(0, abs=1e-3)
    assert one[valid].std() == pytest.approx(1, abs=1e-2)
    assert not one[~valid].any()


def test_a_constant_image_becomes_zero_not_nan() -> None:
    grey, valid = preprocess.upright_grey(radiograph(np.full((100, 100), 7, np.uint16)))
    assert not preprocess.standardise(grey, valid, PreprocessSpec()).any()


@settings(max_examples=50, deadline=None)
@given(
    origin=st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    scale=st.tuples(st.floats(0.3, 9), st.floats(0.3, 9)),
    point=st.tuples(st.floats(0, 500), st.floats(0, 500)),
)
def test_grid_transform_round_trip(
    origin: tuple[float, float], scale: tuple[float, float], point: tuple[float, float]
) -> None:
    transform = GridTransform(*origin, *scale, (40, 30), (200, 300))
    assert transform.to_source(*transform.to_grid(*point)) == pytest.approx(point, abs=1e-6)


def test_map_to_source_equals_brute_force_bilinear() -> None:
    rng = np.random.default_rng(3)
    grid = rng.normal(size=(7, 5)).astype(np.float32)
    transform = GridTransform(-3.0, 4.0, 6.5, 7.25, (7, 5), (40, 44))
    out = transform.map_to_source(grid)
    for r in range(40):
        for c in range(44):
            y, x = (r + 0.5 + 3.0) / 6.5, (c + 0.5 - 4.0) / 7.25
            if not (0 <= y < 7 and 0 <= x < 5):
                assert out[r, c] == 0
                continue
            y, x = min(max(y - 0.5, 0), 6), min(max(x - 0.5, 0), 4)
            i, j = min(int(y), 5), min(int(x), 3)
            fy, fx = y - i, x - j
            expected = (grid[i, j] * (1 - fx) + grid[i, j + 1] * fx) * (1 - fy) + (
                grid[i + 1, j] * (1 - fx) + grid[i + 1, j + 1] * fx
            ) * fy
            assert out[r, c] == pytest.approx(expected, abs=1e-5)
