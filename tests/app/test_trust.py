"""Trust: cards in their tab, the mark on every map, and who assesses what when."""

from __future__ import annotations

from typing import Any, cast

import pytest
from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.engine import Engine
from app.model.case import CaseModel
from app.model.trust import ASSESSING, NO_MAP, NOT_ASSESSED, mark
from app.panels.layers import LayersPanel
from app.panels.trust import TrustPanel
from app.window.reading import Reading
from app.window.record import review
from app.window.trust import Assessor
from tests.app import cards, cases
from tests.app.test_finding import prediction
from xai_engine.assess import verdict
from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.errors import RadiolucentError
from xai_engine.evidence import trust
from xai_engine.runtime.run import Progress

SHAPE = (60, 50)


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(*SHAPE)))
    for name in ("grad-cam", "lime", "integrated-gradients"):
        model.add_layer(cases.explanation(SHAPE, method=name))
    return model


@pytest.fixture
def panel(qtbot: QtBot, case: CaseModel) -> TrustPanel:
    widget = TrustPanel(case)
    qtbot.addWidget(widget)
    widget.resize(300, 900)
    widget.show()
    QApplication.processEvents()
    return widget


def texts(widget: QWidget) -> str:
    return "\n".join(each.text() for each in widget.findChildren(QLabel) if each.isVisible())


# ---- marks and numbers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "word", "tone"),
    [
        (cards.GOOD, "use", "good"),
        (cards.FAIR, "use with care", "warning"),
        (cards.POOR, "do not use", "error"),
    ],
)
def test_a_verdict_has_word_colour_and_icon_of_its_own(
    case: CaseModel, values: dict[str, float], word: str, tone: str
) -> None:
    case.set_card(case.layers[0].id, cards.card(values))
    state = mark(case.layers[0])
    assert (state.word, state.tone) == (word, tone)
    case.set_card(case.layers[0].id, cards.card(values, partial=True))
    assert mark(case.layers[0]).word.endswith("(partial)")


def test_a_map_without_a_card_says_so(case: CaseModel) -> None:
    assert mark(case.layers[0]) == NOT_ASSESSED
    assert mark(case.layers[0], assessing=True) == ASSESSING
    channel = case.add_layer(cases.explanation(SHAPE, method="channel-features-12"))
    assert mark(channel) == NO_MAP
    case.set_card(case.layers[0].id, cards.card(cards.GOOD))
    again = case.add_layer(cases.explanation(SHAPE, method="grad-cam"))
    assert again.card is None  # another map in its place: the old card is not its card


@pytest.mark.parametrize("name", verdict.LIMITS)
def test_limits_are_those_of_the_rule(name: str) -> None:
    limit, text = verdict.LIMITS[name], trust.limit(name)
    if name == "map_range":
        assert text == ""
        return
    words = text.removesuffix(" · decides").split()
    numbers = [
        float(word.rstrip(",").replace("−", "-")) for word in words if word[-2:].strip(",")[-1:].isdigit()
    ]
    assert numbers == [limit.good, limit.fair]
    assert text.endswith("decides") == limit.decisive
    assert text.startswith("good from" if limit.higher else "good up to")


def test_numbers_carry_unit_and_interval() -> None:
    found = Finding("agreement", 0.4123, "of ranks", "…", "good", lower=-0.1, upper=0.5)
    assert trust.value(found) == "0.412 of ranks  (−0.1 … 0.5)"
    assert trust.value(Finding("road", None, "logits", "…", "info")) == "could not be measured"
    assert trust.value(Finding("road", 0.01, "logits", "…", "poor")) == "0.01 logits"


# ---- the tab --------------------------------------------------------------------------------------------------------


def test_every_map_has_a_card_the_top_one_first(panel: TrustPanel, case: CaseModel) -> None:
    def order() -> list[str]:
        shown = sorted(panel.cards.values(), key=lambda c: c.mapTo(panel, c.rect().topLeft()).y())
        return [c.name.text() for c in shown]

    assert order() == ["Integrated Gradients", "LIME", "Grad Cam"]
    case.move_layer(case.layers[0].id, 2)
    QApplication.processEvents()
    assert order() == ["Grad Cam", "Integrated Gradients", "LIME"]
    for layer in case.layers:
        case.remove_layer(layer.id)
    assert panel.cards == {}
    assert panel.empty.isVisible()
    assert not panel.tools.isVisible()


def test_a_card_gives_reasons_then_measures_with_limits(panel: TrustPanel, case: CaseModel) -> None:
    layer = case.layers[-1]
    made = cards.card(cards.POOR)
    case.set_card(layer.id, made)
    QApplication.processEvents()
    shown = panel.cards[layer.id]
    assert shown.badge.word.text() == "do not use"
    assert all(reason in texts(shown) for reason in made.reasons)
    limits = trust.limit("faithfulness")
    assert limits not in texts(shown)
    assert shown.folds[0].button.text() == "Measures: 3 poor"
    QTest.keyClick(shown.folds[0].button, Qt.Key.Key_Space)
    QApplication.processEvents()
    assert f"0.4 standard deviations\n{limits}" in texts(shown)
    QTest.mouseClick(shown.folds[1].button, Qt.MouseButton.LeftButton)
    QApplication.processEvents()
    for part in (
        *made.notes,
        "quick assessment, 258 forward passes, 4.20 s, bf16, seed 0",
        "0.71  (0.6 … 0.8)",
    ):
        assert part in texts(shown)
    case.set_card(layer.id, cards.card(cards.GOOD, partial=True))
    QApplication.processEvents()
    assert shown.folds[0].button.isChecked()  # what was open stays open
    assert "Partial" in texts(shown)


