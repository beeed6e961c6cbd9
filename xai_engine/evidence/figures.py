"""What the report draws rather than writes: pictures with regions, colour bars, the probability scale."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from reportlab.lib.colors import Color, HexColor, white
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable

from xai_engine.evidence import format as fmt
from xai_engine.evidence import typeset
from xai_engine.explain.types import Explanation
from xai_engine.radiograph import colour, regions
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import PixelSpacing, Radiograph

MAX_DPI = 200
JPEG_QUALITY = 90
ACCENT, INK, SOFT, HAIR, WASH = (
    HexColor(code) for code in ("#1f4e79", "#1a1a1a", "#5f6670", "#c4c9cf", "#f2f4f7")
)
ALERT, ALERT_WASH = HexColor("#8a3b00"), HexColor("#fdf3ea")
_OUTLINE = HexColor("#ffd60a")
_CASING = Color(0, 0, 0, alpha=0.65)
_GREY_UNDER_BAR = 96  # grey of lung in most windows: what a half-transparent colour looks like on the picture


@dataclass(frozen=True, slots=True)
class Frame:
    """Size of a picture on the page (points) and in pixels as embedded."""

    width: float
    height: float
    columns: int
    rows: int


def frame(r: Radiograph, max_width: float, max_height: float) -> Frame:
    """The largest frame of the image's true proportions; at most `MAX_DPI`, never more pixels than the image."""
    aspect = r.columns / r.rows
    if r.spacing is not None and r.spacing.row_mm > 0 and r.spacing.column_mm > 0:
        aspect *= r.spacing.column_mm / r.spacing.row_mm
    width = min(max_width, max_height * aspect)
    height = width / aspect
    if height < 1 or width < 1:  # a strip of pixels: proportions cannot be kept on paper
        width, height = max(width, 1.0), max(height, 1.0)
    columns = min(r.columns, max(1, round(width / 72 * MAX_DPI)))
    rows = min(r.rows, max(1, round(height / 72 * MAX_DPI)))
    return Frame(width, height, columns, rows)


