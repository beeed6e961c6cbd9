"""Tools that draw regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPen, QPolygonF

from app.canvas import furniture, shapes
from app.canvas.tools import Mouse, SelectTool, Tool
from app.theme import DARK
from xai_engine.evidence import format
from xai_engine.radiograph.regions import Kind, length_of

if TYPE_CHECKING:
    from app.canvas.view import CanvasView


class DrawTool(Tool):
    """Base of the region tools. Handles of the selected region can be dragged without changing the tool."""

    cursor = Qt.CursorShape.CrossCursor
    kind: ClassVar[Kind]

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._points: list[tuple[float, float]] = []
        self._resize = SelectTool(canvas)

    @property
    def busy(self) -> bool:
        return bool(self._points) or self._resize.busy

    def _grabbed(self, mouse: Mouse) -> bool:
        hit = self.canvas.hit(mouse)
        if self._points or hit is None or hit.part != "handle":
            return False
        self._resize.grab(hit, mouse)
        return True

    def _add(self, points: list[tuple[float, float]]) -> None:
        """Hand the finished figure to the case."""
        self._points = []
        case = self.canvas.case
        region_id = case.new_region_id()
        region = shapes.make(self.kind, points, f"{self.kind.capitalize()} {region_id}", region_id)
        if region is not None:
            case.add_region(region)
        self.canvas.update()

    def cancel(self) -> None:
        self._points = []
        self._resize.cancel()
        self.canvas.update()

    def paint(self, painter: QPainter) -> None:
        if not self._points:
            return
        line = furniture.polygon(self.canvas.viewport.to_device(self._points), self.canvas.ratio)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        for pen in (QPen(QColor(0, 0, 0, 200), 3.5), QPen(QColor(DARK.text), 1.5)):
            painter.setPen(pen)
            self.draw_line(painter, line)

    def draw_line(self, painter: QPainter, line: QPolygonF) -> None:
        painter.drawPolyline(line)


class TwoPointTool(DrawTool):
    """From one point to another with the button held."""

    def press(self, mouse: Mouse) -> None:
        if not self._grabbed(mouse):
            self._points = [(mouse.row, mouse.column)] * 2

    def drag(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.drag(mouse)
        elif self._points:
            self._points[1] = self.constrained(mouse) if mouse.shift else (mouse.row, mouse.column)
            self.canvas.update()

    def constrained(self, mouse: Mouse) -> tuple[float, float]:
        """The second point while Shift is held."""
        raise NotImplementedError

    def pixel_size(self) -> tuple[float, float]:
        """Height and width of a pixel in mm, (1, 1) where the file does not say."""
        radiograph = self.canvas.case.radiograph
        spacing = radiograph.spacing if radiograph is not None else None
        return (spacing.row_mm, spacing.column_mm) if spacing is not None else (1.0, 1.0)

    def release(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.release(mouse)
        elif self._points:
            self._add(self._points)


class LineTool(TwoPointTool):
    """A length; its number goes along while it is drawn. With Shift it stays level or upright on the screen's picture."""

    name = "line"
    kind = "line"

    def constrained(self, mouse: Mouse) -> tuple[float, float]:
        tall, wide = self.pixel_size()
        row, column = self._points[0]
        if abs(mouse.row - row) * tall > abs(mouse.column - column) * wide:
            return mouse.row, column
        return row, mouse.column

    def draw_line(self, painter: QPainter, line: QPolygonF) -> None:
        furniture.ruler(painter, line)

    def paint(self, painter: QPainter) -> None:
        super().paint(painter)
        radiograph = self.canvas.case.radiograph
        drawn = shapes.make("line", self._points, "", "") if self._points else None
        if drawn is not None and radiograph is not None:
            line = furniture.polygon(self.canvas.viewport.to_device(self._points), self.canvas.ratio)
            furniture.beside(painter, line.last(), format.length(*length_of(drawn, radiograph)))


class BoxTool(TwoPointTool):
    """Rectangle and ellipse, from corner to corner; with Shift as wide as high (in mm where the spacing is known)."""

    def constrained(self, mouse: Mouse) -> tuple[float, float]:
        tall, wide = self.pixel_size()
        row, column = self._points[0]
        side = max(abs(mouse.row - row) * tall, abs(mouse.column - column) * wide)
        return (
            row + np.copysign(side / tall, mouse.row - row),
            column + np.copysign(side / wide, mouse.column - column),
        )

    def draw_line(self, painter: QPainter, line: QPolygonF) -> None:
        box = QRectF(line.at(0), line.at(1)).normalized()
        if self.kind == "ellipse":
            painter.drawEllipse(box)
        else:
            painter.drawRect(box)


class RectangleTool(BoxTool):
    name = "rectangle"
    kind = "rectangle"


class EllipseTool(BoxTool):
    name = "ellipse"
    kind = "ellipse"


class PolygonTool(DrawTool):
    """A click sets a vertex; double-click, Enter or a click on the first vertex closes."""

    name = "polygon"
    kind = "polygon"

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._ahead: tuple[float, float] | None = None

    def press(self, mouse: Mouse) -> None:
        if self._grabbed(mouse):
            return
        if len(self._points) >= 3 and self._near_first(mouse):
            self.finish()
            return
        self._points.append((mouse.row, mouse.column))
        self._ahead = None
        self.canvas.update()

    def _near_first(self, mouse: Mouse) -> bool:
        x, y = self.canvas.viewport.to_device(self._points[:1])[0]
        return bool(np.hypot(x - mouse.x, y - mouse.y) <= shapes.GRAB * self.canvas.ratio)

    def drag(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.drag(mouse)
        else:
            self.hover(mouse)

    def hover(self, mouse: Mouse) -> None:
        if self._points:
            self._ahead = mouse.row, mouse.column
            self.canvas.update()

    def release(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.release(mouse)

    def double_click(self, mouse: Mouse) -> None:
        self.finish()  # the first click of the two has set the last vertex

    def finish(self) -> None:
        self._ahead = None
        if len(self._points) >= 3:
            self._add(self._points)

    def draw_line(self, painter: QPainter, line: QPolygonF) -> None:
        painter.drawPolyline(line)
        if self._ahead is not None:
            ahead = furniture.polygon(self.canvas.viewport.to_device([self._ahead]), self.canvas.ratio)
            painter.drawLine(line.last(), ahead.first())
        painter.drawEllipse(line.first(), 3.5, 3.5)


class FreehandTool(DrawTool):
    """A closed outline, drawn with the button held."""

    name = "freehand"
    kind = "freehand"

    def press(self, mouse: Mouse) -> None:
        if not self._grabbed(mouse):
            self._points = [(mouse.row, mouse.column)]

    def drag(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.drag(mouse)
        elif self._points:
            self._points.append((mouse.row, mouse.column))
            self.canvas.update()

    def release(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.release(mouse)
        elif self._points:
            # A quarter of a screen pixel: invisible, and the outline stays light.
            kept = shapes.simplified(np.array(self._points), 0.25 / self.canvas.viewport.scale)
            self._add([(float(row), float(column)) for row, column in kept])
