"""The bar of running jobs and the message bar."""

from __future__ import annotations

from typing import Any, cast

import pytest
from PySide6.QtCore import QEvent, QObject, QPointF, Qt, QTimer, Signal
from PySide6.QtGui import QEnterEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.engine import Task
from app.panels import jobs
from app.panels.jobs import JobsBar, remaining
from app.panels.messages import NOTICE_MS, MessageBar
from xai_engine.runtime.run import Progress


class FakeTask(QObject):
    """What the bar sees of a task."""

    progressed = Signal(object)
    ended = Signal()

    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title
        self.cancels = 0

    def cancel(self) -> None:
        self.cancels += 1


def add(bar: JobsBar, title: str) -> FakeTask:
    task = FakeTask(title)
    bar.add(cast(Task, task))
    return task


def progress(fraction: float, left: float | None = None) -> Progress:
    return Progress(fraction, "sample 420 of 1000", 1.0, left)


@pytest.fixture
def bar(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> JobsBar:
    monkeypatch.setattr(jobs, "PATIENCE_MS", 0)
    monkeypatch.setattr(jobs, "LINGER_MS", 0)
    widget = JobsBar()
    qtbot.addWidget(widget)
    return widget


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (float("nan"), ""),
        (0.2, "about 1 s left"),
        (12.2, "about 12 s left"),
        (89.4, "about 89 s left"),
        (119.0, "about 2 min left"),
        (600.0, "about 10 min left"),
    ],
)
def test_remaining_time_in_words(seconds: float | None, words: str) -> None:
    assert remaining(progress(0.5, seconds)) == words
    assert remaining(None) == ""


def test_a_job_comes_reports_and_goes(bar: JobsBar, qtbot: QtBot) -> None:
    task = add(bar, "LIME")
    qtbot.waitUntil(bar.isVisible)
    assert bar.title.text() == "LIME"
    assert not bar.bar.isTextVisible()  # nothing known yet
    task.progressed.emit(progress(0.42, 12.2))
    assert bar.bar.text() == "42 %"
    assert bar.bar.isTextVisible()
    assert bar.time.text() == "about 12 s left"
    assert not bar.others.isVisible()
    task.ended.emit()
    assert not bar.isVisible()
    assert bar.tasks == []


def test_short_jobs_are_not_shown(qtbot: QtBot) -> None:
    bar = JobsBar()
    qtbot.addWidget(bar)
    task = add(bar, "Reading")
    task.ended.emit()
    assert bar.isHidden()
    assert not any(timer.isActive() for timer in bar.findChildren(QTimer))


def test_it_comes_within_a_tenth_of_a_second_and_does_not_flash(qtbot: QtBot) -> None:
    bar = JobsBar()
    qtbot.addWidget(bar)
    assert jobs.PATIENCE_MS < 100
    task = add(bar, "Classifying")
    assert bar._patience.isActive()
    bar._patience.timeout.emit()
    assert bar.isVisible()
    task.progressed.emit(progress(0.3, 2.0))
    task.ended.emit()
    assert bar.isVisible()
    assert bar.bar.text() == "100 %"
    assert not bar.cancel.isEnabled()
    bar.cancel.click()
    second = add(bar, "LIME")  # takes its place at once
    assert bar.title.text() == "LIME"
    assert bar.cancel.isEnabled()
    bar._linger.timeout.emit()
    assert bar.isVisible()
    second.ended.emit()
    qtbot.waitUntil(bar.isHidden)
    assert not any(timer.isActive() for timer in bar.findChildren(QTimer))


def test_several_jobs(bar: JobsBar, qtbot: QtBot) -> None:
    first, second, third = (add(bar, title) for title in ("IG", "Grad-CAM", "a & b"))
    qtbot.waitUntil(bar.isVisible)
    second.progressed.emit(progress(0.1))
    assert bar.title.text() == "Grad-CAM"
    assert bar.others.text() == "+2 waiting"
    bar._menu.aboutToShow.emit()
    actions = bar._menu.actions()
    assert [each.text() for each in actions] == ["Cancel: IG", "Cancel: Grad-CAM", "Cancel: a && b"]
    actions[2].trigger()
    assert (first.cancels, second.cancels, third.cancels) == (0, 0, 1)
    third.ended.emit()
    actions[2].trigger()  # the list was open when the job ended
    assert third.cancels == 1
    assert bar.others.text() == "+1 waiting"
    second.ended.emit()
    assert bar.title.text() == "IG"
    assert not bar.others.isVisible()
    first.ended.emit()
    assert bar.isHidden()


