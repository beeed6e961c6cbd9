"""Labels and tooltips that show names from files as they are: Qt takes text that looks like HTML for HTML."""

from __future__ import annotations

from html import escape

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel


def plain_label(text: str = "", tone: str = "") -> QLabel:
    """A wrapping label of plain text that can be selected. tone: see `app.theme.style_sheet`."""
    label = QLabel(text)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    if tone:
        label.setProperty("tone", tone)
    return label


def set_tone(label: QLabel, tone: str) -> None:
    if label.property("tone") != tone:
        label.setProperty("tone", tone)
        label.style().unpolish(label)
        label.style().polish(label)


def tip(text: str) -> str:
    """`text` as a tooltip that shows every character of it; long lines wrap. Empty for empty text."""
    if not text:
        return ""
    return f"<qt>{escape(text, quote=False).replace(chr(10), '<br>')}</qt>"


def menu_text(text: str) -> str:
    """`text` for an action or a button, without a mnemonic."""
    return text.replace("&", "&&")
