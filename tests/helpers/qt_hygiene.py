"""What every test with Qt must leave behind: no window, no running thread or timer, no warning of Qt."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from PySide6.QtCore import (
    QCoreApplication,
    QEvent,
    QMessageLogContext,
    QThread,
    QTimer,
    QtMsgType,
    qInstallMessageHandler,
)
from PySide6.QtWidgets import QApplication, QWidget
from shiboken6 import isValid

HARMLESS = (
    "This plugin does not support propagateSizeHints",  # the offscreen platform has no window manager
    "This plugin does not support raise()",
    "This plugin does not support grabbing the keyboard",
)
GRACE_S = 2.0


def _windows() -> set[QWidget]:
    return {w for w in QApplication.topLevelWidgets() if isValid(w)}


def _alive(kind: type) -> list:
    return [each for each in gc.get_objects() if isinstance(each, kind) and isValid(each)]


def _settle(seconds: float) -> Iterator[None]:
    """Yield until the time is up, letting Qt delete what it was told to delete."""
    end = time.monotonic() + seconds
    while True:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete.value)
        QApplication.processEvents()
        yield
        if time.monotonic() > end:
            return
        time.sleep(0.01)


def leaks(windows: set[QWidget], timers: set[int], seconds: float) -> list[str]:
    """What is left over, as sentences, after at most `seconds` of grace. windows, timers (ids): what was there before."""
    found: list[str] = []
    for attempt, _ in enumerate(_settle(seconds)):
        if attempt % 20 == 1:
            gc.collect()  # Python's side of a cycle keeps a widget without parent alive
        found = [f"window left open: {w!r}" for w in _windows() - windows]
        found += [
            f"thread still running: {t!r}"
            for t in _alive(QThread)
            if t.isRunning() and t is not QThread.currentThread()
        ]
        found += [
            f"timer still active: {t!r} of {t.parent()!r}"
            for t in _alive(QTimer)
            if t.isActive() and id(t) not in timers
        ]
        if not found:
            break
    return found


@contextmanager
def clean(qapp: QApplication) -> Iterator[None]:
    """Raises AssertionError at the end where something is left or Qt has warned."""
    said: list[str] = []

    def hear(kind: QtMsgType, _context: QMessageLogContext, text: str) -> None:
        if kind in (QtMsgType.QtDebugMsg, QtMsgType.QtInfoMsg) or text.startswith(HARMLESS):
            return
        said.append(text)

    windows = _windows()
    timers = {id(t) for t in _alive(QTimer) if t.isActive()}
    before = qInstallMessageHandler(hear)
    try:
        yield
        found = leaks(windows, timers, GRACE_S)
    finally:
        qInstallMessageHandler(before)
    found += [f"warning of Qt: {text}" for text in said]
    assert not found, os.linesep.join(found)
