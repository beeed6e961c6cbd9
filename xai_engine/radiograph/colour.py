"""Colour maps, and how an attribution map is painted over a radiograph.

Scale: absolute. A value has one colour and one opacity, given by the style and the full scale alone, in
every image.

Sequential maps (for unsigned maps): cividis (Nuñez, Anderton, Renslow, PLOS ONE 13(7):e0199239), viridis,
magma, gray. Their tables are in `resources/colormaps/`, where source and licence (CC0) are stated.

Diverging maps (for signed maps) are made here, by one formula. Each arm is a straight line in CIELAB (D65,
2 degrees), from one dark neutral grey (L* = 18, a* = b* = 0) to its end colour:

    Lab(t) = (18, 0, 0) + |t| * (L_end - 18, C_end cos h, C_end sin h),   -1 <= t <= 1

Both arms share L_end and C_end and differ in the hue h only. Equal steps of the value are therefore equal
steps of CIE 1976 colour difference, lightness rises equally towards both ends, and neither sign looks
stronger than the other. The centre is dark because the maps lie over dark lungs, where bright ends are seen
best. Blue and orange stay apart under protanopia, deuteranopia and tritanopia (tested with the matrices of
Machado et al., IEEE TVCG 15(6):1291, 2009).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from xai_engine.errors import UsageError
from xai_engine.paths import resources_dir

SEQUENTIAL: tuple[str, ...] = ("cividis", "viridis", "magma", "gray")
DIVERGING: tuple[str, ...] = ("blue-orange", "purple-green")

# Hues (degrees in CIELAB) of the negative and the positive end, then L* and C* of both ends: the largest
# chroma that sRGB can show at these hues and this lightness, with a little room.
_CENTRE_L = 18.0
_ENDS: dict[str, tuple[float, float, float, float]] = {
    "blue-orange": (270.0, 66.0, 64.0, 55.0),
    "purple-green": (316.0, 142.0, 66.0, 60.0),
}

RAMP_END = 0.4
"""Fraction of full scale at which a filled map reaches the opacity of its style; below, opacity falls as a
smoothstep to 0.
"""

CONTOUR_LEVELS: tuple[float, ...] = (0.25, 0.5, 0.75)
"""Fractions of full scale at which contour mode draws lines. Lines below the threshold are left out; a
threshold above 0 is a line itself.
"""

_STEPS = 512  # table steps per sign: finer than 8-bit colour can show
_KERNELS = (np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8), np.ones((3, 3), np.uint8))
_STRIP = 1 << 18  # pixels worked on at a time, so that intermediates stay in cache


@dataclass(frozen=True, slots=True)
class LayerStyle:
    """How one map is shown.

    opacity: 0 … 1. threshold: fraction of full scale in [0, 1); |value| below it is transparent
    (to 1/1024 of full scale).
    mode: `fill`, or `contour` (lines at `CONTOUR_LEVELS`). sign: which values are shown.
    A sequential colour map shows |value|, a diverging one the signed value. Raises UsageError.
    """

    colour_map: str = "blue-orange"
    opacity: float = 0.6
    threshold: float = 0.0
    mode: Literal["fill", "contour"] = "fill"
    sign: Literal["both", "positive", "negative"] = "both"

    def __post_init__(self) -> None:
        if self.colour_map not in SEQUENTIAL + DIVERGING:
            raise UsageError(
                f"no colour map '{self.colour_map}'; choose one of {', '.join(SEQUENTIAL + DIVERGING)}"
            )
        if not 0.0 <= self.opacity <= 1.0:
            raise UsageError(f"opacity is {self.opacity}; it must lie between 0 and 1")
        if not 0.0 <= self.threshold < 1.0:
            raise UsageError(
                f"threshold is {self.threshold}; it is a fraction of full scale, from 0 to below 1"
            )
        if self.mode not in ("fill", "contour"):
            raise UsageError(f"no mode '{self.mode}'; choose fill or contour")
        if self.sign not in ("both", "positive", "negative"):
            raise UsageError(f"no sign '{self.sign}'; choose both, positive or negative")


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark of a colour bar. fraction: 0 at the bar's low end, 1 at its high end. label: as printed."""

    value: float
    fraction: float
    label: str