def around(region: regions.Region, shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of the image that show a region and half its size around it."""
    points = regions.outline(region)
    low, high = points.min(axis=0), points.max(axis=0)
    margin = max(8.0, 0.5 * float((high - low).max()))
    out = []
    for start, stop, length in zip(low - margin, high + margin, shape[:2], strict=True):
        first = int(min(max(start, 0), length - 1))
        out.append(slice(first, int(min(max(stop, first + 1), length))))
    return out[0], out[1]


def shrink(array: npt.NDArray[Any], target: Frame) -> npt.NDArray[Any]:
    """Area mean of a picture or map over the pixels that `target` embeds."""
    if array.shape[:2] == (target.rows, target.columns):
        return array
    import cv2

    return cv2.resize(
        np.ascontiguousarray(array), (target.columns, target.rows), interpolation=cv2.INTER_AREA
    )


def jpeg(picture: npt.NDArray[np.uint8]) -> bytes:
    """uint8 grey (rows, columns) or RGB (rows, columns, 3) as JPEG without chroma subsampling."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return stream.getvalue()


def map_on_page(e: Explanation, target: Frame) -> npt.NDArray[np.float32]:
    """The map at the resolution of `target`: float32 (rows, columns), what `in_source` gives at a page's pixels.

    A picture of 3000 x 3000 is reduced sixfold on the page: sampling there at once saves most of the work. Only
    a grid finer than the page is averaged, so that no value falls between two pixels.
    """
    t = e.transform
    down, across = target.rows / t.source_shape[0], target.columns / t.source_shape[1]
    if t.scale_row * down < 1 or t.scale_column * across < 1:
        reduced: npt.NDArray[np.float32] = shrink(e.in_source(), target)
        return reduced
    page = GridTransform(
        t.origin_row * down,
        t.origin_column * across,
        t.scale_row * down,
        t.scale_column * across,
        t.grid_shape,
        (target.rows, target.columns),
    )
    return replace(e, transform=page).in_source()


class Picture(Flowable):
    """A JPEG in a frame with region outlines, numbers, orientation letters and a length bar beneath."""

    def __init__(
        self,
        data: bytes,
        size: Frame,
        r: Radiograph,
        shown: Sequence[regions.Region] = (),
        *,
        names: bool = False,
        scale_bar: bool = False,
    ) -> None:
        super().__init__()
        self.data, self.size, self.radiograph, self.shown = data, size, r, shown
        self.names = names
        self.bar = length_bar(r.spacing, r.columns, size.width) if scale_bar else None
        self.width = size.width
        self.height = size.height + (11 if self.bar else 0)

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        canvas, base = self.canv, self.height - self.size.height
        canvas.drawImage(ImageReader(io.BytesIO(self.data)), 0, base, self.size.width, self.size.height)
        canvas.saveState()
        clip = canvas.beginPath()
        clip.rect(0, base, self.size.width, self.size.height)
        canvas.clipPath(clip, stroke=0, fill=0)
        for number, region in enumerate(self.shown, 1):
            self._region(region, number, base)
        self._orientation(base)
        canvas.restoreState()
        if self.bar:
            self._length_bar(*self.bar)

    def _point(self, row: float, column: float, base: float) -> tuple[float, float]:
        x = column / self.radiograph.columns * self.size.width
        return x, base + (1 - row / self.radiograph.rows) * self.size.height

    def _region(self, region: regions.Region, number: int, base: float) -> None:
        canvas = self.canv
        points = [self._point(float(row), float(column), base) for row, column in regions.outline(region)]
        for (
            stroke,
            colour_,
        ) in ((2.0, _CASING), (0.9, _OUTLINE)):
            path = canvas.beginPath()
            path.moveTo(*points[0])
            for point in points[1:]:
                path.lineTo(*point)
            path.close()
            canvas.setLineWidth(stroke)
            canvas.setStrokeColor(colour_)
            canvas.drawPath(path, stroke=1, fill=0)
        text = typeset.line(f"{number} {region.name}".strip() if self.names else str(number), 32)
        size = 6.5
        wide = typeset.width(text, size) + 3
        left = min(max(min(x for x, _ in points), 0), max(0.0, self.size.width - wide))
        top = max(y for _, y in points) + 1.5
        top = min(max(top, base), base + self.size.height - size - 2)
        canvas.setFillColor(_CASING)
        canvas.rect(left, top, wide, size + 2, stroke=0, fill=1)
        canvas.setFillColor(_OUTLINE)
        draw_text(canvas, left + 1.5, top + 2, text, size)

    def _orientation(self, base: float) -> None:
        right, bottom = (*self.radiograph.orientation, "", "")[:2]
        middle_x, middle_y = self.size.width / 2, base + self.size.height / 2
        for text, x, y in ((right, self.size.width - 3, middle_y), (bottom, middle_x, base + 3)):
            text = typeset.line(text, 4)
            if text:
                x -= typeset.width(text, 7, typeset.BOLD)
                self.canv.setFillColor(_CASING)
                self.canv.rect(x - 1.5, y - 2, typeset.width(text, 7, typeset.BOLD) + 3, 9, stroke=0, fill=1)
                self.canv.setFillColor(white)
                draw_text(self.canv, x, y, text, 7, typeset.BOLD)

    def _length_bar(self, length: float, label: str) -> None:
        canvas = self.canv
        canvas.setStrokeColor(INK)
        canvas.setLineWidth(0.8)
        canvas.line(0, 4, length, 4)
        canvas.line(0, 2.5, 0, 5.5)
        canvas.line(length, 2.5, length, 5.5)
        canvas.setFillColor(SOFT)
        draw_text(canvas, length + 4, 1.8, label, 6.5)


def length_bar(spacing: PixelSpacing | None, columns: int, width: float) -> tuple[float, str] | None:
    """Length in points and label of a bar of 1 to 100 mm, at most half the picture; None without spacing."""
    if spacing is None or spacing.column_mm <= 0:
        return None
    per_mm = width / (columns * spacing.column_mm)
    fits = [length for length in (100, 50, 20, 10, 5, 1) if 12 <= length * per_mm <= width / 2]
    if not fits:
        return None
    where = {"detector": " at the detector", "calibrated": "", "unknown": " (plane unknown)"}[spacing.source]
    return fits[0] * per_mm, f"{fits[0]} mm{where}"


class ColourBar(Flowable):
    """Colours of a layer over mid grey with ticks in absolute units; contour lines as strokes on white."""

    _BAR = 7.0

    def __init__(self, style: colour.LayerStyle, full_scale: float, unit: str, width: float) -> None:
        super().__init__()
        self.width, self.height = width, self._BAR + 20
        for most in (7, 5, 3):
            self.bar = colour.colour_bar(style, full_scale, unit, max_ticks=most)
            places = [place for _, place, _ in self.labels()]
            if all(a[1] + 3 <= b[0] for a, b in pairwise(places)):
                break
        self.unit = typeset.line(self.bar.unit, 60)

    def labels(self) -> list[tuple[str, tuple[float, float], float]]:
        """Of each tick the label, where it begins and ends (points from the left), and the tick's own place."""
        out = []
        for tick in self.bar.ticks:
            x, wide = tick.fraction * self.width, typeset.width(tick.label, 6.5)
            left = min(max(x - wide / 2, 0.0), self.width - wide)
            out.append((tick.label, (left, left + wide), x))
        return out

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        canvas, bar, base = self.canv, self.bar, self.height - self._BAR
        alpha = bar.rgba[:, 3:].astype(np.float64) / 255
        shown = np.rint(bar.rgba[:, :3] * alpha + _GREY_UNDER_BAR * (1 - alpha)).astype(np.uint8)
        span = bar.high - bar.low
        if bar.levels:
            for level in bar.levels:
                x = (level - bar.low) / span * self.width
                end = bar.rgb[-1] if level > 0 else bar.rgb[0]
                canvas.setStrokeColor(Color(*(float(c) / 255 for c in end)))
                canvas.setLineWidth(2)
                canvas.line(x, base, x, base + self._BAR)
        else:
            # vector slices: viewers would smear an image 256 pixels wide
            step = self.width / 256
            for i, colours in enumerate(shown):
                canvas.setFillColor(Color(*(float(c) / 255 for c in colours)))
                canvas.rect(
                    i * step, base, min(step * 1.5, self.width - i * step), self._BAR, stroke=0, fill=1
                )
        canvas.setStrokeColor(HAIR)
        canvas.setLineWidth(0.4)
        canvas.rect(0, base, self.width, self._BAR, stroke=1, fill=0)
        canvas.setStrokeColor(SOFT)
        for label, (left, _), x in self.labels():
            canvas.line(x, base - 2, x, base)
            canvas.setFillColor(INK)
            draw_text(canvas, left, base - 9, label, 6.5)
        canvas.setFillColor(SOFT)
        wide = typeset.width(self.unit, 6.5)
        size = 6.5 * min(1.0, self.width / wide) if wide else 6.5
        draw_text(canvas, max(0.0, (self.width - wide) / 2), base - 18, self.unit, size)


class ProbabilityScale(Flowable):
    """0 … 1 with the probability, its uncertainty and the threshold."""

    def __init__(self, probability: float, uncertainty: float, threshold: float, width: float) -> None:
        super().__init__()
        self.values = (probability, uncertainty, threshold)
        self.width, self.height = width, 31.0

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        canvas = self.canv
        probability, uncertainty, threshold = self.values
        x = lambda v: min(max(v, 0.0), 1.0) * self.width  # noqa: E731
        base = 12.0
        canvas.setFillColor(WASH)
        canvas.rect(0, base, self.width, 7, stroke=0, fill=1)
        canvas.setFillColor(Color(0.122, 0.306, 0.475, alpha=0.3))
        low, high = x(probability - uncertainty), x(probability + uncertainty)
        canvas.rect(low, base, max(high - low, 0.5), 7, stroke=0, fill=1)
        canvas.setStrokeColor(HAIR)
        canvas.setLineWidth(0.4)
        canvas.rect(0, base, self.width, 7, stroke=1, fill=0)
        canvas.setFillColor(ACCENT)
        canvas.rect(x(probability) - 1, base - 1.5, 2, 10, stroke=0, fill=1)
        canvas.setStrokeColor(INK)
        canvas.setLineWidth(0.8)
        canvas.setDash(2, 1.2)
        canvas.line(x(threshold), base - 2, x(threshold), base + 11)
        canvas.setDash()
        label = f"threshold {fmt.probability(threshold)}"
        wide = typeset.width(label, 6.5)
        canvas.setFillColor(INK)
        draw_text(canvas, min(max(x(threshold) - wide / 2, 0), self.width - wide), base + 13, label, 6.5)
        canvas.setFillColor(SOFT)
        for value in (0.0, 0.25, 0.5, 0.75, 1.0):
            text = f"{value:g}"
            wide = typeset.width(text, 6.5)
            draw_text(canvas, min(max(x(value) - wide / 2, 0), self.width - wide), base - 9.5, text, 6.5)


def draw_text(canvas: Any, x: float, y: float, text: str, size: float, font: str = typeset.TEXT) -> None:
    """One line in visual order, each run in the font that has it."""
    for name, part in typeset.runs(text, font):
        canvas.setFont(name, size)
        canvas.drawString(x, y, part)
        x += canvas.stringWidth(part, name, size)
