"""The canvas as people use it: mouse, keys, and the pixels on the screen."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QImage, QWheelEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.canvas.compositor import Compositor
from app.canvas.view import CanvasView
from app.canvas.viewport import Viewport
from app.model.case import CaseModel
from tests.app import cases
from xai_engine.radiograph import colour, display, mirror, regions
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.types import VoiLut, Window

LEFT, MIDDLE, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.MiddleButton, Qt.MouseButton.RightButton
ROWS, COLUMNS = 240, 320


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(ROWS, COLUMNS)))
    return model


@pytest.fixture
def canvas(qtbot: QtBot, case: CaseModel) -> CanvasView:
    view = CanvasView(case)
    qtbot.addWidget(view)
    view.resize(400, 300)
    view.show()
    view.grab()
    return view


def drag(canvas: CanvasView, button: Qt.MouseButton, *points: tuple[float, float], key: Any = None) -> None:
    """Press at the first point, move through the others, release at the last."""
    modifier = key or Qt.KeyboardModifier.NoModifier
    places = [QPoint(round(x), round(y)) for x, y in points]
    QTest.mousePress(canvas, button, modifier, places[0])
    for place in places[1:]:
        # QTest moves without buttons: send what a window system sends
        from PySide6.QtCore import QEvent
        from PySide6.QtGui import QMouseEvent

        event = QMouseEvent(
            QEvent.Type.MouseMove,
            QPointF(place),
            canvas.mapToGlobal(QPointF(place)),
            button,
            button,
            modifier,
        )
        QApplication.sendEvent(canvas, event)
    QTest.mouseRelease(canvas, button, modifier, places[-1])


def wheel(canvas: CanvasView, x: float, y: float, delta: int) -> None:
    event = QWheelEvent(
        QPointF(x, y),
        canvas.mapToGlobal(QPointF(x, y)),
        QPoint(),
        QPoint(0, delta),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(canvas, event)


def rgb(image: QImage) -> npt.NDArray[np.uint8]:
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    raw = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return raw[:, : image.width() * 3].reshape(image.height(), image.width(), 3).copy()


def on_screen(canvas: CanvasView) -> npt.NDArray[np.uint8]:
    """The visible part of the image, from the pixels of the widget, without texts."""
    texts = canvas.annotations_visible
    canvas.set_annotations_visible(False)
    canvas.clearFocus()
    x0, y0, x1, y1 = canvas.viewport.visible()
    shown = rgb(canvas.grab_picture())[y0:y1, x0:x1]
    canvas.set_annotations_visible(texts)
    return shown


# Pixels


@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.int32, np.float32])
def test_at_one_to_one_the_screen_is_the_picture(
    canvas: CanvasView, case: CaseModel, dtype: Any, photometric: Any, invert: bool
) -> None:
    """Grey for grey what `display.picture` (and so `radiolucent export`) gives, padding included."""
    pixels = cases.noise(ROWS, COLUMNS, high=120).astype(dtype) - (60 if np.dtype(dtype).kind in "if" else 0)
    padding = np.zeros(pixels.shape, bool)
    padding[:30, 40:90] = True
    window = Window(20.0, 90.0)
    shown = cases.radiograph(pixels.astype(dtype), photometric=photometric, padding=padding, voi=(window,))
    case.set_radiograph(shown)
    case.set_invert(invert)
    canvas.actual_size()
    expected = display.picture(shown, window, invert)
    actual = on_screen(canvas)
    np.testing.assert_array_equal(actual, np.repeat(expected[:, :, None], 3, axis=2))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_without_cv2_5_the_greys_are_the_same(monkeypatch: pytest.MonkeyPatch, dtype: Any) -> None:
    monkeypatch.setattr("app.canvas.compositor.wide_lut", lambda: False)
    shown = cases.radiograph(
        (cases.noise(ROWS, COLUMNS).astype(np.int32) - 300)
        .clip(0 if dtype == np.uint16 else None, None)
        .astype(dtype)
    )
    view = Viewport(ROWS, COLUMNS, 400, 300, 1.0, (ROWS / 2, COLUMNS / 2))
    window = Window(100.0, 500.0)
    np.testing.assert_array_equal(
        Compositor(shown).render(view, window, False), display.picture(shown, window)
    )


def test_a_voi_lut_is_shown_as_it_is(canvas: CanvasView, case: CaseModel) -> None:
    lut = VoiLut(100, (np.linspace(0, 1, 700) ** 2 * 4095).astype(np.uint16), 12, "Curve")
    shown = cases.radiograph(cases.noise(ROWS, COLUMNS), voi=(lut,))
    case.set_radiograph(shown)
    canvas.actual_size()
    np.testing.assert_array_equal(on_screen(canvas)[..., 0], display.picture(shown, lut))


@pytest.mark.parametrize("steps", ["", "R", "L", "H", "V", "RH", "RV", "LHV"])
def test_turned_and_mirrored_the_pixels_are_still_exact(
    canvas: CanvasView, case: CaseModel, steps: str
) -> None:
    assert case.radiograph is not None
    canvas.resize(400, 400)
    expected = display.picture(case.radiograph, case.voi)  # type: ignore[arg-type]
    for step in steps:
        QTest.keyClick(canvas, step)
        expected = {
            "R": lambda a: np.rot90(a, -1),
            "L": np.rot90,
            "H": lambda a: a[:, ::-1],
            "V": lambda a: a[::-1],
        }[step](expected)
    canvas.actual_size()
    np.testing.assert_array_equal(on_screen(canvas)[..., 0], expected)


@pytest.mark.parametrize(
    "style",
    [
        LayerStyle(),
        LayerStyle("purple-green", 1.0, 0.2),
        LayerStyle("cividis", 0.4, 0.0, "fill", "positive"),
        LayerStyle("blue-orange", 0.8, 0.0, "contour"),
    ],
)
def test_an_overlay_is_what_blend_gives(canvas: CanvasView, case: CaseModel, style: LayerStyle) -> None:
    assert case.radiograph is not None
    assert case.voi is not None
    layer = case.add_layer(cases.explanation((ROWS, COLUMNS)), style=style)
    canvas.actual_size()
    grey = display.picture(case.radiograph, case.voi)
    expected = colour.blend(grey, layer.source_map, style, 1.0, line_width=2)
    case.add_region(regions.Region("rectangle", np.array([[1.0, 1.0], [5.0, 5.0]]), "", "a"))
    shown = Compositor(case.radiograph).render(canvas.viewport, case.voi, False, case.layers)
    difference = np.abs(shown[..., 2::-1].astype(int) - expected)
    # a border between two colours may fall on either side by the rounding of the interpolation
    assert np.percentile(difference, 99.9) <= 1
    assert (difference > 2).mean() < 1e-3


def test_three_overlays_are_blended_one_over_the_other(case: CaseModel) -> None:
    assert case.radiograph is not None
    assert case.voi is not None
    rng = np.random.default_rng(5)
    styles = [LayerStyle("blue-orange", 0.5), LayerStyle("purple-green", 0.7), LayerStyle("magma", 0.3)]
    expected = display.picture(case.radiograph, case.voi)
    for number, style in enumerate(styles):
        values = rng.normal(0, 0.6, (16, 16)).astype(np.float32)
        layer = case.add_layer(cases.explanation((ROWS, COLUMNS), values, f"m{number}"), style=style)
        expected = colour.blend(expected, layer.source_map, style, 1.0)
    view = Viewport(ROWS, COLUMNS, 400, 300, 1.0, (ROWS / 2, COLUMNS / 2))
    shown = Compositor(case.radiograph).render(view, case.voi, False, case.layers)
    difference = np.abs(shown[..., 2::-1].astype(int) - expected)
    assert np.percentile(difference, 99.9) <= 2


def test_frames_after_any_change_equal_frames_made_afresh(case: CaseModel) -> None:
    """What the compositor keeps between frames never shows through."""
    assert case.radiograph is not None
    kept = Compositor(case.radiograph)
    rng = np.random.default_rng(2)
    for number in range(3):
        case.add_layer(cases.explanation((ROWS, COLUMNS), method=f"m{number}"))
    view = Viewport(ROWS, COLUMNS, 150, 130, 0.9, (100, 120))
    for _ in range(40):
        match rng.integers(6):
            case 0:
                view = view.panned(*rng.normal(0, 20, 2))
            case 1:
                view = view.zoomed(view.scale * rng.uniform(0.7, 1.4), 50, 60)
            case 2:
                case.set_voi(Window(rng.uniform(300, 700), rng.uniform(50, 900)))
            case 3:
                layer = case.layers[rng.integers(3)]
                case.set_style(layer.id, replace(layer.style, opacity=float(rng.uniform(0, 1))))
            case 4:
                case.move_layer(case.layers[0].id, int(rng.integers(1, 3)))
            case 5:
                case.set_invert(not case.invert)
        draft = bool(rng.integers(2))
        assert case.voi is not None
        frames = [
            each.render(view, case.voi, case.invert, case.layers, draft=draft)
            for each in (kept, kept.sibling() if draft else Compositor(case.radiograph))
        ]
        np.testing.assert_array_equal(*frames)


# Mouse and keys


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


# Regions


def place(canvas: CanvasView, row: float, column: float) -> tuple[float, float]:
    x, y = canvas.viewport.to_device([[row, column]])[0] / canvas.ratio
    return x, y


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


# Keeping order


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
