"""The case model: signals, undo, layers, regions. No Qt is needed."""

from __future__ import annotations

import gc
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from app.canvas.viewport import Orientation
from app.model.case import CaseModel
from app.model.signal import Signal
from tests.app import cases
from xai_engine.radiograph import display, regions
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Window


def box(region_id: str, size: float = 5.0, name: str = "") -> Region:
    return Region("rectangle", np.array([[1.0, 1.0], [1.0 + size, 1.0 + size]]), name, region_id)


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(40, 30)))
    return model


class Ear:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def hear(self, value: Any) -> None:
        self.heard.append(value)


def test_the_model_loads_neither_qt_nor_torch() -> None:
    code = "import app.model.case, sys; print([m for m in sys.modules if m.split('.')[0] in ('PySide6', 'torch', 'monai')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_signal_calls_in_order_and_forgets_who_is_gone() -> None:
    signal, first, second = Signal(), Ear(), Ear()
    order: list[int] = []
    signal.connect(lambda _: order.append(1))
    signal.connect(lambda _: order.append(2))
    signal.connect(first.hear)
    signal.connect(second.hear)
    signal.emit("a")
    signal.disconnect(second.hear)
    del first
    gc.collect()
    signal.emit("b")
    assert order == [1, 2, 1, 2]
    assert second.heard == ["a"]
    assert len(signal) == 2


def test_signal_does_not_call_who_leaves_during_the_emit() -> None:
    signal, ear = Signal(), Ear()
    signal.connect(lambda _: signal.disconnect(ear.hear))
    signal.connect(ear.hear)
    signal.emit(1)
    assert ear.heard == []


def test_a_new_image_starts_with_its_own_first_window(case: CaseModel) -> None:
    assert case.radiograph is not None
    assert case.voi == display.select(case.radiograph, "default")
    assert case.preset_key == "0"
    assert case.apply_preset("full")
    assert case.voi == display.select(case.radiograph, "full")
    assert not case.apply_preset("7")
    case.set_radiograph(replace(case.radiograph, voi=()), "default")
    assert case.preset_key == "auto"
    case.set_radiograph(case.radiograph, "full")
    assert case.preset_key == "full"


def test_reset_brings_back_the_first_window_and_the_upright_image(case: CaseModel) -> None:
    first = case.voi
    case.set_voi(Window(1.0, 2.0))
    case.set_invert(True)
    case.rotate(90)
    case.flip("h")
    case.reset_view()
    assert (case.voi, case.preset_key) == (first, "0")
    assert (case.invert, case.rotation, case.flip_h, case.flip_v) == (False, 0, False, False)


@pytest.mark.parametrize("steps", ["R", "L", "HR", "VR", "HVR", "RHL", "HRVLH", "RRHV", "LLLVR"])
def test_keys_act_on_what_is_on_the_screen(case: CaseModel, steps: str) -> None:
    """Whatever came before, R turns the picture on the screen clockwise and H mirrors it left to right."""
    image = np.arange(12).reshape(3, 4)
    expected = image
    for step in steps:
        if step in "RL":
            case.rotate(90 if step == "R" else -90)
            expected = np.rot90(expected, -1 if step == "R" else 1)
        else:
            case.flip("h" if step == "H" else "v")
            expected = expected[:, ::-1] if step == "H" else expected[::-1]
    shown = Orientation(case.rotation, case.flip_h, case.flip_v).apply(image)
    np.testing.assert_array_equal(shown, expected)


def test_a_map_of_the_same_method_takes_the_place_and_style_of_the_old_one(case: CaseModel) -> None:
    a = case.add_layer(cases.explanation((40, 30), method="lime"))
    case.add_layer(cases.explanation((40, 30), method="grad-cam"))
    style = LayerStyle("magma", 0.3)
    case.set_style(a.id, style)
    new = case.add_layer(cases.explanation((40, 30), method="lime"))
    assert [layer.explanation.method for layer in case.layers] == ["lime", "grad-cam"]
    assert case.layers[0].id == new.id != a.id
    assert case.layers[0].style == style


def test_source_map_is_the_explanation_in_source_geometry(case: CaseModel) -> None:
    one = cases.explanation((40, 30))
    layer = case.add_layer(one)
    np.testing.assert_array_equal(layer.source_map, one.in_source())
    case.set_style(layer.id, LayerStyle(opacity=0.1))
    assert case.layers[0].source_map is layer.source_map
    given = np.zeros((40, 30), np.float32)
    assert case.add_layer(one, given).source_map is given


def test_hide_all_hides_and_brings_back_the_same_maps(case: CaseModel) -> None:
    ids = [case.add_layer(cases.explanation((40, 30), method=name)).id for name in ("a", "b", "c")]
    case.set_visible(ids[1], False)
    case.hide_all()
    assert not any(layer.visible for layer in case.layers)
    case.hide_all()
    assert [layer.visible for layer in case.layers] == [True, False, True]
    case.show_only(ids[1])
    assert [layer.visible for layer in case.layers] == [False, True, False]


def test_maps_change_places(case: CaseModel) -> None:
    ids = [case.add_layer(cases.explanation((40, 30), method=name)).id for name in ("a", "b", "c")]
    case.move_layer(ids[0], 1)
    assert [layer.id for layer in case.layers] == [ids[1], ids[0], ids[2]]
    case.move_layer(ids[0], 99)
    assert [layer.id for layer in case.layers] == [ids[1], ids[2], ids[0]]
    case.move_layer(ids[0], -99)
    assert [layer.id for layer in case.layers] == ids


def test_edits_within_a_drag_are_one_step(case: CaseModel) -> None:
    case.add_region(box("a"))
    with case.edit():
        for size in (6.0, 7.0, 8.0):
            case.update_region(box("a", size))
    assert case.regions == (box("a", 8.0),)
    case.undo()
    assert case.regions == (box("a"),)
    case.redo()
    assert case.regions == (box("a", 8.0),)