@dataclass(frozen=True, slots=True, eq=False)
class ColourBar:
    """What a canvas or a page needs to draw a colour bar.

    low, high: values at its ends, in the map's unit. rgb: uint8 (256, 3) opaque colours from low to high;
    rgba: the same with the opacity of each value as painted (fill mode: threshold, ramp and opacity of the
    style). ticks: in rising order. unit: as printed beside the bar, with the power of ten that the labels
    leave out. levels: values of the contour lines, empty in fill mode.
    """

    low: float
    high: float
    rgb: npt.NDArray[np.uint8]
    rgba: npt.NDArray[np.uint8]
    ticks: tuple[Tick, ...]
    unit: str
    levels: tuple[float, ...]


def colour_map(name: str) -> npt.NDArray[np.uint8]:
    """The named map as sRGB uint8 (256, 3), read-only; diverging maps from the negative to the positive
    end. UsageError.
    """
    if name in DIVERGING:
        return _diverging(name, np.linspace(-1.0, 1.0, 256).tobytes())
    return _sequential(name)


def paint(
    values: npt.NDArray[np.floating],
    style: LayerStyle,
    full_scale: float,
    *,
    line_width: int | None = None,
) -> npt.NDArray[np.uint8]:
    """A map as uint8 RGBA (rows, columns, 4), straight alpha.

    values: float (rows, columns). full_scale: the |value| at the end of the colour bar, > 0; larger values
    keep the end colour. NaN is transparent, and so is 0: alpha is `opacity * smoothstep(|value| / (RAMP_END
    * full_scale))`. In contour mode the pixels just inside each level are drawn in the end colour of their
    sign (the colours of low values are too dark for thin lines) with opacity * (0.4 + 0.6 * level),
    `line_width` pixels wide (default: 1/600 of the longer side, at least 2); lines do not run along the
    border of the array, so tiles fit together. Raises ValueError for a full scale that is not a positive
    number.
    """
    _check(values, full_scale)
    if not np.issubdtype(values.dtype, np.floating):
        values = values.astype(np.float32)
    if style.mode == "contour":
        return _contours(values, style, full_scale, line_width)
    table = _table(style).view(np.uint32)[:, 0]
    out = np.empty(values.shape, np.uint32)
    for part in _strips(values.shape):
        np.take(table, _index(values[part], full_scale), out=out[part], mode="clip")
    return out.view(np.uint8).reshape(*values.shape, 4)


def blend(
    grey: npt.NDArray[np.uint8],
    values: npt.NDArray[np.floating],
    style: LayerStyle,
    full_scale: float,
    *,
    line_width: int | None = None,
) -> npt.NDArray[np.uint8]:
    """The painted map over an 8-bit picture: uint8 RGB (rows, columns, 3), the overlay as the window shows
    it.

    grey: uint8 (rows, columns), or (rows, columns, 3) to lay one map over another. Each channel is
    round((grey * (255 - alpha) + colour * alpha) / 255).
    """
    if grey.shape[:2] != values.shape:
        raise ValueError(f"picture is {grey.shape[:2]}, map {values.shape}")
    base = grey if grey.ndim == 3 else grey[:, :, None]
    rgba = paint(values, style, full_scale, line_width=line_width)
    out = np.empty((*values.shape, 3), np.uint8)
    for part in _strips(values.shape):
        alpha = rgba[part][..., 3:].astype(np.uint16)
        mixed = base[part] * (255 - alpha) + rgba[part][..., :3] * alpha + np.uint16(128)
        mixed += mixed >> 8  # with the 128 above: exact rounded division by 255 (Blinn 1994)
        out[part] = mixed >> 8
    return out


