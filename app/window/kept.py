"""Images that are open but not on the screen, with all that was said and drawn about them. Knows no Qt."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from app.model.case import CaseModel, Rotation
from app.model.layer import Layer
from xai_engine.assess.types import ReliabilityCard
from xai_engine.classifier.types import Prediction
from xai_engine.evidence import trust
from xai_engine.evidence.case import CaseReview
from xai_engine.explain.types import Explanation
from xai_engine.explain.what_if import WhatIf
from xai_engine.radiograph import display
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph, Voi

MOST, MOST_WITH_MAPS = 6, 24
"""Images whose pixels stay in memory while others are shown: such as are only looked at, and with maps, which cost time."""


@dataclass(frozen=True)
class View:
    """How an image was shown when another one took its place."""

    voi: Voi
    preset: str
    invert: bool = False
    rotation: Rotation = 0
    flip_h: bool = False
    flip_v: bool = False


@dataclass(frozen=True, eq=False)
class Kept:
    """An image with all that was said and drawn about it. `view` None: as the window shows a new image."""

    radiograph: Radiograph
    prediction: Prediction | None = None
    layers: tuple[Layer, ...] = ()
    regions: tuple[Region, ...] = ()
    asked: tuple[WhatIf, ...] = ()
    view: View | None = None


def of_case(case: CaseModel) -> Kept | None:
    """What is on the screen; None where nothing is."""
    if case.radiograph is None or case.voi is None:
        return None
    view = View(case.voi, case.preset_key, case.invert, case.rotation, case.flip_h, case.flip_v)
    asked = tuple(case.comparison.what_if.values())
    return Kept(case.radiograph, case.prediction, case.layers, case.regions, asked, view)


def of_review(review: CaseReview) -> Kept:
    """An earlier result as it was saved. Its first map is in sight."""
    layers = tuple(
        Layer(
            number,
            explanation,
            review.style(name),
            number == 1,
            [],
            trust.card(review.reliability.get(name, {})),
        )
        for number, (name, explanation) in enumerate(
            zip(review.names(), review.explanations, strict=True), start=1
        )
    )
    key = review.voi_key if review.voi_key != "manual" else ""
    if key == "default":  # as `analyze` writes it: one of the presets
        presets = display.presets(review.radiograph)
        key = next((each.key for each in presets if each.voi == review.voi), "")
    return Kept(
        review.radiograph,
        review.prediction,
        layers,
        review.regions,
        tuple(review.what_if.values()),
        View(review.voi, key, review.invert),
    )


def show(case: CaseModel, kept: Kept, window: str) -> None:
    """Bring it to the screen; nothing is selected. window: the preset of an image that was not shown yet."""
    case.set_radiograph(kept.radiograph, window)
    view = kept.view
    if view is not None:
        case.set_voi(view.voi, view.preset)
        case.set_invert(view.invert)
        case.rotate(view.rotation)
        if view.flip_h:
            case.flip("h")
        if view.flip_v:
            case.flip("v")
    if kept.prediction is not None:
        case.set_prediction(kept.prediction)
    for layer in kept.layers:
        fresh = case.add_layer(layer.explanation, style=layer.style, card=layer.card)
        case.set_visible(fresh.id, layer.visible)
        case.set_spread(fresh.id, layer.spread)
    for region in kept.regions:
        case.add_region(region)
    for answer in kept.asked:
        case.comparison.set_what_if(answer)
    case.select_region(None)


class Shelf:
    """The kept images by path, the one looked at last at the end. `needed(path)`: must not be forgotten."""

    def __init__(self, needed: Callable[[Path], bool]) -> None:
        self._needed = needed
        self._images: OrderedDict[Path, Kept] = OrderedDict()

    def get(self, path: Path) -> Kept | None:
        return self._images.get(path)

    def put(self, path: Path, kept: Kept) -> None:
        """Keep it, and forget the oldest images that hold no work of the reader; last those with maps."""
        self._images[path] = kept
        self._images.move_to_end(path)
        self._forget(MOST, lambda old: not old.layers)
        self._forget(MOST_WITH_MAPS, lambda _old: True)

    def _forget(self, most: int, may_go: Callable[[Kept], bool]) -> None:
        for path, old in list(self._images.items()):
            if len(self._images) <= most:
                return
            if may_go(old) and not old.regions and not self._needed(path):
                del self._images[path]

    def drop(self, path: Path) -> None:
        self._images.pop(path, None)

    def set_prediction(self, path: Path, sha: str, prediction: Prediction) -> None:
        kept = self._images.get(path)
        if kept is not None and kept.radiograph.sha256 == sha:
            self._images[path] = replace(kept, prediction=prediction)

    def add_layer(self, sha: str, explanation: Explanation, style: LayerStyle | None) -> None:
        """A map of an image that has left the screen meanwhile takes the place of the one of the same method."""
        for path, kept in self._of(sha):
            others = tuple(x for x in kept.layers if x.explanation.method != explanation.method)
            layer = Layer(len(others) + 1, explanation, style or LayerStyle(), True, [])
            self._images[path] = replace(kept, layers=(*others, layer))

    def set_cards(self, sha: str, cards: Mapping[int, ReliabilityCard]) -> None:
        """cards: by the identity of the explanation that each is about."""
        for path, kept in self._of(sha):
            layers = tuple(
                replace(layer, card=cards.get(id(layer.explanation), layer.card)) for layer in kept.layers
            )
            self._images[path] = replace(kept, layers=layers)

    def _of(self, sha: str) -> Iterable[tuple[Path, Kept]]:
        """At most one: the first image of this hash."""
        return [(path, kept) for path, kept in self._images.items() if kept.radiograph.sha256 == sha][:1]
