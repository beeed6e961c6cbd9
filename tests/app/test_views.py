"""The grid of views: which map stands where, under which heading, and that all look at the same place."""

from __future__ import annotations

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.canvas import furniture
from app.canvas.sampling import ImageSampler
from app.canvas.viewport import Viewport
from app.model.case import CaseModel
from app.theme import DARK
from app.window.views import SHAPES, Cell, ViewArea, best
from tests.app import cards, cases
from tests.e2e.driver import as_array
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.regions import Region

SHAPE = (90, 80)
METHODS = (
    "grad-cam",
    "lime",
    "rise",
    "lrp",
    "saliency",
    "occlusion",
    "deep-lift",
    "smooth-grad",
    "eigen-cam",
)


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(*SHAPE)))
    return model


@pytest.fixture
def area(qtbot: QtBot, case: CaseModel) -> ViewArea:
    widget = ViewArea(case)
    qtbot.addWidget(widget)
    widget.resize(1200, 900)
    widget.show()
    QApplication.processEvents()
    return widget


def add(case: CaseModel, count: int) -> None:
    for name in METHODS[:count]:
        case.add_layer(cases.explanation(SHAPE, method=name))


def shown(cell: Cell) -> list[str]:
    return [layer.explanation.method for layer in cell.canvas.case.layers if layer.visible]


@pytest.mark.parametrize(
    ("maps", "views"), [(1, 2), (2, 2), (3, 4), (4, 4), (5, 6), (6, 6), (7, 9), (9, 9), (12, 9)]
)
def test_the_grid_fits_the_number_of_maps(maps: int, views: int) -> None:
    assert best(maps) == views


@pytest.mark.parametrize("count", range(1, 10))
def test_comparing_shows_every_map_once(area: ViewArea, case: CaseModel, count: int) -> None:
    add(case, count)
    views = area.compare()
    QApplication.processEvents()
    found = [shown(cell) for cell in area.cells]
    assert all(len(each) <= 1 for each in found)
    assert sorted(name for each in found for name in each) == sorted(METHODS[:count])
    assert found[0] == [METHODS[count - 1]]  # the top map keeps the main view
    assert (found[1] == []) == (views > count)  # a spare view shows the plain radiograph
    plain = [cell for cell in area.cells if cell.title.text() == "Radiograph" and cell.title.isVisible()]
    assert len(plain) == (1 if views > count else 0)
    rows, columns = SHAPES[views]
    tops = {cell.y() for cell in area.cells}
    lefts = {cell.x() for cell in area.cells}
    assert (len(tops), len(lefts)) == (rows, columns)
    images = {
        cell.canvas.mapTo(area, cell.canvas.rect().topLeft()).y()
        for cell in area.cells
        if not cell.canvas.isHidden()
    }
    assert len(images) <= rows  # headings are equally high


def test_headings_name_map_unit_and_trust(area: ViewArea, case: CaseModel) -> None:
    add(case, 3)
    case.set_card(case.layers[0].id, cards.card(cards.POOR))
    case.set_assessing(frozenset([case.layers[1].id]))
    area.compare()
    QApplication.processEvents()
    found = {cell.title.text(): cell.badge.word.text() for cell in area.cells if cell.badge.isVisible()}
    assert found == {
        "Grad Cam · logit per pixel": "do not use",
        "LIME · logit per pixel": "being assessed",
        "Rise · logit per pixel": "not assessed",
    }
    case.set_card(case.layers[2].id, cards.card(cards.GOOD))
    assert area.cells[0].badge.word.text() == "use"
    case.set_visible(case.layers[0].id, True)  # several in the main view: the gravest
    assert area.cells[0].badge.word.text() == "do not use"
    area.arrange(1)
    assert not area.cells[0].head.isVisible()
    assert area.canvas.titled


def test_zoom_place_window_and_turn_are_linked_both_ways(area: ViewArea, case: CaseModel) -> None:
    add(case, 4)
    area.compare()
    QApplication.processEvents()
    other = area.companions[2]
    other.set_zoom(3.0)
    other.pan(17, -9)
    for view in (area.canvas, *area.companions):
        assert view.viewport.scale == pytest.approx(3.0)
        assert view.viewport.center == pytest.approx(other.viewport.center)
    area.activateWindow()
    other.setFocus()
    QTest.keyClick(other, Qt.Key.Key_2)
    QTest.keyClick(other, Qt.Key.Key_I)
    assert case.preset_key == case.presets[1].key
    assert case.invert
    assert all(view.case.invert and view.case.voi == case.voi for view in area.companions)
    area.canvas.set_tool("zoom")
    assert {view.tool for view in area.companions} == {"zoom"}
    area.canvas.set_tool("ellipse")  # regions are drawn in the main view
    assert {view.tool for view in area.companions} == {"pan"}


def test_the_whole_image_stays_whole_when_views_come_and_go(area: ViewArea, case: CaseModel) -> None:
    add(case, 3)
    area.compare()
    QApplication.processEvents()
    assert all(view.fitted for view in (area.canvas, *area.companions))
    area.arrange(1)
    QApplication.processEvents()
    assert area.canvas.fitted
    assert area.canvas.viewport == area.canvas.viewport.fitted()


