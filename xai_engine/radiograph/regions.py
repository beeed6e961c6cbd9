"""Regions of interest: their pixels, their statistics, and the JSON file they come from.

Regions live in source pixels: (row, column), continuous, pixel *edges* at integers, so pixel (r, c) covers
[r, r + 1) x [c, c + 1) and its centre is (r + 0.5, c + 0.5). Rotating, flipping or zooming the view does
not touch them.

Points by kind:
- rectangle, ellipse: two opposite corners (any two, any order) of the figure or of its bounding box; or
four corners
  in drawing order of a tilted rectangle, for an ellipse of the parallelogram around it. Both forms stay
  what they are under rotation by 90 degrees and flips, the second under every affine map.
- polygon, freehand: the vertices in drawing order, three or more; the outline closes by itself.
- line: its two ends. It has a length and no pixels.

A pixel belongs to a region when its centre lies inside. Centres that lie exactly on a straight outline
belong to the region below or right of it, so regions that share an edge share no pixel and miss none.
Outlines that cross themselves are filled by the nonzero winding rule: what a freehand loop goes round twice
is still inside. (Qt draws the same with `Qt.FillRule.WindingFill`.)
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt

from xai_engine.errors import UsageError
from xai_engine.radiograph.types import Radiograph, SpacingSource

Kind = Literal["rectangle", "ellipse", "polygon", "freehand", "line"]
KINDS: tuple[str, ...] = get_args(Kind)
SCHEMA = 1
_MAX_BYTES = 16_000_000


@dataclass(frozen=True, eq=False)
class Region:
    """A region; never changed, only replaced. points: float64 (n, 2) row, column; any sequence of pairs is
    taken.

    Equal regions have equal kind, points, name and id. Raises UsageError for points that describe no figure.
    """

    kind: Kind
    points: npt.NDArray[np.float64]
    name: str = ""
    id: str = ""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"no region kind '{self.kind}'; choose one of {', '.join(KINDS)}")
        try:
            points = np.array(self.points, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise UsageError("points must be pairs of numbers [row, column]") from error
        if points.ndim != 2 or points.shape[1] != 2:
            raise UsageError("points must be pairs of numbers [row, column]")
        if not np.isfinite(points).all():
            raise UsageError("points must be finite numbers")
        if self.kind in ("rectangle", "ellipse"):
            if len(points) not in (2, 4):
                raise UsageError(f"a {self.kind} has two opposite or four corners, not {len(points)} points")
            slant = np.abs(points[0] + points[2] - points[1] - points[3]).max() if len(points) == 4 else 0.0
            if slant > 1e-6 * max(1.0, float(np.ptp(points))):
                raise UsageError(f"the four corners of a {self.kind} must form a parallelogram")
        elif self.kind == "line":
            if len(points) != 2:
                raise UsageError(f"a line has two ends, not {len(points)} points")
        elif len(points) < 3:
            raise UsageError(f"a {self.kind} has three points or more, not {len(points)}")
        points.flags.writeable = False
        object.__setattr__(self, "points", points)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Region):
            return NotImplemented
        same = (self.kind, self.name, self.id) == (other.kind, other.name, other.id)
        return same and np.array_equal(self.points, other.points)

    def __reduce__(self) -> tuple[type[Region], tuple[object, ...]]:
        return Region, (
            self.kind,
            self.points,
            self.name,
            self.id,
        )  # so that points stay read-only in a worker

    def __hash__(self) -> int:
        return hash((self.kind, self.name, self.id, self.points.tobytes()))


@dataclass(frozen=True, slots=True)
class MapStatistics:
    """What one attribution map says inside a region.

    total: sum inside, in the map's unit x pixels; mean: per pixel, None for an empty region.
    share_positive: positive attribution inside / positive attribution in the whole image, None where the
    image has none; share_negative likewise. Values that are not finite count as 0.
    """

    total: float
    mean: float | None
    share_positive: float | None
    share_negative: float | None


@dataclass(frozen=True, slots=True)
class RegionStatistics:
    """Numbers of one region in one image. None stands where there is nothing to state, never NaN.

    pixels: those measured: centre inside the region and the image, not padding, a finite value.
    excluded_pixels: inside region and image, but padding or not finite.
    area_mm2: measured pixels x the area of one pixel (not the area of the outline), None without a pixel
    spacing; spacing_source: which spacing that is ("detector": at the receptor, larger than in the patient).
    mean, minimum, maximum, median: in modality units; sd: of the sample (n - 1), None below two pixels.
    length_px, length_mm: of a line, in pixels of the image and by the same spacing as areas; None for all others.
    """

    name: str
    id: str
    kind: Kind
    pixels: int
    excluded_pixels: int
    area_mm2: float | None
    spacing_source: SpacingSource | None
    mean: float | None
    sd: float | None
    minimum: float | None
    maximum: float | None
    median: float | None
    unit: str
    maps: dict[str, MapStatistics] = field(default_factory=dict)
    length_px: float | None = None
    length_mm: float | None = None


def outline(region: Region, segments: int = 90) -> npt.NDArray[np.float64]:
    """Vertices (n, 2) row, column of the region's outline, for drawing; an ellipse becomes `segments`
    chords.
    """
    if region.kind in ("polygon", "freehand", "line"):
        return region.points
    corners = _corners(region)
    if region.kind == "rectangle":
        return corners
    centre, u, v = _axes(corners)
    angle = np.linspace(0.0, 2.0 * math.pi, segments, endpoint=False)[:, None]
    return centre + np.cos(angle) * u + np.sin(angle) * v


def mask(region: Region, shape: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Pixels of the region in an image of `shape` (rows, columns): bool, False outside the image."""
    out = np.zeros(shape, np.bool_)
    rows, columns, inside = _local_mask(region, shape)
    out[rows, columns] = inside
    return out


