"""What the classifier says about the image, what its operating point means, and what it must not be asked."""

from __future__ import annotations

import math
from datetime import datetime

from PySide6.QtCore import QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import (
    QButtonGroup,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QRadioButton,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen, no_collection
from app.model.case import CaseModel
from app.theme import current_tokens
from xai_engine.classifier.types import OperatingPoint, Prediction
from xai_engine.evidence import format

IMPRESSIONS = ("Pneumonia", "No pneumonia", "Uncertain")


def verdict(prediction: Prediction) -> str:
    """The finding in words: "Pneumonia: above the operating point"."""
    side = "at or above" if prediction.probability >= prediction.threshold else "below"
    return f"{prediction.label[:1].upper()}{prediction.label[1:]}: score {side} the operating point"


def meaning(point: OperatingPoint) -> str:
    """What the operating point meant on the population it was measured on, in natural frequencies."""

    def of_hundred(share: tuple[float, float, float]) -> str:
        if not all(map(math.isfinite, share)):
            return "an unknown number"
        value, low, high = (round(100 * part) for part in share)
        return f"{value} ({low}–{high})"

    return (
        f"At this threshold, of 100 patients with pneumonia {of_hundred(point.sensitivity)} score at or above it; "
        f"of 100 without, {of_hundred(point.specificity)} score below it. "
        f"In brackets: 95 % interval. Measured on: {point.population.rstrip('.')}."
    )


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
        self.setToolTip(f"Operating points: {names}")
        self.setAccessibleDescription(
            f"{format.probability(prediction.probability)}, operating point {format.probability(prediction.threshold)}"
        )
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(200, 20 + 2 * self.fontMetrics().height())

    def minimumSizeHint(self) -> QSize:
        return QSize(120, self.sizeHint().height())

    def paintEvent(self, event: QPaintEvent) -> None:
        prediction = self._prediction
        if prediction is None:
            return
        with no_collection():
            tokens, line = current_tokens(), self.fontMetrics().height()
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            left, width, top = 6.0, self.width() - 12.0, line + 6.0

            def x(value: float) -> float:
                return left + width * min(max(value, 0.0), 1.0)

            painter.setPen(QPen(QColor(tokens.control), 1))
            painter.setBrush(QColor(tokens.field))
            painter.drawRoundedRect(QRectF(left, top, width, 10), 3, 3)
            above = prediction.probability >= prediction.threshold
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(tokens.positive if above else tokens.accent))
            painter.drawRoundedRect(QRectF(left, top, x(prediction.probability) - left, 10), 3, 3)
            low, high = (prediction.probability + s * prediction.uncertainty for s in (-1, 1))
            painter.setPen(QPen(QColor(tokens.text), 1.5))
            painter.drawLine(round(x(low)), round(top + 5), round(x(high)), round(top + 5))
            for end in (low, high):
                painter.drawLine(round(x(end)), round(top + 2), round(x(end)), round(top + 8))
            for point in prediction.model.operating_points:
                used = point == prediction.operating_point
                painter.setPen(QPen(QColor(tokens.text if used else tokens.muted), 2 if used else 1))
                at = round(x(point.threshold))
                painter.drawLine(at, round(top - 4), at, round(top + 14))
            text = f"operating point {format.probability(prediction.threshold)}"
            wide = self.fontMetrics().horizontalAdvance(text) + 2
            start = min(max(x(prediction.threshold) - wide / 2, 0.0), max(self.width() - wide, 0))
            painter.setPen(QColor(tokens.muted))
            painter.drawText(QRectF(start, 0, wide, line), int(Qt.AlignmentFlag.AlignCenter), text)
            bottom = QRectF(left - 4, top + 14, width + 8, line)
            painter.drawText(bottom, int(Qt.AlignmentFlag.AlignLeft), "0")
            painter.drawText(bottom, int(Qt.AlignmentFlag.AlignRight), "1")
            painter.end()


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
        self.words.setPlaceholderText("in your words (optional)")
        self.words.setAccessibleName("Impression in words")
        self.reveal = QPushButton("Record and show the AI's")
        self.reveal.setEnabled(False)
        self.group.buttonClicked.connect(lambda: self.reveal.setEnabled(True))
        self.reveal.clicked.connect(self._record)
        layout.addWidget(self.words)
        layout.addWidget(self.reveal)

    def clear(self) -> None:
        self.group.setExclusive(False)
        for button in self.group.buttons():
            button.setChecked(False)
        self.group.setExclusive(True)
        self.words.clear()
        self.reveal.setEnabled(False)

    def _record(self) -> None:
        chosen = IMPRESSIONS[self.group.checkedId()]
        words = self.words.text().strip()
        at = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M")
        said = f"{chosen}. {words}" if words else f"{chosen}."
        self.revealed.emit(f"{said} (recorded {at}, before the AI's verdict was shown)")