def test_styles_reach_the_companion(area: ViewArea, case: CaseModel) -> None:
    add(case, 3)
    area.compare()
    hidden = case.layers[0]
    case.set_style(hidden.id, LayerStyle("magma", 0.3))
    styles = [view.case.layers[0].style for view in area.companions if shown(Cell(view)) == ["grad-cam"]]
    assert styles == [LayerStyle("magma", 0.3)]


def test_a_new_image_empties_the_companions(area: ViewArea, case: CaseModel) -> None:
    add(case, 3)
    area.compare()
    case.set_radiograph(cases.radiograph(cases.noise(40, 50)))
    assert all(view.case.layers == () and view.case.radiograph is case.radiograph for view in area.companions)


def test_an_uncertainty_is_painted_as_a_map_without_sign(case: CaseModel) -> None:
    spread = np.full((32, 32), 0.25, np.float32)
    layer = case.add_layer(cases.explanation(SHAPE, method="consensus", uncertainty=spread))
    assert layer.drawn is layer.explanation
    case.set_spread(layer.id, True)
    now = case.layers[0]
    assert now.drawn.values is spread
    assert now.drawn.unit == layer.explanation.unit
    assert now.drawn_style.colour_map == "cividis"
    assert now.drawn is case.layers[0].drawn  # made once
    assert now.explanation is layer.explanation  # numbers and record keep the map


def colours_of(area: ViewArea) -> set[str]:
    """Every colour of the main canvas, as #rrggbb."""
    picture = area.canvas.grab_picture()
    return {picture.pixelColor(x, y).name() for y in range(picture.height()) for x in range(picture.width())}


def test_a_single_view_paints_the_verdict_beside_every_map_it_shows(area: ViewArea, case: CaseModel) -> None:
    """In the colours of the theme, which no grey image and no map in grey holds."""
    area.resize(420, 400)
    QApplication.processEvents()
    add(case, 2)
    for layer in case.layers:
        case.set_style(layer.id, LayerStyle("gray"))
    tones = {DARK.error, DARK.warning, DARK.good}
    case.set_card(case.layers[0].id, cards.card(cards.POOR))
    assert tones & colours_of(area) >= {DARK.error}
    case.set_card(case.layers[1].id, cards.card(cards.GOOD))
    assert tones & colours_of(area) >= {DARK.error, DARK.good}
    case.set_visible(case.layers[0].id, False)
    assert DARK.error not in colours_of(area)
    area.canvas.set_annotations_visible(False)
    assert not tones & colours_of(area)


@pytest.mark.parametrize("scale", [0.9, 0.61, 0.3])
def test_a_draft_of_a_smooth_image_is_close_and_the_settled_picture_exact(scale: float) -> None:
    y, x = np.mgrid[0:600, 0:500] / 100.0
    pixels = (2000 + 800 * np.sin(x) * np.cos(y)).astype(np.uint16)
    view = Viewport(600, 500, 300, 200, scale, (300.0, 250.0))
    sampler = ImageSampler(pixels)
    draft = sampler.sample(view, draft=True).astype(float)
    exact = ImageSampler(pixels).sample(view)
    assert draft.shape == exact.shape
    assert np.abs(draft - exact).max() <= 6  # of a range of 1600
    assert np.array_equal(sampler.sample(view), exact)
    assert sampler.at_hand(view)
    assert np.array_equal(sampler.sample(view, draft=True), exact)


def test_every_view_draws_the_regions_and_only_the_main_one_measures_them(
    area: ViewArea, case: CaseModel
) -> None:
    add(case, 3)
    area.compare()
    QApplication.processEvents()
    before = [as_array(cell.canvas.grab_picture()).astype(int) for cell in area.cells]
    box = Region("rectangle", np.array([(20.0, 15.0), (60.0, 55.0)]), "", "a")
    case.add_region(box)
    QApplication.processEvents()
    for cell, plain in zip(area.cells, before, strict=True):
        canvas = cell.canvas
        changed = np.abs(as_array(canvas.grab_picture()).astype(int) - plain).sum(2) > 60
        for row, column in ((20, 35), (60, 35), (40, 15), (40, 55)):  # the middle of each side
            x, y = canvas.viewport.to_device([(row, column)])[0]
            assert changed[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3].any()
        x, y = canvas.viewport.to_device([(40, 35)])[0]
        assert not changed[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6].any()
    assert area.canvas.measurer.wait()
    assert list(case.statistics) == ["a"]
    assert not any(view.case.regions or view.case.statistics for view in area.companions)
    case.remove_region("a")
    QApplication.processEvents()
    after = [as_array(cell.canvas.grab_picture()) for cell in area.cells]
    assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True))


def test_small_views_do_not_repeat_the_corner_texts(area: ViewArea, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[float] = []
    monkeypatch.setattr(
        furniture, "corner_texts", lambda _painter, room, *_rest: written.append(room.width())
    )

    def count() -> int:
        written.clear()
        for cell in area.cells:
            cell.canvas.grab_picture()
        return len(written)

    area.arrange(2)
    QApplication.processEvents()
    assert count() == 2  # half of 1200 pixels is room enough
    area.resize(760, 600)
    QApplication.processEvents()
    assert count() == 1  # the main view always has them
