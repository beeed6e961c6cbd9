"""The image: a widget that shows a case, and through which people look, measure and draw."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QCursor, QKeyEvent, QMouseEvent, QPainter, QWheelEvent
from PySide6.QtWidgets import QWidget

from app.canvas import keys, shapes
from app.canvas.draw_tools import DrawTool, PolygonTool
from app.canvas.loupe import Loupe
from app.canvas.measurer import RegionMeasurer
from app.canvas.readout import Readout, read_out
from app.canvas.screen import Screen
from app.canvas.toolbox import TOOLS
from app.canvas.tools import Mouse, PanTool, SelectTool, Tool, ZoomTool
from app.model.case import CaseModel
from xai_engine.radiograph.types import Window


class CanvasView(Screen):
    """A `Screen` with tools. Left button: the tool; middle: pan; right: zoom; wheel: zoom at the cursor."""

    cursor_moved = Signal(object)
    """A `Readout` of what is under the mouse, None outside the image."""
    tool_changed = Signal(str)

    def __init__(
        self, case: CaseModel, parent: QWidget | None = None, beside: CanvasView | None = None
    ) -> None:
        """beside: see `Screen`."""
        super().__init__(case, parent, beside)
        self.measurer = RegionMeasurer(case, self)
        self._loupe: Loupe | None = None
        self._tools: dict[str, Tool] = {name: tool(self) for name, tool in TOOLS.items()}
        self._tool = self._tools["window"]
        self._active: Tool | None = None
        self._mouse: Mouse | None = None
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)  # the right button zooms
        self.setAccessibleName("Radiograph")
        self.setAccessibleDescription("Image with maps and regions. Arrow keys pan, plus and minus zoom.")
        self._case_changed("radiograph")

    # What the window's menus and toolbar call

    @property
    def tool(self) -> str:
        return self._tool.name

    def set_tool(self, name: str) -> None:
        """One of `app.canvas.toolbox.TOOLS`. An unfinished drawing is dropped."""
        if name == self._tool.name:
            return
        self._tool.cancel()
        self._tool = self._tools[name]
        self.setCursor(QCursor(self._tool.cursor))
        self.update()
        self.tool_changed.emit(name)

    def apply_preset(self, key: str) -> bool:
        return self.case.apply_preset(key)

    def apply_preset_number(self, number: int) -> bool:
        """The first preset has number 1: the file's own in their order, then full range, then automatic."""
        if not 1 <= number <= len(self.case.presets):
            return False
        return self.case.apply_preset(self.case.presets[number - 1].key)

    def toggle_invert(self) -> None:
        self.case.set_invert(not self.case.invert)

    def rotate(self, degrees: int) -> None:
        self.case.rotate(degrees)

    def flip(self, axis: Literal["h", "v"]) -> None:
        self.case.flip(axis)

    def reset_view(self) -> None:
        """Window, orientation and zoom as when the image was opened."""
        self.case.reset_view()
        self.fit()

    def cancel(self) -> bool:
        """Stop drawing or dragging and take back what it has changed; else clear the selection. False: nothing to do."""
        tool = self._active or self._tool
        acted = tool.busy or self.case.selected_region is not None
        if not tool.busy:
            self.case.select_region(None)
        tool.cancel()
        self._active = None
        return acted

    def delete_selected(self) -> None:
        if self.case.selected_region is not None:
            self.case.remove_region(self.case.selected_region)

    # What tools use

    def pan(self, dx: float, dy: float) -> None:
        """Move the image by device pixels."""
        self._in_motion()
        self._show(self.viewport.panned(dx, dy))

    def zoom_at(self, factor: float, x: float, y: float) -> None:
        """Zoom by `factor`; the point under device (x, y) stays."""
        self._in_motion()
        self._show(self.viewport.zoomed(self.viewport.scale * factor, x, y))

    def value_range(self) -> float:
        """Width of the full-range window: what a window drag is measured by."""
        full = next((preset.voi for preset in self.case.presets if preset.key == "full"), None)
        return full.width if isinstance(full, Window) else 1.0

    def hit(self, mouse: Mouse) -> shapes.Hit | None:
        if not self._annotations:
            return None
        return shapes.hit_any(
            self.case.regions,
            self.case.selected_region,
            self.viewport,
            mouse.x,
            mouse.y,
            shapes.GRAB * self.ratio,
        )

    # Following the model and painting

    def _case_changed(self, field: str) -> None:
        if field == "radiograph":
            self.cancel()
            self._loupe = None
        super()._case_changed(field)
        if field == "radiograph":
            self._report(None)

    def _compared(self, what: str) -> None:
        if what == "preview":
            self._loupe = None
        super()._compared(what)

    def _paint_above(self, painter: QPainter) -> None:
        self._tool.paint(painter)
        if self._tool.name == "magnify":
            self._paint_loupe(painter)

    def _paint_loupe(self, painter: QPainter) -> None:
        if self._mouse is None or self._compositor is None:
            return
        if self._loupe is None:
            self._loupe = Loupe(self._compositor)
        at = QPointF(self._mouse.x, self._mouse.y)
        self._loupe.paint(painter, at, self.viewport, self.ratio, self.case, self.shown_layers())

    # Mouse and keys

    def _mouse_at(self, position: QPointF, modifiers: Qt.KeyboardModifier) -> Mouse:
        x, y = position.x() * self.ratio, position.y() * self.ratio
        row, column = self.viewport.to_source([[x, y]])[0]
        return Mouse(x, y, float(row), float(column), bool(modifiers & Qt.KeyboardModifier.ShiftModifier))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if self.case.radiograph is None or (self._active is not None and self._active.busy):
            return
        by_button = {
            Qt.MouseButton.LeftButton: self._tool,
            Qt.MouseButton.MiddleButton: self._tools[PanTool.name],
            Qt.MouseButton.RightButton: self._tools[ZoomTool.name],
        }
        self._active = by_button.get(event.button())
        if isinstance(self._active, DrawTool | SelectTool):
            self.set_annotations_visible(True)  # what is drawn must be seen
        if self._active is not None:
            self._active.press(self._mouse_at(event.position(), event.modifiers()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.case.radiograph is None:
            return
        mouse = self._mouse_at(event.position(), event.modifiers())
        if self._active is not None and event.buttons() != Qt.MouseButton.NoButton:
            self._active.drag(mouse)
        else:
            self._tool.hover(mouse)
        self._report(mouse)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        if self._active is not None:
            self._active.release(self._mouse_at(event.position(), event.modifiers()))
            self._active = None

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton and self._tool.busy:
            self._tool.double_click(self._mouse_at(event.position(), event.modifiers()))
        else:
            self.mousePressEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        self._report(None)
        super().leaveEvent(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        steps = event.angleDelta().y() / 120
        if self.case.radiograph is not None and steps:
            position = event.position() * self.ratio
            self.zoom_at(1.15**steps, position.x(), position.y())
            self._report(self._mouse_at(event.position(), event.modifiers()))
        event.accept()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if self.case.radiograph is None or not keys.handle(self, event):
            super().keyPressEvent(event)

    def nudge(self, dx: int, dy: int) -> None:
        """Arrow keys: move the selected region by pixels as they lie on the screen; without one, pan."""
        region = self.case.region(self.case.selected_region)
        if region is None:
            self.pan(-40 * dx * self.ratio, -40 * dy * self.ratio)
            return
        columns, rows = self.viewport.orientation.matrix.T @ (dx, dy)
        self.case.update_region(shapes.moved(region, float(rows), float(columns)))

    def finish_drawing(self) -> bool:
        """Close a polygon that is being drawn. False when there is none."""
        if isinstance(self._tool, PolygonTool) and self._tool.busy:
            self._tool.finish()
            return True
        return False

    def _report(self, mouse: Mouse | None) -> None:
        self._mouse = mouse
        if self._tool.name == "magnify":
            self.update()
        self.cursor_moved.emit(self.readout())

    def readout(self) -> Readout | None:
        """What is under the mouse."""
        if self._mouse is None or self.case.radiograph is None:
            return None
        return read_out(self.case, self._mouse.row, self._mouse.column)
