"""The finding panel: what it says of a prediction, and what it keeps to itself."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from app.model.case import CaseModel
from app.panels import finding
from app.panels.finding import FindingPanel
from app.theme import current_tokens
from tests.app import cases
from xai_engine.classifier.types import ConformalLimits, ModelInfo, OperatingPoint, Prediction

POINT = OperatingPoint(
    "balanced", 0.53, (0.95, 0.91, 0.97), (0.90, 0.85, 0.93), "validation images, children"
)


def model(**changes: Any) -> ModelInfo:
    fields: dict[str, Any] = {
        "name": "pneumonia-cxr",
        "version": "0.3.0",
        "sha256": "ab" * 32,
        "title": "Pneumonia on chest radiographs",
        "architecture": "DenseNet-121",
        "classes": ("normal", "pneumonia"),
        "input_shape": (1, 224, 224),
        "intended_use": "Research.",
        "limitations": ("Not for lateral views.", "Adults: see the card."),
        "training_data": ("Kermany",),
        "operating_points": (POINT, replace(POINT, name="sensitive", threshold=0.2)),
        "metrics": {},
        "layers": ("features.denseblock3", "features.norm5"),
        "default_layer": "features.norm5",
        "parameters": 7_000_000,
        "map_scales": {"grad-cam": 1.0},
    }
    return ModelInfo(**{**fields, **changes})


def prediction(**changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "label": "pneumonia",
        "probability": 0.874,
        "logit": 1.94,
        "threshold": 0.53,
        "uncertainty": 0.031,
        "operating_point": POINT,
        "readable": True,
        "refusal": "",
        "model": model(),
        "device": "cpu",
        "precision": "fp32",
        "seconds": 0.1,
    }
    return Prediction(**{**fields, **changes})


@pytest.fixture
def case() -> CaseModel:
    one = CaseModel()
    one.set_radiograph(cases.radiograph(cases.noise(20, 20)))
    return one


@pytest.fixture
def panel(qtbot: QtBot, case: CaseModel) -> FindingPanel:
    widget = FindingPanel(case)
    qtbot.addWidget(widget)
    widget.resize(300, 700)
    widget.show()
    QApplication.processEvents()
    return widget


def seen(panel: FindingPanel) -> str:
    """All text that is on the screen."""
    return "\n".join(label.text() for label in panel.findChildren(QLabel) if label.isVisible())


def test_a_positive_finding(panel: FindingPanel, case: CaseModel) -> None:
    case.set_prediction(prediction())
    text = seen(panel)
    assert panel.verdict.text() == "Opacity suggesting pneumonia"
    assert panel.number.text() == "0.874"
    assert "± 0.031" in text
    assert "logit +1.94" in text
    assert "Pneumonia on chest radiographs 0.3.0" in text
    assert finding.RESEARCH in text


def test_a_negative_finding_and_the_ends_of_the_scale(panel: FindingPanel, case: CaseModel) -> None:
    case.set_prediction(prediction(label="normal", probability=0.0001, logit=-9.21, uncertainty=0.0001))
    assert panel.verdict.text() == "No opacity suggesting pneumonia"
    assert panel.number.text() == "<0.001"
    assert "± <0.001" in panel.spread.text()
    assert "−9.21" in panel.spread.text()


def test_the_prediction_set_stands_below_the_score(panel: FindingPanel, case: CaseModel) -> None:
    limited = model(
        conformal=ConformalLimits(0.1, (0.9, 0.9), "validation images"),
        metrics={"adults_coverage": "0.926 (0.839–0.968)"},
    )
    case.set_prediction(prediction(model=limited, prediction_set=("normal", "pneumonia")))
    assert panel.held.text() == "Cannot rule out: normal, pneumonia (error rate 10 %)"
    assert panel.held.isVisible()
    assert "adults 0.926 (0.839–0.968)" in panel.held.toolTip()
    assert "adults 0.926 (0.839–0.968)" in seen(panel)
    panel.set_blind(True)
    assert "rule out" not in seen(panel)
    assert "0.926" not in seen(panel)
    panel.set_impression("none")
    assert panel.held.isVisible()
    case.set_prediction(prediction())  # of a bundle without limits
    assert not panel.held.isVisible()
    assert "set of classes" not in seen(panel)


def test_the_operating_point_in_natural_frequencies() -> None:
    assert finding.meaning(POINT) == (
        "At the threshold 0.530 the model finds 95 (91–97) of 100 with pneumonia and clears 90 (85–93) of 100 without. "
        "In brackets: 95 % interval. Measured on: validation images, children."
    )
    nan = float("nan")
    unknown = replace(POINT, sensitivity=(nan, nan, nan), specificity=(0.9, nan, nan))
    assert "finds an unknown number of 100 with" in finding.meaning(unknown)
    assert "clears 90 of 100 without" in finding.meaning(unknown)


def test_a_refused_image_shows_no_number(panel: FindingPanel, case: CaseModel) -> None:
    case.set_prediction(prediction())
    case.set_prediction(prediction(readable=False, refusal="this is not a chest radiograph"))
    text = seen(panel)
    assert "This image cannot be judged: this is not a chest radiograph" in text
    assert "0.874" not in text
    assert "pneumonia" not in text
    assert not panel.bar.isVisible()


def test_busy_and_error_take_the_place_of_an_old_verdict(panel: FindingPanel, case: CaseModel) -> None:
    assert panel.state.text() == "Waiting for the classifier …"
    panel.set_busy("Classifying …")
    assert panel.state.text() == "Classifying …"
    panel.set_error("the model file was altered")
    assert panel.state.text() == "No verdict: the model file was altered"
    assert panel.state.property("tone") == "error"
    tried: list[int] = []
    panel.retry.connect(lambda: tried.append(1))
    QTest.mouseClick(panel.again, Qt.MouseButton.LeftButton)
    assert tried == [1]
    case.set_prediction(prediction())
    assert panel.number.isVisible()
    assert not panel.state.isVisible()
    assert not panel.again.isVisible()
    panel.set_busy("Classifying again …")
    assert "0.874" not in seen(panel)
    case.set_radiograph(None)
    assert panel.state.text() == "No image is open."


def test_limits_fold(panel: FindingPanel, case: CaseModel) -> None:
    case.set_prediction(prediction())
    assert not panel.limits.isVisible()
    panel.limits_button.setFocus()
    QTest.keyClick(panel.limits_button, Qt.Key.Key_Space)
    assert panel.limits.isVisible()
    assert panel.limits.text() == "• Not for lateral views.\n• Adults: see the card."


def test_blind_reading(panel: FindingPanel, case: CaseModel) -> None:
    said: list[str] = []
    panel.impression_changed.connect(said.append)
    panel.set_blind(True)
    case.set_prediction(prediction())
    text = seen(panel)
    for hidden in ("0.874", "Opacity", "logit", "threshold"):
        assert hidden not in text
    assert panel.hidden
    assert not panel.bar.isVisible()
    assert not panel.blind_form.reveal.isEnabled()
    QTest.keyClicks(panel.blind_form.words, "  ")
    assert not panel.blind_form.reveal.isEnabled()
    QTest.keyClicks(panel.blind_form.words, "dense right base")
    QTest.mouseClick(panel.blind_form.reveal, Qt.MouseButton.LeftButton)
    assert panel.impression.startswith("dense right base (recorded 20")
    assert said == [panel.impression]
    assert panel.number.isVisible()
    assert panel.impression in seen(panel)
    case.set_radiograph(cases.radiograph(cases.noise(20, 20)))
    assert panel.impression == ""
    assert len(said) == 1  # who keeps impressions by image must not be told of an empty one
    case.set_prediction(prediction())
    assert panel.hidden
    assert "0.874" not in seen(panel)
    panel.blind_form.group.button(1).click()
    QTest.keyClick(panel.blind_form.words, Qt.Key.Key_Return)
    assert panel.impression.startswith("No pneumonia. (recorded")


def test_blind_reading_hides_refusal_and_failure_too(panel: FindingPanel, case: CaseModel) -> None:
    panel.set_blind(True)
    case.set_prediction(prediction(readable=False, refusal="too dark"))
    assert "too dark" not in seen(panel)
    panel.set_error("broken")
    assert "broken" not in seen(panel)
    assert not panel.again.isVisible()
    panel.set_blind(False)
    assert "broken" in seen(panel)


@pytest.mark.parametrize("probability", [0.25, 0.75])
def test_the_bar_is_filled_as_far_as_the_probability(
    panel: FindingPanel, case: CaseModel, probability: float
) -> None:
    case.set_prediction(prediction(probability=probability, uncertainty=0.0))
    QApplication.processEvents()
    image = panel.bar.grab().toImage()
    ratio = image.devicePixelRatio()
    y = round((panel.bar.fontMetrics().height() + 6 + 2.5) * ratio)
    fill = QColor(current_tokens().positive if probability > 0.53 else current_tokens().accent)
    filled = [x for x in range(image.width()) if image.pixelColor(x, y) == fill]
    end = 6 + (panel.bar.width() - 12) * probability
    assert abs(max(filled) / ratio - end) <= 4  # the mark of the band lies on the end


def test_numbers_that_do_not_exist_do_not_stop_the_painting(panel: FindingPanel, case: CaseModel) -> None:
    case.set_prediction(prediction(uncertainty=float("nan")))
    panel.bar.grab()
    assert "± –" in panel.spread.text()


def test_html_is_shown_not_obeyed(panel: FindingPanel, case: CaseModel) -> None:
    evil = model(title="<b>Bold</b>", intended_use="<img src=x>")
    case.set_prediction(prediction(model=evil))
    assert panel.model_line.textFormat() == Qt.TextFormat.PlainText
    assert "<b>Bold</b>" in panel.model_line.text()
    assert "&lt;img src=x>" in panel.model_line.toolTip() or "&lt;img src=x&gt;" in panel.model_line.toolTip()


def test_nothing_sticks_out_at_300_pixels(panel: FindingPanel, case: CaseModel) -> None:
    case.set_prediction(prediction())
    panel.limits_button.setChecked(True)
    QApplication.processEvents()
    for label in panel.findChildren(QLabel):
        if label.isVisible():
            assert label.mapTo(panel, label.rect().topRight()).x() <= 300
            assert label.heightForWidth(label.width()) <= label.height() + 1
