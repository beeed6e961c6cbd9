"""What a canvas shows: the picture of a case with its maps, at the resolution of the screen, and what is written on it."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QColor, QImage, QPainter, QPaintEvent, QPen, QResizeEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from app.canvas import furniture
from app.canvas.binding import listen, no_collection
from app.canvas.compositor import Compositor
from app.canvas.loupe import as_image
from app.canvas.viewport import Orientation, Viewport
from app.model.case import CaseModel
from app.model.layer import Layer
from app.theme import DARK
from xai_engine.radiograph.types import Radiograph

SETTLE_MS = 120


class Screen(QWidget):
    """Shows a `CaseModel` and follows it. Everything is computed at the resolution of the screen
    (`app.canvas.compositor`); no OpenGL. What people do with mouse and keys: `app.canvas.view`."""

    zoom_changed = Signal(float)
    """Screen (device) pixels per image pixel."""
    viewport_changed = Signal()
    """The visible part has changed, by zoom, pan or resize."""
    annotations_changed = Signal(bool)

    def __init__(self, case: CaseModel, parent: QWidget | None = None, beside: Screen | None = None) -> None:
        """beside: a view whose reduced copies of the image are shared while both show the same one, and whose regions are
        drawn here too."""
        super().__init__(parent)
        self.case = case
        self._beside = beside
        self.viewport = Viewport(1, 1, 1, 1)
        self._compositor: Compositor | None = None
        self._fitted = True
        self._annotations = True
        self._framed = True
        self.titled = True  # False where a heading above the canvas names map and trust
        self._draft = False
        self._settle = QTimer(self)
        self._settle.setSingleShot(True)
        self._settle.setInterval(SETTLE_MS)
        self._settle.timeout.connect(self.settle)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        listen(case.changed, self._case_changed)
        listen(case.comparison.changed, self._compared)

    @property
    def marked(self) -> CaseModel:
        """The case whose regions are drawn: that of the view beside which this one stands, where both show one image."""
        other = self._beside.case if self._beside is not None else self.case
        return other if other.radiograph is self.case.radiograph else self.case

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

    @property
    def ratio(self) -> float:
        """Device pixels per logical pixel."""
        return float(self.devicePixelRatioF())

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
            self._compositor = None if radiograph is None else self._compositor_for(radiograph)
            rows, columns = (1, 1) if radiograph is None else (radiograph.rows, radiograph.columns)
            self.viewport = Viewport(rows, columns, self.viewport.width, self.viewport.height)
            self.fit()
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
                            self.marked,
                        )
                    self._paint_above(painter)
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

    def _paint_above(self, painter: QPainter) -> None:
        """For what tools draw, above all else."""

    def sizeHint(self) -> QSize:
        return QSize(900, 800)

    def resizeEvent(self, event: QResizeEvent) -> None:
        self._resize()
        super().resizeEvent(event)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            self.update()
        super().changeEvent(event)
