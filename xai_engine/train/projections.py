"""Radiographs computed from CT (digitally reconstructed): lateral views for the gate to refuse, frontal ones for it to read.

No lateral radiograph was at hand (`docs/decisions/0015-lateral-views.md`). The frontal views are taught too, or how such
a picture is made would tell that it is to be refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from xai_engine.errors import UnreadableImage, UsageError
from xai_engine.runtime import atomic
from xai_engine.runtime.run import Run
from xai_engine.train import gateviews, volumes
from xai_engine.train.volumes import STEP, WATER, Volume

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
SIDE = 288
FIELD = 440.0  # mm, width and height of a projection at the volume's middle
ALONG = 2.2  # mm between the points of a ray
THERE = 0.3  # line integral of what is not air: 17 mm of water
STEEP = 1 / 5  # of the lateral views, turned by 60 to 75 degrees only
FRONTAL = 1 / 4  # as many frontal views as lateral ones
_BAND = 40  # rows of a projection at a time, which bounds the memory


@dataclass(frozen=True)
class View:
    """yaw: degrees about the long axis, 0 from the front, ±90 from a side; pitch, roll: degrees; distance: of the source, mm.

    stretch: the body's size along (z, y, x), as a share of its own.
    """

    yaw: float
    pitch: float = 0.0
    roll: float = 0.0
    distance: float = 1650.0
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Projections:
    """Line integrals (n, SIDE, SIDE) of side and front views; how often each is drawn."""

    lateral: npt.NDArray[np.float16]
    frontal: npt.NDArray[np.float16]
    laterals: float  # share of what is to be refused
    frontals: float  # share of what is to be read
    attribution: tuple[str, ...]


def integrals(mu: Volume, view: View, side: int = SIDE, field: float = FIELD) -> Image:
    """(side, side) line integrals of `mu` (1/mm, on a grid of STEP mm) over the rays of a point source.

    The volume's middle is the centre of turning; `field` mm are shown in the plane through it. A right-handed turn about
    z, x, y in that order; see Siddon 1985 for the exact sums that these sampled ones come near.
    """
    size = np.array(mu.shape[::-1], np.float32) * STEP * np.array(view.stretch[::-1], np.float32)
    a, b, c = np.radians([view.yaw, view.pitch, view.roll])
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    about_y = np.array([[np.cos(c), 0, np.sin(c)], [0, 1, 0], [-np.sin(c), 0, np.cos(c)]])
    turn = (about_z @ about_x @ about_y).astype(np.float32)
    place = ((np.arange(side) + 0.5) / side - 0.5).astype(np.float32) * np.float32(field)
    reach = float(np.hypot(size[0], size[1])) / 2 * 1.05
    depth = np.arange(-reach, reach, ALONG, dtype=np.float32)
    nearer = 1 - depth / np.float32(view.distance)  # rays meet in the source, behind the patient's back
    out = np.empty((side, side), np.float32)
    source = torch.from_numpy(mu)[None, None]
    # along a ray more lies between two points of `depth` the further it is from the middle
    slant = np.sqrt(1 + (place[:, None] ** 2 + place[None, :] ** 2) / np.float32(view.distance) ** 2)
    for start in range(0, side, _BAND):
        z, x = np.meshgrid(place[start : start + _BAND], place, indexing="ij")
        points = np.stack(
            [x[..., None] * nearer, np.broadcast_to(depth, (*x.shape, len(depth))), z[..., None] * nearer], -1
        )
        grid = torch.from_numpy((points @ turn.T) * (2 / size))[None]
        met = F.grid_sample(source, grid.float(), align_corners=False, padding_mode="zeros")[0, 0]
        out[start : start + _BAND] = met.sum(-1).numpy() * ALONG
    return out * slant.astype(np.float32)


def library(mu: Volume, rng: np.random.Generator, count: int, run: Run) -> tuple[Image, Image]:
    """`count` views from both sides and a quarter as many from the front, each turned, leaning and proportioned at random."""

    def view(yaw: float) -> Image:
        stretch = tuple(float(v) for v in np.exp(rng.uniform(-0.15, 0.15, 3)))
        pitch, roll, distance = rng.normal(0, 3), rng.normal(0, 2.5), rng.uniform(1100, 1900)
        return integrals(mu, View(yaw, pitch, roll, distance, (stretch[0], stretch[1], stretch[2])))

    yaws = []
    for number in range(count):
        side = 1 if number % 2 else -1
        steep = rng.random() < STEEP
        yaws.append(side * (rng.uniform(60, 75) if steep else rng.uniform(75, 105)))
    yaws += list(rng.uniform(-8, 8, round(FRONTAL * count)))
    lines = []
    for number, yaw in enumerate(yaws):
        run.check(number / len(yaws), f"projection {number + 1}/{len(yaws)}")
        lines.append(view(float(yaw)))
    return np.stack(lines[:count]), np.stack(lines[count:])


def arm(line: Image, rng: np.random.Generator) -> Image:
    """The line integrals with an upper arm held before the chest: 70 to 100 mm of soft tissue, a bone of 24 mm."""
    rows, columns = line.shape
    scale = FIELD / columns
    x0, y0 = rng.uniform(0.35, 0.65) * columns, rng.uniform(0.15, 0.3) * rows
    angle = np.radians(rng.uniform(-70, 70))
    y, x = np.mgrid[:rows, :columns]
    along = ((x - x0) * np.sin(angle) + (y - y0) * np.cos(angle)) * scale
    across = ((x - x0) * np.cos(angle) - (y - y0) * np.sin(angle)) * scale
    square = across**2 + np.minimum(along, 0) ** 2  # a rounded end

    def through(radius: float) -> npt.NDArray[np.float64]:
        return 2 * np.sqrt(np.clip(radius**2 - square, 0, None))

    return (line + WATER * through(rng.uniform(35, 50)) + 0.6 * WATER * through(12)).astype(np.float32)


def film(line: Image, rng: np.random.Generator) -> Image:
    """A picture in [0, 1], dense bright, cut to the body: scatter, logarithm, detail, window and an S curve at random."""
    there = line > THERE
    filled = there.mean(1)
    rows = np.flatnonzero(filled > 0.35 * filled.max())
    inset = int(0.025 * (np.ptp(rows) + 1))  # the volume's ends, cut obliquely by the rays
    top, bottom = rows[0] + inset, rows[-1] + 1 - inset
    columns = np.flatnonzero(there[top:bottom].mean(0) > 0.3)
    margin = rng.uniform(-0.05, 0.15) * (np.ptp(columns) + 1)
    left, right = max(0, int(columns[0] - margin)), min(line.shape[1], int(columns[-1] + 1 + margin))
    line = np.ascontiguousarray(line[top:bottom, left:right])
    there = line > THERE
    primary = np.exp(-line)
    scatter = cv2.GaussianBlur(primary, (0, 0), len(line) / 14)
    share = np.float32(rng.uniform(0.1, 0.6))
    density = -np.log(primary + share * np.minimum(scatter, np.percentile(scatter[there], 60)))
    detail = density - cv2.GaussianBlur(density, (0, 0), len(line) / 40)
    density = density + np.float32(rng.choice((0.0, 0.5, 1.0, 2.0))) * detail
    low, high = np.percentile(density[there], (rng.uniform(1, 15), rng.uniform(96, 99.9)))
    x = np.clip((density - low) / max(high - low, 1e-6), -0.2, 1.2)
    steep = rng.uniform(1, 6)
    x, ends = (1 / (1 + np.exp(-steep * (v - 0.5))) for v in (x, np.array([0.0, 1.0])))
    x = np.clip((x - ends[0]) / (ends[1] - ends[0]), 0, 1) ** np.exp(rng.uniform(-0.4, 0.4))
    return np.clip(x + rng.normal(0, rng.uniform(0, 0.02), x.shape), 0, 1).astype(np.float32)


def lateral(rng: np.random.Generator, size: int, lines: npt.NDArray[np.float16]) -> tuple[Image, Mask]:
    """One lateral view on (size, size) and where it is real: mirrored, collimated, leaning, as other negatives are."""
    line = lines[int(rng.integers(len(lines)))].astype(np.float32)
    image = film(arm(line, rng) if rng.random() < 0.25 else line, rng)
    if rng.random() < 0.5:
        image = image[:, ::-1]
    if rng.random() < 0.5:
        rows, columns = image.shape
        top, left, bottom, right = (rng.uniform(0, 0.15, 4) * (rows, columns, rows, columns)).astype(int)
        image = image[top : rows - bottom, left : columns - right]
    if rng.random() < 0.4:
        rows, columns = image.shape
        matrix = cv2.getRotationMatrix2D((columns / 2, rows / 2), rng.uniform(-12, 12), 1.05)
        image = cv2.warpAffine(np.ascontiguousarray(image), matrix, (columns, rows))
    wider = float(np.exp(rng.uniform(-0.25, 0.35)))
    return gateviews.fit(rng, cv2.resize(np.ascontiguousarray(image), None, fx=wider, fy=1.0), size)


def load(wanted: Mapping[str, Any], runs: Path, out: Path, seed: int, run: Run) -> Projections:
    """The views that a gate's configuration asks for, computed once and kept in `out`.

    wanted: {"get": what brings the volumes, "volumes": [{"file", "attribution"}, ...], "views": of each, "laterals", "frontals": shares}; files
    lie in `runs`. Raises UsageError where one is not there, with what brings it.
    """
    files = [runs / str(volume["file"]) for volume in wanted["volumes"]]
    if missing := [str(path) for path in files if not path.exists()]:
        raise UsageError(f"{', '.join(missing)}: not there; `{wanted['get'].format(runs=runs)}` brings it")
    parts = []
    for number, path in enumerate(files):
        store = out / f"projections-{_digest(path, (number, wanted['views'], seed))}.npz"
        if not store.exists():
            try:
                mu = volumes.attenuation(volumes.even(*volumes.read(path)))
            except UnreadableImage as error:
                raise UsageError(str(error)) from None
            some = run.part(number / len(files), (number + 1) / len(files))
            found = library(mu, np.random.default_rng([seed, number]), int(wanted["views"]), some)
            with atomic.file(store) as temporary, temporary.open("wb") as stream:
                np.savez(stream, lateral=found[0].astype(np.float16), frontal=found[1].astype(np.float16))
        with np.load(store) as kept:
            parts.append((kept["lateral"], kept["frontal"]))
    return Projections(
        np.concatenate([p[0] for p in parts]),
        np.concatenate([p[1] for p in parts]),
        float(wanted["laterals"]),
        float(wanted["frontals"]),
        tuple(str(volume["attribution"]) for volume in wanted["volumes"]),
    )


def _digest(path: Path, extra: object) -> str:
    """Key of the views of a volume: another one in its place is computed anew."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    content = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return hashlib.sha256(repr((content, extra)).encode()).hexdigest()[:16]


def fronts(found: Projections, seed: int, each: int = 4) -> list[Image]:
    """`each` films of every view from the front."""
    rng = np.random.default_rng([seed, 1])
    return [film(line.astype(np.float32), rng) for line in found.frontal for _ in range(each)]
