"""A whole reading with trust: quick maps, their cards by themselves, compared, read about, put on record."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.model.trust import mark
from tests.e2e.driver import Driver
from xai_engine.explain import registry


def test_maps_carry_their_trust_everywhere(driver: Driver, consolidation: Path, tmp_path: Path) -> None:
    driver.open(consolidation)
    driver.wait_idle()
    window, case = driver.window, driver.window.case
    if not window.commands.actions["quick"].isEnabled():
        pytest.skip("the model in use refuses the sample")
    QTest.keyClick(window.canvas, Qt.Key.Key_3)  # a window of its own choice
    assessor = window.map_commands.assessor
    assessor.set_automatic(True)
    try:
        QTest.mouseClick(window.explain_panel.presets["quick"], Qt.MouseButton.LeftButton)
        quick = next(each for each in registry.presets() if each.name == "quick")
        wanted = [name for name, _ in quick.methods]
        driver.until(lambda: len(case.layers) == len(wanted) and not window.jobs.tasks, "the quick maps")
        # it begins by itself; on a fast machine it may be over by now
        words = {mark(layer, True).word for layer in case.layers}
        assert words <= {"being assessed", "use", "use with care", "do not use"}
        driver.until(lambda: all(layer.card is not None for layer in case.layers), "the cards")
        driver.wait_idle()
    finally:
        assessor.set_automatic(False)
    words = {layer.title: mark(layer).word for layer in case.layers}
    assert set(words.values()) <= {"use", "use with care", "do not use"}

    driver.do("compare")
    heads = {
        cell.title.text().split(" · ")[0]: cell.badge.word.text()
        for cell in window.views.cells
        if cell.badge.isVisible()
    }
    assert heads == words
    driver.do("trust")
    assert window.inspector.currentWidget() is window.trust
    assert {card.name.text(): card.badge.word.text() for card in window.trust.cards.values()} == words
    top = case.layers[-1]
    QTest.mouseClick(window.trust.cards[top.id].read, Qt.MouseButton.LeftButton)
    page = window.map_commands.page
    assert page.isVisible()
    assert page.title.text() == top.title
    QTest.keyClick(page, Qt.Key.Key_Escape)
    assert not page.isVisible()

    window.channels.count.setValue(6)
    QTest.mouseClick(window.channels.run, Qt.MouseButton.LeftButton)
    driver.until(lambda: window.channels.found, "the strongest channels")
    before = driver.picture()
    window.channels.buttons[0].click()
    QApplication.processEvents()
    assert (driver.picture() != before).any()
    assert mark(case.layers[-1]).word == "no explanation"

    window.engine.write(window.reading.review("Dr. A", ""), tmp_path / "out", False, "A4")  # type: ignore[arg-type]
    driver.wait_idle()
    record = json.loads((tmp_path / "out" / "analysis.json").read_text(encoding="utf-8"))
    assert [each["method"] for each in record["explanations"]] == wanted
    titles = {name: registry.method_class(name).title for name in wanted}
    verdicts = {titles[e["method"]]: e["reliability"]["verdict"] for e in record["explanations"]}
    assert verdicts == words


def test_a_stopped_assessment_is_partial_and_never_says_use(driver: Driver, consolidation: Path) -> None:
    driver.open(consolidation)
    driver.wait_idle()
    window, case = driver.window, driver.window.case
    if not window.commands.actions["standard"].isEnabled():
        pytest.skip("the model in use refuses the sample")
    window.explain_panel.run_requested.emit("grad-cam", {}, None, 0)
    driver.until(lambda: len(case.layers) == 1, "a map")
    driver.wait_idle()
    QTest.mouseClick(window.trust.buttons["audit"], Qt.MouseButton.LeftButton)
    driver.until(lambda: window.trust.bar.value() > 0, "progress of the audit")
    QTest.mouseClick(window.trust.cancel, Qt.MouseButton.LeftButton)
    driver.wait_idle()
    card = case.layers[0].card
    if card is not None:  # none where it was stopped before anything was found
        assert card.partial
        assert card.verdict != "use"
    assert not case.assessing
