"""Mid-line and mirror regions: geometry against flipping arrays, statistics on a symmetric picture, the phantom."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tests.app import cases
from xai_engine.radiograph import mirror, phantom, regions
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.mirror import Midline
from xai_engine.radiograph.regions import Region

COORDINATE = st.floats(-500, 1500, allow_nan=False)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE), min_size=3, max_size=12)
LINES = st.builds(
    lambda c0, c1, aspect: Midline((0.0, c0), (1000.0, c1), aspect, "lungs"),
    st.floats(300, 700),
    st.floats(300, 700),
    st.floats(0.25, 4),
)


@given(POINTS, LINES)
def test_the_mirror_of_the_mirror_is_the_region(points: list[tuple[float, float]], line: Midline) -> None:
    region = Region("polygon", np.array(points), "A", "1")
    back = mirror.mirrored(mirror.mirrored(region, line), line)
    assert np.allclose(back.points, region.points, atol=1e-8)
    assert back.id == "1"


@given(POINTS, LINES)
def test_true_distances_are_kept_and_the_line_stays(points: list[tuple[float, float]], line: Midline) -> None:
    at = np.array(points)
    scale = np.array([line.aspect, 1.0])
    there = line.reflect(at)
    apart = np.hypot(*((at[:, None] - at[None]) * scale).T)
    assert np.allclose(np.hypot(*((there[:, None] - there[None]) * scale).T), apart, atol=1e-6)
    assert np.allclose(line.reflect([line.top, line.bottom]), [line.top, line.bottom], atol=1e-9)
    middle = (at + there) / 2  # lies on the line
    share = middle[:, 0] / 1000.0
    on_line = line.top[1] + share * (line.bottom[1] - line.top[1])
    assert np.allclose(middle[:, 1], on_line, atol=1e-6)


@given(
    st.sampled_from(["rectangle", "ellipse"]),
    st.tuples(st.integers(0, 40), st.integers(0, 40), st.integers(1, 30), st.integers(1, 30)),
)
def test_at_the_middle_of_the_image_it_is_the_flipped_array(
    kind: str, box: tuple[int, int, int, int]
) -> None:
    top, left, height, width = box
    corners = np.array([[top, left], [top + height, left + width]], float) + 0.25
    region = Region(kind, corners)  # type: ignore[arg-type]
    other = mirror.mirrored(region, mirror.of_image((70, 71)))
    assert len(other.points) == 2  # stays what it is
    assert np.array_equal(regions.mask(other, (70, 71)), regions.mask(region, (70, 71))[:, ::-1])


def test_under_a_tilted_line_a_rectangle_gets_four_corners() -> None:
    line = Midline((0.0, 100.0), (200.0, 120.0), 1.0, "lungs")
    region = Region("rectangle", np.array([[50.0, 20.0], [90.0, 60.0]]))
    other = mirror.mirrored(region, line)
    assert len(other.points) == 4
    area = float(regions.mask(other, (200, 240)).sum())
    assert area == pytest.approx(40 * 40, rel=0.03)


def test_symmetric_pictures_differ_in_nothing() -> None:
    half = cases.noise(80, 50)
    r = cases.radiograph(np.concatenate([half, half[:, ::-1]], axis=1))
    attribution = np.concatenate([half, half[:, ::-1]], axis=1).astype(np.float32) - 400
    region = Region("ellipse", np.array([[10.0, 5.0], [60.0, 45.0]]), "A", "1")
    found = mirror.compare(r, region, mirror.of_image((80, 100)), {"lime": attribution})
    own = regions.measure(r, region, {"lime": attribution})
    assert (found.statistics.mean, found.statistics.sd, found.statistics.pixels) == pytest.approx(
        (own.mean, own.sd, own.pixels)
    )
    assert found.statistics.maps["lime"].share_positive == pytest.approx(own.maps["lime"].share_positive)


def test_the_phantom_is_mirrored_where_it_was_drawn() -> None:
    chest = phantom.make(3, rows=560, columns=540)
    shape = chest.pixels.shape
    line = mirror.of_lungs(chest.lungs, GridTransform(0, 0, 1, 1, shape, shape))
    assert line.source == "lungs"
    flipped = mirror.of_lungs(chest.lungs[:, ::-1], GridTransform(0, 0, 1, 1, shape, shape))
    # the mid-line of the flipped picture is the flipped mid-line
    assert flipped.top[1] == pytest.approx(540 - line.top[1], abs=1.0)
    assert flipped.bottom[1] == pytest.approx(540 - line.bottom[1], abs=1.0)
    lesion = phantom.make(
        3, consolidation=phantom.Consolidation("right middle"), rows=560, columns=540
    ).lesion
    rows, columns = np.nonzero(lesion)
    box = Region("rectangle", np.array([[rows.min(), columns.min()], [rows.max() + 1, columns.max() + 1]]))
    there = regions.mask(mirror.mirrored(box, line), shape)
    assert chest.lungs[there].mean() > 0.5  # right lung on to left lung, not on to the spine
    assert not (there & lesion.astype(bool)).any()


@pytest.mark.parametrize("degrees", [-8.0, 5.0])
def test_tilted_chests(degrees: float) -> None:
    lungs = np.zeros((200, 200), bool)
    lungs[40:160, 30:80] = lungs[40:160, 120:170] = True
    turned = ndimage.rotate(lungs.astype(float), degrees, reshape=False, order=1) > 0.5
    line = mirror.of_lungs(turned, GridTransform(0, 0, 1, 1, (200, 200), (200, 200)))
    slope = (line.bottom[1] - line.top[1]) / 200
    assert slope == pytest.approx(math.tan(math.radians(degrees)), abs=0.03)
    assert line.reflect([[100.0, 100.0]])[0] == pytest.approx([100.0, 100.0], abs=2.0)


def test_without_both_lungs_it_says_so() -> None:
    one = np.zeros((64, 64), bool)
    one[10:50, 5:25] = True
    line = mirror.of_lungs(one, GridTransform(0, 0, 2, 2, (64, 64), (128, 128)), 1.5)
    assert (line.source, line.top, line.bottom) == ("image", (0.0, 64.0), (128.0, 64.0))
    assert "lungs" in line.note
    assert line.aspect == 1.5
