"""Keys of the canvas, as OHIF and Weasis have them. The window's menus may bind the same; then they come first."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt
from PySide6.QtGui import QKeyEvent, QKeySequence

if TYPE_CHECKING:
    from app.canvas.view import CanvasView

_ARROWS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}

_PLAIN: dict[int, Callable[[CanvasView], object]] = {
    Qt.Key.Key_I: lambda c: c.toggle_invert(),
    Qt.Key.Key_R: lambda c: c.rotate(90),
    Qt.Key.Key_L: lambda c: c.rotate(-90),
    Qt.Key.Key_H: lambda c: c.flip("h"),
    Qt.Key.Key_V: lambda c: c.flip("v"),
    Qt.Key.Key_Equal: lambda c: c.fit(),
    Qt.Key.Key_Plus: lambda c: c.zoom_in(),
    Qt.Key.Key_Minus: lambda c: c.zoom_out(),
    Qt.Key.Key_0: lambda c: c.actual_size(),
    Qt.Key.Key_Space: lambda c: c.reset_view(),
    Qt.Key.Key_Period: lambda c: c.set_annotations_visible(not c.annotations_visible),
    Qt.Key.Key_Delete: lambda c: c.delete_selected(),
    Qt.Key.Key_Backspace: lambda c: c.delete_selected(),
}


def handle(canvas: CanvasView, event: QKeyEvent) -> bool:
    """Do what a key stands for. False where it stands for nothing here."""
    key, modifiers = event.key(), event.modifiers()
    if event.matches(QKeySequence.StandardKey.Undo):
        canvas.case.undo()
        return True
    if event.matches(QKeySequence.StandardKey.Redo) or (
        key == Qt.Key.Key_Y and modifiers & Qt.KeyboardModifier.ControlModifier
    ):
        canvas.case.redo()
        return True
    if modifiers & (
        Qt.KeyboardModifier.ControlModifier
        | Qt.KeyboardModifier.AltModifier
        | Qt.KeyboardModifier.MetaModifier
    ):
        return False
    if key in _ARROWS:
        far = 10 if modifiers & Qt.KeyboardModifier.ShiftModifier else 1
        dx, dy = _ARROWS[Qt.Key(key)]
        canvas.nudge(dx * far, dy * far)
        return True
    if key == Qt.Key.Key_Escape:
        return canvas.cancel()
    if key in (Qt.Key.Key_Return, Qt.Key.Key_Enter):
        return canvas.finish_drawing()
    if Qt.Key.Key_1 <= key <= Qt.Key.Key_9:
        return canvas.apply_preset_number(key - Qt.Key.Key_0)
    action = _PLAIN.get(key)
    if action is None:
        return False
    action(canvas)
    return True
