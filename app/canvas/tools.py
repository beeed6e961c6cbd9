"""What the left mouse button does. One small class per tool; the canvas hands over device coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from PySide6.QtCore import QRectF, Qt
from PySide6.QtGui import QColor, QCursor, QPainter, QPen, QPolygonF

from app.canvas import furniture, shapes
from app.theme import DARK
from xai_engine.radiograph.regions import Kind
from xai_engine.radiograph.types import Voi, VoiLut, Window

if TYPE_CHECKING:
    from app.canvas.view import CanvasView

DRAG_RANGE = 1000.0
"""Logical pixels of a window drag that span the image's whole range of values."""


@dataclass(frozen=True, slots=True)
class Mouse:
    """A mouse event: device pixels, and the source point (row, column) below."""

    x: float
    y: float
    row: float
    column: float
    shift: bool = False


class Tool:
    """Base: does nothing. `press` … `drag`* … `release`, or `cancel` at any time."""

    name: ClassVar[str] = ""
    cursor: ClassVar[Qt.CursorShape] = Qt.CursorShape.ArrowCursor

    def __init__(self, canvas: CanvasView) -> None:
        self.canvas = canvas

    @property
    def busy(self) -> bool:
        """True while something is being drawn or dragged."""
        return False

    def press(self, mouse: Mouse) -> None: ...
    def drag(self, mouse: Mouse) -> None: ...
    def release(self, mouse: Mouse) -> None: ...
    def hover(self, mouse: Mouse) -> None: ...
    def double_click(self, mouse: Mouse) -> None: ...
    def finish(self) -> None: ...
    def cancel(self) -> None: ...
    def paint(self, painter: QPainter) -> None: ...


class _Drag(Tool):
    """Tools that act while a button is held, relative to where it went down."""

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._start: Mouse | None = None

    @property
    def busy(self) -> bool:
        return self._start is not None

    def press(self, mouse: Mouse) -> None:
        self._start = mouse

    def release(self, mouse: Mouse) -> None:
        self._start = None
        self.canvas.settle()

    def cancel(self) -> None:
        self._start = None


class WindowTool(_Drag):
    """Horizontal: width; vertical: level (down raises it, so the image gets darker)."""

    name = "window"

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._window: Window | None = None

    def press(self, mouse: Mouse) -> None:
        super().press(mouse)
        case = self.canvas.case
        if case.voi is not None and case.radiograph is not None:
            self._window = as_window(case.voi, case.radiograph.pixels.dtype.kind == "f")

    def drag(self, mouse: Mouse) -> None:
        if self._start is None or self._window is None:
            return
        step = self.canvas.value_range() / DRAG_RANGE / self.canvas.ratio
        self.canvas.case.set_voi(
            dragged(self._window, (mouse.x - self._start.x) * step, (mouse.y - self._start.y) * step)
        )


def as_window(voi: Voi, exact: bool = False) -> Window:
    """The window that covers the input range of a VOI LUT; a window as it is.

    exact: write LINEAR as the LINEAR_EXACT that is the same (PS3.3 C.11.2.1.2 and C.11.2.1.3.2), for values that are
    not whole numbers and may need a window narrower than 1.
    """
    if isinstance(voi, VoiLut):
        width = max(float(len(voi.data)), 2.0)
        return Window(voi.first + width / 2, width)
    if exact and voi.function == "LINEAR":
        return Window(voi.center - 0.5, max(voi.width - 1.0, 1e-6), "LINEAR_EXACT")
    return voi


def dragged(window: Window, width: float, level: float) -> Window:
    """A window changed by so much. LINEAR is not defined below a width of 1 (PS3.3 C.11.2.1.2)."""
    least = 1.0 if window.function == "LINEAR" else 1e-6
    return Window(window.center + level, max(window.width + width, least), window.function)


class PanTool(_Drag):
    name = "pan"
    cursor = Qt.CursorShape.OpenHandCursor

    def drag(self, mouse: Mouse) -> None:
        if self._start is not None:
            self.canvas.pan(mouse.x - self._start.x, mouse.y - self._start.y)
            self._start = mouse


