"""The running job in the status bar: what, how far, how long still, Cancel. Further jobs wait in a list."""

from __future__ import annotations

import math

from PySide6.QtCore import QElapsedTimer, QEvent, QSize, Qt, QTimer
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QProgressBar, QToolButton, QWidget
from shiboken6 import isValid

from app.engine import Task
from app.icons import icon
from app.panels.text import menu_text, tip
from app.theme import current_tokens
from xai_engine.runtime.run import Progress

PATIENCE_MS = 60
"""Jobs that are over sooner are not shown."""
LINGER_MS = 500
"""The bar stays at least so long: what only flashes up distracts."""

LONGEST_TITLE = 240
"""Pixels; longer titles (they may hold file names) are cut in the middle."""


def remaining(progress: Progress | None) -> str:
    """ "about 12 s left"; empty until it can be told."""
    seconds = progress.remaining_s if progress is not None else None
    if seconds is None or not math.isfinite(seconds):
        return ""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s left"
    return f"about {round(seconds / 60)} min left"


class JobsBar(QWidget):
    """Shows the task that has made progress last, hidden while none runs."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Running job")
        self.tasks: list[Task] = []
        self._progress: dict[Task, Progress] = {}
        self._stopping: set[Task] = set()
        self.title = QLabel()
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setFormat("%p %")
        self.bar.setFixedSize(120, self.fontMetrics().height() + 4)
        self.time = QLabel()
        self.time.setMinimumWidth(self.fontMetrics().horizontalAdvance("about 00 min left"))
        self.cancel = QToolButton()
        self.cancel.setText("Cancel")
        self.cancel.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.cancel.setIconSize(QSize(14, 14))
        self.cancel.clicked.connect(self.cancel_current)
        self.others = QToolButton()
        self.others.setToolTip("All jobs; choose one to cancel it")
        self.others.setStyleSheet("QToolButton { padding-right: 14px; }")  # room for the menu's arrow
        self.others.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.cancel.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.others.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._menu = QMenu(self)
        self._menu.aboutToShow.connect(self._fill)
        self.others.setMenu(self._menu)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(8, 0, 8, 0)
        for widget in (self.title, self.bar, self.time, self.cancel, self.others):
            layout.addWidget(widget)
        self._patience = QTimer(self)
        self._patience.setSingleShot(True)
        self._patience.setInterval(PATIENCE_MS)
        self._patience.timeout.connect(self._update)
        self._since = QElapsedTimer()
        self._linger = QTimer(self)
        self._linger.setSingleShot(True)
        self._linger.timeout.connect(self._rest)
        self._tint()
        self.hide()

    @property
    def current(self) -> Task | None:
        """The running task: the one that has reported last, else the oldest."""
        return next((task for task in reversed(self._progress)), self.tasks[0] if self.tasks else None)

    def add(self, task: Task) -> None:
        self.tasks.append(task)
        task.progressed.connect(lambda progress: self._progressed(task, progress))
        task.ended.connect(lambda: self._ended(task))
        if self.isHidden():
            self._patience.start()
        else:
            self._update()

    def cancel_current(self) -> None:
        task = self.current
        if task is not None:
            self._stop(task)

    def _stop(self, task: Task) -> None:
        if task not in self.tasks:  # it has ended while the list was open
            return
        self._stopping.add(task)
        task.cancel()
        self._update()

    def _progressed(self, task: Task, progress: Progress) -> None:
        if isValid(self) and task in self.tasks:  # the bar may be gone before the task
            self._progress.pop(task, None)
            self._progress[task] = progress
            if not self.isHidden():
                self._update()

    def _ended(self, task: Task) -> None:
        if not isValid(self):
            return
        if task in self.tasks:
            self.tasks.remove(task)
        self._progress.pop(task, None)
        self._stopping.discard(task)
        if not self.tasks:
            self._patience.stop()
            self._rest()
        elif not self.isHidden():
            self._update()

    def _rest(self) -> None:
        """Nothing runs: hide, but not what has only just come into sight."""
        if self.tasks or self.isHidden():
            return
        left = LINGER_MS - self._since.elapsed()
        if left <= 0:
            self.hide()
            return
        self.bar.setTextVisible(True)
        self.bar.setValue(self.bar.maximum())
        self.time.setText("")
        self.cancel.setEnabled(False)
        self.others.hide()
        self._linger.start(int(left))

    def _update(self) -> None:
        task = self.current
        if task is None:
            self._rest()
            return
        if self.isHidden():
            self._since.start()
        progress = self._progress.get(task)
        stopping = task in self._stopping
        middle = Qt.TextElideMode.ElideMiddle
        self.title.setText(self.fontMetrics().elidedText(task.title, middle, LONGEST_TITLE))
        # A fraction that is not known yet is no 0 %: the bar stands empty and without a number.
        known = progress is not None and math.isfinite(progress.fraction)
        self.bar.setTextVisible(known)
        self.bar.setValue(round(1000 * progress.fraction) if progress is not None and known else 0)
        self.bar.setAccessibleName(f"Progress of {task.title}")
        self.time.setText("stopping …" if stopping else remaining(progress))
        words = [task.title, progress.message if progress else ""]
        self.setToolTip(tip("\n".join(word for word in words if word)))
        self.cancel.setEnabled(not stopping)
        self.cancel.setAccessibleName(f"Cancel {task.title}")
        more = len(self.tasks) - 1
        self.others.setText(f"+{more} waiting")
        self.others.setVisible(more > 0)
        self.show()

    def _fill(self) -> None:
        self._menu.clear()
        for task in self.tasks:
            action = self._menu.addAction(
                icon("cancel", current_tokens()), menu_text(f"Cancel: {task.title}")
            )
            action.setEnabled(task not in self._stopping)
            action.triggered.connect(lambda _checked=False, t=task: self._stop(t))

    def _tint(self) -> None:
        self.cancel.setIcon(icon("cancel", current_tokens()))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "cancel"):
            self._tint()
        super().changeEvent(event)
