"""Viewport, sampling, shapes: numbers only, no widget."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from app.canvas import shapes
from app.canvas.readout import read_out
from app.canvas.sampling import ImageSampler, MapInSource, sample_map, value_at
from app.canvas.viewport import Orientation, Viewport, edge_letters
from app.model.case import CaseModel
from tests.app import cases
from xai_engine.radiograph import regions
from xai_engine.radiograph.regions import Region

ORIENTATIONS = [Orientation(r, h, v) for r in (0, 90, 180, 270) for h in (False, True) for v in (False, True)]
orientations = st.sampled_from(ORIENTATIONS)


@st.composite
def viewports(draw: st.DrawFn) -> Viewport:
    rows, columns = draw(st.integers(1, 4000)), draw(st.integers(1, 4000))
    view = Viewport(
        rows,
        columns,
        draw(st.integers(50, 2000)),
        draw(st.integers(50, 2000)),
        1.0,
        (0, 0),
        draw(orientations),
    )
    row, column = draw(st.floats(0, 1)) * rows, draw(st.floats(0, 1)) * columns
    return view.fitted().centered_at(row, column, draw(st.floats(0.02, 40)))


@settings(deadline=None)
@given(orientations, st.integers(1, 6), st.integers(1, 6), st.data())
def test_source_box_is_the_part_that_apply_shows(
    view: Orientation, rows: int, columns: int, data: st.DataObject
) -> None:
    image = np.arange(rows * columns).reshape(rows, columns)
    shown = view.apply(image)
    assert shown.shape == view.shape(rows, columns)
    top = data.draw(st.integers(0, shown.shape[0]))
    bottom = data.draw(st.integers(top, shown.shape[0]))
    left = data.draw(st.integers(0, shown.shape[1]))
    right = data.draw(st.integers(left, shown.shape[1]))
    r0, c0, r1, c1 = view.source_box(top, left, bottom, right, rows, columns)
    np.testing.assert_array_equal(view.apply(image[r0:r1, c0:c1]), shown[top:bottom, left:right])


@settings(deadline=None)
@given(viewports(), st.floats(0, 1), st.floats(0, 1))
def test_device_and_source_are_inverse(view: Viewport, a: float, b: float) -> None:
    points = np.array([[a * view.rows, b * view.columns]])
    np.testing.assert_allclose(view.to_source(view.to_device(points)), points, atol=1e-6)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_pixels_are_drawn_where_to_device_says(orientation: Orientation) -> None:
    """The pixel found on the screen at to_device(centre of the pixel) is that pixel."""
    image = np.arange(35, dtype=np.uint16).reshape(5, 7)
    view = Viewport(5, 7, 60, 50, 4.0, (2.5, 3.5), orientation)
    x0, y0, _, _ = view.visible()
    shown = ImageSampler(np.kron(image, np.ones((3, 3), np.uint16)))
    big = Viewport(15, 21, 60, 50, 1.0, (7.5, 10.5), orientation)
    drawn = shown.sample(big)
    x0, y0, _, _ = big.visible()
    for row in range(5):
        for column in range(7):
            x, y = big.to_device([[3 * row + 1.5, 3 * column + 1.5]])[0]
            assert drawn[int(y) - y0, int(x) - x0] == image[row, column]


@settings(deadline=None)
@given(viewports(), st.floats(0.05, 0.95), st.floats(0.05, 0.95), st.floats(0.2, 5))
def test_the_point_under_the_cursor_stays_when_zooming(
    view: Viewport, a: float, b: float, factor: float
) -> None:
    x, y = a * view.width, b * view.height
    before = view.to_source([[x, y]])[0]
    zoomed = view.zoomed(view.scale * factor, x, y)
    # unless the image would leave the middle of the widget
    assume(0 < zoomed.center[0] < view.rows and 0 < zoomed.center[1] < view.columns)
    after = zoomed.to_device([before])[0]
    # both pictures lie on whole device pixels: half a pixel each, the first one magnified
    assert np.abs(after - (x, y)).max() <= 0.5 + 0.5 * max(1.0, zoomed.scale / view.scale) + 1e-6


@settings(deadline=None)
@given(viewports())
def test_fit_shows_the_whole_image_and_touches_two_edges(view: Viewport) -> None:
    fitted = view.fitted()
    corners = fitted.to_device([[0, 0], [view.rows, view.columns]])
    low, high = corners.min(axis=0), corners.max(axis=0)
    assume(fitted.scale < 60)
    assert (low >= -1).all()
    assert (high <= np.array([view.width, view.height]) + 1).all()
    gaps = np.array([view.width, view.height]) - (high - low)
    assert gaps.min() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((), {"left": "R", "right": "L", "top": "H", "bottom": "F"}),
        (((0, True, False),), {"left": "L", "right": "R", "top": "H", "bottom": "F"}),
        (((90, False, False),), {"left": "F", "right": "H", "top": "R", "bottom": "L"}),
        (((180, False, False),), {"left": "L", "right": "R", "top": "F", "bottom": "H"}),
    ],
)
def test_letters_follow_the_view(steps: Any, expected: dict[str, str]) -> None:
    view = Orientation(*steps[0]) if steps else Orientation()
    assert edge_letters(("L", "F"), view) == expected
    assert edge_letters(("", ""), view) == {}


@settings(deadline=None)
@given(arrays(np.uint16, st.tuples(st.integers(4, 40), st.integers(4, 40))), orientations)
def test_at_one_to_one_pixels_are_untouched(image: Any, orientation: Orientation) -> None:
    rows, columns = image.shape
    view = Viewport(rows, columns, 25, 21, 1.0, (rows / 2, columns / 2), orientation)
    x0, y0, x1, y1 = view.visible()
    x, y = view.origin
    expected = orientation.apply(image)[y0 - y : y1 - y, x0 - x : x1 - x]
    np.testing.assert_array_equal(ImageSampler(image).sample(view), expected)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.int32])
def test_reduction_is_the_mean_over_area(factor: int, dtype: Any) -> None:
    image = np.random.default_rng(3).integers(0, 100, (48, 72)).astype(dtype)
    view = Viewport(48, 72, 200, 200, 1 / factor, (24, 36))
    expected = image.reshape(48 // factor, factor, 72 // factor, factor).mean(axis=(1, 3))
    # halving levels round to whole numbers, at most half a unit each
    tolerance = 1e-3 if np.dtype(dtype).kind == "f" or dtype is np.int32 else 1.01
    np.testing.assert_allclose(ImageSampler(image).sample(view), expected, atol=tolerance)


def test_a_fine_grid_turns_grey_instead_of_moire() -> None:
    image = ((np.indices((1000, 1000)).sum(axis=0) % 2) * 1000).astype(np.float32)
    view = Viewport(1000, 1000, 400, 400).fitted()
    shown = ImageSampler(image).sample(view)
    assert np.abs(shown - 500).max() < 110


@pytest.mark.parametrize("scale", [8.0, 12.5, 40.0])
def test_far_enlarged_every_pixel_is_a_square(scale: float) -> None:
    image = cases.noise(30, 40)
    view = Viewport(30, 40, 300, 200, scale, (12.3, 17.7), Orientation(90, True))
    shown = ImageSampler(image).sample(view)
    x0, y0, _, _ = view.visible()
    for y in range(0, shown.shape[0], 17):
        for x in range(0, shown.shape[1], 13):
            row, column = view.to_source([[x + x0 + 0.5, y + y0 + 0.5]])[0]
            if min(row % 1, column % 1) > 0.1 and max(row % 1, column % 1) < 0.9:
                assert shown[y, x] == image[int(row), int(column)]


@pytest.mark.parametrize("scale", [1.5, 3.0])
def test_enlarged_a_ramp_stays_a_ramp(scale: float) -> None:
    image = np.add.outer(np.arange(200) * 3.0, np.arange(300) * 5.0).astype(np.float32)
    view = Viewport(200, 300, 120, 90, scale, (100, 150))
    shown = ImageSampler(image).sample(view)
    x0, y0, _, _ = view.visible()
    y, x = np.mgrid[0 : shown.shape[0], 0 : shown.shape[1]]
    at = view.to_source(np.stack([x.ravel() + x0 + 0.5, y.ravel() + y0 + 0.5], axis=1))
    expected = (at[:, 0] - 0.5) * 3 + (at[:, 1] - 0.5) * 5
    # cv2 interpolates in 1/32 of a pixel
    np.testing.assert_allclose(shown.ravel(), expected, atol=(3 + 5) / 32 + 0.01)


def test_images_beyond_the_limits_of_cv2_can_be_looked_at() -> None:
    image = np.zeros((40, 70_000), np.uint16)
    image[:, 60_000] = 900
    view = Viewport(40, 70_000, 200, 100).fitted().centered_at(20, 60_000.5, 2.0)
    shown = ImageSampler(image).sample(view)
    x0, _, _, _ = view.visible()
    brightest = int(shown[20].argmax()) + x0
    assert abs(view.to_device([[20, 60_000.5]])[0, 0] - brightest) <= 1.5
    whole = ImageSampler(image).sample(Viewport(40, 70_000, 200, 100).fitted())
    assert whole.shape[1] == 200


@pytest.mark.parametrize("orientation", ORIENTATIONS[:6])
@pytest.mark.parametrize("segments", [False, True])
def test_a_map_on_the_screen_is_the_map_in_source_geometry(orientation: Orientation, segments: bool) -> None:
    labels = np.zeros((32, 32), np.int32) if segments else None
    one = cases.explanation((90, 70), segments=labels)
    view = Viewport(90, 70, 60, 50, 1.0, (40, 33), orientation)
    x0, y0, x1, y1 = view.visible()
    x, y = view.origin
    whole = orientation.apply(one.in_source())
    np.testing.assert_allclose(
        sample_map(one, view), whole[y0 - y : y1 - y, x0 - x : x1 - x], atol=0 if segments else 1e-5
    )
    draft = sample_map(one, view, draft=True)
    assert draft.shape == ((y1 - y0 + 1) // 2, (x1 - x0 + 1) // 2)


@pytest.mark.parametrize("segments", [False, True])
def test_a_part_of_a_map_in_source_is_that_part(segments: bool) -> None:
    labels = np.zeros((32, 32), np.int32) if segments else None
    one = cases.explanation((700, 500), segments=labels)
    whole, lazy = one.in_source(), MapInSource(one)
    assert lazy.shape == whole.shape
    np.testing.assert_allclose(lazy[100:400, 33:77], whole[100:400, 33:77], atol=2e-6)
    np.testing.assert_array_equal(np.asarray(lazy), whole)
    np.testing.assert_allclose(lazy.totals(), regions.map_totals(whole), rtol=1e-6)


def test_the_readout_names_the_pixel_and_every_map() -> None:
    case = CaseModel()
    pixels = cases.noise(50, 40)
    padding = np.zeros((50, 40), bool)
    padding[3, 4] = True
    case.set_radiograph(cases.radiograph(pixels, padding=padding, unit="OD"))
    one = cases.explanation((50, 40))
    case.add_layer(one)
    out = read_out(case, 20.99, 10.0)
    assert out is not None
    assert (out.row, out.column, out.value, out.unit) == (20, 10, pixels[20, 10], "OD")
    assert out.layers[0].value == pytest.approx(one.in_source()[20, 10], abs=1e-6)
    assert value_at(one, 20, 10) == out.layers[0].value
    inside = read_out(case, 3.5, 4.5)
    assert inside is not None
    assert inside.padding
    assert read_out(case, -0.01, 5) is None
    assert read_out(case, 5, 40.0) is None


# Shapes

RECTANGLE = Region("rectangle", np.array([[10.0, 20.0], [30.0, 60.0]]))
TILTED = Region("rectangle", np.array([[10.0, 30.0], [30.0, 50.0], [50.0, 30.0], [30.0, 10.0]]))


def bounds(region: Region) -> list[float]:
    points = regions.outline(region)
    return [*points.min(axis=0), *points.max(axis=0)]


@pytest.mark.parametrize(
    ("handle", "to", "expected"),
    [
        (0, (5, 15), [5, 15, 30, 60]),
        (1, (5, 70), [5, 20, 30, 70]),
        (2, (40, 50), [10, 20, 40, 50]),
        (3, (40, 10), [10, 10, 40, 60]),
        (4, (0, 99), [0, 20, 30, 60]),
        (5, (99, 80), [10, 20, 30, 80]),
        (6, (50, -9), [10, 20, 50, 60]),
        (7, (-9, 0), [10, 0, 30, 60]),
        (0, (50, 80), [30, 60, 50, 80]),  # dragged across the opposite corner
    ],
)
@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
def test_handles_of_a_box(kind: Any, handle: int, to: tuple[float, float], expected: list[float]) -> None:
    region = Region(kind, RECTANGLE.points)
    changed = shapes.reshaped(region, handle, *to)
    frame = Region("rectangle", changed.points)
    np.testing.assert_allclose(bounds(frame), expected)
    assert len(changed.points) == 2


@settings(deadline=None)
@given(st.integers(0, 7), st.floats(-50, 100), st.floats(-50, 100))
def test_a_tilted_box_keeps_its_tilt(handle: int, row: float, column: float) -> None:
    changed = shapes.reshaped(TILTED, handle, row, column)
    sides = np.diff(np.vstack([changed.points, changed.points[:1]]), axis=0)
    for side, direction in zip(
        sides, np.diff(np.vstack([TILTED.points, TILTED.points[:1]]), axis=0), strict=True
    ):
        assert abs(side[0] * direction[1] - side[1] * direction[0]) < 1e-6 * max(1, np.abs(side).max()) * 30
    if handle < 4:
        np.testing.assert_allclose(changed.points[handle], (row, column), atol=1e-6)
        np.testing.assert_allclose(
            changed.points[(handle + 2) % 4], TILTED.points[(handle + 2) % 4], atol=1e-6
        )


def test_moving_a_vertex_of_a_polygon() -> None:
    region = Region("polygon", np.array([[0.0, 0.0], [0.0, 10.0], [10.0, 10.0]]))
    np.testing.assert_array_equal(shapes.reshaped(region, 1, 3, 4).points, [[0, 0], [3, 4], [10, 10]])


@settings(deadline=None, max_examples=15)
@given(orientations, st.floats(0.3, 5))
def test_hits_agree_with_the_mask(orientation: Orientation, scale: float) -> None:
    region = Region("ellipse", np.array([[10.0, 20.0], [40.0, 70.0]]))
    view = Viewport(60, 90, 300, 300, scale, (30, 45), orientation)
    inside = regions.mask(region, (60, 90))
    for row in range(0, 60, 7):
        for column in range(0, 90, 7):
            x, y = view.to_device([[row + 0.5, column + 0.5]])[0]
            found = shapes.hit(region, view, x, y, 1e-9, with_handles=False)
            assert (found is not None) == inside[row, column]


def test_the_smallest_region_and_the_selected_handles_come_first() -> None:
    big = Region("rectangle", np.array([[0.0, 0.0], [100.0, 100.0]]), "", "big")
    small = Region("rectangle", np.array([[40.0, 40.0], [60.0, 60.0]]), "", "small")
    view = Viewport(100, 100, 100, 100, 1.0, (50, 50))
    both = (small, big)
    found = shapes.hit_any(both, None, view, 50, 50, 5)
    assert found is not None
    assert found.region.id == "small"
    found = shapes.hit_any(both, "big", view, 99, 99, 5)
    assert found is not None
    assert (found.part, found.index) == ("handle", 2)
    assert shapes.hit_any((small,), None, view, 10, 10, 5) is None


def test_a_click_without_a_drag_makes_no_region() -> None:
    assert shapes.make("rectangle", [(5, 5), (5, 5)], "", "a") is None
    assert shapes.make("rectangle", [(5, 5), (5, 50)], "", "a") is None
    assert shapes.make("polygon", [(5, 5), (5, 50)], "", "a") is None
    assert shapes.make("freehand", [(5, 5), (5, 50), (20, 20)], "", "a") is not None
