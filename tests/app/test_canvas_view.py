"""The canvas keeps order: nothing to show, odd shapes, any sequence of events, closing."""

from __future__ import annotations

import gc
import threading
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, QRectF, Qt
from PySide6.QtGui import QPainter
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.canvas.view import CanvasView
from app.model.case import CaseModel
from tests.app import cases
from tests.app.canvas_hands import COLUMNS, LEFT, MIDDLE, RIGHT, ROWS, drag, on_screen, place, rgb, wheel
from xai_engine.radiograph import colour, mirror, regions
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.types import Window


def test_nothing_to_show_is_an_invitation(qtbot: QtBot) -> None:
    canvas = CanvasView(CaseModel())
    qtbot.addWidget(canvas)
    canvas.resize(300, 200)
    canvas.show()
    shown = rgb(canvas.grab_picture())
    assert shown.max() > 150
    for key in "IRLHV=+-0. ":
        QTest.keyClick(canvas, key)
    drag(canvas, LEFT, (10, 10), (50, 50))
    drag(canvas, RIGHT, (10, 10), (50, 50))
    wheel(canvas, 50, 50, 120)
    canvas.reset_view()


def test_one_key_hides_all_that_is_not_the_radiograph(canvas: CanvasView, case: CaseModel) -> None:
    assert case.radiograph is not None
    canvas.actual_size()
    canvas.clearFocus()
    plain = on_screen(canvas)
    case.add_layer(cases.explanation((ROWS, COLUMNS)))
    case.add_region(regions.Region("rectangle", np.array([[50.0, 60.0], [110.0, 160.0]]), "", "a"))
    x0, y0, x1, y1 = canvas.viewport.visible()
    assert (rgb(canvas.grab_picture())[y0:y1, x0:x1] != plain).mean() > 0.2
    np.testing.assert_array_equal(on_screen(canvas), plain)


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (700, 2), (3000, 3)])
def test_odd_shapes_can_be_shown(canvas: CanvasView, case: CaseModel, shape: tuple[int, int]) -> None:
    case.set_radiograph(cases.radiograph(cases.noise(*shape)))
    for act in (canvas.fit, canvas.zoom_in, canvas.actual_size, canvas.zoom_out, lambda: canvas.set_zoom(64)):
        act()
        canvas.grab_picture()


def test_a_closed_canvas_leaves_no_thread_and_hears_no_more(qtbot: QtBot, case: CaseModel) -> None:
    before, listening = set(threading.enumerate()), len(case.changed)
    canvas = CanvasView(case)
    canvas.show()
    case.add_region(regions.Region("rectangle", np.array([[50.0, 60.0], [110.0, 160.0]]), "", "z"))
    canvas.measurer.wait()
    canvas.close()
    canvas.deleteLater()
    del canvas
    QApplication.sendPostedEvents(None, 52)  # DeferredDelete
    QApplication.processEvents()
    gc.collect()
    qtbot.waitUntil(lambda: set(threading.enumerate()) <= before, timeout=3000)
    case.set_invert(True)
    case.comparison.set_midline(mirror.of_image((200, 240)))
    assert len(case.changed) == listening  # the case's own parts
    assert len(case.comparison.changed) == 0


def test_the_loupe_shows_the_place_under_the_mouse_enlarged(canvas: CanvasView, case: CaseModel) -> None:
    pixels = np.zeros((ROWS, COLUMNS), np.uint16)
    pixels[100:110, 150:160] = 1000
    case.set_radiograph(cases.radiograph(pixels, voi=(Window(500, 1000),)))
    canvas.actual_size()
    canvas.set_annotations_visible(False)
    canvas.clearFocus()
    x, y = place(canvas, 105, 155)
    near = slice(round(y) - 40, round(y) + 40), slice(round(x) - 40, round(x) + 40), 0
    bright = (rgb(canvas.grab_picture())[near] > 127).sum()
    assert bright == 100
    canvas.set_tool("magnify")
    drag(canvas, LEFT, (x, y), (x, y))
    enlarged = (rgb(canvas.grab_picture())[near] > 127).sum()
    assert enlarged == pytest.approx(bright * 2.5**2, rel=0.1)


def test_escape_clears_the_selection_and_then_leaves_the_key_to_others(
    canvas: CanvasView, case: CaseModel
) -> None:
    case.add_region(regions.Region("rectangle", np.array([[50.0, 60.0], [110.0, 160.0]]), "", "a"))
    assert canvas.cancel()
    assert case.selected_region is None
    assert not canvas.cancel()


