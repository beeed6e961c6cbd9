"""Drawing tools of the phantom: millimetre outlines to attenuation maps. Nothing here knows anatomy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]
_SHIFT = 4  # OpenCV draws at 1/16 pixel


@dataclass(frozen=True, slots=True)
class Frame:
    """The image plane. Outlines are given in patient millimetres (x to the patient's left, which is the viewer's
    right; y downwards; origin at mid chest); `scale`, `tilt` (radians) and `shift` place this patient on the plate.

    spacing: millimetres per pixel.
    """

    rows: int
    columns: int
    spacing: float
    scale: tuple[float, float] = (1.0, 1.0)
    tilt: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.columns

    def pixels(self, points: Points | Sequence[tuple[float, float]]) -> Points:
        """(n, 2) patient x, y in mm to (n, 2) continuous pixel x, y, pixel edges at integers."""
        p = np.asarray(points, np.float64) * self.scale
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        p = np.stack([p[:, 0] * c - p[:, 1] * s, p[:, 0] * s + p[:, 1] * c], axis=1) + self.shift
        return p / self.spacing + (self.columns / 2.0, self.rows / 2.0)

    def coordinates(self) -> tuple[Map, Map]:
        """Patient x and y in mm at every pixel centre."""
        c, s = math.cos(self.tilt), math.sin(self.tilt)
        x = (np.arange(self.columns) + 0.5 - self.columns / 2.0) * self.spacing - self.shift[0]
        y = (np.arange(self.rows) + 0.5 - self.rows / 2.0) * self.spacing - self.shift[1]
        px = (x[None, :] * c + y[:, None] * s) / self.scale[0]
        py = (y[:, None] * c - x[None, :] * s) / self.scale[1]
        return px.astype(np.float32), py.astype(np.float32)

    def fill(self, points: Points | Sequence[tuple[float, float]]) -> npt.NDArray[np.uint8]:
        """Mask 0/1 of a closed outline."""
        out = np.zeros(self.shape, np.uint8)
        cv2.fillPoly(out, [_fixed(self.pixels(points))], 1, cv2.LINE_8, _SHIFT)
        return out

    def depth(self, mask: npt.NDArray[np.uint8]) -> Map:
        """Distance in mm from each pixel of the mask to its outline. The border of the image is no outline."""
        out = np.zeros(self.shape, np.float32)
        x, y, width, height = cv2.boundingRect(mask)
        if width:
            part = np.s_[max(0, y - 1) : y + height + 1, max(0, x - 1) : x + width + 1]
            padded = cv2.copyMakeBorder(mask[part], 1, 1, 1, 1, cv2.BORDER_REPLICATE)
            distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            out[part] = distance[1:-1, 1:-1] * self.spacing
        return out

    def dome(self, mask: npt.NDArray[np.uint8], reach: float, power: float = 0.5) -> Map:
        """0 at the outline, 1 from `reach` mm inwards, round between (power 0.5: a quarter circle)."""
        u = np.clip(self.depth(mask) / reach, 0.0, 1.0)
        return np.asarray((u * (2.0 - u)) ** power, np.float32)

    def blur(self, image: Map, mm: float) -> Map:
        """Gaussian of standard deviation `mm`; wide ones are done on a smaller grid."""
        sigma = mm / self.spacing
        if sigma < 0.25:
            return image
        factor = max(1, int(sigma / 4.0))
        if factor == 1:
            return np.asarray(
                cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32
            )
        small = cv2.resize(
            image,
            (max(2, self.columns // factor), max(2, self.rows // factor)),
            interpolation=cv2.INTER_AREA,
        )
        small = cv2.GaussianBlur(small, (0, 0), sigma / factor, borderType=cv2.BORDER_REPLICATE)
        return np.asarray(
            cv2.resize(small, (self.columns, self.rows), interpolation=cv2.INTER_CUBIC), np.float32
        )

    def noise(self, rng: np.random.Generator, mm: float, octaves: int = 1) -> Map:
        """Smooth random field of unit variance with structures of about `mm`, then finer ones of half the strength.

        The random numbers drawn do not depend on the number of pixels, so one seed is one patient at any size.
        """
        total = np.zeros(self.shape, np.float32)
        height, width = self.rows * self.spacing, self.columns * self.spacing
        for octave in range(octaves):
            step = mm / 2**octave
            coarse = rng.standard_normal((max(4, round(height / step)), max(4, round(width / step))))
            field = cv2.resize(
                coarse.astype(np.float32), (self.columns, self.rows), interpolation=cv2.INTER_CUBIC
            )
            total += field * np.float32(0.5**octave)
        return np.asarray(total / max(1e-6, float(total.std())), np.float32)

    def tube(
        self,
        line: Points,
        width: npt.NDArray[np.float64] | float,
        cortex: float,
        along: npt.NDArray[np.float64] | float = 1.0,
    ) -> tuple[tuple[slice, slice], Map]:
        """A bone-like tube along a line: where it lies, and its path length (about 1 in the middle of the wall).

        width: mm at each point of the line. cortex: wall thickness in mm, which makes the bright edges.
        along: strength at each point of the line.
        """
        tangent = np.gradient(line, axis=0)
        normal = np.stack([-tangent[:, 1], tangent[:, 0]], axis=1)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-9)
        half = np.broadcast_to(np.asarray(width, np.float64) / 2.0, (len(line),))[:, None]
        ring = self.pixels(np.concatenate([line + normal * half, (line - normal * half)[::-1]]))
        low = np.clip(np.floor(ring.min(axis=0)) - 2, 0, (self.columns, self.rows)).astype(int)
        high = np.clip(np.ceil(ring.max(axis=0)) + 2, 0, (self.columns, self.rows)).astype(int)
        place = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        if high[0] <= low[0] or high[1] <= low[1]:
            return place, np.zeros((max(0, high[1] - low[1]), max(0, high[0] - low[0])), np.float32)
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        cv2.fillPoly(mask, [_fixed(ring - low)], 1, cv2.LINE_8, _SHIFT)
        depth = cv2.distanceTransform(
            cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_REPLICATE), cv2.DIST_L2, 5
        )
        d = depth[1:-1, 1:-1] * self.spacing
        radius = max(float(half.max()), cortex)
        # path through the wall of a round tube, seen side on: outer chord minus inner chord
        outer = np.sqrt(np.clip(radius**2 - (radius - d) ** 2, 0, None))
        inner_radius = radius - cortex
        inner = np.sqrt(np.clip(inner_radius**2 - np.clip(radius - d, 0, None) ** 2, 0, None))
        path = ((outer - 0.8 * inner) / math.sqrt(radius * cortex)) * (mask > 0)
        strength = np.broadcast_to(np.asarray(along, np.float64), (len(line),))
        if np.ptp(strength) > 0:
            path = path * _along(self.pixels(line) - low, strength, mask.shape)
        return place, np.asarray(path, np.float32)


def smooth(points: Sequence[tuple[float, float]], rounds: int = 4, closed: bool = True) -> Points:
    """Chaikin's corner cutting (CGIP 3:346, 1974): a quadratic B-spline. A point given twice stays a sharp corner."""
    p = np.asarray(points, np.float64)
    for _ in range(rounds):
        q = np.roll(p, -1, axis=0) if closed else p[1:]
        base = p if closed else p[:-1]
        cut = np.stack([0.75 * base + 0.25 * q, 0.25 * base + 0.75 * q], axis=1).reshape(-1, 2)
        p = cut if closed else np.concatenate([p[:1], cut, p[-1:]])
    return p


def mirror(points: Points) -> Points:
    return points * (-1.0, 1.0)


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    """Continuous pixel coordinates to OpenCV's fixed point, whose integers are pixel centres."""
    return np.asarray(np.rint(np.clip(points - 0.5, -30000, 30000) * (1 << _SHIFT)), np.int32).reshape(
        -1, 1, 2
    )


def _along(line: Points, strength: npt.NDArray[np.float64], shape: tuple[int, ...]) -> Map:
    """Strength of the nearest point of the line, at every pixel (coarsely, then enlarged)."""
    rows, columns = shape
    step = max(1, min(rows, columns) // 24)
    y, x = np.meshgrid(
        np.arange(0, rows, step) + step / 2, np.arange(0, columns, step) + step / 2, indexing="ij"
    )
    keep = slice(None, None, max(1, len(line) // 40))
    distance = (x[..., None] - line[keep, 0]) ** 2 + (y[..., None] - line[keep, 1]) ** 2
    coarse = strength[keep][distance.argmin(axis=-1)].astype(np.float32)
    return np.asarray(cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_LINEAR), np.float32)