def test_progress_and_cancel(panel: TrustPanel, case: CaseModel) -> None:
    asked: list[bool] = []
    panel.cancel_requested.connect(lambda: asked.append(True))
    assert not panel.busy.isVisible()
    case.set_assessing(frozenset([case.layers[0].id]))
    panel.show_progress(Progress(0.25, "testing the maps", 3.0, 9.0))
    assert panel.busy.isVisible()
    assert panel.bar.value() == 250
    assert panel.what.text() == "testing the maps · about 9 s left"
    assert panel.cards[case.layers[0].id].badge.word.text() == "being assessed"
    QTest.mouseClick(panel.cancel, Qt.MouseButton.LeftButton)
    assert asked == [True]
    case.set_assessing(frozenset())
    assert not panel.busy.isVisible()


def test_buttons_ask_for_all_maps_or_one(panel: TrustPanel, case: CaseModel) -> None:
    asked: list[tuple[Any, ...]] = []
    panel.assess_requested.connect(lambda *values: asked.append(values))
    for key in ("quick", "standard", "audit"):
        QTest.mouseClick(panel.buttons[key], Qt.MouseButton.LeftButton)
    panel.show_time("audit", 90.0)
    assert "90 s per map" in panel.buttons["audit"].toolTip()
    first = case.layers[-1].id
    from PySide6.QtWidgets import QPushButton

    QTest.mouseClick(panel.cards[first].findChildren(QPushButton)[0], Qt.MouseButton.LeftButton)
    assert asked == [("quick", None), ("standard", None), ("audit", None), ("quick", (first,))]


def test_nothing_sticks_out_at_300_pixels(panel: TrustPanel, case: CaseModel) -> None:
    for layer, values in zip(case.layers, (cards.GOOD, cards.FAIR, cards.POOR), strict=True):
        case.set_card(layer.id, cards.card(values))
        for fold in panel.cards[layer.id].folds:
            fold.button.setChecked(True)
    QApplication.processEvents()
    inner = panel.area.widget()
    assert inner is not None
    assert inner.minimumSizeHint().width() <= 290
    for label in [each for each in inner.findChildren(QLabel) if each.isVisible()]:
        assert label.mapTo(panel, label.rect().topRight()).x() < 300


def test_the_layer_card_shows_the_same_mark(qtbot: QtBot, case: CaseModel) -> None:
    layers = LayersPanel(case)
    qtbot.addWidget(layers)
    layers.show()
    asked: list[tuple[str, int]] = []
    layers.trust_requested.connect(lambda key: asked.append(("trust", key)))
    layers.read_requested.connect(lambda key: asked.append(("read", key)))
    layer = case.layers[-1]
    assert layers.cards[layer.id].badge.word.text() == "not assessed"
    made = cards.card(cards.FAIR)
    case.set_card(layer.id, made)
    one = layers.cards[layer.id]
    assert one.badge.word.text() == "use with care"
    assert one.badge.accessibleDescription() == "\n".join(made.reasons)
    for button in (one.why, one.read):
        assert button.focusPolicy() & Qt.FocusPolicy.TabFocus
        QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert asked == [("trust", layer.id), ("read", layer.id)]
    case.set_radiograph(None)


# ---- who assesses what, when ------------------------------------------------------------------------------------------


class FakeTask(QObject):
    progressed = Signal(object)
    done = Signal(object)
    failed = Signal(object, str)
    cancelled = Signal()
    ended = Signal()

    def __init__(self, worker: str, words: tuple[Any, ...] = ()) -> None:
        super().__init__()
        self.worker, self.words = worker, words
        self.cancels = 0
        self.lost = False

    def cancel(self) -> None:
        self.cancels += 1


class FakeWorker:
    name = "engine"
    busy = False


class FakeEngine(QObject):
    started = Signal(object)
    worker_died = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.engine = FakeWorker()
        self.asked: list[FakeTask] = []

    def assess(self, _radiograph: Any, explanations: Any, preset: str, seed: int) -> FakeTask:
        task = FakeTask("engine", ([e.method for e in explanations], preset, seed))
        self.asked.append(task)
        self.started.emit(task)
        return task


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def assessor(qtbot: QtBot, case: CaseModel, engine: FakeEngine) -> Any:
    from app.model.studies import StudyList

    parent = QObject()
    reading = Reading(case, StudyList(), cast(Engine, engine), parent)
    one = Assessor(case, reading, cast(Engine, engine), parent)
    one._timer.setInterval(0)
    yield one
    one.set_automatic(False)
    case.set_radiograph(None)


