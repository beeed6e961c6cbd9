"""The trust state of a map as a small framed word with its icon. Colour is never the only sign."""

from __future__ import annotations

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QSizePolicy, QWidget

from app.icons import pixmap
from app.model.trust import NOT_ASSESSED, Mark
from app.panels.text import set_tone, tip
from app.theme import Tokens, current_tokens


def tone_colour(tone: str, tokens: Tokens) -> str:
    return {
        "good": tokens.good,
        "warning": tokens.warning,
        "error": tokens.error,
    }.get(tone, tokens.muted)


class IconLabel(QLabel):
    """An icon in the colour of a tone, tinted anew when the theme changes."""

    def __init__(self, size: int = 14, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._side = size
        self._mark: Mark | None = None
        self.setFixedSize(size, size)

    def show_mark(self, mark: Mark) -> None:
        self._mark = mark
        self.setAccessibleName(mark.word)
        self._tint()

    def _tint(self) -> None:
        if self._mark is not None:
            colour = tone_colour(self._mark.tone, current_tokens())
            self.setPixmap(pixmap(self._mark.icon, colour, self._side, self.devicePixelRatioF()))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange:
            self._tint()
        super().changeEvent(event)


class TrustBadge(QFrame):
    """`show_mark(mark, reasons)`: the word, and why in the tooltip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setProperty("badge", "muted")
        self.icon = IconLabel(12)
        self.word = QLabel()
        self.word.setTextFormat(Qt.TextFormat.PlainText)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(6, 1, 7, 1)
        layout.setSpacing(4)
        layout.addWidget(self.icon)
        layout.addWidget(self.word)
        self.setSizePolicy(QSizePolicy.Policy.Maximum, QSizePolicy.Policy.Fixed)
        self.mark = NOT_ASSESSED
        self.show_mark(NOT_ASSESSED)

    def show_mark(self, mark: Mark, reasons: tuple[str, ...] = ()) -> None:
        self.mark = mark
        self.icon.show_mark(mark)
        self.word.setText(mark.word)
        set_tone(self.word, mark.tone)
        if self.property("badge") != mark.tone:
            self.setProperty("badge", mark.tone)
            self.style().unpolish(self)
            self.style().polish(self)
        why = "\n".join(reasons)
        self.setToolTip(tip(f"Trust: {mark.word}\n{why}".rstrip()))
        self.setAccessibleName(f"Trust: {mark.word}")
        self.setAccessibleDescription(why)
