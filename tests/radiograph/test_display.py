"""The VOI formulas of PS3.3 C.11.2.1 against a scalar re-implementation, and the choice of windows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.radiograph.dicom_files import dataset, lut, save
from xai_engine.errors import OutputError, UsageError
from xai_engine.radiograph import display, read
from xai_engine.radiograph.types import Radiograph, Voi, VoiLut, Window


def standard(x: float, voi: Voi, inverted: bool) -> float:
    """One value, as the standard writes it, with y from 0 to 255; before rounding."""
    if isinstance(voi, VoiLut):
        index = min(max(int(x) - voi.first, 0), voi.data.size - 1)
        y = int(voi.data[index]) / (2**voi.bits - 1) * 255
    elif voi.function == "SIGMOID":
        exponent = -4 * (x - voi.center) / voi.width
        y = 0.0 if exponent > 700 else 255 / (1 + math.exp(exponent))
    elif voi.function == "LINEAR_EXACT":
        if x <= voi.center - voi.width / 2:
            y = 0.0
        elif x > voi.center + voi.width / 2:
            y = 255.0
        else:
            y = ((x - voi.center) / voi.width + 0.5) * 255
    elif x <= voi.center - 0.5 - (voi.width - 1) / 2:
        y = 0.0
    elif x > voi.center - 0.5 + (voi.width - 1) / 2:
        y = 255.0
    else:
        y = ((x - (voi.center - 0.5)) / (voi.width - 1) + 0.5) * 255
    return 255 - y if inverted else y


def agrees(grey: int, y: float) -> bool:
    return abs(grey - y) <= 0.5 + 1e-6


DTYPES = ["u1", "i1", "u2", "i2", "u4", "i4", "f4"]
windows = st.builds(
    Window,
    st.floats(-70000, 70000, allow_nan=False),
    st.floats(1, 140000),
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
)


@st.composite
def tables(draw: Any) -> VoiLut:
    bits = draw(st.integers(8, 16))
    data = draw(st.lists(st.integers(0, 2**bits - 1), min_size=1, max_size=40))
    return VoiLut(draw(st.integers(-300, 300)), np.array(data, np.uint16), bits)


@given(
    st.one_of(windows, tables()), st.sampled_from(DTYPES), st.booleans(), st.randoms(use_true_random=False)
)
def test_to_grey_is_the_standard(voi: Voi, dtype: str, inverted: bool, random: Any) -> None:
    kind = np.dtype(dtype)
    low, high = (-5000, 5000) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    near = [int(voi.first) + i for i in (-1, 0, 1)] if isinstance(voi, VoiLut) else [round(voi.center)]
    numbers = (
        [random.randint(low, high) for _ in range(20)] + [min(max(n, low), high) for n in near] + [low, high]
    )
    values = np.array(numbers, np.int64).astype(kind).reshape(1, -1)
    grey = display.to_grey(values, voi, inverted)
    assert grey.dtype == np.uint8
    assert all(
        agrees(int(g), standard(float(x), voi, inverted))
        for x, g in zip(values.ravel(), grey.ravel(), strict=True)
    )


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "i4", "f4"])
def test_any_strides_and_sizes_agree_with_the_lookup_table(dtype: str) -> None:
    kind = np.dtype(dtype)
    limits = (-9000, 9000) if kind.itemsize == 4 else (np.iinfo(kind).min, np.iinfo(kind).max)
    pixels = np.random.default_rng(1).integers(*limits, (1300, 1100), endpoint=True).astype(kind)
    voi = Window(20, 300 if kind.itemsize == 1 else 9000)
    whole = display.to_grey(pixels, voi, False)
    for view in (np.s_[::-1, ::3], np.s_[5:900:7, ::-2], np.s_[10, 20], np.s_[3]):
        assert np.array_equal(display.to_grey(pixels[view], voi, False), whole[view])
    assert np.array_equal(display.to_grey(pixels.T, voi, True), 255 - whole.T)
    assert np.array_equal(display.to_grey(pixels.astype(kind.newbyteorder(">")), voi, False), whole)
    r = _radiograph(pixels)
    table = display.lookup(r, voi)
    if kind.itemsize == 4:
        assert table is None
    else:
        assert table is not None
        assert np.array_equal(table.apply(pixels[::2, ::-1]), whole[::2, ::-1])
        assert np.array_equal(table.table[pixels.astype(int) - table.first], whole)


def _radiograph(pixels: np.ndarray, **changes: Any) -> Radiograph:
    from xai_engine.radiograph.types import StudyInfo

    r = Radiograph(
        Path("x.dcm"), "", "DICOM", pixels, "MONOCHROME2", "MONOCHROME2", 16, "CR", "", (), None, None, ("", ""), 1,
        "", StudyInfo(), (), (),
    )  # fmt: skip
    return replace(r, **changes)


def test_inverted_exactly_once() -> None:
    pixels = np.array([[0, 100, 255]], np.uint8)
    identity = Window(128, 256)
    assert display.picture(_radiograph(pixels), identity).tolist() == [[0, 100, 255]]
    mono1 = _radiograph(pixels, photometric="MONOCHROME1")
    assert display.picture(mono1, identity).tolist() == [[255, 155, 0]]
    assert display.picture(mono1, identity, invert=True).tolist() == [[0, 100, 255]]
    table = display.lookup(mono1, identity, invert=True)
    assert table is not None
    assert table.table[[0, 100, 255]].tolist() == [0, 100, 255]


def test_full_and_auto_leave_padding_out() -> None:
    pixels = np.random.default_rng(2).integers(1000, 3000, (200, 300)).astype(np.int16)
    pixels[0, 0], pixels[0, 1] = 1000, 2999
    padding = np.zeros(pixels.shape, bool)
    padding[50:150] = True
    pixels[padding] = -2000
    r = _radiograph(pixels, padding=padding)
    assert display.full_window(r) == Window(2000, 2000, "LINEAR", "Full range")
    auto = display.auto_window(r)
    inside = np.percentile(pixels[~padding], (0.5, 99.5))
    assert auto.center - 0.5 - (auto.width - 1) / 2 == pytest.approx(inside[0], abs=15)
    assert auto.center - 0.5 + (auto.width - 1) / 2 == pytest.approx(inside[1], abs=15)
    assert not display.picture(r, auto)[padding].any()


def test_auto_leaves_collimation_out() -> None:
    """A radiograph with a third of black collimator and a burnt-out corner is windowed by its anatomy."""
    rng = np.random.default_rng(3)
    pixels = rng.normal(2000, 150, (600, 600)).clip(1400, 2600).astype(np.uint16)
    alone = display.auto_window(_radiograph(pixels))
    framed = pixels.copy()
    framed[:100], framed[-100:], framed[100:200, :60] = 0, 0, 4095
    auto = display.auto_window(_radiograph(framed))
    assert auto.center == pytest.approx(alone.center, abs=10)
    assert auto.width == pytest.approx(alone.width, rel=0.05)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_a_constant_image_is_shown_without_an_error(dtype: str) -> None:
    r = _radiograph(np.full((5, 6), 7, dtype))
    for preset in display.presets(r):
        assert not display.picture(r, preset.voi).any()


def test_choices(tmp_path: Path) -> None:
    pixels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    d = dataset(
        pixels, BitsStored=12, HighBit=11, WindowCenter=[2000, 1000], WindowWidth=[1500, 500],
        WindowCenterWidthExplanation=["LUNG", "BONE"],
        VOILUTSequence=[lut(0, np.arange(4096, dtype="u2"), 12, LUTExplanation="NORMAL"), lut(0, pixels.ravel(), 12)],
    )  # fmt: skip
    r = read.read(save(d, tmp_path / "w.dcm"))
    found = [(p.key, p.label) for p in display.presets(r)]
    assert found == [
        ("0", "NORMAL"), ("1", "VOI LUT 2"), ("2", "LUNG"), ("3", "BONE"), ("full", "Full range"), ("auto", "Automatic"),
    ]  # fmt: skip
    assert display.select(r, "default") is r.voi[0]
    assert display.select(r, "3") == Window(1000, 500, "LINEAR", "BONE")
    assert display.select(r, "full") == Window(2048, 4096, "LINEAR", "Full range")
    for wrong in ("4", "-1", "lung", "", "²"):
        with pytest.raises(UsageError, match="windows 0 to 3"):
            display.select(r, wrong)
    bare = _radiograph(pixels)
    assert display.select(bare, "default") == display.select(bare, "auto")


def test_write_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(4).integers(0, 4096, (37, 53)).astype(np.uint16)
    r = _radiograph(pixels, photometric="MONOCHROME1")
    display.write_picture(r, Window(2048, 4096), tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as image:
        assert image.mode == "L"
        assert np.array_equal(np.asarray(image), display.picture(r, Window(2048, 4096)))
    with pytest.raises(OutputError):
        display.write_picture(r, Window(2048, 4096), tmp_path / "out.png" / "below.png")
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
