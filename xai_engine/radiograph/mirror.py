"""The other side of the chest: mid-line, mirrored regions, and what differs between the two.

Anatomy is symmetric only roughly (heart, diaphragm); a mirror region is where a radiologist compares, no more.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.regions import Region, RegionStatistics, measure
from xai_engine.radiograph.types import Radiograph

LEAST_ROWS = 8  # rows of the lung grid that must show both lungs
MOST_TILT = 0.35  # columns per row; beyond (about 19 degrees) the fit is not believed


@dataclass(frozen=True, slots=True)
class Midline:
    """A straight line down the chest, in source pixels (edges at integers).

    top, bottom: (row, column) of two points on it, `top` at row 0, `bottom` at the last row's lower edge.
    aspect: physical height of a pixel over its width; mirroring happens in true proportions.
    source: "lungs" (from the lung fields) or "image" (the middle of the picture); note: why it is the latter.
    """

    top: tuple[float, float]
    bottom: tuple[float, float]
    aspect: float
    source: Literal["lungs", "image"]
    note: str = ""

    def reflect(self, points: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Mirror images of points (n, 2) row, column. Twice gives the points back."""
        at = np.asarray(points, np.float64).reshape(-1, 2)
        scale = np.array([self.aspect, 1.0])
        origin = np.array(self.top)
        along = (np.array(self.bottom) - origin) * scale
        along /= np.hypot(*along)
        seen = (at - origin) * scale
        mirrored = 2.0 * np.outer(seen @ along, along) - seen
        return np.asarray(mirrored / scale + origin)

    @property
    def upright(self) -> bool:
        """True where the line runs straight down a column."""
        return self.top[1] == self.bottom[1]

    def to_json(self) -> dict[str, Any]:
        return {
            "top": list(self.top),
            "bottom": list(self.bottom),
            "aspect": self.aspect,
            "source": self.source,
            "note": self.note,
        }


def from_json(data: Mapping[str, Any]) -> Midline:
    """What `Midline.to_json` wrote. Raises KeyError, TypeError, ValueError for anything else."""
    (r0, c0), (r1, c1) = data["top"], data["bottom"]
    ends = ((float(r0), float(c0)), (float(r1), float(c1)))
    if data["source"] not in ("lungs", "image"):
        raise ValueError(f"no mid-line from {data['source']!r}")
    return Midline(*ends, float(data["aspect"]), data["source"], str(data["note"]))


def of_image(shape: tuple[int, int], aspect: float = 1.0, note: str = "") -> Midline:
    """The middle of the picture, for want of better."""
    rows, columns = shape
    return Midline((0.0, columns / 2), (float(rows), columns / 2), aspect, "image", note)


def of_lungs(lungs: npt.NDArray[np.bool_], transform: GridTransform, aspect: float = 1.0) -> Midline:
    """The line midway between both lungs.

    lungs: (grid rows, grid columns) bool. In every row that shows two pieces the middle between their outer edges is
    taken (the inner ones follow heart and aorta); the line through these is Theil and Sen's, which bears a third of
    outliers (a lung cut short by an effusion). Falls back to the middle of the image.
    """
    shape = transform.source_shape
    found: list[tuple[float, float]] = []
    for row in np.flatnonzero(lungs.any(axis=1)):
        columns = np.flatnonzero(lungs[row])
        gaps = np.diff(columns)
        if gaps.size and gaps.max() > 1:
            found.append((row + 0.5, (columns[0] + columns[-1] + 1) / 2))
    if len(found) < LEAST_ROWS:
        return of_image(shape, aspect, "Both lungs were not found: mirrored at the middle of the image.")
    rows, middles = np.array(found).T
    first, second = np.triu_indices(len(rows), 1)
    slope = float(np.median((middles[second] - middles[first]) / (rows[second] - rows[first])))
    if abs(slope) > MOST_TILT:
        return of_image(
            shape, aspect, "The lungs' mid-line is implausible: mirrored at the middle of the image."
        )
    offset = float(np.median(middles - slope * rows))
    top_grid, _ = transform.to_grid(0.0, 0.0)
    bottom_grid, _ = transform.to_grid(float(shape[0]), 0.0)
    _, top = transform.to_source(top_grid, offset + slope * top_grid)
    _, bottom = transform.to_source(bottom_grid, offset + slope * bottom_grid)
    return Midline((0.0, top), (float(shape[0]), bottom), aspect, "lungs")


def mirrored(region: Region, line: Midline) -> Region:
    """The region on the other side. A rectangle or ellipse given by two corners stays so where the line is upright,
    else it is given by four. Same id, so that both can be told apart only by where they lie."""
    points = region.points
    if region.kind in ("rectangle", "ellipse") and len(points) == 2 and not line.upright:
        (r0, c0), (r1, c1) = points
        points = np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]])
    name = f"Mirror of {region.name}" if region.name else ""
    return replace(region, points=line.reflect(points), name=name)


@dataclass(frozen=True, slots=True, eq=False)
class Mirror:
    """A region's counterpart and what was measured there.

    statistics: of the mirror region, as `regions.measure` gives them for the region itself.
    """

    line: Midline
    region: Region
    statistics: RegionStatistics

    def to_json(self) -> dict[str, Any]:
        """For "mirror" of an entry of "rois" in `analysis.json`."""
        s = self.statistics
        return {
            "points": self.region.points.tolist(),
            "line": self.line.to_json(),
            "pixels": s.pixels,
            "area_mm2": s.area_mm2,
            "mean": s.mean,
            "sd": s.sd,
            "minimum": s.minimum,
            "maximum": s.maximum,
            "median": s.median,
            "maps": {
                name: {
                    "total": m.total,
                    "mean": m.mean,
                    "share_positive": m.share_positive,
                    "share_negative": m.share_negative,
                }
                for name, m in s.maps.items()
            },
        }


def compare(
    radiograph: Radiograph,
    region: Region,
    line: Midline,
    maps: Mapping[str, npt.NDArray[np.floating]] | None = None,
    *,
    totals: Mapping[str, tuple[float, float]] | None = None,
) -> Mirror:
    """Measure the mirror of a region. maps, totals: as for `regions.measure`."""
    other = mirrored(region, line)
    return Mirror(line, other, measure(radiograph, other, maps, totals=totals))
