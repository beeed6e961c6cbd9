"""Putting an image right that was stored inverted or turned. What was done is recorded in the image itself.

A corrected radiograph is a radiograph of its own: another `sha256` (of the file's digest and the corrections), so no
cache or result of the one is taken for the other; `file_sha256` still names the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from xai_engine.errors import UsageError
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import PixelSpacing, Radiograph

Correction = Literal["invert", "rotate-90", "rotate-180", "rotate-270"]
"""Rotations are clockwise, in degrees."""
CORRECTIONS: tuple[str, ...] = get_args(Correction)
WORDS: dict[str, str] = {
    "invert": "inverted",
    "rotate-90": "rotated by 90° to the right",
    "rotate-180": "rotated by 180°",
    "rotate-270": "rotated by 90° to the left",
}
_OPPOSITE = str.maketrans("LRAPHF", "RLPAFH")
_T = TypeVar("_T", bound=np.generic)


def words(corrections: Sequence[str]) -> str:
    """ "inverted and rotated by 180°" """
    return " and ".join(WORDS[each] for each in corrections)


def turns(correction: str) -> int:
    """Quarter turns clockwise."""
    return int(correction.removeprefix("rotate-")) // 90 if correction.startswith("rotate-") else 0


def composed(corrections: Sequence[str]) -> tuple[str, ...]:
    """The shortest list that does the same: at most one inversion and one rotation, in this order."""
    quarter = sum(turns(each) for each in corrections) % 4
    inverted = sum(each == "invert" for each in corrections) % 2
    return ("invert",) * inverted + ((f"rotate-{90 * quarter}",) if quarter else ())


def apply(radiograph: Radiograph, corrections: Sequence[str]) -> Radiograph:
    """The image with `corrections` done one after another, on top of those it has. The file is not touched.

    Raises UsageError for an unknown one.
    """
    for each in corrections:
        if each not in CORRECTIONS:
            raise UsageError(f"no correction '{each}'; choose one of {', '.join(CORRECTIONS)}")
        radiograph = _one(radiograph, each)
    return radiograph


def _one(r: Radiograph, correction: str) -> Radiograph:
    file_sha256, done = r.file_sha256, (*r.corrections, correction)
    digest = hashlib.sha256("\n".join((file_sha256, *done)).encode()).hexdigest()
    changed = replace(r, sha256=digest, source_sha256=file_sha256, corrections=done)
    if correction == "invert":
        other: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2" if r.inverted else "MONOCHROME1"
        return replace(changed, photometric=other)
    quarter = turns(correction)
    spacing = r.spacing
    if spacing is not None and quarter % 2:
        spacing = PixelSpacing(spacing.column_mm, spacing.row_mm, spacing.source, spacing.note)
    return replace(
        changed,
        pixels=_turned(r.pixels, quarter),
        padding=None if r.padding is None else _turned(r.padding, quarter),
        spacing=spacing,
        orientation=_letters(r.orientation, quarter),
    )


def _turned(array: npt.NDArray[_T], quarter: int) -> npt.NDArray[_T]:
    out = np.ascontiguousarray(np.rot90(array, -quarter))
    out.flags.writeable = False
    return out


def _letters(orientation: tuple[str, str], quarter: int) -> tuple[str, str]:
    """Letters at the right and bottom edges after clockwise turns: top comes to the right, right to the bottom."""
    right, bottom = orientation
    for _ in range(quarter):
        right, bottom = bottom.translate(_OPPOSITE), right
    return right, bottom


def turned_region(region: Region, shape: tuple[int, int], corrections: Sequence[str]) -> Region:
    """A region of an image of `shape` (rows, columns) on the same anatomy of the corrected image."""
    points, (rows, columns) = region.points, shape
    for each in corrections:
        for _ in range(turns(each)):
            points = np.column_stack(
                [points[:, 1], rows - points[:, 0]]
            )  # (row, column) -> (column, rows - row)
            rows, columns = columns, rows
    return replace(region, points=points)