def map_totals(values: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Sum of the positive and sum of the negative values of a map; values that are not finite count as 0."""
    finite = np.where(np.isfinite(values), values, 0)
    return float(finite.clip(min=0).sum(dtype=np.float64)), float(finite.clip(max=0).sum(dtype=np.float64))


def measure(
    radiograph: Radiograph,
    region: Region,
    maps: Mapping[str, npt.NDArray[np.floating]] | None = None,
    *,
    totals: Mapping[str, tuple[float, float]] | None = None,
) -> RegionStatistics:
    """Statistics of a region. maps: by name, float (rows, columns) in source geometry.

    totals: `map_totals` of the maps, for callers that measure many times and want to sum whole maps only
    once. Raises ValueError for a map that has not the image's shape.
    """
    shape = (radiograph.rows, radiograph.columns)
    rows, columns, inside = _local_mask(region, shape)
    values = radiograph.pixels[rows, columns]
    measured = inside & np.isfinite(values)
    if radiograph.padding is not None:
        measured &= ~radiograph.padding[rows, columns]
    sample = values[measured].astype(np.float64)
    count = int(sample.size)

    by_map: dict[str, MapStatistics] = {}
    for key, attribution in (maps or {}).items():
        if attribution.shape != shape:
            raise ValueError(f"map '{key}' is {attribution.shape}, the image {shape}")
        whole = totals[key] if totals is not None and key in totals else map_totals(attribution)
        part = attribution[rows, columns][inside]
        positive, negative = map_totals(part)
        by_map[key] = MapStatistics(
            total=positive + negative,
            mean=(positive + negative) / part.size if part.size else None,
            share_positive=positive / whole[0] if whole[0] else None,
            share_negative=negative / whole[1] if whole[1] else None,
        )
    spacing = radiograph.spacing
    length = (None, None) if region.kind != "line" else length_of(region, radiograph)
    return RegionStatistics(
        name=region.name,
        id=region.id,
        kind=region.kind,
        pixels=count,
        excluded_pixels=int(inside.sum()) - count,
        area_mm2=count * spacing.row_mm * spacing.column_mm
        if spacing is not None and region.kind != "line"
        else None,
        spacing_source=spacing.source if spacing is not None else None,
        mean=float(sample.mean()) if count else None,
        sd=float(sample.std(ddof=1)) if count > 1 else None,
        minimum=float(sample.min()) if count else None,
        maximum=float(sample.max()) if count else None,
        median=float(np.median(sample)) if count else None,
        unit=radiograph.unit,
        maps=by_map,
        length_px=length[0],
        length_mm=length[1],
    )


def length_of(region: Region, radiograph: Radiograph) -> tuple[float, float | None]:
    """Of a line, in pixels and in mm."""
    down, across = np.abs(region.points[1] - region.points[0])
    spacing = radiograph.spacing
    mm = None if spacing is None else float(np.hypot(down * spacing.row_mm, across * spacing.column_mm))
    return float(np.hypot(down, across)), mm


def load(path: Path | str) -> tuple[Region, ...]:
    """Regions of a JSON file, as `dump` writes it; a bare list of regions is taken too.

    `{"schema": 1, "regions": [{"kind": "rectangle", "points": [[row, column], …], "name": "…", "id": "…"},
    …]}`, `name` and `id` optional; regions without an id get "1", "2", … in the file's order.
    Raises UsageError that names the file and the entry.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot read the regions ({error.strerror or error}); check the path"
        ) from error
    if len(raw) > _MAX_BYTES:
        raise UsageError(f"{path}: more than {_MAX_BYTES // 1_000_000} MB, this is no file of regions")
    try:
        content = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"{path}: not a JSON file of regions ({error}); write one with the window"
        ) from error
    if isinstance(content, dict):
        schema = content.get("schema")
        if schema != SCHEMA or isinstance(schema, bool):
            raise UsageError(f'{path}: "schema" is {_short(schema)}; this version reads schema {SCHEMA}')
        content = content.get("regions")
    if not isinstance(content, list):
        raise UsageError(f'{path}: no list of regions; expected {{"schema": {SCHEMA}, "regions": [...]}}')
    found: list[Region] = []
    for number, entry in enumerate(content, 1):
        try:
            region = _parse(entry, str(number))
        except UsageError as error:
            raise UsageError(f"{path}: region {number}: {error}") from error
        if any(region.id == other.id for other in found):
            raise UsageError(f'{path}: region {number}: the id "{region.id}" is used twice')
        found.append(region)
    return tuple(found)


