"""Every key on one page (F1)."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QDialogButtonBox,
    QHeaderView,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

# Keys that the image itself handles (app.canvas.keys) and the mouse; the rest comes from the window's actions.
IMAGE: tuple[tuple[str, str], ...] = (
    ("Left drag", "Tool in use; window/level: across = width, up and down = level"),
    ("Middle drag", "Pan"),
    ("Right drag, wheel", "Zoom; the wheel at the cursor"),
    ("1 … 9", "Window presets: the file's own first, then full range, automatic"),
    ("I", "Invert"),
    ("R, L", "Rotate right, left"),
    ("H, V", "Flip left–right, top–bottom"),
    ("=", "Fit to window"),
    ("0", "One screen pixel for each image pixel"),
    ("+, −", "Zoom in, out"),
    ("Space", "Window, orientation and zoom as at opening"),
    (".", "Hide or show everything that is not the radiograph"),
    ("Arrows", "Pan, or move the selected region by one pixel; with Shift by ten"),
    ("Enter", "Close the polygon that is being drawn"),
    ("Delete", "Remove the selected region"),
    ("Esc", "Cancel drawing, clear the selection"),
    ("Ctrl+Z, Ctrl+Y", "Undo, redo"),
)


def rows(actions: Sequence[QAction]) -> list[tuple[str, str]]:
    """(keys, what) of every action that has keys, in the order given."""
    out = []
    for action in actions:
        keys = ", ".join(k.toString(QKeySequence.SequenceFormat.NativeText) for k in action.shortcuts())
        if keys:
            out.append((keys, action.text().replace("&", "").rstrip("…").strip()))
    return out


class ShortcutsDialog(QDialog):
    def __init__(self, actions: Sequence[QAction], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Keys and mouse")
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["Keys", "What they do"])
        self.tree.setRootIsDecorated(False)
        self.tree.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.tree.setUniformRowHeights(True)
        for title, entries in (("Image", list(IMAGE)), ("Window", rows(actions))):
            heading = QTreeWidgetItem(self.tree, [title])
            font = heading.font(0)
            font.setBold(True)
            heading.setFont(0, font)
            heading.setExpanded(True)
            for keys, what in entries:
                QTreeWidgetItem(heading, [keys, what])
        self.tree.expandAll()
        self.tree.header().setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.addWidget(self.tree)
        layout.addWidget(buttons)
        self.resize(620, 640)
