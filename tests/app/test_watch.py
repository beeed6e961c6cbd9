"""The watch over Qt tests sees what it is there to see."""

from __future__ import annotations

import pytest
from PySide6.QtCore import QObject, QThread, QTimer, qWarning
from PySide6.QtWidgets import QApplication, QWidget

from tests.helpers import qt_hygiene


@pytest.fixture(autouse=True)
def nothing_left() -> None:
    """In place of the watch of this folder: these tests leave things behind on purpose."""


def test_a_clean_test_passes(qapp: QApplication) -> None:
    with qt_hygiene.clean(qapp):
        widget = QWidget()
        widget.show()
        widget.close()
        widget.deleteLater()


def test_a_window_left_open(qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qt_hygiene, "GRACE_S", 0.05)
    widget = QWidget()
    before = qt_hygiene._windows() - {widget}
    assert qt_hygiene.leaks(before, set(), 0.05) == [f"window left open: {widget!r}"]
    widget.deleteLater()
    assert qt_hygiene.leaks(before, set(), 1.0) == []


@pytest.mark.parametrize("what", ["timer", "thread", "warning"])
def test_other_leftovers(qapp: QApplication, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.setattr(qt_hygiene, "GRACE_S", 0.05)
    owner = QObject()
    timer, thread = QTimer(owner), QThread(owner)
    leave = {
        "timer": lambda: timer.start(60_000),
        "thread": thread.start,
        "warning": lambda: qWarning("a warning of Qt"),
    }[what]
    watch = qt_hygiene.clean(qapp)
    watch.__enter__()
    leave()
    with pytest.raises(AssertionError, match=what):
        watch.__exit__(None, None, None)
    timer.stop()
    thread.quit()
    thread.wait()
