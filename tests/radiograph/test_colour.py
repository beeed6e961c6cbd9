"""Colour maps against matplotlib's tables, CIELAB by scikit-image and simulated colour deficiency; painting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.color import rgb2lab

from xai_engine.errors import UsageError
from xai_engine.radiograph import colour
from xai_engine.radiograph.colour import LayerStyle

# Machado, Oliveira, Fernandes, IEEE TVCG 15(6):1291, 2009, severity 1.0, on linear RGB
DEFICIENCY = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(rgb: np.ndarray) -> np.ndarray:
    return rgb2lab(rgb[None].astype(np.float64) / 255.0)[0]


def seen_with(deficiency: str, rgb: np.ndarray) -> np.ndarray:
    x = rgb / 255.0
    linear = np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    y = np.clip(linear @ np.array(DEFICIENCY[deficiency]).T, 0, 1)
    return np.where(y <= 0.0031308, 12.92 * y, 1.055 * y ** (1 / 2.4) - 0.055) * 255.0


@pytest.mark.parametrize("name", ["cividis", "viridis", "magma"])
def test_shipped_tables_are_matplotlibs(name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    expected = np.rint(np.array(matplotlib.colormaps[name].colors) * 255)
    assert np.array_equal(colour.colour_map(name), expected)


def test_gray_is_the_identity() -> None:
    assert np.array_equal(colour.colour_map("gray"), np.arange(256)[:, None].repeat(3, axis=1))


@pytest.mark.parametrize("name", colour.DIVERGING)
def test_diverging_maps_are_uniform_and_symmetric(name: str) -> None:
    table = lab(colour.colour_map(name))
    lightness = table[:, 0]
    centre = table[127:129].mean(axis=0)
    assert np.hypot(centre[1], centre[2]) < 1.0, "the centre is neutral"
    assert np.all(np.diff(lightness[128::4]) > 0), "lightness rises to the positive end"
    assert np.all(np.diff(lightness[127::-4]) > 0), "lightness rises to the negative end"
    assert np.abs(lightness - lightness[::-1]).max() < 0.8, "no sign is lighter than the other"
    # steps of 8 entries: rounding to 8-bit colours is about 0.3 units of difference
    step = np.linalg.norm(np.diff(table[::8], axis=0), axis=1)
    whole = np.delete(step, len(step) // 2)  # the step across the centre turns a corner
    assert whole.max() / whole.min() < 1.25
    assert whole.mean() > 3.0


@pytest.mark.parametrize("name", colour.DIVERGING)
@pytest.mark.parametrize("deficiency", DEFICIENCY)
def test_signs_stay_apart_for_deficient_colour_vision(name: str, deficiency: str) -> None:
    seen = lab(seen_with(deficiency, colour.colour_map(name).astype(np.float64)))
    apart = np.linalg.norm(seen - seen[::-1], axis=1)
    # at full scale; 10 units are seen at a glance
    floor = 40.0 if name == "blue-orange" and deficiency != "tritan" else 25.0
    assert apart[-1] > floor


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(UsageError, match=r"jet.*cividis"):
        LayerStyle("jet")
    with pytest.raises(UsageError, match="cividis"):
        colour.colour_map("jet")
    for bad in (
        {"opacity": 1.1},
        {"opacity": float("nan")},
        {"threshold": 1.0},
        {"mode": "dots"},
        {"sign": "x"},
    ):
        with pytest.raises(UsageError):
            LayerStyle(**bad)
    for scale in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="full scale"):
            colour.paint(np.zeros((2, 2), np.float32), LayerStyle(), scale)


def reference_pixel(value: float, style: LayerStyle, full_scale: float) -> tuple[np.ndarray, int]:
    """Scalar re-statement of the documented rule, on the 256-step map."""
    t = min(max(value / full_scale, -1.0), 1.0)
    table = colour.colour_map(style.colour_map).astype(float)
    at = (t + 1) / 2 * 255 if style.colour_map in colour.DIVERGING else abs(t) * 255
    rgb = table[int(at)] + (table[min(255, int(at) + 1)] - table[int(at)]) * (at - int(at))
    x = min(abs(t) / colour.RAMP_END, 1.0)
    alpha = 255 * style.opacity * x * x * (3 - 2 * x)
    hidden = (
        abs(t) < style.threshold
        or (style.sign == "positive" and t <= 0)
        or (style.sign == "negative" and t >= 0)
    )
    return rgb, 0 if hidden else round(alpha)


@settings(max_examples=150, deadline=None)
@given(
    value=st.floats(-2.0, 2.0, width=32),
    name=st.sampled_from(colour.DIVERGING + colour.SEQUENTIAL),
    opacity=st.floats(0, 1),
    threshold=st.floats(0, 0.95),
    sign=st.sampled_from(["both", "positive", "negative"]),
    scale=st.sampled_from([1.0, 3.7e-5, 250.0]),
)
def test_paint_follows_the_rule(
    value: float, name: str, opacity: float, threshold: float, sign: str, scale: float
) -> None:
    if abs(abs(value) - threshold) < 0.002:
        return  # the table's step
    style = LayerStyle(name, opacity, threshold, "fill", sign)
    pixel = colour.paint(np.array([[value * scale]], np.float32), style, scale)[0, 0]
    rgb, alpha = reference_pixel(float(np.float32(value * scale)), style, scale)
    assert abs(int(pixel[3]) - alpha) <= 2
    assert np.abs(pixel[:3] - rgb).max() <= 3


def test_zero_nan_and_infinity() -> None:
    values = np.array([[0.0, np.nan, np.inf, -np.inf]], np.float32)
    out = colour.paint(values, LayerStyle(opacity=1.0), 0.5)[0]
    assert out[0, 3] == 0
    assert out[1, 3] == 0
    assert np.array_equal(out[2, :3], colour.colour_map("blue-orange")[-1])
    assert out[2, 3] == 255
    assert np.array_equal(out[3, :3], colour.colour_map("blue-orange")[0])
    grey = np.array([[10, 200, 30, 40]], np.uint8)
    assert np.array_equal(colour.blend(grey, values, LayerStyle(), 0.5)[0, :2], [[10] * 3, [200] * 3])


def test_a_value_has_one_colour_whatever_else_is_in_the_map() -> None:
    rng = np.random.default_rng(0)
    calm, wild = (
        rng.normal(0, 0.1, (40, 50)).astype(np.float32),
        rng.normal(0, 30, (700, 600)).astype(np.float32),
    )
    calm[5, 5] = wild[650, 599] = 0.07
    style = LayerStyle("purple-green", 0.8)
    assert np.array_equal(colour.paint(calm, style, 0.2)[5, 5], colour.paint(wild, style, 0.2)[650, 599])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_views_and_dtypes_paint_alike_and_stay_unchanged(dtype: type) -> None:
    base = np.random.default_rng(1).normal(0, 1, (60, 80)).astype(dtype)
    before = base.copy()
    flipped = colour.paint(base[::-2, ::3], LayerStyle(), 1.0)
    assert np.array_equal(flipped, colour.paint(base, LayerStyle(), 1.0)[::-2, ::3])
    assert np.array_equal(base, before)
    whole = np.array([[-2, 0, 1]])
    assert np.array_equal(
        colour.paint(whole, LayerStyle(), 2.0), colour.paint(whole.astype(dtype), LayerStyle(), 2.0)
    )


@pytest.mark.parametrize("mode", ["fill", "contour"])
def test_blend_is_exact_alpha_compositing(mode: str) -> None:
    rng = np.random.default_rng(2)
    grey = rng.integers(0, 256, (70, 90), np.uint8)
    values = rng.normal(0, 1, (70, 90)).astype(np.float32)
    style = LayerStyle("blue-orange", 0.73, 0.1, mode)
    rgba = colour.paint(values, style, 1.5).astype(np.int64)
    alpha = rgba[..., 3:]
    expected = np.floor(
        (grey[..., None].astype(np.int64) * (255 - alpha) + rgba[..., :3] * alpha) / 255 + 0.5
    )
    assert np.array_equal(colour.blend(grey, values, style, 1.5), expected)
    over = colour.blend(np.repeat(grey[..., None], 3, axis=2), values, style, 1.5)
    assert np.array_equal(over, expected)
    with pytest.raises(ValueError, match="picture"):
        colour.blend(grey[:10], values, style, 1.0)


def test_contours_lie_just_inside_their_level() -> None:
    y, x = np.mgrid[:200, :200]
    radius = np.hypot(y - 99.5, x - 99.5)
    values = np.maximum(1.0 - radius / 100.0, 0).astype(np.float32)  # the level f lies at radius 100 (1 - f)
    out = colour.paint(values, LayerStyle("blue-orange", 1.0, mode="contour"), 1.0, line_width=2)
    drawn = out[..., 3] > 0
    expected = np.zeros_like(drawn)
    for level in colour.CONTOUR_LEVELS:
        edge = 100 * (1 - level)
        expected |= (radius <= edge) & (radius > edge - 1.0)
        assert not drawn[(radius > edge) & (radius < edge + 20)].any(), "no line outside"
        assert not drawn[(radius < edge - 3.5) & (radius > edge - 20)].any(), "no line far inside"
    assert drawn[expected].all()
    assert (out[drawn][:, :3] == colour.colour_map("blue-orange")[-1]).all()


def test_contour_threshold_sign_and_borders() -> None:
    values = np.tile(np.linspace(-1, 1, 401, dtype=np.float32), (50, 1))
    style = LayerStyle("blue-orange", 1.0, 0.6, "contour", "positive")
    columns = np.flatnonzero(colour.paint(values, style, 1.0, line_width=1)[25, :, 3])
    assert columns.tolist() == [320, 350], "lines at 0.6, the threshold, and at 0.75"
    flat = colour.paint(np.full((30, 30), 0.9, np.float32), LayerStyle(mode="contour"), 1.0)
    assert not flat[..., 3].any(), "the border of the array is no contour"


def test_colour_bar_labels() -> None:
    def labels(style: LayerStyle, scale: float) -> list[str]:
        return [tick.label for tick in colour.colour_bar(style, scale, "logit").ticks]

    both = LayerStyle()
    assert labels(both, 0.02) == ["−0.02", "−0.01", "0", "+0.01", "+0.02"]
    assert labels(both, 1.0) == ["−1.0", "−0.5", "0", "+0.5", "+1.0"]
    assert labels(LayerStyle(sign="positive"), 0.05) == ["0", "+0.01", "+0.02", "+0.03", "+0.04", "+0.05"]
    assert labels(LayerStyle(sign="negative"), 3.0) == ["−3.0", "−2.5", "−2.0", "−1.5", "−1.0", "−0.5", "0"]
    assert labels(LayerStyle("cividis"), 40.0) == ["0", "10", "20", "30", "40"]
    assert labels(both, 3.7e-5) == ["−2", "0", "+2"]
    assert colour.colour_bar(both, 3.7e-5, "logit per pixel").unit == "×10⁻⁵ logit per pixel"


@settings(max_examples=200, deadline=None)
@given(
    scale=st.floats(1e-9, 1e9),
    name=st.sampled_from(["blue-orange", "cividis"]),
    sign=st.sampled_from(["both", "positive", "negative"]),
)
def test_colour_bar_ticks_say_their_values(scale: float, name: str, sign: str) -> None:
    bar = colour.colour_bar(LayerStyle(name, sign=sign), scale, "u")
    factor = 1.0
    if bar.unit.startswith("×10"):
        power = bar.unit[3:].split(" ")[0].translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
        factor = 10.0 ** int(power)
    assert 2 <= len(bar.ticks) <= 8
    assert len({tick.label for tick in bar.ticks}) == len(bar.ticks)
    for tick in bar.ticks:
        assert float(tick.label.replace("−", "-")) * factor == pytest.approx(
            tick.value, rel=1e-6, abs=1e-12 * scale
        )
        assert bar.low + tick.fraction * (bar.high - bar.low) == pytest.approx(tick.value, abs=1e-9 * scale)
        assert bar.low - 1e-9 * scale <= tick.value <= bar.high + 1e-9 * scale


def test_colour_bar_shows_what_is_painted() -> None:
    style = LayerStyle("purple-green", 0.5, 0.2)
    bar = colour.colour_bar(style, 4.0)
    values = np.linspace(bar.low, bar.high, 256)[None]
    assert np.array_equal(bar.rgba, colour.paint(values, style, 4.0)[0])
    assert bar.levels == ()
    lines = colour.colour_bar(LayerStyle(mode="contour", threshold=0.4), 2.0)
    assert lines.levels == pytest.approx((-1.5, -1.0, -0.8, 0.8, 1.0, 1.5))
