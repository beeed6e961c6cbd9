"""Small controls that panels share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFontMetricsF,
    QIcon,
    QImage,
    QPainter,
    QPaintEvent,
    QPalette,
    QPen,
    QPixmap,
    QWheelEvent,
)
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QSlider,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QToolButton,
    QWidget,
)

from app.canvas.binding import no_collection
from app.canvas.furniture import bar_colours
from app.icons import icon
from app.theme import current_tokens
from xai_engine.radiograph import colour
from xai_engine.radiograph.colour import LayerStyle


class PercentSlider(QWidget):
    """Label, slider and number, 0 … `most` %. Signals carry fractions."""

    changed = Signal(float)
    pressed = Signal()
    released = Signal()

    def __init__(self, label: str, most: int = 100, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._label = QLabel(label)
        self._label.setFixedWidth(self._label.fontMetrics().horizontalAdvance("Threshold") + 6)
        self.slider = QSlider(Qt.Orientation.Horizontal)
        self.slider.setRange(0, most)
        self.slider.setPageStep(10)
        self._label.setBuddy(self.slider)
        self._number = QLabel()
        self._number.setAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        self._number.setFixedWidth(self._number.fontMetrics().horizontalAdvance("100 %") + 4)
        line = QHBoxLayout(self)
        line.setContentsMargins(0, 0, 0, 0)
        line.setSpacing(6)
        for widget in (self._label, self.slider, self._number):
            line.addWidget(widget)
        self.slider.valueChanged.connect(self._moved)
        self.slider.sliderPressed.connect(self.pressed)
        self.slider.sliderReleased.connect(self.released)
        self._moved(0)

    def set_fraction(self, fraction: float) -> None:
        """Show a value without a signal."""
        self.slider.blockSignals(True)
        self.slider.setValue(round(fraction * 100))
        self.slider.blockSignals(False)
        self._number.setText(f"{self.slider.value()} %")

    def _moved(self, value: int) -> None:
        self._number.setText(f"{value} %")
        self.changed.emit(value / 100)


class ChoiceBox(QComboBox):
    """A combo box over (value, label) pairs that is quiet when set by the program."""

    chosen = Signal(str)

    def __init__(
        self, choices: tuple[tuple[str, str], ...], name: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        for value, label in choices:
            self.addItem(label, value)
        self.setAccessibleName(name)
        self.setToolTip(name)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        # The wheel is for scrolling the panel: it must not change a style in passing.
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.activated.connect(lambda: self.chosen.emit(self.currentData()))

    def set_value(self, value: str) -> None:
        self.setCurrentIndex(self.findData(value))

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


def swatch(name: str, size: QSize) -> QIcon:
    """A strip of a colour map."""
    table = np.ascontiguousarray(np.repeat(colour.colour_map(name)[None], 2, axis=0))
    image = QImage(table.data, 256, 2, 768, QImage.Format.Format_RGB888)
    return QIcon(QPixmap.fromImage(image.scaled(size)))


class ColourMapBox(ChoiceBox):
    """Every colour map, diverging ones (which signed maps need) first. Closed, it shows the swatch alone."""

    def __init__(self, parent: QWidget | None = None) -> None:
        names = (*colour.DIVERGING, *colour.SEQUENTIAL)
        super().__init__(tuple((name, name.capitalize()) for name in names), "Colour map", parent)
        size = QSize(48, 12)
        self.setIconSize(size)
        for number, name in enumerate(names):
            self.setItemIcon(number, swatch(name, size))
        widest = max(self.fontMetrics().horizontalAdvance(name) for name in names)
        self.view().setMinimumWidth(size.width() + widest + 40)

    def set_value(self, value: str) -> None:
        super().set_value(value)
        self.setToolTip(f"Colour map: {self.currentText()}")

    def paintEvent(self, event: QPaintEvent) -> None:
        with no_collection():
            painter = QStylePainter(self)
            try:
                option = QStyleOptionComboBox()
                self.initStyleOption(option)
                option.currentText = ""
                painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
                painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
            finally:
                painter.end()


def fitting_bar(
    style: LayerStyle, full_scale: float, unit: str, metrics: QFontMetricsF, width: float
) -> colour.ColourBar:
    """A lying colour bar with as many ticks as stand side by side on `width` pixels, at least those of its ends."""
    gap = metrics.horizontalAdvance("  ")
    for most in (7, 6, 5, 4, 3, 2):
        bar = colour.colour_bar(style, full_scale, unit, max_ticks=most)
        sizes = [metrics.horizontalAdvance(tick.label) for tick in bar.ticks]
        inner = width - max(sizes) - 4
        places = [tick.fraction * inner for tick in bar.ticks]
        pairs = zip(places, places[1:], sizes, sizes[1:], strict=False)
        if all(right - left >= (a + b) / 2 + gap for left, right, a, b in pairs):
            break
    return bar


class ColourBarStrip(QWidget):
    """A colour bar in absolute units, lying."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._style = LayerStyle()
        self._full_scale = 1.0
        self._unit = ""
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_scale(self, style: LayerStyle, full_scale: float, unit: str) -> None:
        if (style, full_scale, unit) == (self._style, self._full_scale, self._unit):
            return
        self._style, self._full_scale, self._unit = style, full_scale, unit
        bar = colour.colour_bar(style, full_scale, unit)
        self.setAccessibleName(f"Colour bar from {bar.ticks[0].label} to {bar.ticks[-1].label} {bar.unit}")
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, round(10 + 2 * self.fontMetrics().lineSpacing() + 6))

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        with no_collection():
            painter = QPainter(self)
            try:
                self._draw(painter)
            finally:
                painter.end()

    def _draw(self, painter: QPainter) -> None:
        metrics = QFontMetricsF(self.font())
        bar = fitting_bar(self._style, self._full_scale, self._unit, metrics, self.width())
        line = metrics.lineSpacing()
        side = max(metrics.horizontalAdvance(tick.label) for tick in bar.ticks) / 2 + 2
        box = QRectF(side, 1, self.width() - 2 * side, 10)
        rgb = bar_colours(bar)
        pixels = np.ascontiguousarray(np.repeat(rgb[None], 4, axis=0))
        painter.drawImage(box, QImage(pixels.data, 256, 4, 768, QImage.Format.Format_RGB888))
        palette = self.palette()
        painter.setPen(QPen(palette.color(QPalette.ColorRole.Mid), 1))
        painter.drawRect(box)
        text = palette.color(QPalette.ColorRole.WindowText)
        for tick in bar.ticks:
            x = box.left() + tick.fraction * box.width()
            painter.setPen(QPen(text, 1))
            painter.drawLine(QPointF(x, box.bottom()), QPointF(x, box.bottom() + 3))
            label = QRectF(x - 50, box.bottom() + 3, 100, line)
            painter.drawText(label, int(Qt.AlignmentFlag.AlignHCenter), tick.label)
        painter.setPen(QColor(current_tokens().muted))
        unit = QRectF(0, box.bottom() + 2 + line, self.width(), line)
        painter.drawText(unit, int(Qt.AlignmentFlag.AlignHCenter), bar.unit)


def tool_button(
    text: str, act: Callable[[], object], *, icon_name: str = "", arrow: Qt.ArrowType | None = None
) -> QToolButton:
    """A flat button with a name for screen readers and a tooltip."""
    button = QToolButton()
    button.setAutoRaise(True)
    button.setToolTip(text)
    button.setAccessibleName(text)
    button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
    if arrow is not None:
        button.setArrowType(arrow)
        button.setIconSize(QSize(10, 10))
    elif icon_name:
        button.setIcon(icon(icon_name, current_tokens()))
        button.setIconSize(QSize(14, 14))
    else:
        button.setText(text)
    button.clicked.connect(lambda: act())
    return button
