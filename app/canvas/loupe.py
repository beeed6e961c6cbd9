"""A magnifying glass, and how a picture becomes a QImage."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import QPointF, QRectF, Qt
from PySide6.QtGui import QColor, QImage, QPainter, QPainterPath, QPen

from app.canvas.compositor import Compositor, Picture
from app.canvas.viewport import Viewport
from app.model.case import CaseModel
from app.model.layer import Layer
from app.theme import DARK

DIAMETER = 230  # logical pixels
FACTOR = 2.5


def as_image(picture: Picture, ratio: float) -> QImage:
    """A QImage that shares the array's memory (keep the array while it is in use)."""
    height, width = picture.shape[:2]
    kind = QImage.Format.Format_Grayscale8 if picture.ndim == 2 else QImage.Format.Format_RGB32
    image = QImage(picture.data, width, height, picture.strides[0], kind)
    image.setDevicePixelRatio(ratio)
    return image


class Loupe:
    """Shows what lies under the mouse larger, in a circle around it."""

    def __init__(self, compositor: Compositor) -> None:
        self._compositor = compositor.sibling()

    def paint(
        self,
        painter: QPainter,
        at: QPointF,
        view: Viewport,
        ratio: float,
        case: CaseModel,
        layers: Sequence[Layer],
    ) -> None:
        """at: the middle, in device pixels of `view`."""
        if case.voi is None:
            return
        side = round(DIAMETER * ratio)
        row, column = view.to_source([[at.x(), at.y()]])[0]
        inner = view.resized(side, side).centered_at(float(row), float(column), view.scale * FACTOR)
        x0, y0, x1, y1 = inner.visible()
        if x0 >= x1 or y0 >= y1:
            return
        picture = self._compositor.render(inner, case.voi, case.invert, layers)
        left, top = at.x() / ratio - DIAMETER / 2, at.y() / ratio - DIAMETER / 2
        circle = QRectF(left, top, DIAMETER, DIAMETER)
        path = QPainterPath()
        path.addEllipse(circle)
        painter.save()
        painter.setClipPath(path)
        painter.fillRect(circle, QColor(DARK.image))
        painter.drawImage(QPointF(left + x0 / ratio, top + y0 / ratio), as_image(picture, ratio))
        painter.restore()
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for pen in (QPen(QColor(0, 0, 0), 4), QPen(QColor(DARK.muted), 1.5)):
            painter.setPen(pen)
            painter.drawEllipse(circle)
