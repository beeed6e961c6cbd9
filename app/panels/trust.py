"""How far each map can be trusted: its verdict, why, and every number with the limits it is held against."""

from __future__ import annotations

import math

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QHBoxLayout,
    QProgressBar,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.model.case import CaseModel
from app.model.trust import testable
from app.panels.form_widgets import tool_button
from app.panels.jobs import remaining
from app.panels.scroll import scrolled
from app.panels.text import plain_label, tip
from app.panels.trust_card import TrustCard
from xai_engine.evidence import format
from xai_engine.runtime.run import Progress

PRESETS = (
    ("quick", "Quick", "Is the map better than random maps of the same smoothness? Where does it lie?"),
    ("standard", "Standard", "Also: another seed, a little noise, a network with random weights, gaps filled in."),
    ("audit", "Audit", "Everything finer: 100 random maps, more seeds, more random networks. Takes minutes."),
)  # fmt: skip


class TrustPanel(QWidget):
    """A card for every map of the case, the top one first; what is being assessed; buttons to assess again."""

    assess_requested = Signal(str, object)
    """preset, layer ids (None: every map)"""
    cancel_requested = Signal()
    automatic_changed = Signal(bool)
    read_requested = Signal(int)
    """layer id"""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self.cards: dict[int, TrustCard] = {}
        self.setAccessibleName("Trust")
        self.buttons: dict[str, QPushButton] = {}
        self.automatic = QCheckBox("Assess new maps by themselves")
        self.automatic.setToolTip(
            "Quick assessment in the background; it gives way to everything you ask for"
        )
        self.automatic.setChecked(True)
        self.automatic.toggled.connect(self.automatic_changed)
        self.what = plain_label(tone="muted")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setFormat("%p %")
        self.bar.setAccessibleName("Progress of the assessment")
        self.cancel = tool_button(
            "Stop; what was found so far stays, marked partial", self.cancel_requested.emit
        )
        self.cancel.setText("Cancel")
        self.cancel.setAccessibleName("Cancel the assessment")
        self.empty = plain_label(
            "No maps yet. Every map gets a reliability card here: whether it shows what drives the score, and whether it is stable.",
            "muted",
        )
        self._build()
        listen(case.changed, self._changed)
        self._show()

    def _build(self) -> None:
        choices = QHBoxLayout()
        choices.setSpacing(4)
        for key, words, meaning in PRESETS:
            button = QPushButton(words)
            button.setToolTip(tip(meaning))
            button.setAccessibleName(f"Assess all maps: {words.lower()}")
            button.clicked.connect(lambda _checked=False, k=key: self.assess_requested.emit(k, None))
            self.buttons[key] = button
            choices.addWidget(button)
        self.tools = QWidget()
        column = QVBoxLayout(self.tools)
        column.setContentsMargins(10, 8, 8, 3)
        column.setSpacing(6)
        column.addWidget(plain_label("Assess all maps", "heading"))
        column.addLayout(choices)
        column.addWidget(self.automatic)
        self.busy = QWidget()
        line = QHBoxLayout()
        line.addWidget(self.bar, 1)
        line.addWidget(self.cancel)
        busy = QVBoxLayout(self.busy)
        busy.setContentsMargins(10, 4, 8, 0)
        busy.setSpacing(3)
        busy.addLayout(line)
        busy.addWidget(self.what)
        inner = QWidget()
        self._stack = QVBoxLayout(inner)
        self._stack.setContentsMargins(8, 4, 6, 6)
        self._stack.setSpacing(6)
        self._stack.addWidget(self.empty)
        self._stack.addStretch(1)
        self.area = scrolled(inner, "Reliability cards")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.tools, self.busy):
            layout.addWidget(widget)
        layout.addWidget(self.area, 1)
        self.setMinimumWidth(260)

    def show_progress(self, progress: Progress) -> None:
        known = math.isfinite(progress.fraction)
        self.bar.setTextVisible(known)
        self.bar.setValue(round(1000 * progress.fraction) if known else 0)
        self.what.setText(" · ".join(part for part in (progress.message, remaining(progress)) if part))

    def show_time(self, preset: str, seconds: float) -> None:
        """How long the last assessment with this preset took, per map."""
        meaning = next(words for key, _, words in PRESETS if key == preset)
        took = f"Last time {format.duration(seconds)} per map."
        self.buttons[preset].setToolTip(tip(f"{meaning}\n{took}"))

    def show_map(self, layer_id: int) -> None:
        """Bring the card of a map into sight, its measures open."""
        card = self.cards.get(layer_id)
        if card is not None:
            if card.folds:
                card.folds[0].button.setChecked(True)
            self.area.ensureWidgetVisible(card, 0, 0)
            card.read.setFocus()

    def _changed(self, field: str) -> None:
        if field in ("layers", "trust"):
            self._show()

    def _show(self) -> None:
        layers, assessing = self._case.layers, self._case.assessing
        for gone in set(self.cards) - {layer.id for layer in layers}:
            card = self.cards.pop(gone)
            self._stack.removeWidget(card)
            card.hide()
            card.deleteLater()
        for place, layer in enumerate(reversed(layers)):
            shown = self.cards.get(layer.id)
            if shown is None:
                shown = self.cards[layer.id] = TrustCard(layer)
                shown.read_requested.connect(self.read_requested)
                shown.assess_requested.connect(lambda key: self.assess_requested.emit("quick", (key,)))
            if self._stack.indexOf(shown) != place:
                self._stack.removeWidget(shown)
                self._stack.insertWidget(place, shown)
            shown.show_layer(layer, layer.id in assessing)
        self.empty.setVisible(not layers)
        self.tools.setVisible(bool(layers))
        busy = bool(assessing)
        if busy and self.busy.isHidden():
            self.bar.setValue(0)
            self.bar.setTextVisible(False)
            self.what.setText("Waiting for the engine …")
        self.busy.setVisible(busy)
        model = self._case.prediction.model if self._case.prediction is not None else None
        ready = any(testable(layer, model) for layer in layers)
        for button in self.buttons.values():
            button.setEnabled(ready)
