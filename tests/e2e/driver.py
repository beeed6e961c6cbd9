"""Drives a real main window: waits for what it shows, acts as a person does, knows where things lie on the screen."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QEvent, QEventLoop, QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QImage, QMouseEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.main_window import MainWindow
from xai_engine.radiograph.types import Radiograph

PATIENCE_S = 240.0
"""How long a busy machine may take. Nothing here measures speed."""
LEFT = Qt.MouseButton.LeftButton


class Driver:
    def __init__(self, window: MainWindow) -> None:
        self.window = window

    def until(self, condition: Callable[[], object], what: str, seconds: float = PATIENCE_S) -> None:
        """Let the window run until the condition holds; fails with what the window says."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (
                f"waited in vain for {what}; messages: {self.window.messages.texts}"
            )
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 50)
            time.sleep(0.01)  # leave the processor to the workers

    def idle(self) -> bool:
        engine = self.window.engine
        return not (self.window.jobs.tasks or engine.reader.busy or engine.engine.busy)

    def wait_idle(self) -> None:
        self.until(self.idle, "idle workers")
        QApplication.processEvents()

    def do(self, command: str) -> None:
        """A command of menu and toolbar, which must be enabled."""
        action = self.window.commands.actions[command]
        assert action.isEnabled(), command
        action.trigger()
        QApplication.processEvents()

    @property
    def image(self) -> Radiograph:
        radiograph = self.window.case.radiograph
        assert radiograph is not None
        return radiograph

    def open(self, *paths: Path) -> None:
        """Open and wait for the verdict on the first."""
        self.window.open(list(paths))
        case = self.window.case
        self.until(
            lambda: case.radiograph is not None and case.radiograph.path == paths[0], f"image {paths[0].name}"
        )
        self.until(lambda: case.prediction is not None, "the verdict")
        QApplication.processEvents()

    def explain(self) -> None:
        """The three standard maps by way of the method panel; LIME with few samples, because it takes longest."""
        for method, params in (("integrated-gradients", {}), ("grad-cam", {}), ("lime", {"samples": 60})):
            self.window.explain_panel.run_requested.emit(method, params, None, 0)
        self.until(lambda: len(self.window.case.layers) == 3 and self.idle(), "three maps")
        self.wait_idle()

    def drop(self, *paths: Path) -> None:
        data = QMimeData()
        data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
        place = QPoint(300, 300)
        args = (Qt.DropAction.CopyAction, data, LEFT, Qt.KeyboardModifier.NoModifier)
        enter = QDragEnterEvent(place, *args)
        QApplication.sendEvent(self.window, enter)
        assert enter.isAccepted()
        QApplication.sendEvent(self.window, QDropEvent(QPointF(place), *args))

    def at(self, row: float, column: float) -> QPoint:
        """Where on the canvas a source position lies, in logical pixels."""
        canvas = self.window.canvas
        x, y = canvas.viewport.to_device([(row, column)])[0] / canvas.ratio
        return QPoint(round(x), round(y))

    def source(self, place: QPoint) -> tuple[float, float]:
        canvas = self.window.canvas
        row, column = canvas.viewport.to_source([(place.x() * canvas.ratio, place.y() * canvas.ratio)])[0]
        return float(row), float(column)

    def drag(self, places: Sequence[QPoint]) -> None:
        """Press at the first place, move through all, release at the last, with the left button."""
        canvas = self.window.canvas
        QTest.mousePress(canvas, LEFT, Qt.KeyboardModifier.NoModifier, places[0])
        for place in places[1:]:  # QTest moves without buttons
            at = QPointF(place)
            event = QMouseEvent(
                QEvent.Type.MouseMove, at, canvas.mapToGlobal(at), LEFT, LEFT, Qt.KeyboardModifier.NoModifier
            )
            QApplication.sendEvent(canvas, event)
        QTest.mouseRelease(canvas, LEFT, Qt.KeyboardModifier.NoModifier, places[-1])
        QApplication.processEvents()

    def picture(self) -> npt.NDArray[np.uint8]:
        """What the canvas shows: uint8 (rows, columns, 3)."""
        return as_array(self.window.canvas.grab_picture())

    def reset(self) -> None:
        """Back to an empty window."""
        window = self.window
        for task in list(window.jobs.tasks):
            task.cancel()
        self.wait_idle()
        for study in list(window.studies.studies):
            window.reading.close_study(study.path)
        self.wait_idle()
        window.messages.clear()
        window.commands.actions["one"].trigger()
        window.canvas.set_tool("window")
        window.inspector.setCurrentIndex(0)
        QApplication.processEvents()


def as_array(image: QImage) -> npt.NDArray[np.uint8]:
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()
