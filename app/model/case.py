"""The state of one open image. Knows no Qt; canvas, panels and report read it and listen to `changed`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from app.model.comparison import Comparison, same_shape
from app.model.history import History, Snapshot
from app.model.layer import Layer
from app.model.signal import Signal
from xai_engine.assess.types import ReliabilityCard
from xai_engine.classifier.types import Prediction
from xai_engine.explain.types import Explanation
from xai_engine.radiograph import display
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.regions import Region, RegionStatistics
from xai_engine.radiograph.types import Radiograph, Voi

Rotation = Literal[0, 90, 180, 270]
Field = Literal[
    "radiograph",
    "voi",
    "view",
    "prediction",
    "layers",
    "trust",
    "regions",
    "statistics",
    "selection",
    "history",
]


class CaseModel:
    """One open image with what is said and drawn about it.

    `changed` emits the name of what has changed (a `Field`), after the change. `rotation` (clockwise, degrees) is
    applied to the image first, then `flip_h` (left and right change places on the screen) and `flip_v`.
    `assessing`: layers whose reliability is being computed; "trust" tells of it and of every new card.
    Undo covers regions and the styles of layers; edits inside `with case.edit():` are one step.
    """

    def __init__(self) -> None:
        self.changed = Signal()
        self.radiograph: Radiograph | None = None
        self.presets: tuple[display.Preset, ...] = ()
        self.voi: Voi | None = None
        self.preset_key = ""
        self.invert = False
        self.rotation: Rotation = 0
        self.flip_h = False
        self.flip_v = False
        self.prediction: Prediction | None = None
        self.layers: tuple[Layer, ...] = ()
        self.assessing: frozenset[int] = frozenset()
        self.regions: tuple[Region, ...] = ()
        self.statistics: dict[str, RegionStatistics] = {}
        self.selected_region: str | None = None
        self.comparison = Comparison(self)
        self._history = History()
        self._next_layer = 1
        self._region_number = 0
        self._measured: dict[str, Region] = {}
        self._edit_depth = 0
        self._hidden: frozenset[int] = frozenset()

    # The image and how it is shown

    def set_radiograph(self, radiograph: Radiograph | None, window: str = "default") -> None:
        """Show another image (or none). Everything about the previous one is dropped.

        window: the preset to begin with, as `display.select` takes it; "default" where the file has no such preset.
        """
        self.radiograph = radiograph
        self.presets = () if radiograph is None else display.presets(radiograph)
        self.voi, self.preset_key = self._default_voi(window)
        self.invert, self.rotation, self.flip_h, self.flip_v = False, 0, False, False
        self.prediction = None
        self.layers = ()
        self.assessing = frozenset()
        self.regions = ()
        self.statistics = {}
        self._measured = {}
        self._region_number = 0
        self.selected_region = None
        self._hidden = frozenset()
        self._history = History()
        self._edit_depth = 0
        for name in get_args(Field):
            self.changed.emit(name)

    def _default_voi(self, window: str = "default") -> tuple[Voi | None, str]:
        if not self.presets:
            return None, ""
        by_key = {preset.key: preset for preset in self.presets}
        own = next((preset.key for preset in self.presets if preset.key.isdigit()), "auto")
        chosen = by_key.get(window) or by_key.get(own) or self.presets[0]
        return chosen.voi, chosen.key

    def set_voi(self, voi: Voi, preset_key: str = "") -> None:
        """`preset_key`: the preset this is; empty for a window of the user's own."""
        self.voi, self.preset_key = voi, preset_key
        self.changed.emit("voi")

    def apply_preset(self, key: str) -> bool:
        """Take the window of a preset. False where this image has no such preset."""
        for preset in self.presets:
            if preset.key == key:
                self.set_voi(preset.voi, key)
                return True
        return False

    def set_invert(self, invert: bool) -> None:
        if invert != self.invert:
            self.invert = invert
            self.changed.emit("view")

    def rotate(self, degrees: int) -> None:
        """Turn what is on the screen clockwise by a multiple of 90 degrees (negative: counter-clockwise)."""
        quarters = degrees // 90 % 4
        if degrees % 90 or not quarters:
            return
        if self.flip_h != self.flip_v:
            # One mirror reverses the sense in which the image below it turns.
            quarters = -quarters % 4
        turned = (self.rotation + 90 * quarters) % 360
        self.rotation = next(r for r in (0, 90, 180, 270) if r == turned)
        self.changed.emit("view")

    def flip(self, axis: Literal["h", "v"]) -> None:
        """Mirror what is on the screen: "h" exchanges left and right, "v" top and bottom."""
        if axis == "h":
            self.flip_h = not self.flip_h
        else:
            self.flip_v = not self.flip_v
        self.changed.emit("view")

    def reset_view(self) -> None:
        """The file's own window, upright, not inverted. Canvases fit the image at the "view" signal that follows."""
        self.invert, self.rotation, self.flip_h, self.flip_v = False, 0, False, False
        self.voi, self.preset_key = self._default_voi()
        self.changed.emit("voi")
        self.changed.emit("view")

    # What the classifier says, and the maps

    def set_prediction(self, prediction: Prediction | None) -> None:
        self.prediction = prediction
        self.changed.emit("prediction")

    def add_layer(
        self,
        explanation: Explanation,
        source_map: npt.NDArray[np.float32] | None = None,
        *,
        style: LayerStyle | None = None,
        card: ReliabilityCard | None = None,
    ) -> Layer:
        """Lay a map on top, or put it in the place (and style) of the map of the same method.

        source_map: `explanation.in_source()` where it has been made already, float32 (rows, columns).
        card: of this very map; the card of a map that is replaced goes with it.
        """
        old = next((layer for layer in self.layers if layer.explanation.method == explanation.method), None)
        style = style or (old.style if old else LayerStyle())
        source = [] if source_map is None else [source_map]
        layer = Layer(self._next_layer, explanation, style, True, source, card)
        self._next_layer += 1
        if old is None:
            self.layers = (*self.layers, layer)
        else:
            self.layers = tuple(layer if each is old else each for each in self.layers)
            self._history.layer_removed(old.id)
        self._history.layer_added(layer.id, style)
        self._layers_changed()
        return layer

    def layer(self, layer_id: int) -> Layer | None:
        return next((layer for layer in self.layers if layer.id == layer_id), None)

    def set_style(self, layer_id: int, style: LayerStyle) -> None:
        self._replace_layer(layer_id, style=style)
        self._record()

    def set_visible(self, layer_id: int, visible: bool) -> None:
        self._hidden -= {layer_id}
        self._replace_layer(layer_id, visible=visible)

    def set_spread(self, layer_id: int, spread: bool) -> None:
        """Show a map's uncertainty instead of its values, where it is known."""
        self._replace_layer(layer_id, spread=spread)

    def set_card(self, layer_id: int, card: ReliabilityCard | None) -> None:
        """How far a map can be trusted. Nothing happens where the map has gone."""
        self.layers = tuple(
            replace(layer, card=card) if layer.id == layer_id else layer for layer in self.layers
        )
        self.changed.emit("trust")

    def set_assessing(self, layer_ids: frozenset[int]) -> None:
        if layer_ids != self.assessing:
            self.assessing = layer_ids
            self.changed.emit("trust")

    def show_only(self, layer_id: int) -> None:
        """Show this map and hide the others."""
        self.layers = tuple(replace(layer, visible=layer.id == layer_id) for layer in self.layers)
        self.changed.emit("layers")

    def hide_all(self) -> None:
        """Hide every map; called again while all are hidden, bring back those that were hidden so."""
        shown = frozenset(layer.id for layer in self.layers if layer.visible)
        if shown:
            self._hidden = shown
            self.layers = tuple(replace(layer, visible=False) for layer in self.layers)
        else:
            back = self._hidden or frozenset(layer.id for layer in self.layers)
            self.layers = tuple(replace(layer, visible=layer.id in back) for layer in self.layers)
        self.changed.emit("layers")

    def remove_layer(self, layer_id: int) -> None:
        if self.layer(layer_id) is None:
            return
        self.layers = tuple(layer for layer in self.layers if layer.id != layer_id)
        self._history.layer_removed(layer_id)
        self._layers_changed()

    def move_layer(self, layer_id: int, delta: int) -> None:
        """Move a map up (positive: towards the viewer) or down in the stack."""
        layers = list(self.layers)
        index = next((i for i, layer in enumerate(layers) if layer.id == layer_id), None)
        if index is None:
            return
        target = min(max(index + delta, 0), len(layers) - 1)
        layers.insert(target, layers.pop(index))
        self.layers = tuple(layers)
        self.changed.emit("layers")

    def _replace_layer(self, layer_id: int, **changes: Any) -> None:
        self.layers = tuple(
            replace(layer, **changes) if layer.id == layer_id else layer for layer in self.layers
        )
        self.changed.emit("layers")

    def _layers_changed(self) -> None:
        self._hidden = frozenset()
        self.statistics = {}  # each holds the shares of every map
        self.changed.emit("layers")
        self.changed.emit("statistics")
        self.changed.emit("history")

    # Regions

    def region(self, region_id: str | None) -> Region | None:
        return next((region for region in self.regions if region.id == region_id), None)

    def add_region(self, region: Region) -> None:
        """Add and select. ValueError where a region of this id is there already."""
        if self.region(region.id) is not None:
            raise ValueError(f"there is a region {region.id} already")
        self._set_regions((*self.regions, region))
        self.select_region(region.id)
        self._record()

    def update_region(self, region: Region) -> None:
        """Put `region` in the place of the region with its id; nothing happens where there is none."""
        if self.region(region.id) in (None, region):
            return
        self._set_regions(tuple(region if each.id == region.id else each for each in self.regions))
        self._record()

    def rename_region(self, region_id: str, name: str) -> None:
        region = self.region(region_id)
        if region is not None:
            self.update_region(replace(region, name=name))

    def remove_region(self, region_id: str) -> None:
        if self.region(region_id) is None:
            return
        self._set_regions(tuple(each for each in self.regions if each.id != region_id))
        self._record()

    def select_region(self, region_id: str | None) -> None:
        if region_id != self.selected_region:
            self.selected_region = region_id if self.region(region_id) else None
            self.changed.emit("selection")

    def new_region_id(self) -> str:
        """An id that no region of this case has had."""
        while True:
            self._region_number += 1
            candidate = str(self._region_number)
            if self.region(candidate) is None:
                return candidate

    def set_statistics(self, region: Region, statistics: RegionStatistics) -> None:
        """What was measured in `region`. Dropped where that region has gone, or has moved and stands still again."""
        now = self.region(region.id)
        if now is None or not (self.editing or same_shape(region, now)):
            return
        self._measured[region.id] = region
        self.statistics = {**self.statistics, region.id: replace(statistics, name=now.name)}
        self.changed.emit("statistics")

    def _set_regions(self, regions: tuple[Region, ...]) -> None:
        self.regions = regions
        if self.region(self.selected_region) is None and self.selected_region is not None:
            self.selected_region = None
            self.changed.emit("selection")
        self.changed.emit("regions")
        # A number never stands beside a region that it was not measured in, except while a drag goes on.
        if not self._edit_depth:
            self._drop_stale_statistics()

    def _drop_stale_statistics(self) -> None:
        kept = {}
        for region in self.regions:
            known = self.statistics.get(region.id)
            if known is not None and same_shape(self._measured[region.id], region):
                kept[region.id] = replace(known, name=region.name)
        if kept != self.statistics:
            self.statistics = kept
            self.changed.emit("statistics")

    # Undo

    @contextmanager
    def edit(self) -> Iterator[None]:
        """Edits inside become one step of undo: for `begin_edit` … `end_edit` in one place."""
        self.begin_edit()
        try:
            yield
        finally:
            self.end_edit()

    def begin_edit(self) -> None:
        """A drag begins: what follows is one step of undo, until `end_edit`."""
        self._edit_depth += 1

    def end_edit(self) -> None:
        self._edit_depth = max(0, self._edit_depth - 1)
        self._record()
        if not self._edit_depth:
            self._drop_stale_statistics()

    @property
    def editing(self) -> bool:
        return self._edit_depth > 0

    @property
    def can_undo(self) -> bool:
        return self._history.can_undo

    @property
    def can_redo(self) -> bool:
        return self._history.can_redo

    def undo(self) -> None:
        self._restore(self._history.back)

    def redo(self) -> None:
        self._restore(self._history.forward)

    def _record(self) -> None:
        if not self._edit_depth:
            self._history.push(Snapshot(self.regions, {layer.id: layer.style for layer in self.layers}))
            self.changed.emit("history")

    def _restore(self, step: Callable[[], Snapshot]) -> None:
        if self._edit_depth:  # not in the middle of a drag
            return
        state = step()
        if state.regions != self.regions:
            self._set_regions(state.regions)
        layers = tuple(replace(layer, style=state.styles[layer.id]) for layer in self.layers)
        if any(new.style != old.style for new, old in zip(layers, self.layers, strict=True)):
            self.layers = layers
            self.changed.emit("layers")
        self.changed.emit("history")
