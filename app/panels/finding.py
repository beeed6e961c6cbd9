"""What the classifier says about the image, what its operating point means, and what it must not be asked."""

from __future__ import annotations

import math
from datetime import datetime

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QButtonGroup,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen, no_collection
from app.model.case import CaseModel
from app.panels.scroll import scrolled
from app.panels.text import plain_label, set_tone, tip
from app.theme import current_tokens
from xai_engine.classifier.types import OperatingPoint, Prediction
from xai_engine.evidence import format, sets

IMPRESSIONS = ("Pneumonia", "No pneumonia", "Uncertain")


_VERDICTS = {
    "pneumonia": "Opacity suggesting pneumonia",
    "normal": "No opacity suggesting pneumonia",
}
RESEARCH = "Research use only. Not a medical device."


def verdict(prediction: Prediction) -> str:
    """The label in a radiologist's words; a class of another model in its own."""
    label = prediction.label
    return _VERDICTS.get(label.lower(), f"{label[:1].upper()}{label[1:]}")


def meaning(point: OperatingPoint) -> str:
    """What the operating point meant on the population it was measured on, in natural frequencies."""

    def of_hundred(share: tuple[float, float, float]) -> str:
        value, low, high = share
        if not math.isfinite(value):
            return "an unknown number"
        if not (math.isfinite(low) and math.isfinite(high)):
            return f"{round(100 * value)}"
        return f"{round(100 * value)} ({round(100 * low)}–{round(100 * high)})"

    return (
        f"At the threshold {format.probability(point.threshold)} the model finds {of_hundred(point.sensitivity)} "
        f"of 100 with pneumonia and clears {of_hundred(point.specificity)} of 100 without. "
        f"In brackets: 95 % interval. Measured on: {point.population.rstrip('.')}."
    )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0


class ProbabilityBar(QWidget):
    """0 … 1 with the score, its spread and a mark at each operating point."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._prediction: Prediction | None = None
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Probability of pneumonia")

    def show_prediction(self, prediction: Prediction) -> None:
        self._prediction = prediction
        names = ", ".join(
            f"{p.name} {format.probability(p.threshold)}" for p in prediction.model.operating_points
        )
        self.setToolTip(tip(f"Operating points: {names}"))
        self.setAccessibleDescription(
            f"{format.probability(prediction.probability)} ± {format.probability(prediction.uncertainty)}, "
            f"threshold {format.probability(prediction.threshold)}"
        )
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, 20 + 2 * self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        if self._prediction is None:
            return
        with no_collection():
            painter = QPainter(self)
            try:
                painter.setRenderHint(QPainter.RenderHint.Antialiasing)
                self._draw(painter, self._prediction)
            finally:
                painter.end()

    def _draw(self, painter: QPainter, prediction: Prediction) -> None:
        tokens, line = current_tokens(), self.fontMetrics().height()
        left, width, top = 6.0, self.width() - 12.0, line + 6.0

        def x(value: float) -> float:
            return left + width * min(max(_finite(value), 0.0), 1.0)

        painter.setPen(QPen(QColor(tokens.control), 1))
        painter.setBrush(QColor(tokens.field))
        painter.drawRoundedRect(QRectF(left, top, width, 10), 3, 3)
        above = prediction.probability >= prediction.threshold
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(tokens.positive if above else tokens.accent))
        painter.drawRoundedRect(QRectF(left, top, x(prediction.probability) - left, 10), 3, 3)
        spread = _finite(prediction.uncertainty)
        low, high = x(prediction.probability - spread), x(prediction.probability + spread)
        # The band lies half on the filled part: an edge in the field's colour keeps it visible on both.
        for colour, thickness in ((tokens.field, 5.0), (tokens.text, 2.0)):
            painter.setPen(QPen(QColor(colour), thickness, Qt.PenStyle.SolidLine, Qt.PenCapStyle.FlatCap))
            painter.drawLine(QPointF(low, top + 5), QPointF(high, top + 5))
            for end in (low, high):
                painter.drawLine(QPointF(end, top + 1), QPointF(end, top + 9))
        for point in prediction.model.operating_points:
            used = point == prediction.operating_point
            painter.setPen(QPen(QColor(tokens.text if used else tokens.muted), 2 if used else 1))
            painter.drawLine(QPointF(x(point.threshold), top - 4), QPointF(x(point.threshold), top + 14))
        text = f"threshold {format.probability(prediction.threshold)}"
        wide = self.fontMetrics().horizontalAdvance(text) + 2
        start = min(max(x(prediction.threshold) - wide / 2, 0.0), max(self.width() - wide, 0))
        painter.setPen(QColor(tokens.muted))
        painter.drawText(QRectF(start, 0, wide, line), int(Qt.AlignmentFlag.AlignCenter), text)
        bottom = QRectF(left - 4, top + 14, width + 8, line)
        painter.drawText(bottom, int(Qt.AlignmentFlag.AlignLeft), "0")
        painter.drawText(bottom, int(Qt.AlignmentFlag.AlignRight), "1")


class BlindForm(QWidget):
    """The reader's own impression, before anything of the AI is seen."""

    revealed = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        heading = QLabel("Your impression first")
        heading.setProperty("tone", "verdict")
        why = QLabel("The classifier's verdict and maps stay hidden until yours is recorded.")
        why.setProperty("tone", "muted")
        why.setWordWrap(True)
        self.group = QButtonGroup(self)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(heading)
        layout.addWidget(why)
        for number, text in enumerate(IMPRESSIONS):
            button = QRadioButton(text)
            self.group.addButton(button, number)
            layout.addWidget(button)
        self.words = QLineEdit()
        self.words.setPlaceholderText("in your words")
        self.words.setAccessibleName("Impression in words")
        self.reveal = QPushButton("Reveal")
        self.reveal.setToolTip("Record your impression and show what the AI says")
        self.group.buttonClicked.connect(self._allow)
        self.words.textChanged.connect(self._allow)
        self.words.returnPressed.connect(self.reveal.click)
        self.reveal.clicked.connect(self._record)
        self._allow()
        layout.addWidget(self.words)
        layout.addWidget(self.reveal)

    def clear(self) -> None:
        self.group.setExclusive(False)
        for button in self.group.buttons():
            button.setChecked(False)
        self.group.setExclusive(True)
        self.words.clear()
        self._allow()

    def _allow(self) -> None:
        """Either a choice or words make an impression."""
        self.reveal.setEnabled(self.group.checkedId() >= 0 or bool(self.words.text().strip()))

    def _record(self) -> None:
        chosen = f"{IMPRESSIONS[self.group.checkedId()]}." if self.group.checkedId() >= 0 else ""
        words = self.words.text().strip()
        at = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        said = f"{chosen} {words}".strip()
        self.revealed.emit(f"{said} (recorded {at}, before the AI's verdict was shown)")