def test_a_drag_that_ends_where_it_began_is_no_step(case: CaseModel) -> None:
    case.add_region(box("a"))
    with case.edit():
        case.update_region(box("a", 9.0))
        case.update_region(box("a"))
    case.undo()
    assert case.regions == ()


def test_statistics_never_stand_beside_a_region_they_were_not_measured_in(case: CaseModel) -> None:
    assert case.radiograph is not None
    first = box("a")
    case.add_region(first)
    numbers = regions.measure(case.radiograph, first)
    case.set_statistics(first, numbers)
    assert case.statistics == {"a": numbers}
    case.rename_region("a", "Nodule")
    assert case.statistics["a"] == replace(numbers, name="Nodule")
    case.update_region(box("a", 9.0))
    assert case.statistics == {}
    case.set_statistics(first, numbers)  # measured before the move
    assert case.statistics == {}
    with case.edit():
        case.update_region(box("a", 8.0))
        case.set_statistics(first, numbers)  # in the middle of a drag old numbers may stand
        assert "a" in case.statistics
    assert case.statistics == {}


def test_removing_the_selected_region_clears_the_selection(case: CaseModel) -> None:
    case.add_region(box("a"))
    assert case.selected_region == "a"
    case.remove_region("a")
    assert case.selected_region is None
    case.undo()
    assert case.regions == (box("a"),)
    with pytest.raises(ValueError, match="already"):
        case.add_region(box("a"))


class Undo(RuleBasedStateMachine):
    """Against the plainest model there is: a list of what was on the screen after every step."""

    @initialize()
    def begin(self) -> None:
        self.case = CaseModel()
        self.case.set_radiograph(cases.radiograph(cases.noise(8, 8)))
        self.past: list[Any] = []
        self.future: list[Any] = []
        self.number = 0

    def state(self) -> Any:
        return self.case.regions, {layer.id: layer.style for layer in self.case.layers}

    def step(self, before: Any) -> None:
        if self.state() != before:
            self.past.append(before)
            self.future.clear()

    @rule(size=st.floats(1, 50))
    def add(self, size: float) -> None:
        before = self.state()
        self.case.add_region(box(self.case.new_region_id(), size))
        self.step(before)

    @precondition(lambda self: self.case.regions)
    @rule(data=st.data(), sizes=st.lists(st.floats(1, 50), min_size=1, max_size=4))
    def drag(self, data: st.DataObject, sizes: list[float]) -> None:
        before = self.state()
        region = data.draw(st.sampled_from(self.case.regions))
        with self.case.edit():
            for size in sizes:
                self.case.update_region(box(region.id, size, region.name))
        self.step(before)

    @precondition(lambda self: self.case.regions)
    @rule(data=st.data(), name=st.text(max_size=3))
    def rename(self, data: st.DataObject, name: str) -> None:
        before = self.state()
        self.case.rename_region(data.draw(st.sampled_from(self.case.regions)).id, name)
        self.step(before)

    @precondition(lambda self: self.case.regions)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        before = self.state()
        self.case.remove_region(data.draw(st.sampled_from(self.case.regions)).id)
        self.step(before)

    @precondition(lambda self: self.case.layers)
    @rule(data=st.data(), opacity=st.floats(0, 1))
    def restyle(self, data: st.DataObject, opacity: float) -> None:
        before = self.state()
        layer = data.draw(st.sampled_from(self.case.layers))
        self.case.set_style(layer.id, replace(layer.style, opacity=opacity))
        self.step(before)

    @rule(method=st.sampled_from("ab"))
    def add_layer(self, method: str) -> None:
        """No step: earlier states are as if the map had always been there, in the style it came with."""
        old = {layer.id for layer in self.case.layers if layer.explanation.method == method}
        new = self.case.add_layer(cases.explanation((8, 8), method=method))
        self.forget(old, {new.id: new.style})

    @precondition(lambda self: self.case.layers)
    @rule(data=st.data())
    def remove_layer(self, data: st.DataObject) -> None:
        layer = data.draw(st.sampled_from(self.case.layers))
        self.case.remove_layer(layer.id)
        self.forget({layer.id}, {})

    def forget(self, gone: set[int], new: dict[int, LayerStyle]) -> None:
        def cleaned(state: Any) -> Any:
            return state[0], {**{k: v for k, v in state[1].items() if k not in gone}, **new}

        present = self.state()
        past: list[Any] = []
        for state in map(cleaned, self.past):
            if not past or state != past[-1]:
                past.append(state)
        if past and past[-1] == present:
            past.pop()
        future: list[Any] = []
        for state in map(cleaned, reversed(self.future)):
            if state != (future[-1] if future else present):
                future.append(state)
        self.past, self.future = past, future[::-1]

    @rule()
    def undo(self) -> None:
        if self.past:
            self.future.append(self.state())
            expected = self.past.pop()
        else:
            expected = self.state()
        self.case.undo()
        assert self.state() == expected

    @rule()
    def redo(self) -> None:
        if self.future:
            self.past.append(self.state())
            expected = self.future.pop()
        else:
            expected = self.state()
        self.case.redo()
        assert self.state() == expected

    @invariant()
    def sound(self) -> None:
        case = self.case
        assert case.can_undo == bool(self.past)
        assert case.can_redo == bool(self.future)
        ids = [region.id for region in case.regions]
        assert len(set(ids)) == len(ids)
        assert case.selected_region is None or case.selected_region in ids
        assert set(case.statistics) <= set(ids)
        assert len({layer.explanation.method for layer in case.layers}) == len(case.layers)


TestUndo = Undo.TestCase
TestUndo.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
