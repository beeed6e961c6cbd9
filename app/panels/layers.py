"""Maps over the image: one card per map, the top one first."""

from __future__ import annotations

from dataclasses import replace

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QLabel,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.icons import icon
from app.model.case import CaseModel
from app.model.layer import Layer
from app.model.trust import Mark, mark
from app.panels.badge import TrustBadge
from app.panels.form_widgets import ChoiceBox, ColourBarStrip, ColourMapBox, PercentSlider, tool_button
from app.panels.scroll import scrolled
from app.theme import current_tokens
from xai_engine.evidence import format
from xai_engine.explain.types import Explanation

_MODES = (("fill", "Fill"), ("contour", "Lines"))
_SIGNS = (("both", "Both"), ("positive", "For"), ("negative", "Against"))


def facts(explanation: Explanation) -> str:
    """Method, parameters and cost of a map, for a tooltip."""
    lines = [f"{explanation.title} for “{explanation.target}”"]
    lines += [
        f"{name.replace('_', ' ')}: {format.parameter(value)}" for name, value in explanation.params.items()
    ]
    lines.append(f"seed: {explanation.seed}")
    if explanation.completeness_error is not None:
        lines.append(f"completeness error: {format.percent(explanation.completeness_error)}")
    passes = f"{explanation.forwards} forward passes"
    if explanation.backwards:
        passes += f", {explanation.backwards} backward"
    lines.append(
        f"{passes}, {format.duration(explanation.seconds)}, {explanation.device} {explanation.precision}"
    )
    return "\n".join(lines)


def notes(explanation: Explanation) -> str:
    """What a reader must know of this map; empty where there is nothing."""
    lines = list(explanation.notes)
    if explanation.partial and not any("partial" in line.lower() for line in lines):
        lines.insert(0, "Partial: stopped before it was finished.")
    if not explanation.converged and not any("converge" in line.lower() for line in lines):
        lines.insert(0, "Not converged: more samples or steps would change it.")
    return "\n".join(lines)


class LayerCard(QFrame):
    """Controls of one map. They act on the case; what belongs elsewhere is asked for: read_requested and trust_requested
    carry the layer's id."""

    read_requested = Signal(int)
    trust_requested = Signal(int)

    def __init__(self, case: CaseModel, layer: Layer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self.layer_id = layer.id
        self._held = False
        self.setProperty("card", "true")
        explanation = layer.explanation
        self._title = title = layer.title
        self.setAccessibleName(f"Map {title}")
        self.setToolTip(facts(explanation))
        self.setAccessibleDescription(facts(explanation))

        self.visible_box = QCheckBox(title)
        self.visible_box.setAccessibleName(f"Show {title}")
        font = self.visible_box.font()
        font.setWeight(font.Weight.DemiBold)
        self.visible_box.setFont(font)
        self.visible_box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.visible_box.clicked.connect(lambda on: case.set_visible(self.layer_id, on))
        self.up = tool_button(
            "Move up", lambda: case.move_layer(self.layer_id, 1), arrow=Qt.ArrowType.UpArrow
        )
        self.down = tool_button(
            "Move down", lambda: case.move_layer(self.layer_id, -1), arrow=Qt.ArrowType.DownArrow
        )
        self.remove = tool_button(
            "Remove this map", lambda: case.remove_layer(self.layer_id), icon_name="close"
        )
        self.read = tool_button(
            f"How to read {title}", lambda: self.read_requested.emit(self.layer_id), icon_name="read"
        )
        self._head = head = QHBoxLayout()
        head.setSpacing(0)
        head.addWidget(self.visible_box, 1)
        for button in (self.read, self.up, self.down, self.remove):
            head.addWidget(button)
        self.badge = TrustBadge()
        self.why = tool_button("Why: show the reliability card", self._ask_trust)
        self.why.setText("Why?")
        self.spread = QCheckBox("Uncertainty")
        self.spread.setToolTip(
            "Show how far the members differ at each place (standard deviation) instead of the map"
        )
        self.spread.setAccessibleName(f"Show the uncertainty of {title}")
        self.spread.setVisible(explanation.uncertainty is not None)
        self.spread.clicked.connect(lambda on: case.set_spread(self.layer_id, on))
        trust = QHBoxLayout()
        trust.setSpacing(6)
        trust.addWidget(self.badge)
        trust.addWidget(self.why)
        trust.addStretch(1)
        trust.addWidget(self.spread)

        self.opacity = PercentSlider("Opacity")
        self.threshold = PercentSlider("Threshold", 95)
        self.threshold.setToolTip("Hide values below this part of the full scale")
        self.mode = ChoiceBox(_MODES, "Fill or contour")
        self.sign = ChoiceBox(_SIGNS, f"Which values: for or against “{explanation.target}”")
        self.colours = ColourMapBox()
        for slider, field in ((self.opacity, "opacity"), (self.threshold, "threshold")):
            slider.slider.setAccessibleName(f"{field.capitalize()} of {title}")
            slider.changed.connect(lambda value, field=field: self._change(**{field: value}))
            slider.pressed.connect(self._hold)
            slider.released.connect(self._release)
        for box, field in ((self.mode, "mode"), (self.sign, "sign"), (self.colours, "colour_map")):
            box.chosen.connect(lambda value, field=field: self._change(**{field: value}))
        choices = QHBoxLayout()
        choices.setSpacing(4)
        for choice, share in ((self.mode, 4), (self.sign, 5), (self.colours, 5)):
            choices.addWidget(choice, share)

        self.bar = ColourBarStrip()
        self.note = QLabel(notes(explanation))
        self.note.setWordWrap(True)
        self.note.setProperty("tone", "warning")
        if not self.note.text():
            self.note.hide()

        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 5, 5, 6)
        layout.setSpacing(5)
        layout.addLayout(head)
        layout.addLayout(trust)
        for widget in (self.note, self.opacity, self.threshold):
            layout.addWidget(widget)
        layout.addLayout(choices)
        layout.addWidget(self.bar)
        self.show_layer(layer, True, True)

    def show_layer(self, layer: Layer, can_rise: bool, can_sink: bool) -> None:
        style = layer.style
        self.visible_box.setChecked(layer.visible)
        self.opacity.set_fraction(style.opacity)
        self.threshold.set_fraction(style.threshold)
        self.mode.set_value(style.mode)
        self.sign.set_value(style.sign)
        self.colours.set_value(style.colour_map)
        self.bar.show_scale(layer.drawn_style, layer.drawn.full_scale, layer.drawn.unit)
        self.spread.setChecked(layer.spread)
        for box in (self.sign, self.colours):  # an uncertainty has no sign, and its own colours
            box.setEnabled(layer.drawn is layer.explanation)
        self.up.setEnabled(can_rise)
        self.down.setEnabled(can_sink)

    def show_trust(self, state: Mark, reasons: tuple[str, ...]) -> None:
        self.badge.show_mark(state, reasons)

    def _ask_trust(self) -> None:
        self.trust_requested.emit(self.layer_id)

    def let_go(self) -> None:
        """The card goes away, perhaps in the middle of a drag."""
        self._release()

    def _change(self, **changes: object) -> None:
        layer = self._case.layer(self.layer_id)
        if layer is not None:
            self._case.set_style(layer.id, replace(layer.style, **changes))  # type: ignore[arg-type]

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self._case.begin_edit()

    def _release(self) -> None:
        if self._held:
            self._held = False
            self._case.end_edit()

    def _elide(self) -> None:
        """The title as far as there is room; the whole of it is in the tooltip."""
        box = self.visible_box
        taken = box.sizeHint().width() - box.fontMetrics().horizontalAdvance(box.text())  # by the mark
        room = max(box.width() - taken, 0)
        box.setText(box.fontMetrics().elidedText(self._title, Qt.TextElideMode.ElideRight, room))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._head.activate()
        self._elide()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "remove"):
            self.remove.setIcon(icon("close", current_tokens()))
            self.read.setIcon(icon("read", current_tokens()))
        if event.type() == QEvent.Type.FontChange and hasattr(self, "_head"):
            self._elide()
        super().changeEvent(event)


