"""Masks against a scalar winding-number test, matplotlib and closed forms; statistics against plain Python."""

from __future__ import annotations

import json
import math
import pickle
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xai_engine.errors import UsageError
from xai_engine.radiograph import regions
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import PixelSpacing, Radiograph, StudyInfo

coordinate = st.floats(-8, 32, allow_nan=False, width=32)
vertices = st.lists(st.tuples(coordinate, coordinate), min_size=3, max_size=12)


def radiograph(
    pixels: np.ndarray, spacing: PixelSpacing | None = None, padding: np.ndarray | None = None
) -> Radiograph:
    return Radiograph(
        Path("x.dcm"), "0" * 64, "DICOM", pixels, "MONOCHROME2", "MONOCHROME2", 12, "CR", "", (), padding, spacing,
        ("L", "F"), 1, "", StudyInfo(), (), (),
    )  # fmt: skip


def winding(points: np.ndarray, row: float, column: float) -> int:
    """Sunday's winding number: one point, one edge after the other."""
    number = 0
    for (r0, c0), (r1, c1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        left = (r1 - r0) * (column - c0) - (row - r0) * (c1 - c0)
        if r0 <= row < r1 and left > 0:
            number += 1
        elif r1 <= row < r0 and left < 0:
            number -= 1
    return number


def distance_to_outline(points: np.ndarray, row: float, column: float) -> float:
    p, best = np.array([row, column]), math.inf
    for a, b in zip(points, np.roll(points, -1, axis=0), strict=True):
        t = np.clip(np.dot(p - a, b - a) / max(np.dot(b - a, b - a), 1e-30), 0, 1)
        best = min(best, float(np.linalg.norm(p - a - t * (b - a))))
    return best


@settings(max_examples=50, deadline=None)
@given(vertices)
def test_polygon_equals_the_scalar_winding_number(points: list[tuple[float, float]]) -> None:
    region = Region("freehand", points)
    got = regions.mask(region, (21, 23))
    for r in range(21):
        for c in range(23):
            if got[r, c] != (winding(region.points, r + 0.5, c + 0.5) != 0):
                assert distance_to_outline(region.points, r + 0.5, c + 0.5) < 1e-6, (
                    "only rounding on the outline"
                )


def test_polygon_equals_matplotlib() -> None:
    path = pytest.importorskip("matplotlib.path")
    angle = np.sort(np.random.default_rng(3).uniform(0, 2 * np.pi, 400))
    radius = 300 + 90 * np.sin(5 * angle) + np.random.default_rng(4).normal(0, 9, 400)
    points = np.stack([400 + radius * np.sin(angle), 450 + radius * np.cos(angle)], axis=1)
    y, x = np.mgrid[:800, :900] + 0.5
    expected = path.Path(points).contains_points(np.stack([y.ravel(), x.ravel()], 1)).reshape(800, 900)
    assert np.array_equal(regions.mask(Region("polygon", points), (800, 900)), expected)


def test_ellipse_equals_skimage() -> None:
    draw = pytest.importorskip("skimage.draw")
    expected = np.zeros((300, 400), np.bool_)
    # scikit-image counts from pixel centres, we from edges
    expected[draw.ellipse(120.3 - 0.5, 210.8 - 0.5, 70.4, 133.1, shape=(300, 400))] = True
    region = Region("ellipse", [(120.3 - 70.4, 210.8 - 133.1), (120.3 + 70.4, 210.8 + 133.1)])
    assert np.array_equal(regions.mask(region, (300, 400)), expected)


@pytest.mark.parametrize("corners", [[(10, 20), (110, 220)], [(110, 20), (10, 220)], [(110, 220), (10, 20)]])
def test_rectangle_area_in_any_order_of_its_corners(corners: list[tuple[int, int]]) -> None:
    got = regions.mask(Region("rectangle", corners), (300, 300))
    assert got.sum() == 100 * 200
    assert got[10:110, 20:220].all()


def test_closed_form_areas() -> None:
    circle = Region("ellipse", [(100.2, 100.7), (900.2, 900.7)])
    assert regions.mask(circle, (1000, 1000)).sum() == pytest.approx(math.pi * 400**2, rel=1e-4)
    # tilted ellipse with conjugate semi-diameters u, v: area pi |u x v|
    u, v, centre = np.array([120.0, 60.0]), np.array([-90.0, 200.0]), np.array([400.0, 420.0])
    tilted = Region("ellipse", [centre - u - v, centre + u - v, centre + u + v, centre - u + v])
    expected = math.pi * abs(u[0] * v[1] - u[1] * v[0])
    assert regions.mask(tilted, (900, 900)).sum() == pytest.approx(expected, rel=1e-3)
    outline = regions.outline(tilted, 360)
    assert regions.mask(Region("polygon", outline), (900, 900)).sum() == pytest.approx(expected, rel=1e-3)


def test_crossing_outlines_fill_by_the_nonzero_rule() -> None:
    # a pentagram: even-odd would leave the pentagon in the middle empty
    star = [
        (50 + 40 * math.cos(4 * math.pi * k / 5), 50 + 40 * math.sin(4 * math.pi * k / 5)) for k in range(5)
    ]
    assert regions.mask(Region("freehand", star), (100, 100))[50, 50]
    bow = Region("freehand", [(10, 10), (90, 90), (90, 10), (10, 90)])
    got = regions.mask(bow, (100, 100))
    assert got[20, 50]
    assert got[80, 50], "both lobes belong to it"
    assert not got[50, 20]
    assert not got[50, 80]


@settings(max_examples=60, deadline=None)
@given(vertices, st.integers(-5, 60), st.integers(-5, 60))
def test_moving_by_whole_pixels_moves_the_mask(points: list[tuple[float, float]], dr: int, dc: int) -> None:
    # multiples of 1/64, so that moving rounds nothing
    snapped = np.round(np.array(points) * 64) / 64
    big = regions.mask(Region("polygon", snapped + 8 + 5), (130, 130))
    moved = regions.mask(Region("polygon", snapped + 8 + 5 + (dr, dc)), (130, 130))
    assert moved.sum() == big.sum()
    rows, columns = np.nonzero(big)
    assert moved[rows + dr, columns + dc].all()


@settings(max_examples=80, deadline=None)
@given(vertices, st.floats(-10, 45, width=32))
def test_parts_that_share_an_edge_add_up(points: list[tuple[float, float]], cut: float) -> None:
    """A polygon and its mirror part: two triangles of a fan share an edge, no pixel twice and none lost."""
    a, b, c, d = (np.array(p) for p in (points[0], points[1], points[2], (cut, 17.3)))
    t1 = regions.mask(Region("polygon", [a, b, c]), (33, 33))
    t2 = regions.mask(Region("polygon", [a, c, d]), (33, 33))
    side = lambda p: (c[0] - a[0]) * (p[1] - a[1]) - (c[1] - a[1]) * (p[0] - a[0])  # noqa: E731
    if side(b) * side(d) < 0:
        assert not (t1 & t2).any()
        whole = regions.mask(Region("polygon", [a, b, c, d]), (33, 33))
        assert np.array_equal(t1 | t2, whole)


@settings(max_examples=60, deadline=None)
@given(vertices, st.sampled_from(["polygon", "ellipse", "rectangle"]))
def test_clipping_at_the_border_changes_no_inner_pixel(points: list[tuple[float, float]], kind: str) -> None:
    shape = points if kind == "polygon" else points[:2]
    shifted = np.array(shape) + 10
    whole = regions.mask(Region(kind, shifted), (60, 60))
    assert np.array_equal(regions.mask(Region(kind, np.array(shape)), (33, 35)), whole[10:43, 10:45])


@settings(max_examples=60, deadline=None)
@given(vertices, st.sampled_from(["freehand", "ellipse", "rectangle"]))
def test_flips_and_quarter_turns_of_the_view(points: list[tuple[float, float]], kind: str) -> None:
    """cornerstone3D#976: a region drawn in a turned view, mapped back to the source, covers the same pixels."""
    size = 32
    shape = (
        np.round(np.array(points if kind == "freehand" else points[:2]) * 8) / 8 + 1 / 32
    )  # no centre on an edge
    here = regions.mask(Region(kind, shape), (size, size))
    turned = np.stack([shape[:, 1], size - shape[:, 0]], axis=1)
    flipped = np.stack([shape[:, 0], size - shape[:, 1]], axis=1)
    for points_there, back in ((turned, lambda m: np.rot90(m, 1)), (flipped, lambda m: m[:, ::-1])):
        there = back(regions.mask(Region(kind, points_there), (size, size)))
        outline = regions.outline(Region(kind, shape), 720)
        for r, c in np.argwhere(there != here):  # only rounding, where an outline runs through a centre
            assert distance_to_outline(outline, r + 0.5, c + 0.5) < 1e-3


@pytest.mark.parametrize("kind", ["rectangle", "ellipse", "polygon"])
def test_outside_and_empty_regions_state_nothing(kind: str) -> None:
    """Weasis#855: the mean of nothing is no NaN."""
    image = radiograph(np.ones((20, 30), np.uint16), PixelSpacing(0.2, 0.2, "detector"))
    for points in (
        [(-50, -50), (-10, -9), (-50, -9)],
        [(5.6, 5.6), (5.8, 5.8), (5.6, 5.9)],
        [(3, 3), (3, 3), (3, 3)],
    ):
        region = Region(kind, points if kind == "polygon" else points[:2])
        result = regions.measure(image, region, {"m": np.ones((20, 30), np.float32)})
        assert (result.pixels, result.excluded_pixels, result.area_mm2) == (0, 0, 0.0)
        assert result.mean is result.sd is result.minimum is result.maximum is result.median is None
        assert result.maps["m"].mean is None
        assert result.maps["m"].total == 0.0
        assert result.maps["m"].share_positive == 0.0
        assert result.maps["m"].share_negative is None


def test_statistics_equal_pythons() -> None:
    rng = np.random.default_rng(5)
    pixels = rng.integers(-2000, 2000, (50, 60)).astype(np.int16)
    padding = rng.random((50, 60)) < 0.3
    image = radiograph(pixels, PixelSpacing(0.15, 0.25, "calibrated"), padding)
    region = Region("ellipse", [(5, 8), (40, 50)], "right lower zone", "a")
    result = regions.measure(image, region)
    inside = regions.mask(region, (50, 60))
    sample = [int(pixels[r, c]) for r in range(50) for c in range(60) if inside[r, c] and not padding[r, c]]
    assert (result.name, result.id, result.kind) == ("right lower zone", "a", "ellipse")
    assert result.pixels == len(sample)
    assert result.excluded_pixels == int((inside & padding).sum()) > 0
    assert result.mean == pytest.approx(statistics.fmean(sample))
    assert result.sd == pytest.approx(statistics.stdev(sample))
    assert result.median == statistics.median(sample)
    assert (result.minimum, result.maximum) == (min(sample), max(sample))
    # cornerstone3D#2630: area wrong by 1000; 0.15 mm x 0.25 mm is 0.0375 mm2 a pixel
    assert result.area_mm2 == pytest.approx(len(sample) * 0.0375)
    assert result.spacing_source == "calibrated"


@given(st.lists(st.tuples(*[st.floats(-50, 150)] * 2), min_size=2, max_size=2))
def test_a_line_has_a_length_and_no_pixels(ends: list[tuple[float, float]]) -> None:
    line = Region("line", ends)
    image = radiograph(np.ones((40, 30), np.uint16), PixelSpacing(0.3, 0.2, "calibrated"))
    found = regions.measure(image, line)
    assert (found.pixels, found.excluded_pixels, found.area_mm2, found.mean) == (0, 0, None, None)
    assert not regions.mask(line, (40, 30)).any()
    assert found.length_px == pytest.approx(math.dist(*ends))
    assert found.length_mm == pytest.approx(math.dist(*((0.3 * r, 0.2 * c) for r, c in ends)))
    assert regions.measure(replace(image, spacing=None), line).length_mm is None
    square = regions.measure(image, Region("rectangle", [(0, 0), (2, 2)]))
    assert (square.length_px, square.length_mm) == (None, None)


def test_a_line_has_two_ends() -> None:
    for points in ([(0, 0)], [(0, 0), (1, 1), (2, 2)]):
        with pytest.raises(UsageError, match="a line has two ends"):
            Region("line", points)


def test_one_pixel_and_no_spacing() -> None:
    result = regions.measure(radiograph(np.full((4, 4), 7, np.uint8)), Region("rectangle", [(1, 1), (2, 2)]))
    assert (result.pixels, result.mean, result.sd, result.median) == (1, 7.0, None, 7.0)
    assert (result.area_mm2, result.spacing_source) == (None, None)


def test_values_that_are_not_finite_are_excluded_and_counted() -> None:
    pixels = np.array([[1.0, np.nan], [3.0, np.inf]], np.float32)
    result = regions.measure(radiograph(pixels), Region("rectangle", [(0, 0), (2, 2)]))
    assert (result.pixels, result.excluded_pixels, result.mean, result.maximum) == (2, 2, 2.0, 3.0)


def test_attribution_shares() -> None:
    values = np.zeros((10, 10), np.float32)
    values[2, 2], values[2, 3], values[8, 8], values[3, 3], values[9, 0] = 3.0, 1.0, 4.0, -2.0, -6.0
    values[4, 4] = np.nan
    image = radiograph(np.zeros((10, 10), np.uint16))
    region = Region("rectangle", [(0, 0), (5, 5)])
    share = regions.measure(image, region, {"ig": values}).maps["ig"]
    assert share.share_positive == pytest.approx(4 / 8)
    assert share.share_negative == pytest.approx(2 / 8)
    assert share.total == pytest.approx(2.0)
    assert share.mean == pytest.approx(2.0 / 25)
    totals = {"ig": regions.map_totals(values)}
    assert totals["ig"] == (8.0, -8.0)
    assert regions.measure(image, region, {"ig": values}, totals=totals).maps["ig"] == share
    with pytest.raises(ValueError, match="'ig'"):
        regions.measure(image, region, {"ig": values[:5]})


def test_shares_of_parts_add_up_to_the_whole() -> None:
    values = np.random.default_rng(6).normal(0, 1, (64, 48)).astype(np.float32)
    image = radiograph(np.zeros((64, 48), np.uint8))
    parts = [
        Region("rectangle", [(r, c), (r + 16, c + 12)]) for r in range(0, 64, 16) for c in range(0, 48, 12)
    ]
    shares = [regions.measure(image, p, {"m": values}).maps["m"] for p in parts]
    assert sum(s.share_positive or 0 for s in shares) == pytest.approx(1.0)
    assert sum(s.share_negative or 0 for s in shares) == pytest.approx(1.0)
    assert sum(s.total for s in shares) == pytest.approx(float(values.sum(dtype=np.float64)))


def test_regions_are_immutable_values() -> None:
    points = np.array([[1.0, 2.0], [3.0, 4.0]])
    a, b = Region("ellipse", points), Region("ellipse", [(1, 2), (3, 4)])
    points[0, 0] = 99
    assert a == b
    assert hash(a) == hash(b)
    assert a != Region("rectangle", [(1, 2), (3, 4)])
    with pytest.raises(ValueError):
        a.points[0, 0] = 5
    again = pickle.loads(pickle.dumps(a))
    assert again == a
    assert not again.points.flags.writeable


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["polygon", "freehand"]),
            st.lists(st.tuples(*[st.floats(-1e6, 1e6)] * 2), min_size=3, max_size=9),
            st.text(max_size=20),
        ),
        max_size=4,
    )
)
def test_json_round_trip(tmp_path_factory: pytest.TempPathFactory, items: list[tuple]) -> None:
    made = tuple(Region(kind, points, name, f"r{n}") for n, (kind, points, name) in enumerate(items))
    path = tmp_path_factory.mktemp("roi") / "roi.json"
    path.write_text(regions.dump(made), encoding="utf-8", errors="surrogatepass")
    assert regions.load(path) == made
    assert json.loads(regions.dump(made))["schema"] == 1


