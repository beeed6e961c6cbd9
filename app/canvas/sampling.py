"""Pixels of a radiograph and values of maps at the resolution of the screen. No Qt.

The image is averaged over area where it is shown smaller than it is, *before* windowing, so that fine structure does
not alias; at 1:1 its pixels are handed on untouched; above, values are interpolated, and from `NEAREST_FROM` on each
source pixel is a square. Work is bounded by the screen, not by the image.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.canvas.viewport import Viewport
from xai_engine.explain.types import Explanation
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.regions import map_totals

NEAREST_FROM = 8.0
_WHOLE = 20_000_000  # device pixels up to which a reduced image is kept whole, so that panning is slicing
_DIRECT = (np.uint8, np.uint16, np.int16, np.float32)  # what cv2 resamples

Box = tuple[int, int, int, int]


def visible_box(view: Viewport) -> Box:
    """(top, left, bottom, right) of what is visible, in device pixels of the image laid out in source orientation."""
    x0, y0, x1, y1 = view.visible()
    x, y = view.origin
    height, width = view.size
    rows, columns = view.orientation.shape(height, width)
    return view.orientation.source_box(y0 - y, x0 - x, y1 - y, x1 - x, rows, columns)


class ImageSampler:
    """Resamples one image. Keeps halved copies of it (a third of its size) and the last reduced one."""

    def __init__(self, pixels: npt.NDArray) -> None:
        self._pixels = pixels
        self._levels: list[npt.NDArray] = []
        self._whole: tuple[tuple[int, int], npt.NDArray] | None = None

    def sample(self, view: Viewport, draft: bool = False) -> npt.NDArray:
        """Values of the visible part as it lies on the screen, contiguous; the image's own dtype where it can be.

        draft: interpolated from a halved copy where averaging over area would need the whole image, for frames of a
        running zoom.
        """
        rows, columns = view.orientation.shape(*view.size)
        box = visible_box(view)
        if draft and not self.at_hand(view):
            block = self._interpolated(box, rows, columns, view.scale)
        else:
            block = self._block(box, rows, columns, view.scale)
        return np.ascontiguousarray(view.orientation.apply(block))

    def at_hand(self, view: Viewport) -> bool:
        """True where the exact values cost no more than those of a draft."""
        size = view.orientation.shape(*view.size)
        averaged = view.scale < 1 and size != self._pixels.shape and size[0] * size[1] <= _WHOLE
        return not averaged or (self._whole is not None and self._whole[0] == size)

    def _block(self, box: Box, rows: int, columns: int, scale: float) -> npt.NDArray:
        top, left, bottom, right = box
        if (rows, columns) == self._pixels.shape:
            return self._pixels[top:bottom, left:right]
        if scale >= NEAREST_FROM:
            row = self._centres(top, bottom, rows, self._pixels.shape[0]).astype(np.intp)
            column = self._centres(left, right, columns, self._pixels.shape[1]).astype(np.intp)
            part = self._pixels[row[0] : row[-1] + 1, column[0] : column[-1] + 1]
            return part[(row - row[0])[:, None], (column - column[0])[None, :]]
        if scale < 1 and rows * columns <= _WHOLE:
            return self._reduced(rows, columns)[top:bottom, left:right]
        return self._interpolated(box, rows, columns, scale)

    @staticmethod
    def _centres(start: int, stop: int, size: int, source: int) -> npt.NDArray[np.float64]:
        """Source coordinates of the centres of screen cells start … stop, of `size` cells over `source` pixels."""
        return (np.arange(start, stop, dtype=np.float64) + 0.5) * np.float64(source / size)

    def _reduced(self, rows: int, columns: int) -> npt.NDArray:
        import cv2

        if self._whole is None or self._whole[0] != (rows, columns):
            # Halves lie on a raster of their own, so the last step does most of the averaging.
            level = self._level(rows / self._pixels.shape[0], 8)
            self._whole = (rows, columns), cv2.resize(level, (columns, rows), interpolation=cv2.INTER_AREA)
        return self._whole[1]

    def _interpolated(self, box: Box, rows: int, columns: int, scale: float) -> npt.NDArray:
        import cv2

        level = self._level(scale, 2)
        top, left, bottom, right = box
        step_row, step_column = level.shape[0] / rows, level.shape[1] / columns
        # cv2 takes sides below 32768: hand it only what is looked at, with a pixel to spare for interpolation.
        first_row, first_column = max(0, int(top * step_row) - 1), max(0, int(left * step_column) - 1)
        part = level[first_row : int(bottom * step_row) + 2, first_column : int(right * step_column) + 2]
        if part.dtype not in _DIRECT:
            part = part.astype(np.float32)
        shift_row = (top + 0.5) * step_row - 0.5 - first_row
        shift_column = (left + 0.5) * step_column - 0.5 - first_column
        matrix = np.array([[step_column, 0, shift_column], [0, step_row, shift_row]])
        return cv2.warpAffine(
            np.ascontiguousarray(part),
            matrix,
            (right - left, bottom - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REPLICATE,
        )

    def _level(self, scale: float, spare: int) -> npt.NDArray:
        """The image halved (area mean) as often as leaves it more than `spare` / 2 times as large as `scale` asks for."""
        import cv2

        level, number = self._pixels, 0
        while scale * spare <= 1 and min(level.shape) >= 2:
            if number == len(self._levels):
                size = (level.shape[1] + 1) // 2, (level.shape[0] + 1) // 2
                source = level if level.dtype in _DIRECT else level.astype(np.float32)
                self._levels.append(cv2.resize(source, size, interpolation=cv2.INTER_AREA))
            level, number, scale = self._levels[number], number + 1, scale * 2
        return level if level.dtype in _DIRECT else level.astype(np.float32)


def sample_map(explanation: Explanation, view: Viewport, draft: bool = False) -> npt.NDArray[np.float32]:
    """Values of a map over the visible part as it lies on the screen: float32, contiguous.

    Taken from the classifier's grid as `Explanation.in_source` does, at the centres of screen pixels.
    draft: every second pixel each way, for frames of a running drag; half the shape, rounded up.
    """
    top, left, bottom, right = visible_box(view)
    rows, columns = view.orientation.shape(*view.size)
    step = 2 if draft else 1
    values = _over(
        explanation,
        (top * view.rows / rows, left * view.columns / columns),
        (step * view.rows / rows, step * view.columns / columns),
        ((bottom - top + step - 1) // step, (right - left + step - 1) // step),
    )
    return np.ascontiguousarray(view.orientation.apply(values))


def value_at(explanation: Explanation, row: int, column: int) -> float:
    """The map's value at one source pixel: what `in_source()[row, column]` would be."""
    return float(_over(explanation, (row, column), (1.0, 1.0), (1, 1))[0, 0])


