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
        import cv2  # heavy; only when a map is drawn

        if grid_map.shape != self.grid_shape:
            raise ValueError(f"map is {grid_map.shape}, the grid {self.grid_shape}")
        rows, columns = self.source_shape
        x = ((np.arange(columns) + 0.5 - self.origin_column) / self.scale_column - 0.5).astype(np.float32)
        y = ((np.arange(rows) + 0.5 - self.origin_row) / self.scale_row - 0.5).astype(np.float32)
        inside = ((y >= -0.5) & (y < self.grid_shape[0] - 0.5))[:, None] & (
            (x >= -0.5) & (x < self.grid_shape[1] - 0.5)
        )[None, :]
        x = np.clip(x, 0, self.grid_shape[1] - 1)
        y = np.clip(y, 0, self.grid_shape[0] - 1)
        flag = cv2.INTER_NEAREST if order == 0 else cv2.INTER_LINEAR
        source = np.ascontiguousarray(grid_map, dtype=np.float32)
        out = np.empty((rows, columns), np.float32)
        # cv2.remap takes at most 32767 pixels a side and wants full coordinate maps: strips bound the memory.
        for top in range(0, rows, 512):
            strip = y[top : top + 512]
            map_x = np.broadcast_to(x[None, :], (strip.size, columns))
            map_y = np.broadcast_to(strip[:, None], (strip.size, columns))
            out[top : top + 512] = cv2.remap(
                source, np.ascontiguousarray(map_x), np.ascontiguousarray(map_y), flag, borderMode=cv2.BORDER_REPLICATE
            )
        out[~inside] = 0.0
        return out