class LayersPanel(QWidget):
    """Every map of a case with its controls. Works from a width of 280 pixels on. Signals: of its cards."""

    read_requested = Signal(int)
    trust_requested = Signal(int)

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self.cards: dict[int, LayerCard] = {}
        self.setAccessibleName("Maps")
        self.hide_button = tool_button("Hide all", case.hide_all)
        self.hide_button.setToolTip("Hide or show every map")
        self._head = QLabel("Top map first")
        self._head.setProperty("tone", "muted")
        head = QHBoxLayout()
        head.addWidget(self._head, 1)
        head.addWidget(self.hide_button)
        self._computing = 0
        self._empty = QLabel()
        self._empty.setWordWrap(True)
        self._empty.setProperty("tone", "muted")
        inner = QWidget()
        self._stack = QVBoxLayout(inner)
        self._stack.setContentsMargins(0, 0, 2, 0)
        self._stack.setSpacing(6)
        self._stack.addStretch(1)
        scroll = scrolled(inner, "Maps of this image")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 6, 6)
        layout.addLayout(head)
        layout.addWidget(self._empty)
        layout.addWidget(scroll, 1)
        self.setMinimumWidth(260)
        listen(case.changed, self._changed)
        self._changed("layers")

    def set_computing(self, count: int) -> None:
        """How many maps of the image on the screen are awaited."""
        self._computing = count
        self._changed("layers")

    def _changed(self, field: str) -> None:
        if field not in ("layers", "trust"):
            return
        layers = self._case.layers
        for gone in set(self.cards) - {layer.id for layer in layers}:
            card = self.cards.pop(gone)
            card.let_go()
            self._stack.removeWidget(card)
            card.hide()
            card.deleteLater()
        for place, layer in enumerate(reversed(layers)):
            shown = self.cards.get(layer.id)
            if shown is None:
                shown = self.cards[layer.id] = LayerCard(self._case, layer)
                shown.read_requested.connect(self.read_requested)
                shown.trust_requested.connect(self.trust_requested)
            if self._stack.indexOf(shown) != place:
                self._stack.removeWidget(shown)
                self._stack.insertWidget(place, shown)
            shown.show_layer(layer, place > 0, place < len(layers) - 1)
            reasons = layer.card.reasons if layer.card is not None else ()
            shown.show_trust(mark(layer, layer.id in self._case.assessing), reasons)
        waiting = "The first map is being computed …" if self._computing else ""
        self._empty.setText(waiting or "No maps yet. Press Explain, or choose a method under Methods.")
        self._empty.setVisible(not layers)
        self._head.setVisible(bool(layers))
        self.hide_button.setVisible(bool(layers))
        self.hide_button.setText("Hide all" if any(layer.visible for layer in layers) else "Show")
