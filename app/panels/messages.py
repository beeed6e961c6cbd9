"""One line above the image for what went wrong or was done. Nothing waits for it; the window stays usable."""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import QEvent, QSize, Qt, QTimer
from PySide6.QtGui import QEnterEvent, QKeyEvent
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from app.icons import icon, pixmap
from app.panels.text import menu_text, plain_label
from app.theme import current_tokens

MOST = 3
"""Messages on the screen at once; older ones go, notices before warnings and errors."""
NOTICE_MS = 8_000
"""A notice goes by itself after this time, unless the mouse is on it or its details are open."""

Action = tuple[str, Callable[[], object]]


class MessageRow(QFrame):
    def __init__(self, bar: MessageBar, text: str, kind: str, details: str, action: Action | None) -> None:
        super().__init__(bar)
        self.text, self.kind = text, kind
        self.of_image = False
        self.setProperty("message", kind)
        self.setAccessibleName(f"{kind}: {text}")
        self.mark = QLabel()
        self.words = plain_label(text)
        self.words.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        self.more = QPlainTextEdit(details)
        self.more.setReadOnly(True)
        self.more.setMaximumHeight(150)
        self.more.hide()
        self.close_button = QToolButton()
        self.close_button.setToolTip("Close")
        self.close_button.setAccessibleName("Close this message")
        self.close_button.setIconSize(QSize(14, 14))
        self.close_button.clicked.connect(lambda: bar.dismiss(self))
        row = QHBoxLayout()
        row.addWidget(self.mark)
        row.addWidget(self.words, 1)
        if action is not None:
            button = QPushButton(menu_text(action[0]))
            button.clicked.connect(lambda: self._act(bar, action[1]))
            self.action_button = button
            row.addWidget(button)
        if details:
            self.toggle = QPushButton("Details")
            self.toggle.setCheckable(True)
            self.toggle.toggled.connect(self._show_details)
            row.addWidget(self.toggle)
        row.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 5, 6, 5)
        layout.addLayout(row)
        layout.addWidget(self.more)
        self._tint()
        self.life = QTimer(self)
        self.life.setSingleShot(True)
        self.life.setInterval(NOTICE_MS)
        self.life.timeout.connect(lambda: bar.dismiss(self))
        self._live()

    def _live(self) -> None:
        if self.kind == "notice" and self.more.isHidden() and not self.underMouse():
            self.life.start()
        else:
            self.life.stop()

    def _show_details(self, shown: bool) -> None:
        self.more.setVisible(shown)
        self._live()

    def _act(self, bar: MessageBar, act: Callable[[], object]) -> None:
        """The message has done its duty once its action is taken."""
        bar.dismiss(self)
        act()

    def enterEvent(self, event: QEnterEvent) -> None:
        self.life.stop()
        super().enterEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        self._live()

    def _tint(self) -> None:
        tokens = current_tokens()
        colour = {"error": tokens.error, "warning": tokens.warning}.get(self.kind, tokens.accent)
        self.mark.setPixmap(pixmap(self.kind, colour, 18, self.devicePixelRatioF()))
        self.close_button.setIcon(icon("close", tokens))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "close_button"):
            self._tint()
        super().changeEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() == Qt.Key.Key_Escape:
            self.close_button.click()
        else:
            super().keyPressEvent(event)


class MessageBar(QWidget):
    """The latest messages, newest last. The same text is not shown twice."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Messages")
        self.rows: list[MessageRow] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(1)
        self.hide()

    @property
    def texts(self) -> list[str]:
        return [row.text for row in self.rows]

    def show_message(
        self,
        text: str,
        kind: str = "notice",
        details: str = "",
        action: Action | None = None,
        of_image: bool = False,
    ) -> None:
        """kind: notice, warning or error. details: shown on request, for a fault report.

        of_image: said of the image on the screen, and gone with it (`forget_image`).
        """
        for row in [row for row in self.rows if row.text == text]:
            self.dismiss(row)
        row = MessageRow(self, text, kind, details, action)
        row.of_image = of_image
        self.rows.append(row)
        self._layout.addWidget(row)
        surplus = self.rows[:-1]  # never the new one
        surplus.sort(key=lambda each: each.kind != "notice")
        for old in surplus[: max(0, len(self.rows) - MOST)]:
            self.dismiss(old)
        self.show()

    def dismiss(self, row: MessageRow) -> None:
        if row in self.rows:
            self.rows.remove(row)
            self._layout.removeWidget(row)
            row.life.stop()
            row.hide()
            row.deleteLater()
        self.setVisible(bool(self.rows))

    def dismiss_latest(self) -> bool:
        """For Escape in the window. False where there was nothing to close."""
        if not self.rows:
            return False
        self.dismiss(self.rows[-1])
        return True

    def forget_image(self) -> None:
        """Another image is on the screen: what was said of the last one would be read as said of this."""
        for row in [row for row in self.rows if row.of_image]:
            self.dismiss(row)

    def clear(self) -> None:
        for row in list(self.rows):
            self.dismiss(row)
