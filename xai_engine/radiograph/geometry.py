"""The one place that knows how a classifier's grid lies over the source image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class GridTransform:
    """Axis-aligned map from a regular grid to source pixels.

    Coordinates are continuous with pixel *edges* at integers (pixel (r, c) covers [r, r+1) x [c, c+1)):
    source = origin + grid * scale, separately for rows and columns. `grid_shape` and `source_shape` are (rows, columns).
    """

    origin_row: float
    origin_column: float
    scale_row: float
    scale_column: float
    grid_shape: tuple[int, int]
    source_shape: tuple[int, int]

    def to_source(self, row: float, column: float) -> tuple[float, float]:
        return self.origin_row + row * self.scale_row, self.origin_column + column * self.scale_column

    def to_grid(self, row: float, column: float) -> tuple[float, float]:
        return (row - self.origin_row) / self.scale_row, (column - self.origin_column) / self.scale_column

    def inside(self) -> npt.NDArray[np.bool_]:
        """(grid rows, grid columns): True where the centre of a grid cell lies inside the source image."""
        rows = self.origin_row + (np.arange(self.grid_shape[0]) + 0.5) * self.scale_row
        columns = self.origin_column + (np.arange(self.grid_shape[1]) + 0.5) * self.scale_column
        in_rows = (rows >= 0) & (rows < self.source_shape[0])
        in_columns = (columns >= 0) & (columns < self.source_shape[1])
        return in_rows[:, None] & in_columns[None, :]

    def map_to_source(self, grid_map: npt.NDArray[np.floating], order: int = 1) -> npt.NDArray[np.float32]:
        """Resample a map from the grid to source geometry. order 0 nearest, 1 bilinear (edge values held inside the grid).

        grid_map: (grid rows, grid columns). Returns float32 (source rows, source columns), 0 outside the grid.
        Values are sampled, not redistributed: a density keeps its unit "per grid pixel".
        """
        if grid_map.shape != self.grid_shape:
            raise ValueError(f"map is {grid_map.shape}, the grid {self.grid_shape}")
        row = _Taps(self.origin_row, self.scale_row, self.grid_shape[0], self.source_shape[0])
        column = _Taps(self.origin_column, self.scale_column, self.grid_shape[1], self.source_shape[1])
        source = np.ascontiguousarray(grid_map, dtype=np.float32)
        if order == 0:
            out = source[row.nearest][:, column.nearest]
        else:
            # separable, so exact in float32: library remaps quantise positions to 1/32 of a pixel
            tall = source[row.low] * (1 - row.weight)[:, None] + source[row.high] * row.weight[:, None]
            out = tall[:, column.low]
            out *= 1 - column.weight
            out += tall[:, column.high] * column.weight
        out[~row.inside] = 0.0
        out[:, ~column.inside] = 0.0
        return np.ascontiguousarray(out)


class _Taps:
    """Where each source pixel's centre falls between the cells of one axis of the grid."""

    def __init__(self, origin: float, scale: float, cells: int, pixels: int) -> None:
        position = (np.arange(pixels) + 0.5 - origin) / scale
        self.inside = (position >= 0) & (position < cells)
        self.nearest = np.clip(np.floor(position), 0, cells - 1).astype(np.intp)
        centre = np.clip(position - 0.5, 0, cells - 1)
        self.low = np.floor(centre).astype(np.intp)
        self.high = np.minimum(self.low + 1, cells - 1)
        self.weight = (centre - self.low).astype(np.float32)
