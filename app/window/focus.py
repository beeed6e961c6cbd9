"""Working by keyboard: the order in which Tab goes through the window, and a ring around the control that has the keys.

Order: as the window is read, from top to bottom. Qt goes in the order in which widgets were made, so a map's controls that
come later would come last, and the map at the bottom of the list first.

Ring: Qt's own marks are too faint beside our colours, and lists and scroll areas have none. A mouse click draws no ring.
"""

from __future__ import annotations

from typing import cast

from PySide6.QtCore import QObject, QPoint, QRectF, Qt
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QApplication, QFocusFrame, QScrollArea, QWidget
from shiboken6 import isValid

from app.canvas.binding import no_collection
from app.theme import current_tokens

RING = 2
"""Logical pixels."""


class _Ring(QFocusFrame):
    def paintEvent(self, event: QPaintEvent) -> None:
        with no_collection(), QPainter(self) as painter:
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(QPen(QColor(current_tokens().accent), RING))
            inset = RING / 2
            seen = QRectF(self.visibleRegion().boundingRect())
            painter.drawRoundedRect(seen.adjusted(inset, inset, -inset, -inset), 4, 4)

    def come_up(self) -> None:
        """Where a control fills its place, a ring around it would be cut off, or lie under it: then it is drawn on its edge."""
        self.clearMask()
        self.raise_()


class FocusRing(QObject):
    """Follows the focus in every window of the program, while it is moved by keys."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._frame: _Ring | None = None
        cast(QApplication, QApplication.instance()).focusChanged.connect(self._changed)

    @property
    def around(self) -> QWidget | None:
        """The control that is marked."""
        frame = self._frame
        return frame.widget() if frame is not None and isValid(frame) else None

    def _changed(self, _old: QWidget | None, new: QWidget | None) -> None:
        by_keys = new is not None and new.window().testAttribute(Qt.WidgetAttribute.WA_KeyboardFocusChange)
        if new is None or not by_keys or new.isWindow():
            if self._frame is not None and isValid(self._frame):
                self._frame.setWidget(cast(QWidget, None))
            return
        # it goes with the window or panel in which it stood
        if self._frame is None or not isValid(self._frame):
            self._frame = _Ring()
        self._frame.setWidget(new)
        self._frame.come_up()


def order(root: QWidget) -> list[QWidget]:
    """What Tab reaches in `root`, part by part: what stands in one part is gone through before the next begins.

    Parts are the child widgets that are to be seen (or can be scrolled to), in rows from top to bottom, from left to right.
    """
    found = [root] if _takes_tab(root) else []
    for row in _rows(root):
        for child in row:
            found += order(child)
    return found


def follow(root: QWidget, current: QWidget | None, forward: bool) -> bool:
    """Give the focus to what comes after (before) `current`. False where there is nothing to go to."""
    found = order(root)
    # the editor inside a number box, a control that has just been disabled
    while current is not None and current not in found and current is not root:
        current = current.parentWidget()
    if not found:
        return False
    if current in found:
        at = (found.index(current) + (1 if forward else -1)) % len(found)
    else:
        at = 0 if forward else -1
    chosen = found[at]
    chosen.setFocus(Qt.FocusReason.TabFocusReason if forward else Qt.FocusReason.BacktabFocusReason)
    _bring_into_sight(chosen)
    return True


def _takes_tab(widget: QWidget) -> bool:
    wants = bool(widget.focusPolicy() & Qt.FocusPolicy.TabFocus) and widget.focusProxy() is None
    return wants and widget.isEnabled() and not widget.isWindow()


def _rows(parent: QWidget) -> list[list[QWidget]]:
    children = [child for child in parent.children() if isinstance(child, QWidget)]
    children = [c for c in children if c.isVisible() and not c.isWindow() and not isinstance(c, QFocusFrame)]
    children.sort(key=lambda c: (c.y(), c.x()))
    rows: list[list[QWidget]] = []
    for child in children:
        if rows and child.geometry().center().y() <= rows[-1][0].geometry().bottom():
            rows[-1].append(child)
        else:
            rows.append([child])
    for row in rows:
        row.sort(key=lambda c: (c.x(), c.y()))
    return rows


def _bring_into_sight(widget: QWidget) -> None:
    parent = widget.parentWidget()
    while parent is not None:
        if isinstance(parent, QScrollArea):
            content = parent.widget()
            if content is not None and content.isAncestorOf(widget):
                place = widget.mapTo(content, QPoint(0, 0))
                parent.ensureVisible(place.x(), place.y() + widget.height(), 0, 20)
                parent.ensureVisible(place.x(), place.y(), 0, 20)
        parent = parent.parentWidget()