class ZoomTool(_Drag):
    """Up enlarges, down reduces, about the point where the button went down."""

    name = "zoom"
    cursor = Qt.CursorShape.SizeVerCursor

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._last = 0.0

    def drag(self, mouse: Mouse) -> None:
        if self._start is not None:
            factor = 1.01 ** ((self._last - mouse.y) / self.canvas.ratio)
            self._last = mouse.y
            self.canvas.zoom_at(factor, self._start.x, self._start.y)

    def press(self, mouse: Mouse) -> None:
        super().press(mouse)
        self._last = mouse.y


class MagnifyTool(Tool):
    """A loupe that follows the mouse."""

    name = "magnify"
    cursor = Qt.CursorShape.CrossCursor


class SelectTool(Tool):
    """Select, move and resize regions."""

    name = "select"

    def __init__(self, canvas: CanvasView) -> None:
        super().__init__(canvas)
        self._hit: shapes.Hit | None = None
        self._start: Mouse | None = None

    @property
    def busy(self) -> bool:
        return self._hit is not None

    def press(self, mouse: Mouse) -> None:
        self.grab(self.canvas.hit(mouse), mouse)

    def grab(self, hit: shapes.Hit | None, mouse: Mouse) -> None:
        """Begin a drag of what was hit; nothing hit: clear the selection."""
        case = self.canvas.case
        self._hit, self._start = hit, mouse
        case.select_region(None if hit is None else hit.region.id)
        if hit is not None:
            case.begin_edit()

    def drag(self, mouse: Mouse) -> None:
        if self._hit is None or self._start is None:
            return
        region = self._hit.region
        if self._hit.part == "handle":
            region = shapes.reshaped(region, self._hit.index, mouse.row, mouse.column)
        else:
            region = shapes.moved(region, mouse.row - self._start.row, mouse.column - self._start.column)
        self.canvas.case.update_region(region)

    def release(self, mouse: Mouse) -> None:
        if self._hit is not None:
            self._hit = None
            self.canvas.case.end_edit()

    def cancel(self) -> None:
        if self._hit is not None:
            self.canvas.case.update_region(self._hit.region)
            self._hit = None
            self.canvas.case.end_edit()

    def hover(self, mouse: Mouse) -> None:
        hit = self.canvas.hit(mouse)
        shapes_of = {"handle": Qt.CursorShape.CrossCursor, "body": Qt.CursorShape.SizeAllCursor}
        self.canvas.setCursor(QCursor(self.cursor if hit is None else shapes_of[hit.part]))


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


class BoxTool(DrawTool):
    """Rectangle and ellipse, from corner to corner; with Shift as wide as high (in mm where the spacing is known)."""

    def press(self, mouse: Mouse) -> None:
        if not self._grabbed(mouse):
            self._points = [(mouse.row, mouse.column)] * 2

    def drag(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.drag(mouse)
        elif self._points:
            self._points[1] = self._equal_sided(mouse) if mouse.shift else (mouse.row, mouse.column)
            self.canvas.update()

    def _equal_sided(self, mouse: Mouse) -> tuple[float, float]:
        radiograph = self.canvas.case.radiograph
        spacing = radiograph.spacing if radiograph is not None else None
        tall, wide = (spacing.row_mm, spacing.column_mm) if spacing is not None else (1.0, 1.0)
        row, column = self._points[0]
        side = max(abs(mouse.row - row) * tall, abs(mouse.column - column) * wide)
        return (
            row + np.copysign(side / tall, mouse.row - row),
            column + np.copysign(side / wide, mouse.column - column),
        )

    def release(self, mouse: Mouse) -> None:
        if self._resize.busy:
            self._resize.release(mouse)
        elif self._points:
            self._add(self._points)

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


ToolName = Literal[
    "window", "pan", "zoom", "magnify", "select", "rectangle", "ellipse", "polygon", "freehand"
]
TOOLS: dict[str, type[Tool]] = {
    tool.name: tool
    for tool in (
        WindowTool,
        PanTool,
        ZoomTool,
        MagnifyTool,
        SelectTool,
        RectangleTool,
        EllipseTool,
        PolygonTool,
        FreehandTool,
    )
}