def colour_bar(style: LayerStyle, full_scale: float, unit: str = "", *, max_ticks: int = 7) -> ColourBar:
    """The colour bar of a style: its colours, and ticks at round values in absolute units.

    With a sequential map and both signs the bar shows |value| from 0. Labels carry a sign ("+0.02", "0",
    "−0.02") unless the bar shows magnitudes; very small or large scales put a power of ten into the unit
    ("×10⁻⁵ logit per pixel"). Raises ValueError for a full scale that is not a positive number.
    """
    _check(np.zeros((1, 1), np.float32), full_scale)
    magnitude = style.colour_map in SEQUENTIAL and style.sign == "both"
    low = -full_scale if style.sign == "negative" or (style.sign == "both" and not magnitude) else 0.0
    high = 0.0 if style.sign == "negative" else full_scale
    values = np.linspace(low, high, 256, dtype=np.float64)[None, :]
    plain = LayerStyle(style.colour_map, style.opacity, style.threshold, "fill", style.sign)
    rgba = paint(values, plain, full_scale)[0]
    levels: tuple[float, ...] = ()
    if style.mode == "contour":
        signs = {"both": (1.0,) if magnitude else (-1.0, 1.0), "positive": (1.0,), "negative": (-1.0,)}[
            style.sign
        ]
        levels = tuple(sorted(s * level * full_scale for s in signs for level in _levels(style)))

    exponent = math.floor(math.log10(full_scale))
    power = exponent if exponent < -3 or exponent > 3 else 0
    step = _round_step((high - low) / (max_ticks - 1), full_scale, two_sided=low < 0 < high)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(0, power - math.floor(math.log10(step) + 1e-9))
    if round(step / 10.0**power, decimals) != round(step / 10.0**power, decimals + 1):
        decimals += 1  # steps of 2.5
    ticks = []
    for k in range(first, last + 1):
        text = f"{abs(k) * step / 10.0**power:.{decimals}f}" if k else "0"
        sign = "" if magnitude or k == 0 else ("+" if k > 0 else "−")
        ticks.append(Tick(k * step, (k * step - low) / (high - low), sign + text))
    printed = unit
    if power:
        printed = f"×10{str(power).translate(str.maketrans('-0123456789', '⁻⁰¹²³⁴⁵⁶⁷⁸⁹'))} {unit}".rstrip()
    rgb = np.ascontiguousarray(rgba[:, :3])
    for array in (rgb, rgba):
        array.flags.writeable = False
    return ColourBar(low, high, rgb, rgba, tuple(ticks), printed, levels)


def _check(values: npt.NDArray[np.floating], full_scale: float) -> None:
    if values.ndim != 2:
        raise ValueError(f"a map has rows and columns; this array has {values.ndim} dimensions")
    if not (math.isfinite(full_scale) and full_scale > 0):
        raise ValueError(f"full scale is {full_scale}; it must be a positive number")


