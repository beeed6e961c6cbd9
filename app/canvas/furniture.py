"""What is written around the image: corner texts, orientation letters, colour bar, scale bar, region outlines.

Everything lies on black or on the image, which is the same in both themes, so one set of light colours serves both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QFont, QFontMetricsF, QImage, QPainter, QPen, QPixmap, QPolygonF

from app.canvas.shapes import Points, handles
from app.canvas.viewport import Viewport, edge_letters
from app.icons import pixmap
from app.model.case import CaseModel
from app.model.layer import Layer
from app.model.trust import Mark, mark
from app.theme import DARK
from xai_engine.evidence import format
from xai_engine.explain.what_if import TITLES
from xai_engine.radiograph import colour, correct
from xai_engine.radiograph.regions import Region, length_of, outline
from xai_engine.radiograph.types import PixelSpacing, Voi, VoiLut

MARGIN = 10.0
SMALLEST_FOR_TEXT = 300.0
"""Logical pixels: in narrower views (a grid of nine) corner texts would be nothing but ellipses over the lungs."""
SYNTHETIC = "SYNTHETIC · not a patient"
_HALO = QColor(0, 0, 0, 215)
_AROUND = ((1, 1), (-1, 1), (1, -1), (-1, -1), (1.5, 0), (-1.5, 0), (0, 1.5), (0, -1.5))
_TEXT = QColor(DARK.text)
_LEFT = Qt.AlignmentFlag.AlignLeft
_RIGHT = Qt.AlignmentFlag.AlignRight
_CENTRE = Qt.AlignmentFlag.AlignHCenter
LEAST_NAME = 60
"""Logical pixels that the name of a region has at the right edge of a view; it is cut with an ellipsis."""


def write(painter: QPainter, box: QRectF, text: str, align: Qt.AlignmentFlag, tint: QColor = _TEXT) -> None:
    """One line of text that can be read on any grey."""
    flags = align | Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextDontClip
    painter.setPen(_HALO)
    for dx, dy in _AROUND:
        painter.drawText(box.translated(dx, dy), int(flags), text)
    painter.setPen(tint)
    painter.drawText(box, int(flags), text)


def column(
    painter: QPainter, area: QRectF, lines: Sequence[str], align: Qt.AlignmentFlag, bottom: bool = False
) -> None:
    """Lines of text in a corner of `area`, cut with an ellipsis where they are too long for it."""
    metrics = QFontMetricsF(painter.font())
    height = metrics.lineSpacing()
    shown = [line for line in lines if line]
    top = area.bottom() - height * len(shown) if bottom else area.top()
    for number, line in enumerate(shown):
        text = metrics.elidedText(line, Qt.TextElideMode.ElideRight, area.width())
        write(painter, QRectF(area.left(), top + number * height, area.width(), height), text, align)


def window_text(voi: Voi, label: str) -> str:
    if isinstance(voi, VoiLut):
        return f"VOI LUT {label or voi.label}".rstrip()
    text = f"C {format.number(voi.center)}  W {format.number(voi.width)}"
    if voi.function == "SIGMOID":
        text += "  sigmoid"
    return f"{text}  {label}".rstrip()


def left_text(case: CaseModel) -> list[str]:
    """Patient, as the file says."""
    assert case.radiograph is not None
    study = case.radiograph.study
    born = f"born {format.date(study.birth_date)}" if study.birth_date else ""
    return [
        format.person_name(study.patient_name) or ("" if study.patient_id else case.radiograph.path.name),
        study.patient_id,
        "  ".join(part for part in (study.sex, format.age(study.age), born) if part),
    ]


def right_text(case: CaseModel) -> list[str]:
    assert case.radiograph is not None
    study = case.radiograph.study
    view = " ".join(part for part in (study.body_part.title(), study.view_position, study.laterality) if part)
    return [
        " ".join(part for part in (format.date(study.study_date), format.time(study.study_time)[:5]) if part),
        study.study_description or study.series_description,
        view,
        study.institution,
    ]


def state_text(case: CaseModel, view: Viewport) -> list[str]:
    """Window, zoom, and everything that differs from how the image is stored."""
    assert case.voi is not None
    preset = next((p.label for p in case.presets if p.key == case.preset_key), "")
    marks = []
    if case.invert:
        marks.append("inverted")
    if case.rotation:
        marks.append(f"rotated {case.rotation}°")
    if case.flip_h or case.flip_v:
        marks.append("mirrored" if case.flip_h != case.flip_v else "turned over")
    percent = view.scale * 100
    zoom = f"{percent:.0f} %" if percent >= 10 else f"{percent:.1f} %"
    return [" · ".join(marks).capitalize(), window_text(case.voi, preset), f"Zoom {zoom}"]


ROOM_BESIDE = 330.0
"""Logical pixels of width from which the colour bar has room beside the scale bar and its words; else it stands above."""
ROOM_TO_REPEAT = 420.0
"""Logical pixels of width from which a view beside another one has corner texts of its own."""


def corner_texts(painter: QPainter, area: QRectF, case: CaseModel, view: Viewport, lower: float) -> None:
    """lower: y of the upper edge of the scale bar; where the canvas is narrow, the text stays above it."""
    assert case.radiograph is not None
    if area.width() < SMALLEST_FOR_TEXT:
        return
    said = notice_text(case)
    taken = notice_width(painter, said) if said else area.width() * 0.1
    half = QRectF(area.left(), area.top(), (area.width() - taken) / 2 - 4, area.height())
    other = QRectF(area.right() - half.width(), area.top(), half.width(), area.height())
    column(painter, half, left_text(case), _LEFT)
    column(painter, other, right_text(case), _RIGHT)
    beside = QRectF(area.left(), area.top(), area.width() / 2 - 135, area.height())
    if beside.width() < 180:
        beside = QRectF(area.left(), area.top(), area.width() / 2 - 16, lower - 4 - area.top())
    column(painter, beside, state_text(case, view), _LEFT, bottom=True)


def notice_text(case: CaseModel) -> str:
    """What must not be missed: this is no patient, or not the image as it is in the file. Empty for most images."""
    assert case.radiograph is not None
    asked = case.comparison.what_if.get(case.comparison.preview or "")
    if asked is not None:
        return f"CHANGED · {asked.region.name or 'region'} {TITLES[asked.fill]}"
    done = case.radiograph.corrections
    said = [f"CORRECTED · {correct.words(done)}"] if done else []
    return " · ".join(said + [SYNTHETIC] * case.radiograph.study.synthetic)


def notice_width(painter: QPainter, text: str) -> float:
    return QFontMetricsF(painter.font()).horizontalAdvance(text) + 16


def notice(painter: QPainter, area: QRectF, text: str) -> None:
    """A word that must not be missed, at the top."""
    metrics = QFontMetricsF(painter.font())
    width = notice_width(painter, text)
    box = QRectF(area.center().x() - width / 2, area.top(), width, metrics.height() + 4)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(QColor(0, 0, 0, 150))
    painter.drawRoundedRect(box, 3, 3)
    write(painter, box, text, _CENTRE, QColor(DARK.warning))


def orientation_letters(
    painter: QPainter, area: QRectF, case: CaseModel, view: Viewport, lower: float
) -> None:
    """lower: y below which the bottom letter is written (the scale bar is there)."""
    assert case.radiograph is not None
    letters = edge_letters(case.radiograph.orientation, view.orientation)
    height = QFontMetricsF(painter.font()).height()
    middle = area.center()
    spots = {
        "left": (QRectF(area.left(), middle.y() - height / 2, 40, height), _LEFT),
        "right": (QRectF(area.right() - 40, middle.y() - height / 2, 40, height), _RIGHT),
        "top": (QRectF(middle.x() - 20, area.top() + height + 10, 40, height), _CENTRE),
        "bottom": (QRectF(middle.x() - 20, lower - height - 4, 40, height), _CENTRE),
    }
    for edge, letter in letters.items():
        write(painter, spots[edge][0], letter, spots[edge][1])


def scale_length(mm_per_pixel: float, most: float) -> float:
    """The longest of 1, 2, 5 × 10^n mm that is at most `most` logical pixels."""
    limit = mm_per_pixel * most
    power = 10.0 ** math.floor(math.log10(limit))
    return next(m * power for m in (5.0, 2.0, 1.0) if m * power <= limit * (1 + 1e-9))


def spacing_words(spacing: PixelSpacing) -> str:
    return {"detector": "at detector", "calibrated": "calibrated", "unknown": "origin of spacing unknown"}[
        spacing.source
    ]


def scale_bar(painter: QPainter, area: QRectF, spacing: PixelSpacing, view: Viewport, ratio: float) -> float:
    """A bar of a round length in mm at the bottom. Returns the y of its upper edge."""
    per_source = spacing.row_mm if view.orientation.swaps else spacing.column_mm
    per_pixel = per_source / view.scale * ratio
    length = scale_length(per_pixel, min(240.0, area.width() * 0.22))
    pixels = length / per_pixel
    metrics = QFontMetricsF(painter.font())
    y = area.bottom() - 5
    x = area.center().x() - pixels / 2
    for tint, width in ((_HALO, 4.0), (_TEXT, 1.5)):
        painter.setPen(QPen(tint, width))
        painter.drawLine(QPointF(x, y), QPointF(x + pixels, y))
        for end in (x, x + pixels):
            painter.drawLine(QPointF(end, y - 4), QPointF(end, y + 4))
    label = f"{length:g} mm {spacing_words(spacing)}"
    box = QRectF(area.center().x() - 150, y - 6 - metrics.height(), 300, metrics.height())
    write(painter, box, label, _CENTRE)
    return box.top()


def bar_colours(bar: colour.ColourBar) -> npt.NDArray[np.uint8]:
    """What a bar shows: uint8 (256, 3) from low to high, black where nothing is drawn on the image.

    In fill mode that is below the threshold, in contour mode everything but the lines.
    """
    shown = bar.rgba[:, 3] > 0
    if bar.levels:
        values = np.linspace(bar.low, bar.high, len(bar.rgb))
        width = (bar.high - bar.low) / len(bar.rgb) * 3
        shown = np.any([np.abs(values - level) <= width for level in bar.levels], axis=0)
    return np.where(shown[:, None], bar.rgb, 0).astype(np.uint8)


@lru_cache(maxsize=64)
def _sign(name: str, tint: str, side: int, ratio: float) -> QPixmap:
    return pixmap(name, tint, side, ratio)


def trust_line(painter: QPainter, box: QRectF, state: Mark, ratio: float, title: str = "") -> None:
    """The trust state of a map, right-aligned: its icon and, after the title, its word."""
    metrics = QFontMetricsF(painter.font())
    side = round(metrics.height() * 0.85)
    words = f"{title} · {state.word}" if title else state.word
    text = metrics.elidedText(words, Qt.TextElideMode.ElideLeft, box.width() - side - 4)
    tint = tone_of(state)
    left = box.right() - metrics.horizontalAdvance(text) - side - 4
    place = QPointF(left, box.center().y() - side / 2)
    painter.setPen(Qt.PenStyle.NoPen)
    painter.setBrush(_HALO)
    painter.drawEllipse(QRectF(place.x() - 1, place.y() - 1, side + 2, side + 2))
    painter.drawPixmap(place, _sign(state.icon, tint, side, ratio))
    write(painter, box, text, _RIGHT, QColor(tint))


def tone_of(state: Mark) -> str:
    """The colour of a trust state on black."""
    tones = {"good": DARK.good, "warning": DARK.warning, "error": DARK.error}
    return tones.get(state.tone, DARK.text)


def colour_bar(
    painter: QPainter,
    area: QRectF,
    layers: Sequence[Layer],
    assessing: frozenset[int],
    ratio: float,
    titled: bool = True,
) -> None:
    """Absolute colour bar of the top map, right, in the lower half; above it every map that is shown with its trust.

    layers: shown ones, lowest first. titled: False where a heading above the canvas says it.
    """
    layer = layers[-1]
    metrics = QFontMetricsF(painter.font())
    line = metrics.lineSpacing()
    words = 1 + (1 + len(layers) if titled else 0)
    room = area.height() / 2 - words * line - 24
    if room >= 60:
        top = _bar(painter, area, layer, min(room, 220.0)) - 8 - line
        unit = colour.colour_bar(layer.drawn_style, layer.drawn.full_scale, layer.drawn.unit).unit
        write(painter, QRectF(area.right() - 260, top, 260, line), unit, _RIGHT)
    else:
        top = area.bottom() - line
    if not titled:
        return
    top -= line
    trust_line(painter, QRectF(area.right() - 300, top, 300, line), mark(layer, layer.id in assessing), ratio)
    top -= line
    write(painter, QRectF(area.right() - 260, top, 260, line), layer.drawn.title, _RIGHT)
    for other in reversed(layers[:-1]):
        top -= line
        state = mark(other, other.id in assessing)
        trust_line(painter, QRectF(area.right() - 300, top, 300, line), state, ratio, other.drawn.title)


def _bar(painter: QPainter, area: QRectF, layer: Layer, height: float) -> float:
    """The bar with its ticks. Returns the y of its upper edge."""
    line = QFontMetricsF(painter.font()).lineSpacing()
    bar = colour.colour_bar(layer.drawn_style, layer.drawn.full_scale, layer.drawn.unit)
    box = QRectF(area.right() - 12, area.bottom() - height - 6, 12, height)
    rgb = bar_colours(bar)[::-1]
    pixels = np.ascontiguousarray(np.repeat(rgb[:, None], 4, axis=1))
    image = QImage(pixels.data, 4, len(rgb), 12, QImage.Format.Format_RGB888)
    painter.drawImage(box, image)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.setPen(QPen(QColor(DARK.control), 1))
    painter.drawRect(box)
    for tick in bar.ticks:
        y = box.bottom() - tick.fraction * box.height()
        painter.setPen(QPen(_TEXT, 1))
        painter.drawLine(QPointF(box.left() - 4, y), QPointF(box.left(), y))
        write(painter, QRectF(box.left() - 88, y - line / 2, 80, line), tick.label, _RIGHT)
    return box.top()


def polygon(points: Points, ratio: float) -> QPolygonF:
    return QPolygonF([QPointF(float(x) / ratio, float(y) / ratio) for x, y in points])


def ruler(painter: QPainter, line: QPolygonF) -> None:
    """A line with a stroke across each of its ends."""
    painter.drawPolyline(line)
    along = line.last() - line.first()
    length = math.hypot(along.x(), along.y())
    if length > 0:
        across = QPointF(-along.y(), along.x()) * (5.0 / length)
        for end in (line.first(), line.last()):
            painter.drawLine(end - across, end + across)


def beside(painter: QPainter, point: QPointF, text: str) -> None:
    """A number that goes along with what is being drawn."""
    height = QFontMetricsF(painter.font()).height()
    write(painter, QRectF(point.x() + 12, point.y() - height - 6, 200, height), text, _LEFT)


def region(
    painter: QPainter,
    shape: Region,
    view: Viewport,
    ratio: float,
    selected: bool,
    handled: bool = True,
    caption: str = "",
) -> None:
    """Outline and caption; the selected one with handles, where it can be moved (`handled`)."""
    drawn = polygon(view.to_device(outline(shape)), ratio)
    tint = QColor(DARK.text if selected else DARK.good)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for pen in (QPen(_HALO, 3.5), QPen(tint, 1.8 if selected else 1.5)):
        painter.setPen(pen)
        if shape.kind == "line":
            ruler(painter, drawn)
        else:
            painter.drawPolygon(drawn)
    if selected and handled:
        painter.setPen(QPen(QColor(0, 0, 0), 1))
        painter.setBrush(tint)
        for x, y in view.to_device(handles(shape)) / ratio:
            painter.drawRect(QRectF(x - 3.5, y - 3.5, 7, 7))
    if caption:
        bounds = drawn.boundingRect()
        metrics = QFontMetricsF(painter.font())
        height, room = metrics.height(), max(LEAST_NAME, view.width / ratio - bounds.left() - 4)
        name = metrics.elidedText(caption, Qt.TextElideMode.ElideRight, room)
        write(painter, QRectF(bounds.left(), bounds.top() - height - 4, room, height), name, _LEFT, tint)


def counterpart(painter: QPainter, shape: Region, view: Viewport, ratio: float) -> None:
    """The mirror region, dashed."""
    drawn = polygon(view.to_device(outline(shape)), ratio)
    painter.setBrush(Qt.BrushStyle.NoBrush)
    for pen in (QPen(_HALO, 3.0), QPen(QColor(DARK.text), 1.3)):
        pen.setDashPattern([8.0 / pen.widthF(), 6.0 / pen.widthF()])
        painter.setPen(pen)
        painter.drawPolygon(drawn)


def invitation(painter: QPainter, box: QRectF) -> None:
    """What an empty canvas says."""
    height = painter.fontMetrics().lineSpacing()
    title = QFont(painter.font())
    title.setPointSizeF(title.pointSizeF() * 1.35)
    centre = int(Qt.AlignmentFlag.AlignCenter)
    painter.setPen(QColor(DARK.muted))
    painter.drawText(box.translated(0, height), centre, "or open one (Ctrl+O)")
    painter.setFont(title)
    painter.setPen(_TEXT)
    painter.drawText(box.translated(0, -height * 0.5), centre, "Drop a radiograph here")


def paint_all(
    painter: QPainter,
    box: QRectF,
    case: CaseModel,
    view: Viewport,
    ratio: float,
    layers: Sequence[Layer],
    titled: bool = True,
    marked: CaseModel | None = None,
) -> None:
    """Everything that is not the radiograph and not a map, over a whole canvas.

    layers, titled: see `colour_bar`. marked: the case whose regions are drawn; where it is another one (this view stands
    beside its view), regions have no handles, and a small view does not repeat the corner texts.
    """
    radiograph = case.radiograph
    assert radiograph is not None
    marked = marked or case
    chosen = marked.region(marked.selected_region)
    across = None if chosen is None else marked.comparison.counterpart(chosen)
    if across is not None:
        counterpart(painter, across, view, ratio)
    for shape in marked.regions:
        caption = shape.name
        if shape.kind == "line":
            caption = f"{shape.name}  {format.length(*length_of(shape, radiograph))}".strip()
        region(painter, shape, view, ratio, shape is chosen, handled=marked is case, caption=caption)
    area = box.adjusted(MARGIN, MARGIN, -MARGIN, -MARGIN)
    lower = area.bottom()
    if radiograph.spacing is not None:
        lower = scale_bar(painter, area, radiograph.spacing, view, ratio)
    if marked is case or area.width() >= ROOM_TO_REPEAT:
        corner_texts(painter, area, case, view, lower)
    orientation_letters(painter, area, case, view, lower)
    said = notice_text(case)
    if said:
        notice(painter, area, said)
    if layers:
        if area.width() < ROOM_BESIDE:
            area.setBottom(lower)
        colour_bar(painter, area, layers, case.assessing, ratio, titled)
