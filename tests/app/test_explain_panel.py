"""The forms of the methods: what is asked for is what the registry says, and nothing is lost on the way."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLabel,
    QPushButton,
    QScrollArea,
    QSpinBox,
)
from pytestqt.qtbot import QtBot

from app.panels.explain import ExplainPanel
from tests.app.test_finding import model
from xai_engine.explain import registry


@pytest.fixture
def panel(qtbot: QtBot) -> ExplainPanel:
    widget = ExplainPanel()
    qtbot.addWidget(widget)
    widget.resize(300, 800)
    widget.set_model(model())
    widget.set_enabled_for_image(True)
    widget.show()
    QApplication.processEvents()
    return widget


@pytest.fixture
def runs(panel: ExplainPanel) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []
    panel.run_requested.connect(lambda *values: asked.append(values))
    return asked


@pytest.mark.parametrize("name", registry.names())
def test_untouched_forms_give_the_defaults_of_the_registry(
    panel: ExplainPanel, runs: list[tuple[Any, ...]], name: str
) -> None:
    panel.show_method(name)
    QTest.mouseClick(panel.run, Qt.MouseButton.LeftButton)
    method, params, target, seed = runs[-1]
    assert (method, target, seed) == (name, "pneumonia", 0)
    assert registry.create(name, **params) == registry.create(name)
    for key, value in params.items():
        assert type(value) is type(getattr(registry.create(name), key)), key


@pytest.mark.parametrize("name", registry.names())
def test_fields_hold_the_range_of_the_registry(panel: ExplainPanel, name: str) -> None:
    panel.show_method(name)
    about = next(each for each in registry.describe() if each.name == name)
    for each in about.parameters:
        widget = panel.form.fields[each.name].widget
        assert each.meaning.split("<")[0][:20] in widget.toolTip()
        if isinstance(widget, QSpinBox | QDoubleSpinBox):
            assert (widget.minimum(), widget.maximum()) == (each.low, each.high)
            if each.unit and len(each.unit) <= 12:
                assert widget.suffix() == f" {each.unit}"
        elif each.choices:
            assert isinstance(widget, QComboBox)
            assert tuple(widget.itemData(i) for i in range(widget.count())) == each.choices


def test_methods_stand_under_their_families(panel: ExplainPanel) -> None:
    entries = [
        (panel.choice.itemText(i).strip(), panel.choice.itemData(i)) for i in range(panel.choice.count())
    ]
    title = {
        "gradient": "Gradients",
        "activation": "Activations",
        "propagation": "Propagation rules",
        "perturbation": "Perturbation",
        "attention": "Attention",
        "consensus": "Consensus of methods",
    }
    families = {each.name: title[each.family] for each in registry.describe()}
    found, headings = {}, []
    for number, (text, name) in enumerate(entries):
        if name is None:
            headings.append(text)
            flags = panel.choice.model().index(number, 0).flags()
            assert not flags & Qt.ItemFlag.ItemIsEnabled  # a heading cannot be chosen
        else:
            found[name] = headings[-1]
    assert found == families
    assert headings == list(dict.fromkeys(families.values()))
    assert panel.choice.currentData() == registry.names()[0]


def test_what_is_entered_is_what_is_asked(panel: ExplainPanel, runs: list[tuple[Any, ...]]) -> None:
    panel.show_method("lime")
    fields = panel.form.fields
    segmentation, samples, width = (fields[k].widget for k in ("segmentation", "samples", "kernel_width"))
    assert isinstance(segmentation, QComboBox)
    assert isinstance(samples, QSpinBox)
    assert isinstance(width, QDoubleSpinBox)
    assert width.text() == "0.25"
    segmentation.setCurrentText("quickshift")
    samples.setValue(99_999)
    width.setValue(0.125)
    panel.seed.setValue(7)
    panel.target.setCurrentIndex(panel.target.findData("normal"))
    panel.run.click()
    method, params, target, seed = runs[-1]
    assert (method, target, seed) == ("lime", "normal", 7)
    assert params["segmentation"] == "quickshift"
    assert params["samples"] == 20_000
    assert params["kernel_width"] == 0.125
    panel.defaults.click()
    assert panel.form.values() == registry.create("lime").values()


def test_a_small_value_is_shown_as_it_is(panel: ExplainPanel) -> None:
    panel.show_method("gradient-shap")
    noise = panel.form.fields["noise"].widget
    assert isinstance(noise, QDoubleSpinBox)
    noise.setValue(0.0015)
    assert noise.text() == "0.0015"
    noise.lineEdit().setText("0.25")
    noise.interpretText()
    assert noise.value() == 0.25


def test_layers_are_the_models_own_and_any_other_can_be_typed(
    panel: ExplainPanel, runs: list[tuple[Any, ...]]
) -> None:
    panel.show_method("grad-cam")
    layer, relu = panel.form.fields["layer"].widget, panel.form.fields["relu"].widget
    assert isinstance(layer, QComboBox)
    assert isinstance(relu, QCheckBox)
    assert [layer.itemText(i) for i in range(layer.count())] == list(model().layers)
    assert layer.currentText() == ""
    line = layer.lineEdit()
    assert line is not None
    assert line.placeholderText() == "automatic: features.norm5"
    QTest.keyClicks(line, " features.conv0 ")
    relu.setChecked(True)
    panel.run.click()
    assert runs[-1][1] == {"layer": "features.conv0", "alignment": "receptive-field", "relu": True}


def test_entries_survive_another_method_and_a_model_that_loads_again(
    panel: ExplainPanel, runs: list[tuple[Any, ...]]
) -> None:
    panel.show_method("grad-cam")
    panel.form.fields["layer"].set_value("features.denseblock3")
    panel.target.setCurrentIndex(1)
    panel.set_model(model())
    panel.show_method("occlusion")
    panel.show_method("grad-cam")
    panel.run.click()
    assert runs[-1][1]["layer"] == "features.denseblock3"
    assert runs[-1][2] == "normal"


@pytest.mark.parametrize("preset", registry.presets(), ids=lambda preset: preset.name)
def test_presets_are_those_of_the_registry(panel: ExplainPanel, preset: registry.Preset) -> None:
    asked: list[tuple[Any, ...]] = []
    panel.preset_requested.connect(lambda *values: asked.append(values))
    panel.seed.setValue(3)
    button = panel.presets[preset.name]
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    panel.set_model(None)
    QTest.keyClick(button, Qt.Key.Key_Space)
    assert asked == [(preset.name, "pneumonia", 3), (preset.name, None, 3)]
    titles = [registry.method_class(name).title for name, _ in preset.methods]
    assert all(title in button.toolTip() for title in titles)
    assert all(title in button.accessibleName() for title in titles)


def test_expected_times_are_those_of_the_last_runs(panel: ExplainPanel) -> None:
    chosen = next(each for each in registry.presets() if each.name == "standard")
    names = [name for name, _ in chosen.methods]
    assert panel.times["standard"].text() == f"{len(names)} maps, {chosen.expected}"
    for name in names[:-1]:
        panel.note_time(name, 20.0)
    assert chosen.expected in panel.times["standard"].text()  # one is still unknown
    panel.note_time(names[-1], 5.0)
    assert panel.times["standard"].text() == f"{len(names)} maps, about {20 * (len(names) - 1) + 5} s"
    panel.note_time(names[-1], 3.0, "audit")  # there it shares forwards
    assert panel.times["standard"].text() == f"{len(names)} maps, about {20 * (len(names) - 1) + 5} s"
    panel.note_time(names[-1], 1.0, "standard")
    assert panel.times["standard"].text() == f"{len(names)} maps, about {20 * (len(names) - 1) + 1} s"
    for seconds, told in ((1.87, "6 s"), (0.02, "1 s")):  # no hundredths of what will be
        for name in names:
            panel.note_time(name, seconds, "standard")
        assert panel.times["standard"].text() == f"{len(names)} maps, about {told}"


def test_the_page_is_asked_for_with_what_is_entered(panel: ExplainPanel) -> None:
    asked: list[tuple[Any, ...]] = []
    panel.read_requested.connect(lambda *values: asked.append(values))
    panel.show_method("lime")
    panel.form.fields["samples"].set_value(400)
    panel.more.click()
    name, params = asked[0]
    assert name == "lime"
    assert params["samples"] == 400


def test_without_an_image_it_says_why(panel: ExplainPanel, runs: list[tuple[Any, ...]]) -> None:
    panel.set_enabled_for_image(False, "Open a radiograph first.")
    assert panel.why.isVisible()
    assert panel.why.text() == "Open a radiograph first."
    QTest.mouseClick(panel.run, Qt.MouseButton.LeftButton)
    assert runs == []
    panel.set_enabled_for_image(True, "")
    assert not panel.why.isVisible()


def test_how_to_read_follows_the_method(panel: ExplainPanel) -> None:
    panel.show_method("grad-cam")
    assert panel.reading.text().startswith("A blurred map of a few cells")
    assert "fixed for pneumonia-cxr 0.3.0" in panel.reading.text()
    panel.show_method("lime")
    assert "superpixel" in panel.reading.text()
    assert panel.reading.textFormat() == Qt.TextFormat.PlainText


def test_the_wheel_changes_nothing(panel: ExplainPanel) -> None:
    panel.show_method("lime")
    before = (panel.form.values(), panel.choice.currentIndex(), panel.seed.value())
    for widget in (panel.choice, panel.seed, *(field.widget for field in panel.form.fields.values())):
        widget.setFocus()
        event = QWheelEvent(
            QPointF(5, 5),
            QPointF(widget.mapToGlobal(QPoint(5, 5))),
            QPoint(),
            QPoint(0, -120),
            Qt.MouseButton.NoButton,
            Qt.KeyboardModifier.NoModifier,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(widget, event)
    assert (panel.form.values(), panel.choice.currentIndex(), panel.seed.value()) == before


@pytest.mark.parametrize("name", registry.names())
def test_nothing_sticks_out_at_300_pixels(panel: ExplainPanel, name: str) -> None:
    panel.show_method(name)
    QApplication.processEvents()
    inner = panel.findChildren(QScrollArea)[0].widget()
    assert inner is not None
    assert inner.minimumSizeHint().width() <= 286
    for widget in (*inner.findChildren(QLabel), *inner.findChildren(QPushButton)):
        if widget.isVisible():
            assert widget.mapTo(panel, widget.rect().topRight()).x() < 300


def test_methods_that_the_model_gives_nothing_are_grey_and_say_why(
    panel: ExplainPanel, runs: list[tuple[Any, ...]]
) -> None:
    why = "layer 'head': no self-attention here; attention methods need a transformer"
    panel.show_method("attention-rollout")
    panel.set_model(model(), {"attention-rollout": why})
    row = panel.choice.findData("attention-rollout")
    items = panel.choice.model()
    assert not items.flags(items.index(row, 0)) & Qt.ItemFlag.ItemIsEnabled
    assert "no self-attention here" in panel.choice.itemData(row, Qt.ItemDataRole.ToolTipRole)
    assert panel.form.about.name != "attention-rollout"  # what was chosen gives way to what can be run
    panel.show_method("attention-rollout")
    assert panel.form.about.name != "attention-rollout"
    QTest.mouseClick(panel.run, Qt.MouseButton.LeftButton)
    assert runs[-1][0] == panel.form.about.name
    panel.set_model(model())  # another model, on which it can run
    assert items.flags(items.index(row, 0)) & Qt.ItemFlag.ItemIsEnabled
    assert "Not for this model" not in panel.choice.itemData(row, Qt.ItemDataRole.ToolTipRole)
    panel.show_method("attention-rollout")
    assert panel.form.about.name == "attention-rollout"


def test_a_form_is_never_seen_squeezed_into_the_room_of_the_last_one(panel: ExplainPanel) -> None:
    for name in registry.names():
        panel.show_method(name)  # and no event is processed
        for label in panel.form.findChildren(QLabel):
            if label.isVisible():
                assert label.height() + 1 >= label.heightForWidth(label.width()), (name, label.text())