def _strips(shape: tuple[int, ...]) -> list[slice]:
    rows = max(1, _STRIP // max(1, shape[1]))
    return [slice(top, top + rows) for top in range(0, shape[0], rows)]


def _index(values: npt.NDArray[np.floating], full_scale: float) -> npt.NDArray[np.intp]:
    """Rows of `_table`: 0 for NaN, 1 + _STEPS for 0, clipped at both ends."""
    x = values * values.dtype.type(_STEPS / full_scale)
    # clip() hands NaN on, fmax() drops it: what is left below the clipped range is the NaN entry
    np.clip(x, -_STEPS, _STEPS, out=x)
    x += values.dtype.type(_STEPS + 1.5)
    np.fmax(x, 0, out=x)
    return x.astype(np.intp)


@lru_cache(maxsize=64)
def _table(style: LayerStyle) -> npt.NDArray[np.uint8]:
    """RGBA of NaN and of 2 * _STEPS + 1 values from -1 to 1: uint8 (2 * _STEPS + 2, 4)."""
    t = np.arange(-_STEPS, _STEPS + 1) / _STEPS
    table = np.zeros((t.size + 1, 4), np.uint8)
    table[1:, :3] = _colours(style.colour_map, t)
    x = np.clip(np.abs(t) / RAMP_END, 0.0, 1.0)
    alpha = style.opacity * x * x * (3.0 - 2.0 * x)
    shown = np.abs(t) >= style.threshold
    if style.sign != "both":
        shown &= t > 0 if style.sign == "positive" else t < 0
    table[1:, 3] = np.where(shown, np.rint(255.0 * alpha), 0).astype(np.uint8)
    table.flags.writeable = False
    return table


def _colours(name: str, t: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Colours of values t in [-1, 1]: uint8 (n, 3)."""
    if name in DIVERGING:
        return _diverging(name, t.tobytes())
    return _sequential(name)[np.rint(np.abs(t) * 255).astype(np.intp)]


def _levels(style: LayerStyle) -> tuple[float, ...]:
    return tuple(sorted({x for x in (*CONTOUR_LEVELS, style.threshold) if x > 0 and x >= style.threshold}))


def _contours(
    values: npt.NDArray[np.floating], style: LayerStyle, full_scale: float, line_width: int | None
) -> npt.NDArray[np.uint8]:
    import cv2

    width = max(2, round(max(values.shape) / 600)) if line_width is None else max(1, line_width)
    out = np.zeros((*values.shape, 4), np.uint8)
    for sign in (1.0, -1.0):
        if style.sign == ("negative" if sign > 0 else "positive"):
            continue
        colour = _colours(style.colour_map, np.array([sign]))[0]
        for level in _levels(style):  # rising: a higher line covers a lower one
            limit = sign * level * full_scale
            inside = ((values >= limit) if sign > 0 else (values <= limit)).astype(np.uint8)
            if not inside.any():
                break
            core: npt.NDArray[np.uint8] = inside
            for step in range(
                width
            ):  # crosses and squares in turn: an octagon, as even a line as a disc and far quicker
                core = np.asarray(
                    cv2.erode(core, _KERNELS[step % 2], None, (-1, -1), 1, cv2.BORDER_CONSTANT, 1), np.uint8
                )
            line = cv2.subtract(inside, core)
            alpha = round(255 * style.opacity * (0.4 + 0.6 * level))
            out[line.view(np.bool_)] = (*(int(c) for c in colour), alpha)
    return out


def _round_step(wanted: float, full_scale: float, two_sided: bool) -> float:
    """Smallest of 1, 2, 2.5, 5 x 10^n that is at least `wanted`; on a two-sided bar small enough for a tick
    on each side.
    """
    base = 10.0 ** math.floor(math.log10(wanted))
    steps = [m * base for m in (1.0, 2.0, 2.5, 5.0, 10.0)]
    step = next(s for s in steps if s >= wanted * (1 - 1e-9))
    if two_sided and step > full_scale * (1 + 1e-9):
        step = max(s for s in steps if s <= full_scale * (1 + 1e-9))
    return step


@lru_cache(maxsize=8)
def _sequential(name: str) -> npt.NDArray[np.uint8]:
    if name == "gray":
        table = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    elif name in SEQUENTIAL:
        text = (resources_dir() / "colormaps" / f"{name}.txt").read_text(encoding="ascii")
        words = "".join(line for line in text.splitlines() if not line.startswith("#"))
        table = np.frombuffer(bytes.fromhex(words), np.uint8).reshape(256, 3).copy()
    else:
        raise UsageError(f"no colour map '{name}'; choose one of {', '.join(SEQUENTIAL + DIVERGING)}")
    table.flags.writeable = False
    return table


@lru_cache(maxsize=16)
def _diverging(name: str, positions: bytes) -> npt.NDArray[np.uint8]:
    """Colours at float64 positions in [-1, 1] (as bytes, so that they can be cached on): uint8 (n, 3),
    read-only.
    """
    t = np.frombuffer(positions, np.float64)
    negative, positive, lightness, chroma = _ENDS[name]
    hue = np.radians(np.where(t < 0, negative, positive))
    size = np.abs(t)
    lab = np.stack(
        [
            _CENTRE_L + size * (lightness - _CENTRE_L),
            size * chroma * np.cos(hue),
            size * chroma * np.sin(hue),
        ],
        axis=-1,
    )
    table = np.rint(255.0 * np.clip(_lab_to_srgb(lab), 0.0, 1.0)).astype(np.uint8)
    table.flags.writeable = False
    return table


def _lab_to_srgb(lab: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """CIELAB (D65) to sRGB, not clipped (CIE 15:2004; IEC 61966-2-1)."""
    fy = (lab[..., 0] + 16.0) / 116.0
    f = np.stack([fy + lab[..., 1] / 500.0, fy, fy - lab[..., 2] / 200.0], axis=-1)
    xyz = np.where(f > 6.0 / 29.0, f**3, (f - 16.0 / 116.0) * 3.0 * (6.0 / 29.0) ** 2)
    xyz = xyz * np.array([0.95047, 1.0, 1.08883])
    matrix = np.array(
        [
            [3.2404542, -1.5371385, -0.4985314],
            [-0.9692660, 1.8760108, 0.0415560],
            [0.0556434, -0.2040259, 1.0572252],
        ]
    )
    linear = xyz @ matrix.T
    return np.where(
        linear <= 0.0031308, 12.92 * linear, 1.055 * np.sign(linear) * np.abs(linear) ** (1 / 2.4) - 0.055
    )
