"""The toolbar. In a narrow window it leaves out what keys and menus do as well, never Explain and Report."""

from __future__ import annotations

from PySide6.QtCore import QEvent
from PySide6.QtGui import QAction, QResizeEvent
from PySide6.QtWidgets import QMenu, QToolBar, QToolButton, QWidget

from app.window.actions import Commands

_SPARE = ("rotate_left", "rotate_right", "reset", "hide", "actual", "fit", "magnify", "zoom", "pan", "freehand", "invert", "line", "four")  # fmt: skip
"""What goes where there is no room, in this order."""


class ToolBar(QToolBar):
    """open · window, pan, zoom, magnify · regions · view · compare · explain ▾ · report"""

    def __init__(self, commands: Commands, presets: QMenu, parent: QWidget) -> None:
        super().__init__("Tools", parent)
        self.setObjectName("Toolbar")
        self.setMovable(False)
        self._fill(commands, presets)
        self._all = self.actions()
        self._spare = [commands.actions[key] for key in _SPARE]
        self._widths: dict[QAction, int] = {}

    def _fill(self, commands: Commands, presets: QMenu) -> None:
        act = commands.actions
        self.addAction(act["open"])
        self.addSeparator()
        for key in ("window", "pan", "zoom", "magnify"):
            self.addAction(act[key])
        self.addSeparator()
        for key in ("select", "rectangle", "ellipse", "polygon", "freehand", "line"):
            self.addAction(act[key])
        self.addSeparator()
        preset_button = QToolButton(self)
        preset_button.setText("Presets")
        preset_button.setToolTip("Window presets (1 – 9)")
        preset_button.setMenu(presets)
        preset_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.addWidget(preset_button)
        for key in ("fit", "actual", "invert", "rotate_left", "rotate_right", "reset", "hide"):
            self.addAction(act[key])
        self.addSeparator()
        for key in ("one", "two", "four", "compare"):
            self.addAction(act[key])
        self.addSeparator()
        explain = QToolButton(self)
        explain.setDefaultAction(act["standard"])
        act["standard"].setIconText("Explain")  # a button follows its action's words
        choices = QMenu(explain)
        for key in ("quick", "standard", "audit"):
            choices.addAction(act[key])
        explain.setMenu(choices)
        explain.setPopupMode(QToolButton.ToolButtonPopupMode.MenuButtonPopup)
        explain.setToolButtonStyle(self.toolButtonStyle().ToolButtonTextBesideIcon)
        self.addWidget(explain)
        report = QToolButton(self)
        report.setDefaultAction(act["report"])
        report.setToolButtonStyle(self.toolButtonStyle().ToolButtonTextBesideIcon)
        self.addWidget(report)

    @property
    def left_out(self) -> list[QAction]:
        """Actions for which there is no room now."""
        here = set(self.actions())
        return [action for action in self._spare if action not in here]

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._fit()

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange) and hasattr(self, "_widths"):
            self._widths.clear()
            self._fit()

    def _fit(self) -> None:
        """Leave out as many as must go for the others to be seen, and no more."""
        layout = self.layout()
        space = layout.spacing() if layout is not None else 0
        for action in self._spare:
            shown = self.widgetForAction(action)
            if shown is not None:
                self._widths[action] = shown.sizeHint().width() + space
        out = self.left_out
        needed = self.sizeHint().width() + sum(self._widths.get(action, 0) for action in out)
        wanted = []
        for action in self._spare:
            if needed <= self.width():
                break
            wanted.append(action)
            needed -= self._widths.get(action, 0)
        for action in wanted:
            if action not in out:
                self.removeAction(action)
        for action in out:
            if action not in wanted:
                self._put_back(action)

    def _put_back(self, action: QAction) -> None:
        here = set(self.actions())
        after = self._all[self._all.index(action) + 1 :]
        self.insertAction(next(each for each in after if each in here), action)