def test_cancel_asks_once_and_says_so(bar: JobsBar, qtbot: QtBot) -> None:
    task = add(bar, "LIME")
    qtbot.waitUntil(bar.isVisible)
    QTest.mouseClick(bar.cancel, Qt.MouseButton.LeftButton)
    QTest.mouseClick(bar.cancel, Qt.MouseButton.LeftButton)
    assert task.cancels == 1
    assert bar.time.text() == "stopping …"
    task.progressed.emit(progress(0.9, 3.0))
    assert bar.time.text() == "stopping …"


def test_long_names_are_cut_and_html_is_text(bar: JobsBar, qtbot: QtBot) -> None:
    add(bar, "Reading " + "<b>long</b> " * 30)
    qtbot.waitUntil(bar.isVisible)
    assert "…" in bar.title.text()
    assert bar.title.sizeHint().width() <= jobs.LONGEST_TITLE + 4
    assert bar.title.textFormat() == Qt.TextFormat.PlainText
    assert "&lt;b&gt;long" in bar.toolTip()


def test_a_task_may_outlive_the_bar(qtbot: QtBot) -> None:
    bar = JobsBar()
    task = add(bar, "LIME")
    bar.deleteLater()
    QApplication.sendPostedEvents(bar, QEvent.Type.DeferredDelete)
    task.progressed.emit(progress(0.5))
    task.ended.emit()


@pytest.fixture
def messages(qtbot: QtBot) -> MessageBar:
    widget = MessageBar()
    qtbot.addWidget(widget)
    widget.resize(640, 200)
    return widget


def test_notices_go_by_themselves_errors_stay(messages: MessageBar) -> None:
    messages.show_message("saved")
    messages.show_message("broken", "error")
    messages.show_message("odd", "warning")
    notice, error, warning = messages.rows
    assert notice.life.isActive()
    assert notice.life.interval() == NOTICE_MS == 8000
    assert not error.life.isActive()
    assert not warning.life.isActive()
    notice.life.timeout.emit()
    assert messages.texts == ["broken", "odd"]
    assert not notice.life.isActive()


def test_a_notice_stays_while_it_is_read(messages: MessageBar) -> None:
    messages.show_message("saved", details="where")
    row = messages.rows[0]
    row.toggle.setChecked(True)
    assert row.more.isVisible()
    assert row.more.toPlainText() == "where"
    assert not row.life.isActive()
    row.toggle.setChecked(False)
    assert row.life.isActive()
    point = QPointF(3, 3)
    QApplication.sendEvent(row, QEnterEvent(point, point, point))
    assert not row.life.isActive()
    QApplication.sendEvent(row, QEvent(QEvent.Type.Leave))
    assert row.life.isActive()


def test_errors_are_not_pushed_out_by_notices(messages: MessageBar) -> None:
    messages.show_message("broken", "error")
    for number in range(5):
        messages.show_message(f"notice {number}")
    assert messages.texts == ["broken", "notice 3", "notice 4"]
    messages.show_message("broken", "error")
    assert messages.texts == ["notice 3", "notice 4", "broken"]


def test_close_by_button_and_escape(messages: MessageBar) -> None:
    messages.show_message("one", "error")
    messages.show_message("two", "error")
    messages.show_message("three", "error")
    QTest.mouseClick(messages.rows[0].close_button, Qt.MouseButton.LeftButton)
    assert messages.texts == ["two", "three"]
    QTest.keyClick(messages.rows[0].close_button, Qt.Key.Key_Escape)
    assert messages.texts == ["three"]
    assert messages.dismiss_latest()
    assert not messages.dismiss_latest()
    assert messages.isHidden()


def test_an_action_is_done_once(messages: MessageBar) -> None:
    done: list[Any] = []
    messages.show_message("no model", "error", action=("Try again", lambda: done.append(messages.texts)))
    QTest.mouseClick(messages.rows[0].action_button, Qt.MouseButton.LeftButton)
    assert done == [[]]


def test_html_in_messages_is_text(messages: MessageBar) -> None:
    messages.show_message("<b>photo</b>.dcm: not an image", "error", "<i>trace</i>")
    row = messages.rows[0]
    assert row.words.text() == "<b>photo</b>.dcm: not an image"
    assert row.words.textFormat() == Qt.TextFormat.PlainText
    assert row.more.toPlainText() == "<i>trace</i>"


def test_what_is_said_of_an_image_goes_with_it(messages: MessageBar) -> None:
    messages.show_message("its spacing is implausible", of_image=True)
    messages.show_message("saved")
    messages.show_message("broken", "error")
    messages.forget_image()
    assert messages.texts == ["saved", "broken"]
