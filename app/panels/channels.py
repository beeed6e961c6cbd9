"""What a layer responds to on this image: its strongest channels as small pictures with their part in the score."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PySide6.QtCore import QEvent, QObject, QSize, Qt, Signal
from PySide6.QtGui import QIcon, QImage, QPixmap
from PySide6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QPushButton,
    QSizePolicy,
    QSpinBox,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.model.case import CaseModel
from app.panels.scroll import scrolled
from app.panels.text import plain_label, tip
from xai_engine.classifier.types import ModelInfo
from xai_engine.evidence import format
from xai_engine.explain.types import Explanation
from xai_engine.radiograph import colour, display
from xai_engine.radiograph.colour import LayerStyle

STYLE = LayerStyle("magma", opacity=0.75)
SIDE = 72
COLUMNS = 3


def thumbnail(case: CaseModel, found: Explanation, side: int = SIDE * 2) -> QImage:
    """The channel's activation over the radiograph: at most `side` pixels, as the image is windowed."""
    radiograph, voi = case.radiograph, case.voi
    assert radiograph is not None
    assert voi is not None
    step = max(1, -(-max(radiograph.rows, radiograph.columns) // side))
    cut = np.s_[step // 2 :: step, step // 2 :: step]
    grey = display.to_grey(radiograph.pixels[cut], voi, radiograph.inverted != case.invert)
    values = found.in_source()[cut]
    picture = np.ascontiguousarray(colour.blend(grey, values, STYLE, found.full_scale))
    rows, columns = picture.shape[:2]
    return QImage(picture.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888).copy()


class ChannelsPanel(QWidget):
    """Ask for the channels of a layer; a click on one lays it over the image (and takes it away again)."""

    run_requested = Signal(str, int)
    """layer ("": the model's default one), count"""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._ready = False
        self.found: tuple[Explanation, ...] = ()
        self.buttons: list[QToolButton] = []
        self.setAccessibleName("Activations")
        self.layer = QComboBox()
        self.layer.setAccessibleName("Layer")
        self.layer.setToolTip("Later layers see larger parts of the image and more of its meaning")
        self.layer.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.layer.addItem("automatic", "")
        self.count = QSpinBox()
        self.count.setRange(1, 64)
        self.count.setValue(12)
        self.count.setAccessibleName("Number of channels")
        self.count.setMinimumHeight(self.count.fontMetrics().height() + 10)
        self.run = QPushButton("Show strongest channels")
        self.run.setToolTip(
            "Channels that move the score most on this image: one forward and one backward pass"
        )
        self.run.clicked.connect(
            lambda: self.run_requested.emit(self.layer.currentData(), self.count.value())
        )
        self.state = plain_label(tone="muted")
        for box in (self.layer, self.count):  # the wheel is for scrolling the panel
            box.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            box.installEventFilter(self)
        self._build()
        listen(case.changed, self._changed)
        self._say()

    def _build(self) -> None:
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.addRow("Layer", self.layer)
        form.addRow("Channels", self.count)
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(9)
        column.addLayout(form)
        column.addWidget(self.run)
        column.addWidget(self.state)
        self._grid = QGridLayout()
        self._grid.setSpacing(6)
        for number in range(COLUMNS):
            self._grid.setColumnStretch(number, 1)
        column.addLayout(self._grid)
        column.addStretch(1)
        area = scrolled(inner, "Strongest channels")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(area)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel:
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def set_model(self, model: ModelInfo) -> None:
        chosen = self.layer.currentData()
        self.layer.clear()
        self.layer.addItem(f"automatic: {model.default_layer}", "")
        for name in model.layers:
            self.layer.addItem(name, name)
        self.layer.setCurrentIndex(max(0, self.layer.findData(chosen)))

    def set_enabled_for_image(self, ready: bool, reason: str = "") -> None:
        self._ready = ready
        self.run.setEnabled(ready)
        self._say(reason)

    def set_busy(self) -> None:
        self._clear()
        self.run.setEnabled(False)
        self.state.setText("Looking at the layer …")
        self.state.show()

    def set_failed(self, text: str) -> None:
        self.run.setEnabled(self._ready)
        self.state.setText(text)
        self.state.show()

    def show_channels(self, found: Sequence[Explanation]) -> None:
        """Pictures in the order in which they were found, the largest contribution first."""
        self._clear()
        self.found = tuple(found)
        self.run.setEnabled(self._ready)
        for number, each in enumerate(self.found):
            button = self._button(each)
            self.buttons.append(button)
            self._grid.addWidget(button, number // COLUMNS, number % COLUMNS)
        together = sum(each.extra["share"] for each in self.found)
        self.state.setText(
            f"{self.found[0].params['layer']}: these {len(self.found)} channels make {100 * together:.0f} % of all contributions. "
            "A number is what the channel adds to the score, in logits. Click a picture to lay it over the image."
        )
        self.state.show()
        self._mark()

    def _button(self, found: Explanation) -> QToolButton:
        button = QToolButton()
        button.setCheckable(True)
        button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextUnderIcon)
        button.setIcon(QIcon(QPixmap.fromImage(thumbnail(self._case, found))))
        button.setIconSize(QSize(SIDE, SIDE))
        button.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        part = format.logit(found.extra["contribution"])
        button.setText(part)
        words = f"{found.title}: {part} logits, {format.percent(found.extra['share'])} of all contributions"
        button.setToolTip(tip(words))
        button.setAccessibleName(words)
        button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        button.clicked.connect(lambda on: self._toggle(found, on))
        return button

    def _toggle(self, found: Explanation, on: bool) -> None:
        """One channel at a time: the previous one goes."""
        ours = {each.method for each in self.found}
        for layer in self._case.layers:
            if layer.explanation.method in ours:
                self._case.remove_layer(layer.id)
        if on:
            layer = self._case.add_layer(found, style=STYLE)
            self._case.show_only(layer.id)

    def _mark(self) -> None:
        shown = {layer.explanation.method for layer in self._case.layers}
        for button, each in zip(self.buttons, self.found, strict=True):
            button.setChecked(each.method in shown)

    def _changed(self, field: str) -> None:
        if field == "radiograph":
            self._clear()
            self._say()
        elif field == "layers":
            self._mark()

    def _say(self, reason: str = "") -> None:
        if not self.found:
            empty = "What the strongest channels of a layer respond to on this image, and what each adds to the score."
            self.state.setText(reason if not self._ready and reason else empty)

    def _clear(self) -> None:
        self.found = ()
        for button in self.buttons:
            self._grid.removeWidget(button)
            button.hide()
            button.deleteLater()
        self.buttons = []
