"""The canvas under mouse and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from app.canvas.view import CanvasView
from app.model.case import CaseModel
from tests.app import cases
from tests.app.canvas_hands import COLUMNS, LEFT, MIDDLE, RIGHT, ROWS, drag, wheel
from xai_engine.radiograph import display
from xai_engine.radiograph.types import VoiLut, Window


def test_a_drag_changes_width_sideways_and_level_up_and_down(canvas: CanvasView, case: CaseModel) -> None:
    """1000 pixels of the mouse are the whole range of the image's values (here 0 … 999, so 1 per pixel)."""
    drag(canvas, LEFT, (100, 100), (130, 100))
    assert case.voi == Window(500.0, 830.0)
    assert case.preset_key == ""
    drag(canvas, LEFT, (100, 100), (110, 60), (100, 80))
    assert case.voi == Window(480.0, 830.0)
    drag(canvas, LEFT, (399, 100), (0, 100))
    drag(canvas, LEFT, (399, 100), (0, 100))
    drag(canvas, LEFT, (399, 100), (0, 100))
    assert case.voi == Window(480.0, 1.0)


def test_sensitivity_follows_the_range_of_the_data(canvas: CanvasView, case: CaseModel) -> None:
    case.set_radiograph(
        cases.radiograph((cases.noise(50, 50) * 65).astype(np.uint16), voi=(Window(3e4, 3e4),))
    )
    drag(canvas, LEFT, (100, 100), (200, 100))
    assert isinstance(case.voi, Window)
    full = display.full_window(case.radiograph)  # type: ignore[arg-type]
    assert case.voi.width == pytest.approx(3e4 + full.width / 10)


def test_a_drag_on_a_voi_lut_starts_from_the_window_it_covers(canvas: CanvasView, case: CaseModel) -> None:
    lut = VoiLut(100, np.arange(400, dtype=np.uint16), 12)
    case.set_radiograph(cases.radiograph(cases.noise(50, 50), voi=(lut,)))
    drag(canvas, LEFT, (100, 100), (100, 100), (101, 100))
    assert isinstance(case.voi, Window)
    assert case.voi.center == 300.0
    assert case.voi.width == pytest.approx(401, abs=0.01)


def test_a_drag_on_fractions_can_go_below_a_width_of_one(canvas: CanvasView, case: CaseModel) -> None:
    shown = cases.radiograph(cases.noise(ROWS, COLUMNS).astype(np.float32) / 1000, voi=(Window(1.0, 1.9),))
    case.set_radiograph(shown)
    before = display.picture(shown, shown.voi[0])
    drag(canvas, LEFT, (100, 100), (100, 100), (100, 100))
    assert case.voi == Window(0.5, pytest.approx(0.9), "LINEAR_EXACT")
    np.testing.assert_array_equal(display.picture(shown, case.voi), before)  # type: ignore[arg-type]
    drag(canvas, LEFT, (300, 100), (0, 100))
    assert isinstance(case.voi, Window)
    assert case.voi.width == pytest.approx(0.9 - 0.3 * 0.999, abs=1e-3)


def test_the_middle_button_pans_and_the_right_one_zooms_whatever_the_tool(canvas: CanvasView) -> None:
    canvas.set_tool("polygon")
    canvas.actual_size()
    before = canvas.viewport
    drag(canvas, MIDDLE, (100, 100), (120, 90))
    x, y = canvas.viewport.to_device([[100, 100]])[0] - before.to_device([[100, 100]])[0]
    assert (x, y) == (20, -10)
    fixed = canvas.viewport.to_source([[150, 150]])[0]
    drag(canvas, RIGHT, (150, 150), (150, 100))
    assert canvas.viewport.scale == pytest.approx(1.01**50)
    np.testing.assert_allclose(canvas.viewport.to_source([[150, 150]])[0], fixed, atol=1.0)


@pytest.mark.parametrize("place", [(200, 150), (120, 90), (300, 200)])
def test_the_wheel_zooms_at_the_cursor(canvas: CanvasView, place: tuple[int, int]) -> None:
    canvas.actual_size()
    fixed = canvas.viewport.to_source([place])[0]
    for _ in range(10):
        wheel(canvas, *place, 120)
    assert canvas.viewport.scale == pytest.approx(1.15**10)
    moved = canvas.viewport.to_device([fixed])[0] - place
    assert np.abs(moved).max() <= 0.5 + 0.5 * canvas.viewport.scale
    for _ in range(10):
        wheel(canvas, *place, -120)
    assert canvas.viewport.scale == pytest.approx(1.0)
    np.testing.assert_allclose(canvas.viewport.to_source([place])[0], fixed, atol=1.01)


def test_keys(canvas: CanvasView, case: CaseModel) -> None:
    QTest.keyClick(canvas, "I")
    assert case.invert
    QTest.keyClick(canvas, "2")
    assert case.preset_key == "1"
    QTest.keyClick(canvas, "3")
    assert case.preset_key == "full"
    QTest.keyClick(canvas, "4")
    assert case.preset_key == "auto"
    QTest.keyClick(canvas, "0")
    assert canvas.viewport.scale == 1.0
    QTest.keyClick(canvas, "+")
    assert canvas.viewport.scale == 1.25
    QTest.keyClick(canvas, "-")
    assert canvas.viewport.scale == 1.0
    QTest.keyClick(canvas, "=")
    assert canvas.viewport == canvas.viewport.fitted()
    QTest.keyClick(canvas, ".")
    assert not canvas.annotations_visible
    QTest.keyClick(canvas, Qt.Key.Key_Space)
    assert not case.invert
    assert case.preset_key == "0"


def test_a_fitted_image_stays_fitted_when_the_window_or_the_image_turns(
    canvas: CanvasView, case: CaseModel
) -> None:
    canvas.resize(600, 200)
    canvas.grab()
    assert canvas.viewport == canvas.viewport.fitted()
    canvas.rotate(90)
    assert canvas.viewport.scale == pytest.approx(200 / COLUMNS)
    canvas.zoom_in()
    scale = canvas.viewport.scale
    canvas.resize(500, 300)
    canvas.grab()
    assert canvas.viewport.scale == scale


def test_cursor_and_zoom_are_reported(qtbot: QtBot, canvas: CanvasView, case: CaseModel) -> None:
    case.add_layer(cases.explanation((ROWS, COLUMNS)))
    canvas.actual_size()
    x, y = canvas.viewport.to_device([[20.5, 30.5]])[0]
    heard: list[Any] = []
    canvas.cursor_moved.connect(heard.append)
    QTest.mouseMove(canvas, QPoint(int(x), int(y)))
    qtbot.waitUntil(lambda: bool(heard) and heard[-1] is not None)
    assert (heard[-1].row, heard[-1].column) == (20, 30)
    assert heard[-1].value == case.radiograph.pixels[20, 30]  # type: ignore[union-attr]
    assert [value.title for value in heard[-1].layers] == ["Integrated Gradients"]
    with qtbot.waitSignal(canvas.zoom_changed) as seen:
        canvas.zoom_in()
    assert seen.args == [1.25]
    with qtbot.waitSignal(canvas.tool_changed) as seen:
        canvas.set_tool("ellipse")
    assert seen.args == ["ellipse"]
