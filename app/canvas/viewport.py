"""Where source pixels are on the screen. Pure numbers, no Qt.

Three frames: *source* (row, column; pixel edges at integers), *upright* (u, v: the oriented image, in source pixels,
x and y from its top left corner) and *device* (x, y: physical pixels of the widget).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

MAX_SCALE = 64.0
Points = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Orientation:
    """Clockwise rotation in degrees (a multiple of 90), then mirrors of what is then on the screen."""

    rotation: int = 0
    flip_h: bool = False
    flip_v: bool = False

    @property
    def swaps(self) -> bool:
        """True where rows run along the screen's horizontal."""
        return self.rotation % 180 == 90

    @property
    def matrix(self) -> npt.NDArray[np.int64]:
        """2 x 2, from source offsets (column, row) to screen offsets (x, y)."""
        quarter = np.array([[0, -1], [1, 0]])
        turned = np.linalg.matrix_power(quarter, self.rotation // 90 % 4)
        mirror = np.diag([-1 if self.flip_h else 1, -1 if self.flip_v else 1])
        return mirror @ turned

    def apply(self, image: npt.NDArray) -> npt.NDArray:
        """A view of the array as it lies on the screen."""
        image = np.rot90(image, -(self.rotation // 90) % 4)
        if self.flip_h:
            image = image[:, ::-1]
        return image[::-1] if self.flip_v else image

    def shape(self, rows: int, columns: int) -> tuple[int, int]:
        return (columns, rows) if self.swaps else (rows, columns)

    def source_box(
        self, top: int, left: int, bottom: int, right: int, rows: int, columns: int
    ) -> tuple[int, int, int, int]:
        """The part (top, left, bottom, right) of `apply(image)`, as the part of the image, which is rows x columns."""
        height, width = self.shape(rows, columns)
        if self.flip_v:
            top, bottom = height - bottom, height - top
        if self.flip_h:
            left, right = width - right, width - left
        match self.rotation % 360:
            case 90:
                return rows - right, top, rows - left, bottom
            case 180:
                return rows - bottom, columns - right, rows - top, columns - left
            case 270:
                return left, columns - bottom, right, columns - top
        return top, left, bottom, right


@dataclass(frozen=True, slots=True)
class Viewport:
    """What part of an image a widget shows.

    rows, columns: of the source. width, height: of the widget, device pixels. scale: device pixels per source pixel.
    center: the source point (row, column) in the middle of the widget.
    """

    rows: int
    columns: int
    width: int
    height: int
    scale: float = 1.0
    center: tuple[float, float] = (0.0, 0.0)
    orientation: Orientation = Orientation()

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the whole oriented image in device pixels, at least 1."""
        rows, columns = self.orientation.shape(self.rows, self.columns)
        return max(1, round(rows * self.scale)), max(1, round(columns * self.scale))

    @property
    def origin(self) -> tuple[int, int]:
        """Device (x, y) of the image's top left corner: whole pixels, so that 1:1 shows pixels untouched."""
        x, y = self._origin()
        return math.floor(x + 0.5), math.floor(y + 0.5)

    def _origin(self) -> tuple[float, float]:
        u, v = self._upright(np.array([self.center]))[0]
        return self.width / 2 - self.scale * u, self.height / 2 - self.scale * v

    def _upright(self, points: Points) -> Points:
        """(n, 2) source row, column -> (n, 2) u, v."""
        offsets = points[:, ::-1] - (self.columns / 2, self.rows / 2)
        rows, columns = self.orientation.shape(self.rows, self.columns)
        return offsets @ self.orientation.matrix.T + (columns / 2, rows / 2)

    def to_device(self, points: npt.ArrayLike) -> Points:
        """(n, 2) source row, column -> (n, 2) device x, y."""
        return self._upright(np.asarray(points, np.float64).reshape(-1, 2)) * self.scale + self.origin

    def to_source(self, points: npt.ArrayLike) -> Points:
        """(n, 2) device x, y -> (n, 2) source row, column."""
        return self._from_device(np.asarray(points, np.float64).reshape(-1, 2), self.origin)

    def _from_device(self, points: Points, origin: tuple[float, float]) -> Points:
        rows, columns = self.orientation.shape(self.rows, self.columns)
        offsets = (points - origin) / self.scale - (columns / 2, rows / 2)
        return (offsets @ self.orientation.matrix + (self.columns / 2, self.rows / 2))[:, ::-1]

    def visible(self) -> tuple[int, int, int, int]:
        """The visible part of the oriented image in device pixels (x0, y0, x1, y1) of the widget; empty: x0 >= x1."""
        x, y = self.origin
        height, width = self.size
        return max(0, x), max(0, y), min(self.width, x + width), min(self.height, y + height)

    # Changes

    def fitted(self) -> Viewport:
        """The whole image, as large as it goes."""
        rows, columns = self.orientation.shape(self.rows, self.columns)
        scale = min(self.width / columns, self.height / rows)
        return replace(self, scale=self._limit(scale), center=(self.rows / 2, self.columns / 2))

    def zoomed(self, scale: float, x: float, y: float) -> Viewport:
        """Another scale; the source point under device (x, y) stays there."""
        scale = self._limit(scale)
        offset = (np.array([[x, y]]) - (self.width / 2, self.height / 2)) @ self.orientation.matrix
        column_offset, row_offset = offset[0] * (1 / self.scale - 1 / scale)
        return self._centered(self.center[0] + row_offset, self.center[1] + column_offset, scale)

    def panned(self, dx: float, dy: float) -> Viewport:
        """The image moves by (dx, dy) device pixels."""
        column_offset, row_offset = (np.array([dx, dy]) @ self.orientation.matrix) / self.scale
        return self._centered(self.center[0] - row_offset, self.center[1] - column_offset, self.scale)

    def turned(self, orientation: Orientation) -> Viewport:
        """Rotated and mirrored; the same source point stays in the middle."""
        return replace(self, orientation=orientation)

    def centered_at(self, row: float, column: float, scale: float) -> Viewport:
        return self._centered(row, column, self._limit(scale))

    def resized(self, width: int, height: int) -> Viewport:
        return replace(self, width=max(1, width), height=max(1, height))

    def _centered(self, row: float, column: float, scale: float) -> Viewport:
        """Something of the image always stays in the middle, so that it cannot be lost."""
        row, column = min(max(row, 0.0), float(self.rows)), min(max(column, 0.0), float(self.columns))
        return replace(self, scale=scale, center=(row, column))

    def _limit(self, scale: float) -> float:
        rows, columns = self.orientation.shape(self.rows, self.columns)
        fit = min(self.width / columns, self.height / rows)
        return min(max(scale, min(fit / 4, 1.0)), max(MAX_SCALE, fit))


def edge_letters(orientation: tuple[str, str], view: Orientation) -> dict[str, str]:
    """Patient letters at the "left", "right", "top", "bottom" edges of the screen.

    orientation: directions at the right and bottom edges of the stored image (Patient Orientation, PS3.3 C.7.6.1.1.1).
    Empty where the file does not say.
    """
    if not all(orientation):
        return {}
    source = {(1, 0): orientation[0], (0, 1): orientation[1]}
    source |= {(-x, -y): opposite(name) for (x, y), name in tuple(source.items())}
    names = {(1, 0): "right", (-1, 0): "left", (0, 1): "bottom", (0, -1): "top"}
    matrix = view.matrix
    result = {}
    for (x, y), name in source.items():
        at = matrix @ np.array([x, y])
        result[names[int(at[0]), int(at[1])]] = name
    return result


def opposite(direction: str) -> str:
    """Patient directions reversed letter by letter: "LF" becomes "RH"."""
    return direction.translate(str.maketrans("LRAPHF", "RLPAFH"))
