"""Hands and eyes for the tests of the canvas: drags, the wheel, and the pixels on the screen."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QMouseEvent, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.canvas.view import CanvasView

LEFT, MIDDLE, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton, Qt.MouseButton.RightButton
ROWS, COLUMNS = 240, 320


def drag(canvas: CanvasView, button: Qt.MouseButton, *points: tuple[float, float], key: Any = None) -> None:
    """Press at the first point, move through the others, release at the last."""
    modifier = key or Qt.KeyboardModifier.NoModifier
    places = [QPoint(round(x), round(y)) for x, y in points]
    QTest.mousePress(canvas, button, modifier, places[0])
    for place in places[1:]:
        # QTest moves without buttons: send what a window system sends
        event = QMouseEvent(
            QEvent.Type.MouseMove,
            QPointF(place),
            canvas.mapToGlobal(QPointF(place)),
            button,
            button,
            modifier,
        )
        QApplication.sendEvent(canvas, event)
    QTest.mouseRelease(canvas, button, modifier, places[-1])


def wheel(canvas: CanvasView, x: float, y: float, delta: int) -> None:
    event = QWheelEvent(
        QPointF(x, y),
        canvas.mapToGlobal(QPointF(x, y)),
        QPoint(),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


def rgb(image: QImage) -> npt.NDArray[np.uint8]:
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    raw = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return raw[:, : image.width() * 3].reshape(image.height(), image.width(), 3).copy()


def on_screen(canvas: CanvasView) -> npt.NDArray[np.uint8]:
    """The visible part of the image, from the pixels of the widget, without texts."""
    texts = canvas.annotations_visible
    canvas.set_annotations_visible(False)
    canvas.clearFocus()
    x0, y0, x1, y1 = canvas.viewport.visible()
    shown = rgb(canvas.grab_picture())[y0:y1, x0:x1]
    canvas.set_annotations_visible(texts)
    return shown


def place(canvas: CanvasView, row: float, column: float) -> tuple[float, float]:
    x, y = canvas.viewport.to_device([[row, column]])[0] / canvas.ratio
    return x, y