def dump(regions: Sequence[Region]) -> str:
    """The regions as JSON text that `load` reads back unchanged (one without an id gets its number)."""
    entries = []
    for number, region in enumerate(regions, 1):
        entry = {"kind": region.kind, "points": region.points.tolist(), "name": region.name}
        entries.append(json.dumps({**entry, "id": region.id or str(number)}, ensure_ascii=False))
    return f'{{"schema": {SCHEMA}, "regions": [\n  ' + ",\n  ".join(entries) + "\n]}\n"


def _parse(entry: Any, number: str) -> Region:
    if not isinstance(entry, dict):
        raise UsageError(f'expected {{"kind": …, "points": …}}, found {_short(entry)}')
    missing = [key for key in ("kind", "points") if key not in entry]
    if missing:
        raise UsageError(f'"{missing[0]}" is missing')
    kind, points = entry["kind"], entry["points"]
    if not isinstance(kind, str) or kind not in KINDS:
        raise UsageError(f"no region kind {_short(kind)}; choose one of {', '.join(KINDS)}")
    if not isinstance(points, list):
        raise UsageError(f'"points" must be a list of pairs [row, column], found {_short(points)}')
    for point in points:
        good = isinstance(point, list) and len(point) == 2
        if not good or any(isinstance(x, bool) or not isinstance(x, int | float) for x in point):
            raise UsageError(f"points must be pairs of numbers [row, column], found {_short(point)}")
        if any(abs(x) > 1e9 or x != x for x in point):
            raise UsageError(f"a point lies beyond any image: {_short(point)}")
    name, key = entry.get("name", ""), entry.get("id", number)
    if not isinstance(name, str) or not isinstance(key, str):
        raise UsageError('"name" and "id" must be text')
    return Region(cast(Kind, kind), np.array(points, np.float64).reshape(-1, 2), name, key or number)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:37] + "…"


