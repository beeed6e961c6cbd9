"""The strongest channels as pictures: what is asked for, what is shown, what a click does."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.model.case import CaseModel
from app.panels.channels import ChannelsPanel, thumbnail
from tests.app import cases
from tests.app.test_finding import model
from xai_engine.explain.types import Explanation

SHAPE = (60, 50)


def channel(number: int, contribution: float) -> Explanation:
    return cases.explanation(
        SHAPE,
        method=f"channel-features-{number}",
        title=f"features · channel {number}",
        unit="activation",
        params={"layer": "features", "channel": number},
        extra={"channel": float(number), "contribution": contribution, "share": abs(contribution) / 2},
    )


@pytest.fixture
def case() -> CaseModel:
    one = CaseModel()
    one.set_radiograph(cases.radiograph(cases.noise(*SHAPE)))
    one.add_layer(cases.explanation(SHAPE, method="lime"))
    return one


@pytest.fixture
def panel(qtbot: QtBot, case: CaseModel) -> ChannelsPanel:
    widget = ChannelsPanel(case)
    qtbot.addWidget(widget)
    widget.resize(300, 700)
    widget.set_model(model())
    widget.set_enabled_for_image(True)
    widget.show()
    QApplication.processEvents()
    return widget


def test_it_asks_for_a_layer_and_a_count(panel: ChannelsPanel) -> None:
    asked: list[tuple[str, int]] = []
    panel.run_requested.connect(lambda *values: asked.append(values))
    assert panel.layer.currentText() == "automatic: features.norm5"
    QTest.mouseClick(panel.run, Qt.MouseButton.LeftButton)
    panel.layer.setCurrentIndex(panel.layer.findData("features.denseblock3"))
    panel.count.setValue(99)
    panel.set_model(model())  # the engine has started anew
    panel.run.click()
    assert asked == [("", 12), ("features.denseblock3", 64)]


def test_pictures_carry_contributions_and_a_click_lays_one_over_the_image(
    panel: ChannelsPanel, case: CaseModel
) -> None:
    panel.set_busy()
    assert not panel.run.isEnabled()
    found = [channel(7, 1.2), channel(3, -0.4), channel(5, 0.1)]
    panel.show_channels(found)
    QApplication.processEvents()
    assert [button.text() for button in panel.buttons] == ["+1.20", "−0.40", "+0.10"]
    assert "these 3 channels make 85 %" in panel.state.text()
    assert (
        panel.buttons[1].accessibleName() == "features · channel 3: −0.40 logits, 20.0 % of all contributions"
    )
    QTest.mouseClick(panel.buttons[1], Qt.MouseButton.LeftButton)
    assert [layer.explanation for layer in case.layers if layer.visible] == [found[1]]
    QTest.keyClick(panel.buttons[0], Qt.Key.Key_Space)  # one channel at a time
    assert [layer.explanation.method for layer in case.layers] == ["lime", "channel-features-7"]
    assert [button.isChecked() for button in panel.buttons] == [True, False, False]
    case.remove_layer(case.layers[-1].id)
    assert not panel.buttons[0].isChecked()
    QTest.mouseClick(panel.buttons[2], Qt.MouseButton.LeftButton)
    QTest.mouseClick(panel.buttons[2], Qt.MouseButton.LeftButton)
    assert [layer.explanation.method for layer in case.layers] == ["lime"]
    case.set_radiograph(None)
    assert panel.buttons == []


def test_a_failure_leaves_the_panel_usable(panel: ChannelsPanel) -> None:
    panel.set_busy()
    panel.set_failed("layer 'x': unknown")
    assert panel.run.isEnabled()
    assert panel.state.text() == "layer 'x': unknown"
    panel.set_enabled_for_image(False, "Open a radiograph first.")
    assert not panel.run.isEnabled()
    assert panel.state.text() == "Open a radiograph first."


def test_a_picture_has_the_shape_of_the_radiograph(case: CaseModel) -> None:
    picture = thumbnail(case, channel(1, 0.5), side=30)
    assert (picture.height(), picture.width()) == (30, 25)


def test_nothing_sticks_out_at_300_pixels(panel: ChannelsPanel) -> None:
    panel.show_channels([channel(number, 0.1) for number in range(12)])
    QApplication.processEvents()
    assert all(button.mapTo(panel, button.rect().topRight()).x() < 300 for button in panel.buttons)
