"""What the left mouse button does. One small class per tool; the canvas hands over device coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from PySide6.QtCore import Qt
from PySide6.QtGui import QCursor, QPainter

from app.canvas import shapes
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
