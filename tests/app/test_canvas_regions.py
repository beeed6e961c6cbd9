"""Regions drawn, moved and measured on the canvas."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PySide6.QtCore import QObject, QPoint, Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot
from shiboken6 import delete, isValid

from app.canvas import furniture
from app.canvas.measurer import RegionMeasurer
from app.canvas.view import CanvasView
from app.model.case import CaseModel
from tests.app import cases
from tests.app.canvas_hands import COLUMNS, LEFT, ROWS, drag, place
from xai_engine.radiograph import regions


@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
@pytest.mark.parametrize("steps", ["", "R", "H", "LV"])
def test_a_drawn_box_is_where_it_was_drawn(
    canvas: CanvasView, case: CaseModel, kind: str, steps: str
) -> None:
    for step in steps:
        QTest.keyClick(canvas, step)
    canvas.actual_size()
    canvas.set_tool(kind)
    drag(canvas, LEFT, place(canvas, 50, 60), place(canvas, 80, 70), place(canvas, 110, 160))
    (region,) = case.regions
    assert region.kind == kind
    frame = np.sort(region.points, axis=0)
    np.testing.assert_allclose(frame, [[50, 60], [110, 160]], atol=0.51)
    assert case.selected_region == region.id
    case.undo()
    assert case.regions == ()


def test_shift_makes_a_square_in_millimetres(canvas: CanvasView, case: CaseModel) -> None:
    canvas.actual_size()
    canvas.set_tool("rectangle")
    drag(canvas, LEFT, place(canvas, 50, 60), place(canvas, 60, 160), key=Qt.KeyboardModifier.ShiftModifier)
    size = np.ptp(case.regions[0].points, axis=0)
    assert size[0] * 0.2 == pytest.approx(size[1] * 0.1)
    assert size[1] == pytest.approx(100, abs=1)


@pytest.mark.parametrize("steps", ["", "R", "LH"])
def test_a_length_is_drawn_measured_and_pulled_at_its_ends(
    canvas: CanvasView, case: CaseModel, steps: str
) -> None:
    for step in steps:
        QTest.keyClick(canvas, step)
    canvas.actual_size()
    canvas.set_tool("line")
    drag(canvas, LEFT, place(canvas, 50, 60), place(canvas, 70, 90), place(canvas, 110, 140))
    (line,) = case.regions
    assert (line.kind, line.name) == ("line", "Line 1")
    np.testing.assert_allclose(line.points, [[50, 60], [110, 140]], atol=0.51)
    assert canvas.measurer.wait()
    known = case.statistics[line.id]
    (r0, c0), (r1, c1) = line.points
    assert known.length_px == pytest.approx(((r1 - r0) ** 2 + (c1 - c0) ** 2) ** 0.5)
    assert known.length_mm == pytest.approx((((r1 - r0) * 0.2) ** 2 + ((c1 - c0) * 0.1) ** 2) ** 0.5)
    assert (known.pixels, known.area_mm2, known.mean) == (0, None, None)
    assert case.comparison.counterpart(line) is None
    drag(canvas, LEFT, place(canvas, *line.points[1]), place(canvas, 100, 100), place(canvas, 60, 90))
    np.testing.assert_allclose(case.regions[0].points, [line.points[0], (60, 90)], atol=1.01)
    canvas.set_tool("select")
    middle = case.regions[0].points.mean(0)
    drag(canvas, LEFT, place(canvas, *middle), place(canvas, *(middle + 5)))
    np.testing.assert_allclose(case.regions[0].points, [line.points[0] + 5, (65, 95)], atol=1.51)


@pytest.mark.parametrize(("to", "kept"), [((70, 160), 0), ((140, 80), 1)])
def test_shift_keeps_a_length_level_or_upright(
    canvas: CanvasView, case: CaseModel, to: tuple[int, int], kept: int
) -> None:
    canvas.actual_size()
    canvas.set_tool("line")
    drag(canvas, LEFT, place(canvas, 50, 60), place(canvas, *to), key=Qt.KeyboardModifier.ShiftModifier)
    start, end = case.regions[0].points
    assert start[kept] == end[kept]
    assert end[1 - kept] == pytest.approx(to[1 - kept], abs=0.51)


def test_the_number_goes_along_while_a_length_is_drawn(
    canvas: CanvasView, case: CaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(furniture, "beside", lambda painter, point, text: said.append(text))
    canvas.actual_size()
    canvas.set_tool("line")
    x, y = place(canvas, 50, 60)
    QTest.mousePress(canvas, LEFT, pos=QPoint(round(x), round(y)))
    x, y = place(canvas, 50, 160)
    QTest.mouseMove(canvas, QPoint(round(x), round(y)))
    canvas.grab()
    assert said
    assert said[-1].endswith(" mm")
    assert float(said[-1][:-3]) == pytest.approx(10.0, abs=0.11)
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    assert case.regions == ()


@pytest.mark.parametrize("close", ["enter", "double-click", "first vertex"])
def test_a_polygon_by_clicks(canvas: CanvasView, case: CaseModel, close: str) -> None:
    canvas.actual_size()
    canvas.set_tool("polygon")
    vertices = [(50, 60), (50, 160), (120, 110)]
    for vertex in vertices:
        drag(canvas, LEFT, place(canvas, *vertex))
    assert case.regions == ()
    at = QPoint(*(round(v) for v in place(canvas, *vertices[-1])))
    if close == "enter":
        QTest.keyClick(canvas, Qt.Key.Key_Return)
    elif close == "double-click":
        QTest.mouseDClick(canvas, LEFT, pos=at)
    else:
        drag(canvas, LEFT, place(canvas, *vertices[0]))
    (region,) = case.regions
    np.testing.assert_allclose(region.points, vertices, atol=0.51)


def test_escape_drops_what_is_being_drawn(canvas: CanvasView, case: CaseModel) -> None:
    canvas.set_tool("polygon")
    for vertex in ((50, 60), (50, 160), (120, 110)):
        drag(canvas, LEFT, place(canvas, *vertex))
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    QTest.keyClick(canvas, Qt.Key.Key_Return)
    assert case.regions == ()
    assert not case.can_undo


def test_a_freehand_outline_covers_what_was_circled(canvas: CanvasView, case: CaseModel) -> None:
    canvas.actual_size()
    canvas.set_tool("freehand")
    angle = np.linspace(0, 2 * np.pi, 100)
    drag(canvas, LEFT, *(place(canvas, 120 + 50 * np.sin(a), 160 + 50 * np.cos(a)) for a in angle))
    (region,) = case.regions
    assert len(region.points) < 100
    area = regions.mask(region, (ROWS, COLUMNS)).sum()
    assert area == pytest.approx(np.pi * 50**2, rel=0.02)


@pytest.mark.parametrize("steps", ["", "R", "LH", "V"])
def test_moving_and_resizing_under_rotation_and_flip(canvas: CanvasView, case: CaseModel, steps: str) -> None:
    case.add_region(regions.Region("rectangle", np.array([[50.0, 60.0], [110.0, 160.0]]), "", "a"))
    for step in steps:
        QTest.keyClick(canvas, step)
    canvas.actual_size()
    canvas.set_tool("select")
    drag(canvas, LEFT, place(canvas, 80, 100), place(canvas, 90, 110), place(canvas, 100, 95))
    np.testing.assert_allclose(case.regions[0].points, [[70, 55], [130, 155]], atol=1.01)
    drag(canvas, LEFT, place(canvas, *case.regions[0].points[1]), place(canvas, 100, 100))
    np.testing.assert_allclose(case.regions[0].points, [[70, 55], [100, 100]], atol=1.51)
    case.undo()
    case.undo()
    np.testing.assert_array_equal(case.regions[0].points, [[50, 60], [110, 160]])


def test_escape_in_a_drag_puts_the_region_back(canvas: CanvasView, case: CaseModel) -> None:
    region = regions.Region("rectangle", np.array([[50.0, 60.0], [110.0, 160.0]]), "", "a")
    case.add_region(region)
    canvas.set_tool("select")
    x, y = place(canvas, 80, 100)
    QTest.mousePress(canvas, LEFT, pos=QPoint(round(x), round(y)))
    case.update_region(replace(region, points=region.points + 10))
    QTest.keyClick(canvas, Qt.Key.Key_Escape)
    QTest.mouseRelease(canvas, LEFT, pos=QPoint(round(x), round(y)))
    assert case.regions == (region,)
    assert not case.editing


def test_keys_for_regions(canvas: CanvasView, case: CaseModel) -> None:
    region = regions.Region("rectangle", np.array([[50.0, 60.0], [110.0, 160.0]]), "", "a")
    case.add_region(region)
    canvas.rotate(90)
    QTest.keyClick(canvas, Qt.Key.Key_Right)  # on the screen; in the image that is up
    np.testing.assert_array_equal(case.regions[0].points, region.points - (1, 0))
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert case.regions == (region,)
    QTest.keyClick(canvas, Qt.Key.Key_Delete)
    assert case.regions == ()
    QTest.keyClick(canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClick(canvas, Qt.Key.Key_Y, Qt.KeyboardModifier.ControlModifier)
    assert case.regions == ()


def test_numbers_follow_the_regions(canvas: CanvasView, case: CaseModel) -> None:
    assert case.radiograph is not None
    layer = case.add_layer(cases.explanation((ROWS, COLUMNS)))
    region = regions.Region("ellipse", np.array([[50.0, 60.0], [110.0, 160.0]]), "Spot", "a")
    case.add_region(region)
    assert canvas.measurer.wait()
    maps = {"integrated-gradients": layer.source_map}
    expected = regions.measure(case.radiograph, region, maps)
    assert replace(case.statistics["a"], maps={}) == replace(expected, maps={})
    ours, theirs = case.statistics["a"].maps["integrated-gradients"], expected.maps["integrated-gradients"]
    for name in ("total", "mean", "share_positive", "share_negative"):
        assert getattr(ours, name) == pytest.approx(getattr(theirs, name), rel=1e-5)
    bigger = replace(region, points=np.array([[40.0, 60.0], [110.0, 160.0]]))
    case.update_region(bigger)
    case.remove_layer(layer.id)
    assert canvas.measurer.wait()
    assert case.statistics["a"] == regions.measure(case.radiograph, bigger)
    case.undo()
    assert canvas.measurer.wait()
    assert case.statistics["a"] == regions.measure(case.radiograph, region)


def test_a_measurement_that_runs_is_waited_for_when_the_canvas_goes(
    qtbot: QtBot, case: CaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread would emit from an object that is no more: the whole window crashed, once in some hundred runs."""
    begun, over = threading.Event(), threading.Event()

    def slow(*args: object, **named: object) -> None:
        begun.set()
        time.sleep(0.2)
        over.set()
        raise ValueError("nobody hears this")

    monkeypatch.setattr(regions, "measure", slow)
    parent = QObject()
    measurer = RegionMeasurer(case, parent)
    case.add_region(regions.Region("rectangle", np.array([[10.0, 10.0], [30.0, 30.0]]), "Region", "1"))
    qtbot.waitUntil(begun.is_set)
    assert not over.is_set()
    delete(parent)
    assert over.is_set()
    assert not isValid(measurer)
