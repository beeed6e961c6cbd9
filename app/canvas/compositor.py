"""From a case and a viewport to one 8-bit picture, with everything kept that the next frame can use again. No Qt.

A window drag changes the grey values alone. All maps are kept as one premultiplied colour picture and one
transmittance, so a frame costs one table lookup and one multiply-add however many maps lie over the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt

from app.canvas.sampling import ImageSampler, sample_map
from app.canvas.viewport import Viewport
from app.model.layer import Layer
from xai_engine.radiograph import colour, display
from xai_engine.radiograph.types import Radiograph, Voi

Picture = npt.NDArray[np.uint8]
_KEEP = 4_000_000  # screen pixels up to which every map is kept painted; on a 4K screen that would be 120 MB


class Compositor:
    """Renders one radiograph with its maps. Not thread-safe."""

    def __init__(self, radiograph: Radiograph, sampler: ImageSampler | None = None) -> None:
        self.radiograph = radiograph
        self._sampler = sampler or ImageSampler(radiograph.pixels)
        self._marked = (
            None if radiograph.padding is None else ImageSampler(radiograph.padding.astype(np.uint8) * 255)
        )
        self._padding: npt.NDArray[np.bool_] | None = None
        self._view: Viewport | None = None
        self._values: npt.NDArray | None = None
        self._rough = False
        self._table: tuple[Voi, bool, display.Lookup | None] | None = None
        self._maps: dict[int, tuple[object, bool, npt.NDArray[np.float32]]] = {}
        self._painted: dict[int, tuple[object, tuple[Picture, Picture]]] = {}
        self._stack: tuple[object, Picture, Picture] | None = None

    def sibling(self) -> Compositor:
        """Another one for the same image, for a second view of it: reduced copies of the image are shared."""
        return Compositor(self.radiograph, self._sampler)

    def render(
        self,
        view: Viewport,
        voi: Voi,
        invert: bool,
        layers: Sequence[Layer] = (),
        *,
        line_width: int = 2,
        draft: bool = False,
    ) -> Picture:
        """The visible part: uint8 (rows, columns) without maps, else (rows, columns, 4) as blue, green, red, 255.

        layers: those to be shown, lowest first. draft: maps at half resolution, the image interpolated: frames of a zoom or pan.
        """
        if view != self._view:
            self._view, self._values = view, None
            self._maps.clear()
            self._painted.clear()
            self._stack = None
        if self._values is None or (self._rough and not draft):
            self._rough = draft and not self._sampler.at_hand(view)
            self._values = self._sampler.sample(view, self._rough)
            # A screen pixel is padding where most of it is.
            self._padding = None if self._marked is None else self._marked.sample(view) >= 128
        grey = self._grey(self._values, voi, invert)
        layers = [layer for layer in layers if layer.style.opacity > 0]
        if not layers:
            return grey
        return _over(grey, *self._layers(layers, grey.shape, line_width, draft))

    def _grey(self, values: npt.NDArray, voi: Voi, invert: bool) -> Picture:
        import cv2

        radiograph = self.radiograph
        if self._table is None or self._table[0] is not voi or self._table[1] != invert:
            self._table = voi, invert, display.lookup(radiograph, voi, invert)
        lookup = self._table[2]
        if lookup is None or values.dtype != radiograph.pixels.dtype:
            grey = display.to_grey(values, voi, radiograph.inverted != invert)
        elif values.dtype == np.uint16 and wide_lut():
            grey = _u8(cv2.LUT(values, lookup.table))
        elif values.dtype == np.int16 and wide_lut():
            # Signed values as an unsigned index that counts from the smallest.
            grey = _u8(cv2.LUT(values.view(np.uint16) ^ np.uint16(0x8000), lookup.table))
        else:
            grey = lookup.apply(values)
        if self._padding is not None:
            grey[self._padding] = 0
        return grey

    def _layers(
        self, layers: Sequence[Layer], shape: tuple[int, int], line_width: int, draft: bool
    ) -> tuple[Picture, Picture]:
        """Premultiplied colours (rows, columns, 4; fourth channel 0) and transmittance (rows, columns) of all maps."""
        import cv2

        key = tuple((layer.id, layer.drawn, layer.drawn_style) for layer in layers), line_width, draft
        if self._stack is None or self._stack[0] != key:
            if draft:
                line_width = max(1, line_width // 2)
            colours, through = self._paint(layers[0], line_width, draft)
            for layer in layers[1:]:
                top, top_through = self._paint(layer, line_width, draft)
                colours = _lay(top, top_through, colours)
                through = _times(through, top_through)
            if draft:
                size = shape[1], shape[0]
                colours = _u8(cv2.resize(colours, size, interpolation=cv2.INTER_LINEAR))
                through = _u8(cv2.resize(through, size, interpolation=cv2.INTER_LINEAR))
            self._stack = key, colours, through
            if through.size > _KEEP:
                self._painted.clear()
        return self._stack[1], self._stack[2]

    def _paint(self, layer: Layer, line_width: int, draft: bool) -> tuple[Picture, Picture]:
        import cv2

        key = layer.drawn, layer.drawn_style, line_width, draft
        kept = self._painted.get(layer.id)
        if kept is not None and kept[0] == key:
            return kept[1]
        rgba = colour.paint(
            self._values_of(layer, draft), layer.drawn_style, layer.drawn.full_scale, line_width=line_width
        )
        alpha = _u8(cv2.extractChannel(rgba, 3))
        colours = _u8(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
        cv2.insertChannel(np.zeros_like(alpha), colours, 3)
        colours = _times(colours, _four(alpha))
        result = colours, _u8(cv2.bitwise_not(alpha))
        self._painted[layer.id] = key, result
        return result

    def _values_of(self, layer: Layer, draft: bool) -> npt.NDArray[np.float32]:
        kept = self._maps.get(layer.id)
        if kept is None or kept[0] is not layer.drawn or kept[1] != draft:
            assert self._view is not None
            values = sample_map(layer.drawn, self._view, draft)
            kept = layer.drawn, draft, values
            self._maps[layer.id] = kept
        return kept[2]


def _u8(array: object) -> Picture:
    """What cv2 returns, as what it is."""
    return cast(Picture, array)


def _four(channel: Picture) -> Picture:
    import cv2

    return _u8(cv2.cvtColor(channel, cv2.COLOR_GRAY2BGRA))


def _times(first: Picture, second: Picture) -> Picture:
    """round(first * second / 255)."""
    import cv2

    return _u8(cv2.multiply(first, second, scale=1 / 255))


def _lay(top: Picture, top_through: Picture, below: Picture) -> Picture:
    """One premultiplied picture over another."""
    import cv2

    seen = _times(below, _four(top_through))
    return _u8(cv2.add(top, seen, dst=seen))


def _over(grey: Picture, colours: Picture, through: Picture) -> Picture:
    import cv2

    result = _four(_times(grey, through))
    return _u8(cv2.add(colours, result, dst=result))


@cache
def wide_lut() -> bool:
    """cv2 5 looks 16-bit values up ten times faster than numpy; cv2 4 refuses them."""
    import cv2

    try:
        cv2.LUT(np.zeros((1, 1), np.uint16), np.zeros(65536, np.uint8))
    except cv2.error:
        return False
    return True
