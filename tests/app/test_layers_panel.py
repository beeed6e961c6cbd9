"""The layers panel: every control changes the model, every change of the model reaches the controls."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractSlider, QApplication, QLabel
from pytestqt.qtbot import QtBot

from app.model.case import CaseModel
from app.panels.layers import LayerCard, LayersPanel
from tests.app import cases
from xai_engine.radiograph.colour import LayerStyle

SHAPE = (60, 50)


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(*SHAPE)))
    model.add_layer(cases.explanation(SHAPE, method="grad-cam"))
    model.add_layer(cases.explanation(SHAPE, method="lime"))
    return model


@pytest.fixture
def panel(qtbot: QtBot, case: CaseModel) -> LayersPanel:
    widget = LayersPanel(case)
    qtbot.addWidget(widget)
    widget.resize(300, 700)
    widget.show()
    QApplication.processEvents()
    return widget


def card(panel: LayersPanel, case: CaseModel, index: int = -1) -> LayerCard:
    return panel.cards[case.layers[index].id]


def test_the_top_map_comes_first(panel: LayersPanel, case: CaseModel) -> None:
    def order() -> list[str]:
        shown = sorted(panel.cards.values(), key=lambda c: c.mapTo(panel, QPoint(0, 0)).y())
        return [c.visible_box.text() for c in shown]

    assert order() == ["LIME", "Grad Cam"]
    QTest.mouseClick(card(panel, case, 0).up, Qt.MouseButton.LeftButton)
    QApplication.processEvents()
    assert [layer.title for layer in case.layers] == ["LIME", "Grad Cam"]
    assert order() == ["Grad Cam", "LIME"]
    assert not card(panel, case, -1).up.isEnabled()
    assert not card(panel, case, 0).down.isEnabled()


def test_controls_change_the_style(panel: LayersPanel, case: CaseModel) -> None:
    one = card(panel, case)
    one.opacity.slider.setValue(25)
    one.threshold.slider.setValue(40)
    for box, value in ((one.mode, "contour"), (one.sign, "negative"), (one.colours, "purple-green")):
        box.setCurrentIndex(box.findData(value))
        box.activated.emit(box.currentIndex())
    assert case.layers[-1].style == LayerStyle("purple-green", 0.25, 0.4, "contour", "negative")
    assert case.layers[0].style == LayerStyle()
    assert any(label.text() == "25 %" for label in one.opacity.findChildren(QLabel))
    QTest.keyClick(one.visible_box, Qt.Key.Key_Space)
    assert not case.layers[-1].visible


def test_the_model_changes_the_controls(panel: LayersPanel, case: CaseModel) -> None:
    layer = case.layers[0]
    case.set_style(layer.id, LayerStyle("magma", 0.8, 0.15, "contour", "positive"))
    case.set_visible(layer.id, False)
    one = card(panel, case, 0)
    assert (one.opacity.slider.value(), one.threshold.slider.value()) == (80, 15)
    assert [box.currentData() for box in (one.mode, one.sign, one.colours)] == [
        "contour",
        "positive",
        "magma",
    ]
    assert not one.visible_box.isChecked()
    case.undo()
    assert one.opacity.slider.value() == 60


def test_a_drag_of_a_slider_is_one_step_of_undo(panel: LayersPanel, case: CaseModel) -> None:
    slider = card(panel, case).opacity.slider
    slider.setSliderDown(True)
    for value in (10, 20, 30):
        slider.setSliderPosition(value)
        slider.triggerAction(QAbstractSlider.SliderAction.SliderMove)
    slider.setSliderDown(False)
    assert case.layers[-1].style.opacity == 0.3
    case.undo()
    assert case.layers[-1].style.opacity == 0.6
    assert not case.can_undo


def test_a_map_removed_in_mid_drag_leaves_the_model_usable(panel: LayersPanel, case: CaseModel) -> None:
    card(panel, case).opacity.slider.setSliderDown(True)
    QTest.mouseClick(card(panel, case).remove, Qt.MouseButton.LeftButton)
    assert len(case.layers) == 1
    assert not case.editing


def test_a_map_says_what_is_wrong_with_it(panel: LayersPanel, case: CaseModel) -> None:
    case.add_layer(
        cases.explanation(SHAPE, method="lime", partial=True, converged=False, notes=("Fell back to fp32.",))
    )
    QApplication.processEvents()
    note = card(panel, case).note
    assert note.isVisible()
    assert note.text().splitlines() == [
        "Not converged: more samples or steps would change it.",
        "Partial: stopped before it was finished.",
        "Fell back to fp32.",
    ]
    assert not card(panel, case, 0).note.isVisible()


def test_the_tooltip_holds_parameters_and_cost(panel: LayersPanel, case: CaseModel) -> None:
    text = card(panel, case).toolTip()
    for part in (
        "steps: 64",
        "baseline: black",
        "seed: 0",
        "completeness error: 0.4 %",
        "64 forward passes, 64 backward",
    ):
        assert part in text


def test_hide_all_and_back(panel: LayersPanel, case: CaseModel) -> None:
    QTest.mouseClick(panel.hide_button, Qt.MouseButton.LeftButton)
    assert not any(layer.visible for layer in case.layers)
    assert panel.hide_button.text() == "Show"
    QTest.mouseClick(panel.hide_button, Qt.MouseButton.LeftButton)
    assert all(layer.visible for layer in case.layers)


def test_nothing_sticks_out_at_300_pixels(panel: LayersPanel, case: CaseModel) -> None:
    for one in panel.cards.values():
        assert one.minimumSizeHint().width() <= 280
        assert one.geometry().right() <= 300


def test_every_control_can_be_reached_and_has_a_name(panel: LayersPanel, case: CaseModel) -> None:
    one = card(panel, case)
    controls: list[Any] = [
        one.visible_box,
        one.remove,
        one.opacity.slider,
        one.threshold.slider,
        one.mode,
        one.sign,
        one.colours,
    ]
    for control in controls:
        assert control.accessibleName()
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus


def test_the_wheel_over_a_box_does_not_change_it(panel: LayersPanel, case: CaseModel) -> None:
    from tests.app.canvas_hands import wheel

    wheel(card(panel, case).colours, 5, 5, -120)  # type: ignore[arg-type]
    assert case.layers[-1].style == LayerStyle()


def test_a_new_image_empties_the_panel(panel: LayersPanel, case: CaseModel) -> None:
    case.set_radiograph(None)
    assert panel.cards == {}
    assert not panel.hide_button.isVisible()


def test_a_long_title_ends_in_dots_and_comes_back_with_the_room(panel: LayersPanel, case: CaseModel) -> None:
    long = "Layer-wise relevance propagation, composite rules"
    case.add_layer(replace(cases.explanation((20, 20), method="lrp"), title=long))
    QApplication.processEvents()
    box = card(panel, case).visible_box
    assert box.text().endswith("…")
    assert long.startswith(box.text()[:-1])
    assert box.fontMetrics().horizontalAdvance(box.text()) < box.width()
    assert long in card(panel, case).toolTip()
    panel.resize(900, panel.height())
    QApplication.processEvents()
    assert box.text() == long


def test_it_says_that_the_first_map_is_on_its_way(panel: LayersPanel, case: CaseModel) -> None:
    def told() -> str:
        return " ".join(label.text() for label in panel.findChildren(QLabel) if label.isVisible())

    panel.set_computing(3)
    assert "being computed" not in told()  # maps are there
    for layer in case.layers:
        case.remove_layer(layer.id)
    assert "The first map is being computed" in told()
    assert "No maps yet" not in told()
    panel.set_computing(0)
    assert "No maps yet" in told()