def test_drawing_brings_hidden_annotations_back(canvas: CanvasView, case: CaseModel) -> None:
    canvas.set_annotations_visible(False)
    drag(canvas, LEFT, (100, 100), (130, 100))
    assert not canvas.annotations_visible
    canvas.set_tool("rectangle")
    drag(canvas, LEFT, (100, 100), (130, 150))
    assert canvas.annotations_visible


@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_events_leaves_everything_in_order(
    qtbot: QtBot, canvas: CanvasView, case: CaseModel, seed: int
) -> None:
    """An exception in an event handler fails the test (pytest-qt); so does a drag that never ends."""
    rng = np.random.default_rng(seed)
    model = case
    keys = [*"IRLHV=+-0123459. ", *(Qt.Key.Key_Escape, Qt.Key.Key_Delete, Qt.Key.Key_Return, Qt.Key.Key_Left)]
    tools = list(canvas._tools)
    for method in ("lime", "grad-cam"):
        case.add_layer(cases.explanation((ROWS, COLUMNS), method=method))
    for _ in range(150):
        a, b, c, d = rng.uniform(0, 300, 4)
        button = [LEFT, MIDDLE, RIGHT][rng.integers(3)]
        match rng.integers(8):
            case 0:
                canvas.set_tool(tools[rng.integers(len(tools))])
            case 1:
                QTest.keyClick(canvas, keys[rng.integers(len(keys))])  # type: ignore[call-overload]
            case 2 | 3:
                drag(canvas, LEFT, (a, b), (c, d), (d, a))
            case 4:
                drag(canvas, button, (a, b), (c, d))
            case 5:
                QTest.mousePress(canvas, button, pos=QPoint(int(a), int(b)))
                QTest.keyClick(canvas, keys[rng.integers(len(keys))])  # type: ignore[call-overload]
                QTest.mouseRelease(canvas, button, pos=QPoint(int(c), int(d)))
            case 6:
                wheel(canvas, a, b, int(rng.choice([-360, 120, 480])))
            case _:
                [model.undo, model.redo, model.hide_all, lambda: QTest.mouseDClick(canvas, LEFT)][
                    rng.integers(4)
                ]()
        if rng.uniform() < 0.2:
            canvas.repaint()
    canvas.set_tool("window")
    assert not case.editing
    assert canvas.measurer.wait()
    assert set(case.statistics) == {region.id for region in case.regions}
    while case.can_undo:
        case.undo()
    assert case.regions == ()


def test_the_bench_drags_a_real_widget(qtbot: QtBot) -> None:
    from app.canvas.bench import measure_drag

    result = measure_drag(size=200, overlays=1, frames=3)
    assert result["p95_ms"] == result["window"]["p95"] > 0
    assert {"pan", "zoom", "opacity", "window_fitted"} <= set(result)


def test_a_colour_bar_shows_what_the_image_can_show() -> None:
    from app.canvas.furniture import bar_colours

    bar = colour.colour_bar(LayerStyle("cividis", 1.0, 0.25), 2.0)
    shown = bar_colours(bar).any(axis=1)
    values = np.linspace(0, 2, 256)
    assert shown[values > 0.51].all()
    assert not shown[values < 0.49].any()
    lines = bar_colours(colour.colour_bar(LayerStyle("blue-orange", 1.0, 0.0, "contour"), 2.0)).any(axis=1)
    values = np.linspace(-2, 2, 256)
    near = np.min(np.abs(values[:, None] - np.array([-1.5, -1, -0.5, 0.5, 1, 1.5])), axis=1)
    assert lines[near < 0.03].all()
    assert not lines[near > 0.1].any()


@pytest.mark.parametrize(("width", "above"), [(240, True), (700, False)])
def test_in_a_narrow_view_the_colour_bar_stands_above_the_scale_bar(
    canvas: CanvasView, case: CaseModel, monkeypatch: pytest.MonkeyPatch, width: int, above: bool
) -> None:
    from app.canvas import furniture

    lower: list[float] = []
    bottom: list[float] = []
    real_scale, real_bar = furniture.scale_bar, furniture.colour_bar

    def scale(*args: Any) -> float:
        lower.append(real_scale(*args))
        return lower[-1]

    def bar(painter: QPainter, area: QRectF, *args: Any) -> None:
        bottom.append(area.bottom())
        real_bar(painter, area, *args)

    monkeypatch.setattr(furniture, "scale_bar", scale)
    monkeypatch.setattr(furniture, "colour_bar", bar)
    case.add_layer(cases.explanation((ROWS, COLUMNS)))
    canvas.resize(width, 400)
    canvas.grab()
    assert (bottom[-1] <= lower[-1]) is above
