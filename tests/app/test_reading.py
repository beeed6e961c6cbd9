"""What the reader is told while the verdict on an image is awaited."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from PySide6.QtCore import QObject, Signal
from pytestqt.qtbot import QtBot

from app.engine import Engine
from app.model.case import CaseModel
from app.model.studies import StudyList
from app.window.reading import Reading
from tests.app import cases
from xai_engine.runtime.run import Progress


class FakeTask(QObject):
    progressed = Signal(object)
    done = Signal(object)
    failed = Signal(object, str)
    cancelled = Signal()
    partial = Signal(object)
    ended = Signal()
    title = "RISE"
    lost = False


class FakeEngine(QObject):
    started = Signal(object)
    worker_died = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.loading = FakeTask()
        self.ahead = ""
        self.verdicts: list[FakeTask] = []

    def warm_up(self) -> FakeTask:
        return self.loading

    def predict(self, _radiograph: Any, quiet: bool = False) -> FakeTask:
        self.verdicts.append(FakeTask())
        return self.verdicts[-1]

    def ahead_of(self, _task: FakeTask) -> str:
        return self.ahead

    def explain(self, *_asked: Any) -> FakeTask:
        self.verdicts.append(FakeTask())
        return self.verdicts[-1]

    def read(self, _path: Path, quiet: bool = False) -> FakeTask:
        return FakeTask()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def reading(qtbot: QtBot, case: CaseModel, engine: FakeEngine) -> Iterator[Reading]:
    parent = QObject()
    yield Reading(case, StudyList(), cast(Engine, engine), parent)
    case.set_radiograph(None)


@pytest.fixture
def told(reading: Reading) -> list[str]:
    words: list[str] = []
    reading.busy.connect(words.append)
    return words


def progress(message: str) -> Progress:
    return Progress(0.5, message, 1.0, None)


def test_it_says_at_once_that_it_classifies_and_then_what_it_does(
    reading: Reading, engine: FakeEngine, told: list[str]
) -> None:
    reading.predict()
    assert told == ["Classifying …"]  # before the engine has answered
    engine.verdicts[0].progressed.emit(progress("finding the lungs"))
    engine.verdicts[0].progressed.emit(progress(""))
    assert told[1:] == ["Finding the lungs …", "Classifying …"]
    engine.verdicts[0].ended.emit()
    engine.verdicts[0].progressed.emit(progress("late"))
    assert len(told) == 3


def test_it_says_what_the_verdict_waits_for(reading: Reading, engine: FakeEngine, told: list[str]) -> None:
    engine.ahead = "RISE"
    reading.predict()
    assert told == ["Waiting for: RISE …"]
    engine.verdicts[0].progressed.emit(progress("classifying"))
    assert told[1:] == ["Classifying …"]


def test_what_a_file_has_against_it_is_said_of_the_image_on_the_screen_only(
    reading: Reading, case: CaseModel, engine: FakeEngine
) -> None:
    said: list[str] = []
    reading.noticed.connect(said.append)
    odd = cases.radiograph(cases.noise(8, 8), sha256="1" * 64, notices=("The spacing was ignored.",))
    reading.show(Path("odd.dcm"))
    reading._read(Path("other.dcm"), odd)  # read ahead
    assert said == []
    reading._read(Path("odd.dcm"), odd)
    assert said == ["The spacing was ignored."]


def test_while_the_model_is_loaded_it_says_so(reading: Reading, engine: FakeEngine, told: list[str]) -> None:
    reading.warm_up()
    engine.loading.progressed.emit(progress("loading the lung model"))
    assert told == []  # nobody waits for a verdict
    reading.predict()
    engine.loading.progressed.emit(progress("trying the model"))
    assert told == ["Loading the lung model …", "Trying the model …"]
    engine.loading.ended.emit()
    engine.verdicts[0].ended.emit()
    reading.predict()
    assert told[-1] == "Classifying …"


def test_another_image_says_nothing_about_this_one(
    reading: Reading, case: CaseModel, engine: FakeEngine, told: list[str]
) -> None:
    reading.predict()
    case.set_radiograph(cases.radiograph(cases.noise(8, 8), sha256="1" * 64))
    reading.predict()
    told.clear()
    engine.verdicts[0].progressed.emit(progress("finding the lungs"))
    assert told == []
    engine.verdicts[1].progressed.emit(progress("finding the lungs"))
    assert told == ["Finding the lungs …"]


def test_a_lost_process_is_told_once(reading: Reading, engine: FakeEngine) -> None:
    said: list[str] = []
    reading.message.connect(lambda text, _kind, _details: said.append(text))
    for lost in (True, False):
        reading.explain("rise", "RISE", {}, None, 0)
        task = engine.verdicts[-1]
        task.lost = lost
        task.failed.emit("out of order", "")
        if lost:
            engine.worker_died.emit("engine", task.title)
    assert len(said) == 2
    assert "Lost: “RISE”" in said[0]
    assert said[1] == "RISE: out of order"
