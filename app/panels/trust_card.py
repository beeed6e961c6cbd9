"""The reliability card of one map: verdict, reasons, and every measure with the limits it is held against."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon
from app.model.layer import Layer
from app.model.trust import GRADES, assessable, mark
from app.panels.badge import IconLabel, TrustBadge
from app.panels.form_widgets import tool_button
from app.panels.text import plain_label, tip
from app.theme import current_tokens
from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.evidence import format, trust


class FindingRow(QWidget):
    """One measure: its grade, its sentence, its number and limits."""

    def __init__(self, finding: Finding, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        state = GRADES[finding.grade]
        icon = IconLabel(14)
        icon.show_mark(state)
        icon.setToolTip(state.word)
        name = plain_label(trust.title(finding.name))
        font = name.font()
        font.setWeight(font.Weight.DemiBold)
        name.setFont(font)
        numbers = "\n".join(part for part in (trust.value(finding), trust.limit(finding.name)) if part)
        self.sentence = plain_label(finding.sentence)
        self.numbers = plain_label(numbers, "muted")
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 4)
        grid.setHorizontalSpacing(7)
        grid.setVerticalSpacing(1)
        grid.setColumnStretch(1, 1)
        grid.addWidget(icon, 0, 0, Qt.AlignmentFlag.AlignTop)
        for row, label in enumerate((name, self.sentence, self.numbers)):
            grid.addWidget(label, row, 1)
        self.setAccessibleName(f"{trust.title(finding.name)}: {state.word}")
        self.setAccessibleDescription(f"{finding.sentence} {numbers}")


class Fold(QWidget):
    """A heading that opens and closes what is below it."""

    def __init__(self, text: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.button = QToolButton()
        self.button.setText(text)
        self.button.setCheckable(True)
        self.button.setAutoRaise(True)
        self.button.setProperty("fold", "true")
        self.button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.body = QWidget()
        self.column = QVBoxLayout(self.body)
        self.column.setContentsMargins(4, 2, 0, 0)
        self.column.setSpacing(4)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addWidget(self.button)
        layout.addWidget(self.body)
        self.button.toggled.connect(self._toggle)
        self._toggle(False)

    def _toggle(self, shown: bool) -> None:
        self.button.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.body.setVisible(shown)


class TrustCard(QFrame):
    """The card of one map. read_requested, assess_requested: for this map."""

    read_requested = Signal(int)
    assess_requested = Signal(int)

    def __init__(self, layer: Layer, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.layer_id = layer.id
        self.setProperty("card", "true")
        self._shown: object = None
        self._open = [False, False]
        self.name = QLabel(layer.title)
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        font = self.name.font()
        font.setWeight(font.Weight.DemiBold)
        self.name.setFont(font)
        self.name.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.name.setToolTip(tip(layer.title))
        self.badge = TrustBadge()
        self.read = tool_button(
            f"How to read {layer.title}", lambda: self.read_requested.emit(self.layer_id), icon_name="read"
        )
        head = QHBoxLayout()
        head.setSpacing(6)
        head.addWidget(self.name, 1)
        head.addWidget(self.read)
        self._column = QVBoxLayout()
        self._column.setSpacing(5)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 7, 6, 8)
        layout.setSpacing(4)
        layout.addLayout(head)
        layout.addWidget(self.badge)
        layout.addLayout(self._column)
        self.folds: list[Fold] = []

    def show_layer(self, layer: Layer, assessing: bool) -> None:
        card = layer.card
        state = mark(layer, assessing)
        self.badge.show_mark(state, card.reasons if card is not None else ())
        self.setAccessibleName(f"{layer.title}: {state.word}")
        key = card, assessing, state
        if key == self._shown:
            return
        self._shown = key
        self._clear()
        if card is None:
            self._without_card(layer, assessing)
        else:
            if assessing:
                self._words("Being assessed anew; until then this is the last card.", "muted")
            self._fill(card)

    def _without_card(self, layer: Layer, assessing: bool) -> None:
        if not assessable(layer):
            self._words(
                "What one channel responds to: no explanation of the score, so nothing to assess.", "muted"
            )
        elif assessing:
            self._words("Being assessed …", "muted")
        else:
            self._words("It is not known how far this map can be trusted.", "muted")
            button = QPushButton("Assess this map")
            button.setToolTip("Quick assessment of this map alone")
            button.clicked.connect(lambda: self.assess_requested.emit(self.layer_id))
            self._column.addWidget(button)

    def _fill(self, card: ReliabilityCard) -> None:
        if card.partial:
            self._words("Partial: the assessment was stopped; findings are missing.", "warning")
        for reason in card.reasons:
            self._words(reason)
        graded = [f for f in trust.ordered(card) if f.grade != "info"]
        count = {grade: sum(f.grade == grade for f in graded) for grade in ("poor", "fair", "good")}
        tally = ", ".join(f"{number} {grade}" for grade, number in count.items() if number)
        self._fold(0, f"Measures: {tally}" if tally else "Measures: none", graded)
        self._fold(1, "Details", [f for f in card.findings if f.grade == "info"])
        details = self.folds[1].column
        for note in card.notes:
            details.addWidget(plain_label(note))
        work = f"{card.preset} assessment, {card.forwards} forward passes, {format.duration(card.seconds)}"
        details.addWidget(plain_label(f"{work}, {card.precision}, seed {card.seed}", "muted"))

    def _fold(self, number: int, text: str, findings: list[Finding]) -> None:
        fold = Fold(text)
        fold.button.setAccessibleName(f"{self.name.text()}: {text}")
        for each in findings:
            fold.column.addWidget(FindingRow(each))
        fold.button.setChecked(self._open[number])
        fold.button.toggled.connect(lambda on: self._open.__setitem__(number, on))
        self.folds.append(fold)
        self._column.addWidget(fold)

    def _words(self, text: str, tone: str = "") -> None:
        self._column.addWidget(plain_label(text, tone))

    def _clear(self) -> None:
        self.folds = []
        while (item := self._column.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.hide()
                old.deleteLater()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "read"):
            self.read.setIcon(icon("read", current_tokens()))
        super().changeEvent(event)
