"""The pixels of the canvas: exactly the picture, its window, orientation and overlays."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PySide6.QtTest import QTest

from app.canvas.compositor import Compositor
from app.canvas.view import CanvasView
from app.canvas.viewport import Viewport
from app.model.case import CaseModel
from tests.app import cases
from tests.app.canvas_hands import COLUMNS, ROWS, on_screen
from xai_engine.radiograph import colour, display, regions
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.types import VoiLut, Window


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