class FindingPanel(QWidget):
    """Follows `case.prediction`. `set_busy` and `set_error` tell of a verdict that is not there (yet)."""

    revealed = Signal(str)
    """The reader's impression, once recorded (blind reading)."""
    retry = Signal()

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._busy = ""
        self._failure = ""
        self._blind = False
        self._impression = ""
        self.setAccessibleName("Finding")
        self.state = _text("muted")
        self.blind_form = BlindForm()
        self.blind_form.revealed.connect(self._reveal)
        self.again = QPushButton("Try again")
        self.again.clicked.connect(self.retry)
        self.verdict = _text("verdict")
        self.number = _text("number")
        self.spread = _text("muted")
        self.bar = ProbabilityBar()
        self.meaning = _text()
        self.impression_label = _text()
        self.model_line = _text("muted")
        self.limits = _text()
        self.result = self._result()
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(14, 12, 14, 12)
        column.setSpacing(10)
        for widget in (self.state, self.again, self.blind_form, self.result):
            column.addWidget(widget)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
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
        for title, widget in (
            ("What the operating point means", self.meaning),
            ("Your impression", self.impression_label),
            ("Model", self.model_line),
            ("Limits", self.limits),
        ):
            heading = _text("heading")
            heading.setText(title)
            column.addSpacing(6)
            column.addWidget(heading)
            column.addWidget(widget)
            if widget is self.impression_label:
                self._impression_heading = heading
        return box

    @property
    def impression(self) -> str:
        """What the reader recorded before the reveal; empty without blind reading."""
        return self._impression

    @property
    def hidden(self) -> bool:
        """True while nothing of the AI may be shown (blind reading, impression not yet recorded)."""
        return self._blind and not self._impression and self._case.radiograph is not None

    def set_blind(self, blind: bool) -> None:
        self._blind = blind
        self._show()

    def set_impression(self, impression: str) -> None:
        """For an image that was read before."""
        self._impression = impression
        self._show()

    def set_busy(self, text: str) -> None:
        self._busy, self._failure = text, ""
        self._show()

    def set_error(self, text: str) -> None:
        self._busy, self._failure = "", text
        self._show()

    def _reveal(self, impression: str) -> None:
        self._impression = impression
        self._show()
        self.revealed.emit(impression)

    def _changed(self, field: str) -> None:
        if field == "radiograph":
            self._busy = self._failure = self._impression = ""
            self.blind_form.clear()
        if field in ("radiograph", "prediction"):
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
            tone, text = "warning", f"This image cannot be read: {prediction.refusal}"
        elif prediction is None:
            text = "Waiting for the classifier …"
        _tone(self.state, tone)
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
            f"± {prediction.uncertainty:.3f} calibrated probability of pneumonia\nlogit {format.logit(prediction.logit)}"
        )
        self.spread.setToolTip("±: standard deviation over small harmless changes of the image")
        self.bar.show_prediction(prediction)
        self.meaning.setText(meaning(prediction.operating_point))
        self.impression_label.setText(self._impression)
        for widget in (self.impression_label, self._impression_heading):
            widget.setVisible(bool(self._impression))
        self.model_line.setText(
            f"{model.title} {model.version} · {model.architecture} · {prediction.precision}"
        )
        self.model_line.setToolTip(f"SHA-256 {model.sha256}\n{model.intended_use}")
        self.limits.setText("\n".join(f"• {line}" for line in model.limitations))


def _text(tone: str = "") -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if tone:
        label.setProperty("tone", tone)
    return label


def _tone(label: QLabel, tone: str) -> None:
    if label.property("tone") != tone:
        label.setProperty("tone", tone)
        label.style().unpolish(label)
        label.style().polish(label)