class FindingPanel(QWidget):
    """Follows `case.prediction`. `set_busy` and `set_error` tell of a verdict that is not there (yet)."""

    impression_changed = Signal(str)
    """The reader's impression, at the moment it is recorded; not when an image is shown again."""
    retry = Signal()

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._busy = ""
        self._failure = ""
        self._blind = False
        self._impression = ""
        self.setAccessibleName("Finding")
        self.state = plain_label(tone="muted")
        self.blind_form = BlindForm()
        self.blind_form.revealed.connect(self._reveal)
        self.again = QPushButton("Try again")
        self.again.clicked.connect(self.retry)
        self.verdict = plain_label(tone="verdict")
        self.number = plain_label(tone="number")
        self.spread = plain_label(tone="muted")
        self.bar = ProbabilityBar()
        self.held = plain_label()
        self.held_meaning = plain_label()
        self.meaning = plain_label()
        self.impression_label = plain_label()
        self.model_line = plain_label(tone="muted")
        self.limits = plain_label()
        self.limits_button = QToolButton()
        self.limits_button.setText("Limits")
        self.limits_button.setCheckable(True)
        self.limits_button.setProperty("fold", "true")
        self.limits_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.limits_button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.limits_button.setAccessibleName("What the model must not be used for")
        self.limits_button.toggled.connect(self._show_limits)
        self.research = plain_label(RESEARCH, "muted")
        self.result = self._result()
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(10)
        for widget in (self.state, self.again, self.blind_form, self.result):
            column.addWidget(widget)
        column.addStretch(1)
        column.addWidget(self.research)
        scroll = scrolled(inner, "Finding")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)
        listen(case.changed, self._changed)
        self._show()

    def _result(self) -> QWidget:
        box = QWidget()
        row = QHBoxLayout()
        row.setSpacing(8)
        row.addWidget(self.number, 0, Qt.AlignmentFlag.AlignBaseline)
        row.addWidget(self.spread, 1, Qt.AlignmentFlag.AlignBaseline)
        self.number.setWordWrap(False)
        column = QVBoxLayout(box)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(8)
        column.addWidget(self.verdict)
        column.addLayout(row)
        column.addWidget(self.bar)
        column.addWidget(self.held)
        self._headings: dict[QWidget, QLabel] = {}
        for title, widget in (
            ("What the operating point means", self.meaning),
            ("What the set of classes means", self.held_meaning),
            ("Your impression", self.impression_label),
            ("Model", self.model_line),
        ):
            heading = plain_label(title, "heading")
            column.addSpacing(6)
            column.addWidget(heading)
            column.addWidget(widget)
            self._headings[widget] = heading
        column.addWidget(self.limits_button)
        column.addWidget(self.limits)
        self._show_limits(False)
        return box

    def _show_limits(self, shown: bool) -> None:
        self.limits_button.setArrowType(Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow)
        self.limits.setVisible(shown)

    @property
    def impression(self) -> str:
        """What the reader recorded before the reveal; empty without blind reading."""
        return self._impression

    @property
    def hidden(self) -> bool:
        """True while nothing of the AI may be shown (blind reading, impression not yet recorded)."""
        return self._blind and not self._impression and self._case.radiograph is not None

    def set_blind(self, on: bool) -> None:
        """Blind reading: nothing of the AI before the reader's own impression is recorded."""
        self._blind = on
        self._show()

    def set_impression(self, impression: str) -> None:
        """What the reader said, also earlier, where an image is shown again. Emits nothing."""
        self._impression = impression
        self._show()

    def set_busy(self, text: str) -> None:
        self._busy, self._failure = text, ""
        self._show()

    def set_error(self, text: str) -> None:
        self._busy, self._failure = "", text
        self._show()

    def _reveal(self, impression: str) -> None:
        self.set_impression(impression)
        self.impression_changed.emit(impression)

    def _changed(self, field: str) -> None:
        if field == "radiograph":
            self._busy = self._failure = ""
            self.blind_form.clear()
            self.set_impression("")
        elif field == "prediction":
            if self._case.prediction is not None:
                self._busy = self._failure = ""
            self._show()

    def _show(self) -> None:
        prediction, hidden = self._case.prediction, self.hidden
        readable = prediction is not None and prediction.readable
        tone, text = "muted", ""
        if self._case.radiograph is None:
            text = "No image is open."
        elif hidden:
            text = ""
        elif self._busy:
            text = self._busy
        elif self._failure:
            tone, text = "error", f"No verdict: {self._failure}"
        elif prediction is not None and not prediction.readable:
            tone, text = "warning", f"This image cannot be judged: {prediction.refusal}"
        elif prediction is None:
            text = "Waiting for the classifier …"
        set_tone(self.state, tone)
        self.state.setText(text)
        self.state.setVisible(bool(text))
        self.again.setVisible(bool(self._failure) and not hidden)
        self.blind_form.setVisible(hidden)
        self.result.setVisible(readable and not hidden and not self._busy and not self._failure)
        if prediction is not None and readable:
            self._fill(prediction)

    def _fill(self, prediction: Prediction) -> None:
        model = prediction.model
        self.verdict.setText(verdict(prediction))
        self.number.setText(format.probability(prediction.probability))
        self.spread.setText(
            f"± {format.probability(prediction.uncertainty)}, calibrated probability of pneumonia\n"
            f"logit {format.logit(prediction.logit)}"
        )
        self.spread.setToolTip("±: standard deviation over small harmless changes of the image")
        self.bar.show_prediction(prediction)
        self.meaning.setText(meaning(prediction.operating_point))
        held = sets.line(prediction)
        self.held.setText(held)
        self.held.setVisible(bool(held))
        self.held.setToolTip(tip(sets.meaning(model)))
        for label, text in (
            (self.held_meaning, sets.meaning(model) if held else ""),
            (self.impression_label, self._impression),
        ):
            label.setText(text)
            for widget in (label, self._headings[label]):
                widget.setVisible(bool(text))
        self.model_line.setText(
            f"{model.title} {model.version} · {model.architecture} · {prediction.precision}"
        )
        self.model_line.setToolTip(tip(f"SHA-256 {model.sha256}\n{model.intended_use}"))
        self.limits.setText("\n".join(f"• {line}" for line in model.limitations))
        self.limits_button.setVisible(bool(model.limitations))