def finish(task: FakeTask, *made: ReliabilityCard) -> None:
    task.done.emit(made)
    task.ended.emit()


def test_new_maps_are_assessed_together_once_the_engine_is_idle(
    qtbot: QtBot, assessor: Assessor, case: CaseModel, engine: FakeEngine
) -> None:
    engine.engine.busy = True
    assessor.set_automatic(True)
    qtbot.wait(30)
    assert engine.asked == []
    engine.engine.busy = False
    qtbot.waitUntil(lambda: bool(engine.asked))
    task = engine.asked[0]
    assert task.words == (["grad-cam", "lime", "integrated-gradients"], "quick", 0)
    assert case.assessing == {layer.id for layer in case.layers}
    made = [cards.card(values) for values in (cards.GOOD, cards.FAIR, cards.POOR)]
    finish(task, *made)
    assert [layer.card for layer in case.layers] == made
    assert case.assessing == frozenset()
    case.add_layer(cases.explanation(SHAPE, method="rise"))
    qtbot.waitUntil(lambda: len(engine.asked) == 2)
    assert engine.asked[1].words[0] == ["rise"]


def test_it_gives_way_to_what_a_person_waits_for(
    qtbot: QtBot, assessor: Assessor, case: CaseModel, engine: FakeEngine
) -> None:
    assessor._plan()
    qtbot.waitUntil(lambda: bool(engine.asked))
    engine.started.emit(FakeTask("reader"))
    assert engine.asked[0].cancels == 0  # reading a file does not need the engine
    engine.engine.busy = True
    engine.started.emit(FakeTask("engine"))
    assert engine.asked[0].cancels == 1
    finish(engine.asked[0], *[cards.card(cards.GOOD, partial=True)] * 3)
    assert all(layer.card is None for layer in case.layers)  # begun again, so nothing half is shown
    engine.engine.busy = False
    qtbot.waitUntil(lambda: len(engine.asked) == 2)
    assert engine.asked[1].words == engine.asked[0].words


def test_what_a_person_cancels_stays_cancelled(
    qtbot: QtBot, assessor: Assessor, case: CaseModel, engine: FakeEngine
) -> None:
    assessor._plan()
    qtbot.waitUntil(lambda: bool(engine.asked))
    assessor.cancel()
    finish(engine.asked[0], *[cards.card(cards.GOOD, partial=True)] * 3)
    assert all(layer.card is not None and layer.card.partial for layer in case.layers)
    case.set_card(case.layers[0].id, None)
    case.changed.emit("layers")
    qtbot.wait(30)
    assert len(engine.asked) == 1
    assessor.assess("audit", [case.layers[0].id])
    assert engine.asked[1].words == (["grad-cam"], "audit", 0)
    engine.started.emit(FakeTask("engine"))
    assert engine.asked[1].cancels == 0  # asked for: it waits for nobody


def test_an_asked_assessment_replaces_a_running_one(
    qtbot: QtBot, assessor: Assessor, case: CaseModel, engine: FakeEngine
) -> None:
    assessor._plan()
    qtbot.waitUntil(lambda: bool(engine.asked))
    assessor.assess("standard")
    first, second = engine.asked
    assert first.cancels == 1
    first.done.emit([cards.card(cards.POOR, partial=True)] * 3)
    first.ended.emit()
    assert all(layer.card is None for layer in case.layers)
    assert case.assessing
    finish(second, *[cards.card(cards.GOOD, preset="standard")] * 3)
    assert {layer.card.preset for layer in case.layers if layer.card} == {"standard"}


def test_a_failure_is_said_once_and_not_tried_again(
    qtbot: QtBot, assessor: Assessor, case: CaseModel, engine: FakeEngine
) -> None:
    said: list[str] = []
    assessor.reading.message.connect(lambda text, _kind, _detail: said.append(text))
    assessor._plan()
    qtbot.waitUntil(lambda: bool(engine.asked))
    engine.asked[0].failed.emit(RadiolucentError("engine: no memory"), "")
    engine.asked[0].ended.emit()
    qtbot.wait(30)
    assert said == ["Reliability was not assessed: engine: no memory"]
    assert len(engine.asked) == 1
    assert case.assessing == frozenset()


def test_switched_off_nothing_is_assessed(
    qtbot: QtBot, assessor: Assessor, case: CaseModel, engine: FakeEngine
) -> None:
    assessor.set_automatic(False)
    case.add_layer(cases.explanation(SHAPE, method="rise"))
    qtbot.wait(30)
    assert engine.asked == []


# ---- the record -------------------------------------------------------------------------------------------------------


def test_the_record_holds_cards_and_no_activations(case: CaseModel) -> None:
    made = cards.card(cards.FAIR)
    case.set_card(case.layers[1].id, made)
    case.add_layer(cases.explanation(SHAPE, method="channel-features-12"))
    case.set_prediction(prediction())
    record = review(case, {}, "Dr. A", "clear")
    assert record is not None
    assert record.names() == ("grad-cam", "lime", "integrated-gradients")
    assert record.reliability == {"lime": made.to_json()}
