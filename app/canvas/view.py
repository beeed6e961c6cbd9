"""The image: a widget that shows a case, and through which people look, measure and draw."""

from __future__ import annotations

from typing import Literal

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import (
    QColor,
    QCursor,
    QImage,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QResizeEvent,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.canvas import furniture, keys, shapes
from app.canvas.binding import listen, no_collection
from app.canvas.compositor import Compositor
from app.canvas.draw_tools import DrawTool, PolygonTool
from app.canvas.loupe import Loupe, as_image
from app.canvas.measurer import RegionMeasurer
from app.canvas.readout import Readout, read_out
from app.canvas.toolbox import TOOLS
from app.canvas.tools import Mouse, PanTool, SelectTool, Tool, ZoomTool
from app.canvas.viewport import Orientation, Viewport
from app.model.case import CaseModel
from app.model.layer import Layer
from app.theme import DARK
from xai_engine.radiograph.types import Radiograph, Window

SETTLE_MS = 120


class CanvasView(QWidget):
    """Shows a `CaseModel`. Left button: the tool; middle: pan; right: zoom; wheel: zoom at the cursor.

    Everything is computed at the resolution of the screen (`app.canvas.compositor`); no OpenGL.
    """

    cursor_moved = Signal(object)
    """A `Readout` of what is under the mouse, None outside the image."""
    zoom_changed = Signal(float)
    """Screen (device) pixels per image pixel."""
    viewport_changed = Signal()
    """The visible part has changed, by zoom, pan or resize."""
    tool_changed = Signal(str)
    annotations_changed = Signal(bool)

    def __init__(
        self, case: CaseModel, parent: QWidget | None = None, beside: CanvasView | None = None
    ) -> None:
        """beside: a view whose reduced copies of the image are shared while both show the same one."""
        super().__init__(parent)
        self.case = case
        self._beside = beside
        self.viewport = Viewport(1, 1, 1, 1)
        self.measurer = RegionMeasurer(case, self)
        self._compositor: Compositor | None = None
        self._loupe: Loupe | None = None
        self._fitted = True
        self._annotations = True
        self._framed = True
        self.titled = True  # False where a heading above the canvas names map and trust
        self._draft = False
        self._tools: dict[str, Tool] = {name: tool(self) for name, tool in TOOLS.items()}
        self._tool = self._tools["window"]
        self._active: Tool | None = None
        self._mouse: Mouse | None = None
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.settle)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.PreventContextMenu)  # the right button zooms
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self.setAccessibleName("Radiograph")
        self.setAccessibleDescription("Image with maps and regions. Arrow keys pan, plus and minus zoom.")
        listen(case.changed, self._case_changed)
        listen(case.comparison.changed, self._compared)
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

    def fit(self) -> None:
        """Show the whole image, now and when the window changes its size."""
        self._show(self.viewport.fitted())
        self._fitted = True

    def actual_size(self) -> None:
        """One screen pixel for each image pixel."""
        self.set_zoom(1.0)

    def set_zoom(self, scale: float) -> None:
        self._show(self.viewport.zoomed(scale, self.viewport.width / 2, self.viewport.height / 2))

    def zoom_in(self) -> None:
        self.set_zoom(self.viewport.scale * 1.25)

    def zoom_out(self) -> None:
        self.set_zoom(self.viewport.scale / 1.25)

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

    @property
    def annotations_visible(self) -> bool:
        return self._annotations

    def set_annotations_visible(self, visible: bool) -> None:
        """False hides everything that is not the radiograph: maps, regions, texts, bars."""
        if visible != self._annotations:
            self._annotations = visible
            self.update()
            self.annotations_changed.emit(visible)

    def grab_picture(self) -> QImage:
        """What is on the screen, in device pixels, without the frame that shows the keyboard focus."""
        self.settle()
        self._framed = False
        try:
            return self.grab().toImage()
        finally:
            self._framed = True

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

    @property
    def ratio(self) -> float:
        """Device pixels per logical pixel."""
        return float(self.devicePixelRatioF())

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

    def settle(self) -> None:
        """A movement is over: maps in full resolution again."""
        if self._draft:
            self._draft = False
            self._settle.stop()
            self.update()

    def _in_motion(self) -> None:
        self._draft = True
        self._settle.start()

    # Following the model

    def _case_changed(self, field: str) -> None:
        if field == "radiograph":
            radiograph = self.case.radiograph
            self.cancel()
            self._loupe = None
            self._compositor = None if radiograph is None else self._compositor_for(radiograph)
            rows, columns = (1, 1) if radiograph is None else (radiograph.rows, radiograph.columns)
            self.viewport = Viewport(rows, columns, self.viewport.width, self.viewport.height)
            self.fit()
            self._report(None)
        elif field == "view":
            orientation = Orientation(self.case.rotation, self.case.flip_h, self.case.flip_v)
            if orientation != self.viewport.orientation:
                turned = self.viewport.turned(orientation)
                self._show(turned.fitted() if self._fitted else turned, self._fitted)
        self.update()

    def _compared(self, what: str) -> None:
        """Another picture of the same image: with a region changed, or as it was."""
        if what == "preview" and self.case.comparison.shown is not None:
            self._compositor = self._compositor_for(self.case.comparison.shown)
            self._loupe = None
        self.update()

    def _compositor_for(self, radiograph: Radiograph) -> Compositor:
        beside = self._beside._compositor if self._beside is not None else None
        if beside is not None and beside.radiograph is radiograph:
            return beside.sibling()
        return Compositor(radiograph)

    def _show(self, viewport: Viewport, fitted: bool = False) -> None:
        scale = self.viewport.scale
        self.viewport, self._fitted = viewport, fitted
        self.update()
        if viewport.scale != scale:
            self.zoom_changed.emit(viewport.scale)
        self.viewport_changed.emit()

    @property
    def fitted(self) -> bool:
        """True while the whole image is shown and follows the size of the widget."""
        return self._fitted

    def follow(self, other: Viewport, fitted: bool = False) -> None:
        """Show the same place at the same zoom as another view of the same image; the whole image if that one does."""
        if fitted:
            if not self._fitted or self.viewport != self.viewport.fitted():
                self.fit()
        elif (other.scale, other.center) != (self.viewport.scale, self.viewport.center):
            self._show(self.viewport.centered_at(*other.center, other.scale))

    def _resize(self) -> None:
        width, height = round(self.width() * self.ratio), round(self.height() * self.ratio)
        if (width, height) != (self.viewport.width, self.viewport.height):
            resized = self.viewport.resized(width, height)
            self._show(resized.fitted() if self._fitted else resized, self._fitted)

    # Painting

    def shown_layers(self) -> tuple[Layer, ...]:
        """Maps that are on the screen, lowest first."""
        return tuple(layer for layer in self.case.layers if layer.visible) if self._annotations else ()

    def paintEvent(self, event: QPaintEvent) -> None:
        with no_collection():
            self._resize()
            painter = QPainter(self)
            try:
                painter.fillRect(self.rect(), QColor(DARK.image))
                if self.case.radiograph is None:
                    furniture.invitation(painter, QRectF(self.rect()))
                else:
                    self._paint_image(painter)
                    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                    if self._annotations:
                        furniture.paint_all(
                            painter,
                            QRectF(self.rect()),
                            self.case,
                            self.viewport,
                            self.ratio,
                            self.shown_layers(),
                            self.titled,
                        )
                    self._tool.paint(painter)
                    if self._tool.name == "magnify":
                        self._paint_loupe(painter)
                if self.hasFocus() and self._framed:
                    painter.setRenderHint(QPainter.RenderHint.Antialiasing, False)
                    painter.setBrush(Qt.BrushStyle.NoBrush)
                    painter.setPen(QPen(self.palette().highlight().color().lighter(150), 1))
                    painter.drawRect(self.rect().adjusted(0, 0, -1, -1))
            finally:
                painter.end()

    def _paint_image(self, painter: QPainter) -> None:
        x0, y0, x1, y1 = self.viewport.visible()
        if x0 >= x1 or y0 >= y1 or self._compositor is None or self.case.voi is None:
            return
        picture = self._compositor.render(
            self.viewport,
            self.case.voi,
            self.case.invert,
            self.shown_layers(),
            line_width=max(2, round(2 * self.ratio)),
            draft=self._draft,
        )
        painter.drawImage(QPointF(x0 / self.ratio, y0 / self.ratio), as_image(picture, self.ratio))

    def _paint_loupe(self, painter: QPainter) -> None:
        if self._mouse is None or self._compositor is None:
            return
        if self._loupe is None:
            self._loupe = Loupe(self._compositor)
        at = QPointF(self._mouse.x, self._mouse.y)
        self._loupe.paint(painter, at, self.viewport, self.ratio, self.case, self.shown_layers())

    def sizeHint(self) -> QSize:
        return QSize(900, 800)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._resize()
        super().resizeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self.update()
        super().changeEvent(event)

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