def test_bare_list_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "roi.json"
    path.write_text('\ufeff[{"kind": "rectangle", "points": [[0, 0], [5, 6.5]]}]', encoding="utf-8")
    (region,) = regions.load(path)
    assert region == Region("rectangle", [(0, 0), (5, 6.5)], "", "1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ('"x"', "no list of regions"),
        ('{"schema": 2, "regions": []}', "schema 1"),
        ('{"regions": []}', "schema"),
        ('{"schema": 1}', "no list of regions"),
        ("[3]", "region 1: expected"),
        ('[{"points": []}]', '"kind" is missing'),
        ('[{"kind": "rectangle"}]', '"points" is missing'),
        ('[{"kind": "blob", "points": []}]', "rectangle, ellipse"),
        ('[{"kind": ["x"], "points": []}]', "no region kind"),
        (
            '[{"kind": "rectangle", "points": [[0, 0], [1, 1]]}, {"kind": "polygon", "points": [[0, 0]]}]',
            "region 2",
        ),
        ('[{"kind": "polygon", "points": []}]', "three points"),
        ('[{"kind": "rectangle", "points": [[0, 0], [1, "2"]]}]', "pairs of numbers"),
        ('[{"kind": "rectangle", "points": [[0, 0], [1, true]]}]', "pairs of numbers"),
        ('[{"kind": "rectangle", "points": [[0, 0], [1, NaN]]}]', "beyond any image"),
        ('[{"kind": "rectangle", "points": [[0, 0], [1, 1e300]]}]', "beyond any image"),
        ('[{"kind": "ellipse", "points": [[0, 0], [1, 1], [2, 2]]}]', "four corners"),
        ('[{"kind": "ellipse", "points": [[0, 0], [0, 4], [9, 4], [3, 0]]}]', "parallelogram"),
        ('[{"kind": "rectangle", "points": [[0, 0], [1, 1]], "name": 5}]', "must be text"),
    ],
)
def test_bad_files_are_named_with_the_entry(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        regions.load(path)
    assert message in str(caught.value)
    assert "bad.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_binary_and_repeated(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.json"):
        regions.load(tmp_path / "none.json")
    (tmp_path / "b.json").write_bytes(b"\xff\xfe\x00DICM")
    with pytest.raises(UsageError, match="JSON"):
        regions.load(tmp_path / "b.json")
    one = '{"kind": "rectangle", "points": [[0, 0], [1, 1]], "id": "a"}'
    (tmp_path / "c.json").write_text(f"[{one}, {one}]")
    with pytest.raises(UsageError, match="used twice"):
        regions.load(tmp_path / "c.json")
