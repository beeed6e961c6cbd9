"""Images that are open but not on the screen: what is kept of them, what is forgotten, what reaches them later."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.model.case import CaseModel
from app.window import kept
from app.window.kept import MOST, MOST_WITH_MAPS, Kept, Shelf
from tests.app import cases
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Window

SHAPE = (8, 8)
REGION = Region("rectangle", np.array([[1.0, 1.0], [4.0, 4.0]]), "Nodule", "1")


def image(number: int) -> Kept:
    return Kept(cases.radiograph(cases.noise(*SHAPE), sha256=str(number) * 64))


def with_map(number: int) -> Kept:
    case = CaseModel()
    case.set_radiograph(image(number).radiograph)
    case.add_layer(cases.explanation(SHAPE, method="lime"))
    found = kept.of_case(case)
    assert found is not None
    return found


def path(number: int) -> Path:
    return Path(f"{number}.dcm")


def test_only_what_was_merely_looked_at_is_soon_forgotten() -> None:
    needed = {path(1)}
    shelf = Shelf(lambda each: each in needed)
    shelf.put(path(0), Kept(image(0).radiograph, regions=(REGION,)))
    shelf.put(path(1), image(1))
    shelf.put(path(2), with_map(2))
    for number in range(3, 3 + 2 * MOST):
        shelf.put(path(number), image(number))
    assert [shelf.get(path(number)) is not None for number in range(3)] == [True] * 3
    there = [n for n in range(3 + 2 * MOST) if shelf.get(path(n)) is not None]
    assert there == [0, 1, 2, *range(3 + 2 * MOST - (MOST - 3), 3 + 2 * MOST)]


def test_maps_stay_longer_but_not_for_ever() -> None:
    shelf = Shelf(lambda _path: False)
    for number in range(MOST_WITH_MAPS + 2):
        shelf.put(path(number), with_map(number))
    there = [n for n in range(MOST_WITH_MAPS + 2) if shelf.get(path(n)) is not None]
    assert there == list(range(2, MOST_WITH_MAPS + 2))


def test_what_comes_late_reaches_its_image_only() -> None:
    shelf = Shelf(lambda _path: False)
    shelf.put(path(1), image(1))
    shelf.put(path(2), with_map(2))
    style = LayerStyle(opacity=0.3)
    late = cases.explanation(SHAPE, method="lime")
    shelf.add_layer("2" * 64, late, style)
    one, two = shelf.get(path(1)), shelf.get(path(2))
    assert one is not None
    assert two is not None
    assert one.layers == ()
    assert [(layer.explanation, layer.style) for layer in two.layers] == [(late, style)]


def test_an_image_is_shown_as_it_was_left() -> None:
    case = CaseModel()
    case.set_radiograph(image(1).radiograph)
    assert kept.of_case(CaseModel()) is None
    case.set_voi(Window(300.0, 50.0), "")
    case.set_invert(True)
    case.rotate(90)
    case.flip("h")
    case.flip("v")
    case.add_region(REGION)
    hidden = case.add_layer(cases.explanation(SHAPE, method="lime"), style=LayerStyle(opacity=0.2))
    case.set_visible(hidden.id, False)
    left = kept.of_case(case)
    assert left is not None
    case.set_radiograph(image(2).radiograph)
    kept.show(case, left, "default")
    assert kept.of_case(case).view == left.view  # type: ignore[union-attr]
    assert (case.rotation, case.flip_h, case.flip_v, case.invert) == (90, True, True, True)
    assert case.regions == (REGION,)
    assert case.selected_region is None
    assert [(x.visible, x.style.opacity) for x in case.layers] == [(False, 0.2)]
