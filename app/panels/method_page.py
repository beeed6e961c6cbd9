"""How to read one map: what its values mean, how it was made, where it misleads. A page beside the image, not a web page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QCoreApplication, QEvent, QPoint, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from app.model.layer import Layer
from app.panels.form_widgets import ColourBarStrip, tool_button
from app.panels.scroll import scrolled
from app.panels.text import plain_label
from xai_engine.classifier.types import ModelInfo
from xai_engine.evidence import format
from xai_engine.evidence.case import read_map
from xai_engine.explain import pitfalls, registry
from xai_engine.explain.registry import MethodDescription

WIDTH = 430


def _about(name: str) -> MethodDescription | None:
    return next((each for each in registry.describe() if each.name == name), None)


class MethodPage(QWidget):
    """A window of its own beside the inspector, one for all maps: `show_map` or `show_method`. Esc closes it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Tool)
        self.setWindowTitle("How to read this map")
        self.setAccessibleName("How to read this map")
        self.setProperty("panel", "true")
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)
        self.title = plain_label(tone="verdict")
        self._body = QVBoxLayout()
        self._body.setSpacing(8)
        self._inner = inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(16, 12, 16, 14)
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(tool_button("Close (Esc)", self.hide, icon_name="close"), 0, Qt.AlignmentFlag.AlignTop)
        column.addLayout(head)
        column.addLayout(self._body)
        column.addStretch(1)
        self.area = scrolled(inner, "How to read this map")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.area)
        self.resize(WIDTH, 680)

    def show_map(self, layer: Layer, model: ModelInfo | None) -> None:
        """The page of a map that has been made, with its own parameters and colours."""
        about = _about(layer.explanation.method)
        self._clear(layer.title)
        if about is None:
            self._words(
                "Activation of one channel: how strongly it responds at each place of this image. It shows what the layer sees, "
                "and explains no decision by itself; the contribution beside it says how much the channel moved the score."
            )
        else:
            self._fill(about, model, layer.explanation.params)
        strip = ColourBarStrip()
        strip.show_scale(layer.drawn_style, layer.drawn.full_scale, layer.drawn.unit)
        self._section("Colours", strip)
        if about is not None and about.signed and layer.style.sign == "both":
            self._words(f"Left: speaks against “{layer.explanation.target}”. Right: speaks for it.", "muted")
        self._raise()

    def show_method(self, name: str, model: ModelInfo | None, params: Mapping[str, Any]) -> None:
        """The page of a method that is about to be used with these parameters."""
        about = _about(name)
        if about is not None:
            self._clear(about.title)
            self._fill(about, model, params)
            self._raise()

    def _fill(self, about: MethodDescription, model: ModelInfo | None, params: Mapping[str, Any]) -> None:
        self._words(about.summary)
        self._section("How to read it")
        self._words(read_map(model, about.name) if model is not None else about.reading)
        self._section("What one value means")
        sign = (
            "positive speaks for the target, negative against it" if about.signed else "a magnitude: no sign"
        )
        self._words(f"{about.unit}; {sign}.")
        self._section("Beware")
        for each in pitfalls.of(about):
            self._words(f"•  {each}")
        if about.parameters:
            self._section("Made with", self._parameters(about, params))
        self._section("Cost and source")
        self._words(f"{about.cost[:1].upper()}{about.cost[1:]}.\n{about.source}", "muted")

    @staticmethod
    def _parameters(about: MethodDescription, params: Mapping[str, Any]) -> QWidget:
        """Name, value and meaning of each; values that were changed say what the default is."""
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        row = 0
        for each in about.parameters:
            value = params.get(each.name, each.default)
            words = "automatic" if value == "" else f"{format.parameter(value)} {each.unit}".rstrip()
            if value != each.default:
                default = "automatic" if each.default == "" else format.parameter(each.default)
                words += f"  (default {default})"
            name = plain_label(each.name.replace("_", " ").capitalize())
            grid.addWidget(name, row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(plain_label(words), row, 1, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(plain_label(each.meaning, "muted"), row + 1, 0, 1, 2)
            row += 2
        return box

    def _clear(self, title: str) -> None:
        self.title.setText(title)
        while (item := self._body.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.hide()
                old.deleteLater()

    def _section(self, heading: str, widget: QWidget | None = None) -> None:
        self._body.addSpacing(4)
        self._body.addWidget(plain_label(heading, "heading"))
        if widget is not None:
            self._body.addWidget(widget)

    def _words(self, text: str, tone: str = "") -> None:
        self._body.addWidget(plain_label(text, tone))

    def _raise(self) -> None:
        """Beside the inspector, over the image, within the screen; where the reader has put it once it stays."""
        if not self.isVisible():
            window = self.parentWidget()
            if window is not None:
                screen = window.screen() or QGuiApplication.primaryScreen()
                room = screen.availableGeometry()
                corner = window.mapToGlobal(QPoint(max(0, window.width() - 350 - WIDTH - 8), 90))
                height = min(self.height(), max(300, window.height() - 140))
                self.resize(WIDTH, height)
                self.move(
                    min(max(corner.x(), room.left()), room.right() - WIDTH),
                    min(max(corner.y(), room.top()), max(room.top(), room.bottom() - height)),
                )
        self.show()
        # laid out now: else the new words stand in the old page's height until the next turn, squeezed or cut
        for widget in (*self._inner.findChildren(QWidget), self._inner):
            QCoreApplication.sendEvent(widget, QEvent(QEvent.Type.LayoutRequest))
        self.area.verticalScrollBar().setValue(0)
        self.raise_()
        self.area.setFocus()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.hide()
        else:
            super().keyPressEvent(event)
