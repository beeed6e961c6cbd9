"""The toolbar in windows of any width: Explain and Report are always there, and nothing that would fit is left out."""

from __future__ import annotations

from collections import defaultdict

import pytest
from PySide6.QtWidgets import QApplication, QMainWindow, QMenu
from pytestqt.qtbot import QtBot

from app.theme import DARK
from app.window.actions import Commands
from app.window.toolbar import ToolBar


@pytest.fixture
def window(qtbot: QtBot) -> QMainWindow:
    made = QMainWindow()
    qtbot.addWidget(made)
    commands = Commands(made, defaultdict(lambda: lambda: None), DARK)
    made.bar = ToolBar(commands, QMenu(made), made)  # type: ignore[attr-defined]
    made.addToolBar(made.bar)  # type: ignore[attr-defined]
    made.resize(1600, 300)
    made.show()
    QApplication.processEvents()
    return made


def test_what_there_is_no_room_for_goes_in_order_and_comes_back(window: QMainWindow) -> None:
    bar: ToolBar = window.bar  # type: ignore[attr-defined]
    whole = [action.text() for action in bar.actions()]
    assert bar.left_out == []
    before = 0
    for width in (1600, 1100, 1000, 900, 800, 760):
        window.resize(width, 300)
        QApplication.processEvents()
        assert bar.sizeHint().width() <= bar.width(), width
        out = bar.left_out
        assert out == bar._spare[: len(out)]
        assert len(out) >= before
        before = len(out)
        if out:  # the one that would come back next does not fit
            assert bar.sizeHint().width() + bar._widths[out[-1]] > bar.width()
        for action in bar.actions():
            shown = bar.widgetForAction(action)
            assert shown.isVisible(), action.text()
            assert shown.geometry().right() < bar.width()
    assert before
    window.resize(1600, 300)
    QApplication.processEvents()
    assert [action.text() for action in bar.actions()] == whole


def test_commands_that_left_keep_menu_and_key(window: QMainWindow) -> None:
    bar: ToolBar = window.bar  # type: ignore[attr-defined]
    window.resize(760, 300)
    QApplication.processEvents()
    entries = {action for menu in window.menuBar().findChildren(QMenu) for action in menu.actions()}
    assert bar.left_out
    assert set(bar.left_out) <= entries
    assert all(action.isVisible() for action in bar.left_out)
