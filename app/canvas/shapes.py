"""Regions under the mouse: handles, moving, resizing, hit tests. Source coordinates (row, column), no Qt.

Handles are computed and moved in source pixels, so they are right under every rotation, flip and zoom of the view.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.canvas.viewport import Viewport
from xai_engine.errors import UsageError
from xai_engine.radiograph.regions import Kind, Region, outline

Points = npt.NDArray[np.float64]
GRAB = 7.0
"""How near (logical pixels) the mouse must come to a handle or an outline."""


@dataclass(frozen=True, slots=True)
class Hit:
    """What of a region is under the mouse; `index` of the handle."""

    region: Region
    part: Literal["handle", "body"]
    index: int = -1


def corners(region: Region) -> Points:
    """Four corners in drawing order of a rectangle, or of the parallelogram around an ellipse."""
    if len(region.points) == 4:
        return region.points
    (r0, c0), (r1, c1) = region.points
    return np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]])


def handles(region: Region) -> Points:
    """Points to drag: corners, then middles of the sides; vertices of a polygon, ends of a line; none for a freehand outline."""
    if region.kind in ("polygon", "line"):
        return region.points
    if region.kind == "freehand":
        return np.empty((0, 2))
    frame = corners(region)
    return np.concatenate([frame, (frame + np.roll(frame, -1, axis=0)) / 2])


def moved(region: Region, rows: float, columns: float) -> Region:
    return replace(region, points=region.points + np.array([rows, columns]))


def reshaped(region: Region, handle: int, row: float, column: float) -> Region:
    """The region with one handle dragged to a point. Opposite corner or side stay; a tilted frame keeps its tilt."""
    to = np.array([row, column])
    if region.kind in ("polygon", "line"):
        points = region.points.copy()
        points[handle] = to
        return replace(region, points=points)
    frame = corners(region)
    fixed = frame[(handle + 2) % 4] if handle < 4 else frame[(handle - 4 + 2) % 4]
    along, across = frame[1] - frame[0], frame[3] - frame[0]
    along = along / (np.hypot(*along) or 1.0) if np.any(along) else np.array([0.0, 1.0])
    across = across / (np.hypot(*across) or 1.0) if np.any(across) else np.array([1.0, 0.0])
    # coordinates of every corner in the frame's own axes, seen from the point that stays
    basis = np.column_stack([along, across])
    if abs(np.linalg.det(basis)) < 1e-9:
        return region
    local = np.linalg.solve(basis, (frame - fixed).T).T
    target = np.linalg.solve(basis, to - fixed)
    if handle < 4:
        new = np.zeros((4, 2))
        new[handle] = target
        new[(handle + 1) % 4] = _share(local[(handle + 1) % 4], local[handle], target)
        new[(handle + 3) % 4] = _share(local[(handle + 3) % 4], local[handle], target)
    else:
        side = handle - 4
        axis = 1 if side % 2 == 0 else 0  # sides 0 and 2 move across, 1 and 3 along
        new = local.copy()
        new[[side, (side + 1) % 4], axis] = target[axis]
    points = fixed + new @ basis.T
    if len(region.points) == 2:
        points = points[[0, 2]]
    return replace(region, points=points)


def _share(neighbour: Points, dragged: Points, target: Points) -> Points:
    """A corner beside the dragged one has one coordinate of the fixed corner (0) and one of the dragged corner."""
    same = np.abs(neighbour - dragged) <= np.abs(neighbour)
    if same.all() or not same.any():  # the figure was a line: either choice makes a rectangle
        same = np.array([True, False])
    return np.where(same, target, 0.0)


def hit(region: Region, view: Viewport, x: float, y: float, reach: float, with_handles: bool) -> Hit | None:
    """What of `region` is at device (x, y). reach: device pixels. The inside counts as well as the outline."""
    at = np.array([x, y])
    if with_handles:
        spots = view.to_device(handles(region))
        if len(spots):
            distance = np.hypot(*(spots - at).T)
            nearest = int(distance.argmin())
            if distance[nearest] <= reach:
                return Hit(region, "handle", nearest)
    drawn = view.to_device(outline(region))
    if _inside(drawn, at) or _distance(drawn, at) <= reach:
        return Hit(region, "body")
    return None


def hit_any(
    regions: tuple[Region, ...], selected: str | None, view: Viewport, x: float, y: float, reach: float
) -> Hit | None:
    """The selected region's handles first, then the smallest region under the mouse (a nested one can be reached)."""
    found: list[Hit] = []
    for region in regions:
        one = hit(region, view, x, y, reach, region.id == selected)
        if one is not None and one.part == "handle":
            return one
        if one is not None:
            found.append(one)
    return min(found, key=lambda h: float(np.prod(np.ptp(h.region.points, axis=0))), default=None)


def _inside(polygon: Points, at: Points) -> bool:
    """Nonzero winding, as `regions.mask` fills and Qt draws."""
    a, b = polygon, np.roll(polygon, -1, axis=0)
    side = (b[:, 0] - a[:, 0]) * (at[1] - a[:, 1]) - (at[0] - a[:, 0]) * (b[:, 1] - a[:, 1])
    up = (a[:, 1] <= at[1]) & (b[:, 1] > at[1]) & (side > 0)
    down = (a[:, 1] > at[1]) & (b[:, 1] <= at[1]) & (side < 0)
    return int(up.sum()) != int(down.sum())


def _distance(polygon: Points, at: Points) -> float:
    a, b = polygon, np.roll(polygon, -1, axis=0)
    edge = b - a
    length = np.maximum((edge**2).sum(axis=1), 1e-12)
    t = np.clip(((at - a) * edge).sum(axis=1) / length, 0, 1)
    return float(np.hypot(*(a + t[:, None] * edge - at).T).min())


def make(kind: Kind, points: npt.ArrayLike, name: str, region_id: str) -> Region | None:
    """A region from what was drawn; None where that is too small to mean one (below a pixel)."""
    drawn = np.asarray(points, np.float64).reshape(-1, 2)
    if len(drawn) < 2 or np.ptp(drawn, axis=0).max() < 1.0:
        return None
    if kind in ("rectangle", "ellipse") and np.ptp(drawn, axis=0).min() < 0.5:
        return None
    try:
        return Region(kind, drawn, name, region_id)
    except UsageError:
        return None


def simplified(points: Points, tolerance: float) -> Points:
    """A freehand line without points that lie within `tolerance` of it (Douglas and Peucker 1973)."""
    import cv2

    line = np.asarray(points, np.float32).reshape(-1, 1, 2)
    return cv2.approxPolyDP(line, tolerance, False).reshape(-1, 2).astype(np.float64)