class MapInSource:
    """`Explanation.in_source()` of which only what is asked for is computed: a map of a large image is 36 MB and more.

    Sliced like an array of (rows, columns); `numpy.asarray` gives the whole map.
    """

    def __init__(self, explanation: Explanation) -> None:
        self._explanation = explanation
        self.shape = explanation.transform.source_shape

    def __getitem__(self, part: tuple[slice, slice]) -> npt.NDArray[np.float32]:
        rows, columns = (range(*cut.indices(size)) for cut, size in zip(part, self.shape, strict=True))
        if rows.step != 1 or columns.step != 1:
            raise ValueError("a map in source geometry is sliced without steps")
        return _over(self._explanation, (rows.start, columns.start), (1.0, 1.0), (len(rows), len(columns)))

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray:
        return np.asarray(self._explanation.in_source(), dtype)

    def totals(self) -> tuple[float, float]:
        """Sums of the positive and of the negative values, as `regions.map_totals` gives them, strip by strip."""
        strips = [map_totals(self[top : top + 256, :]) for top in range(0, self.shape[0], 256)]
        return sum(positive for positive, _ in strips), sum(negative for _, negative in strips)


def _over(
    explanation: Explanation, origin: tuple[float, float], step: tuple[float, float], shape: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """The map on a raster over the source: cells of `step` source pixels from `origin` (row, column) on."""
    own = explanation.transform
    moved = GridTransform(
        (own.origin_row - origin[0]) / step[0],
        (own.origin_column - origin[1]) / step[1],
        own.scale_row / step[0],
        own.scale_column / step[1],
        own.grid_shape,
        shape,
    )
    return moved.map_to_source(explanation.values, 0 if explanation.segments is not None else 1)
