"""Putting images right: against numpy's own rotation, the display, and the laws that rotations obey."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.app import cases
from xai_engine.errors import UsageError
from xai_engine.radiograph import correct, display, regions
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph

LISTS = st.lists(st.sampled_from(correct.CORRECTIONS), max_size=5)


def image() -> Radiograph:
    padding = np.zeros((6, 4), bool)
    padding[0] = True
    return cases.radiograph(cases.noise(6, 4), padding=padding)


@pytest.mark.parametrize(("name", "quarter"), [("rotate-90", 1), ("rotate-180", 2), ("rotate-270", 3)])
def test_rotations_are_clockwise(name: str, quarter: int) -> None:
    r = image()
    turned = correct.apply(r, (name,))
    assert np.array_equal(turned.pixels, np.rot90(r.pixels, -quarter))
    assert r.padding is not None
    assert turned.padding is not None
    assert np.array_equal(turned.padding, np.rot90(r.padding, -quarter))
    assert not turned.pixels.flags.writeable
    assert turned.spacing is not None
    rows_mm, columns_mm = (0.1, 0.2) if quarter % 2 else (0.2, 0.1)
    assert (turned.spacing.row_mm, turned.spacing.column_mm) == (rows_mm, columns_mm)


def test_letters_go_with_the_edges() -> None:
    r = image()  # right edge L, bottom F; so top H, left R
    assert correct.apply(r, ("rotate-90",)).orientation == ("H", "L")
    assert correct.apply(r, ("rotate-180",)).orientation == ("R", "H")
    assert correct.apply(r, ("rotate-270",)).orientation == ("F", "R")


def test_inverting_is_what_the_eye_sees() -> None:
    r = cases.radiograph(cases.noise(6, 4))
    voi = display.select(r, "full")
    other = correct.apply(r, ("invert",))
    assert other.pixels is r.pixels
    assert np.array_equal(display.picture(other, voi), 255 - display.picture(r, voi))


def test_it_is_recorded_and_is_an_image_of_its_own() -> None:
    r = image()
    once = correct.apply(r, ("invert", "rotate-90"))
    assert once.corrections == ("invert", "rotate-90")
    assert once.file_sha256 == r.sha256 == r.file_sha256
    assert once.sha256 != r.sha256
    assert correct.apply(correct.apply(r, ("invert",)), ("rotate-90",)).sha256 == once.sha256
    assert correct.words(once.corrections) == "inverted and rotated by 90° to the right"
    with pytest.raises(UsageError, match="mirror"):
        correct.apply(r, ("mirror",))


@given(LISTS)
def test_the_short_form_does_the_same(names: list[str]) -> None:
    r = image()
    long, short = correct.apply(r, names), correct.apply(r, correct.composed(names))
    assert np.array_equal(long.pixels, short.pixels)
    assert (long.photometric, long.orientation, long.spacing) == (
        short.photometric,
        short.orientation,
        short.spacing,
    )
    assert len(correct.composed(names)) <= 2


@given(LISTS, st.tuples(st.floats(0, 5), st.floats(0, 3), st.floats(0.6, 4), st.floats(0.6, 4)))
def test_regions_stay_on_their_anatomy(names: list[str], box: tuple[float, float, float, float]) -> None:
    row, column, height, width = box
    region = Region("ellipse", np.array([[row, column], [row + height, column + width]]), "A", "1")
    r = image()
    mask = regions.mask(region, (6, 4)).astype(np.uint8)
    expected = correct.apply(cases.radiograph(mask), names).pixels.astype(bool)
    turned = correct.turned_region(region, (r.rows, r.columns), names)
    found = regions.mask(turned, expected.shape)
    # centres that lie exactly on the outline may fall to the other side
    assert (found != expected).sum() <= 2
    assert (turned.name, turned.id) == ("A", "1")
