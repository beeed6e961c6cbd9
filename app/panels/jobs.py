"""Running jobs: how far, how long still, Cancel."""

from __future__ import annotations

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QSizePolicy, QToolButton, QVBoxLayout, QWidget

from app.engine import Engine, Task
from app.icons import icon
from app.theme import current_tokens
from xai_engine.runtime.run import Progress

PATIENCE_MS = 350
"""Jobs that are over sooner are not shown: a row that flashes up only distracts."""


def remaining(progress: Progress, cancelling: bool = False) -> str:
    """ "about 12 s left"; empty until it can be told."""
    if cancelling:
        return "stopping …"
    if progress.remaining_s is None:
        return ""
    if progress.remaining_s < 90:
        return f"about {max(1, round(progress.remaining_s))} s left"
    return f"about {round(progress.remaining_s / 60)} min left"


class JobRow(QWidget):
    """One task."""

    def __init__(self, task: Task, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.task = task
        self._cancelling = False
        self.title = QLabel(task.title)
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.title.setToolTip(task.title)
        self.time = QLabel()
        self.time.setProperty("tone", "muted")
        self.bar = QProgressBar()
        self.bar.setRange(0, 1000)
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(8)
        self.bar.setAccessibleName(f"Progress of {task.title}")
        self.cancel = QToolButton()
        self.cancel.setIcon(icon("cancel", current_tokens()))
        self.cancel.setToolTip("Cancel")
        self.cancel.setAccessibleName(f"Cancel {task.title}")
        self.cancel.clicked.connect(self._cancel)
        top = QHBoxLayout()
        top.addWidget(self.title, 1)
        top.addWidget(self.time)
        words = QVBoxLayout()
        words.setSpacing(3)
        words.addLayout(top)
        words.addWidget(self.bar)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(words, 1)
        layout.addWidget(self.cancel)
        task.progressed.connect(self._progress)

    def _progress(self, progress: Progress) -> None:
        self.bar.setValue(round(1000 * progress.fraction))
        self.time.setText(remaining(progress, self._cancelling))
        if progress.message:
            self.setToolTip(progress.message)

    def _cancel(self) -> None:
        self._cancelling = True
        self.cancel.setEnabled(False)
        self.time.setText("stopping …")
        self.task.cancel()


class JobsPanel(QWidget):
    """Every job of the engine, oldest first; hidden while there is none. `count_changed` tells how many are shown."""

    count_changed = Signal(int)

    def __init__(self, engine: Engine, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Jobs")
        self.rows: list[JobRow] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(8, 6, 8, 6)
        self._layout.setSpacing(6)
        self.hide()
        engine.started.connect(self.add)

    def add(self, task: Task) -> None:
        row = JobRow(task, self)
        row.hide()
        self._layout.addWidget(row)
        self.rows.append(row)
        timer = QTimer(row)
        timer.setSingleShot(True)
        timer.timeout.connect(lambda: self._reveal(row))
        timer.start(PATIENCE_MS)
        task.ended.connect(lambda: self._remove(row))

    def _reveal(self, row: JobRow) -> None:
        if row in self.rows:
            row.show()
            self._tell()

    def _remove(self, row: JobRow) -> None:
        if row in self.rows:
            self.rows.remove(row)
            self._layout.removeWidget(row)
            row.hide()
            row.deleteLater()
            self._tell()

    def _tell(self) -> None:
        shown = sum(not row.isHidden() for row in self.rows)
        self.setVisible(shown > 0)
        self.count_changed.emit(shown)