def _corners(region: Region) -> npt.NDArray[np.float64]:
    """Four corners in drawing order of a rectangle, or of the parallelogram around an ellipse."""
    if len(region.points) == 4:
        return region.points
    (r0, c0), (r1, c1) = region.points
    return np.array([[r0, c0], [r0, c1], [r1, c1], [r1, c0]])


def _axes(
    corners: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Centre and two conjugate semi-diameters: the ellipse is centre + u cos t + v sin t."""
    return corners.mean(axis=0), (corners[1] - corners[0]) / 2.0, (corners[3] - corners[0]) / 2.0


def _local_mask(region: Region, shape: tuple[int, int]) -> tuple[slice, slice, npt.NDArray[np.bool_]]:
    """Rows and columns of the image that the bounding box covers, and the mask in there."""
    frame = _corners(region) if region.kind in ("rectangle", "ellipse") else region.points
    low = np.clip(np.floor(frame.min(axis=0)), 0, shape).astype(int)
    high = np.clip(np.ceil(frame.max(axis=0)), 0, shape).astype(int)
    high = np.maximum(high, low)
    rows, columns = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
    fill = _fill_ellipse if region.kind == "ellipse" else _fill_polygon
    return rows, columns, fill(frame, rows, columns)


def _fill_ellipse(corners: npt.NDArray[np.float64], rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    centre, u, v = _axes(corners)
    area = u[0] * v[1] - u[1] * v[0]
    if area == 0.0:
        return np.zeros((rows.stop - rows.start, columns.stop - columns.start), np.bool_)
    r = np.arange(rows.start, rows.stop)[:, None] + (0.5 - centre[0])
    c = np.arange(columns.start, columns.stop)[None, :] + (0.5 - centre[1])
    # (a, b) with centre + a u + b v = pixel centre; inside where a^2 + b^2 < 1
    a = r * (v[1] / area) - c * (v[0] / area)
    b = c * (u[0] / area) - r * (u[1] / area)
    return np.asarray(a * a + b * b < 1.0)


def _fill_polygon(points: npt.NDArray[np.float64], rows: slice, columns: slice) -> npt.NDArray[np.bool_]:
    """Scan lines through the pixel centres: each edge adds its direction at the first centre right of where
    it crosses.
    """
    height, width = rows.stop - rows.start, columns.stop - columns.start
    start, end = points, np.roll(points, -1, axis=0)
    direction = np.sign(end[:, 0] - start[:, 0]).astype(np.int32)
    up = direction < 0
    # every edge is walked downwards, so two regions that share one compute the same crossings
    top = np.where(up[:, None], end, start)
    bottom = np.where(up[:, None], start, end)
    # rows r with top <= r + 0.5 < bottom
    first = np.clip(np.ceil(top[:, 0] - 0.5), rows.start, rows.stop).astype(np.int64)
    last = np.clip(np.ceil(bottom[:, 0] - 0.5), rows.start, rows.stop).astype(np.int64)
    count = np.maximum(last - first, 0)
    edge = np.repeat(np.arange(len(points)), count)
    row = np.arange(edge.size) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    slope = (bottom[edge, 1] - top[edge, 1]) / (bottom[edge, 0] - top[edge, 0])
    crossing = top[edge, 1] + (row + 0.5 - top[edge, 0]) * slope
    column = np.clip(np.ceil(crossing - 0.5), columns.start, columns.stop).astype(np.int64) - columns.start
    winding = np.zeros((height, width + 1), np.int32)
    np.add.at(winding, (row - rows.start, column), direction[edge])
    return np.asarray(np.cumsum(winding, axis=1)[:, :width] != 0)
