"""Where a map lies: share of its magnitude in lungs, border, burned-in text and padding; how concentrated it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

BORDER = 0.05  # width of the border band, share of the grid's longer side
LUNG = 0.5  # probability above which a pixel counts as lung


@dataclass(frozen=True, slots=True, eq=False)
class Areas:
    """Masks over the classifier's grid, all within `valid`. lungs: None where nothing is known of them."""

    valid: Mask
    lungs: Mask | None
    border: Mask
    text: Mask


def find(image: Map, valid: Mask, lungs_probability: Map | None, inside: Mask | None = None) -> Areas:
    """Areas of one network input. image: (channels, rows, columns) or (rows, columns), bright = dense.

    inside: where the grid lies on the image. A model that is shown the chest field only (`valid` is no rectangle) has a
    border of the image only where the field reaches it.
    """
    lungs = None
    if lungs_probability is not None:
        lungs = (np.asarray(lungs_probability) > LUNG) & valid
        if not lungs.any():
            lungs = None
    grey = np.asarray(image, np.float32)
    grey = grey.mean(0) if grey.ndim == 3 else grey
    frame = valid if inside is None or _fills_its_box(valid) else inside
    return Areas(valid, lungs, border_band(frame) & valid, text(grey, valid, lungs))


def _fills_its_box(valid: Mask) -> bool:
    rows, columns = valid.any(1), valid.any(0)
    return bool(valid.sum() >= 0.9 * np.ptp(np.flatnonzero(rows)) * np.ptp(np.flatnonzero(columns)))


def share(values: Map, where: Mask) -> float | None:
    """Share of the map's total magnitude, Σ|v| in `where` / Σ|v|; None for an empty map."""
    magnitude = np.abs(np.asarray(values, np.float64))
    total = float(magnitude.sum())
    return float(magnitude[where].sum()) / total if total > 0 else None


def gini(values: Map, valid: Mask) -> float | None:
    """Gini index of the magnitudes (Hurley & Rickard 2009): 0 evenly spread, towards 1 all in one pixel."""
    magnitude = np.sort(np.abs(np.asarray(values, np.float64)[valid]))
    total, n = float(magnitude.sum()), magnitude.size
    if total <= 0 or n == 0:
        return None
    rank = np.arange(1, n + 1)
    return float(1.0 - 2.0 * np.sum(magnitude / total * (n - rank + 0.5) / n))


def border_band(valid: Mask) -> Mask:
    """Valid pixels within BORDER of the edge of the image or of its padding."""
    width = max(1.0, BORDER * max(valid.shape))
    padded = np.pad(valid.astype(np.uint8), 1)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    return valid & (distance <= width)


def text(grey: Map, valid: Mask, lungs: Mask | None) -> Mask:
    """Burned-in letters and lead markers: nearly white, sharp, small, compact pieces near the edge and outside the lungs.

    grey: (rows, columns), any linear scale. A piece must be brighter than 75 % of the image's range, stand out from its
    surroundings by 30 % of it, cover at most 2 % of the image and lie in its outer third. Where three are found,
    fainter parts beside them belong to the line of text. The mask holds a margin of one pixel in a hundred. Dark letters on white are not found.
    """
    out = np.zeros(valid.shape, bool)
    if not valid.any():
        return out
    side = max(valid.shape)
    low, high = np.percentile(grey[valid], (1.0, 99.95))
    if high <= low:
        return out
    level = np.clip((np.where(valid, grey, low) - low) / (high - low), 0.0, 1.0).astype(np.float32)
    reach = 2 * max(2, round(0.06 * side)) + 1
    # opening removes what is smaller than the element: what is left is the ground on which letters stand
    element = cv2.getStructuringElement(cv2.MORPH_RECT, (reach, reach))
    ground = cv2.morphologyEx(level, cv2.MORPH_OPEN, element, borderType=cv2.BORDER_REPLICATE)
    bright = (level > 0.75) & (level - ground > 0.3) & valid
    if lungs is not None:
        bright &= ~lungs
    count, labels, stats, centres = cv2.connectedComponentsWithStats(bright.astype(np.uint8), connectivity=8)
    rows, columns = np.flatnonzero(valid.any(1)), np.flatnonzero(valid.any(0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    edges = _edge_strength(level)
    for index in range(1, count):
        area = int(stats[index, cv2.CC_STAT_AREA])
        extent = max(stats[index, cv2.CC_STAT_WIDTH], stats[index, cv2.CC_STAT_HEIGHT])
        across, down = centres[index]
        from_edge = min(
            (down - top) / (bottom - top),
            (bottom - down) / (bottom - top),
            (across - left) / (right - left),
            (right - across) / (right - left),
        )
        piece = labels == index
        if 3 <= area <= 0.02 * valid.sum() and extent <= 0.2 * side and from_edge < 1 / 3:
            rim = piece & ~cv2.erode(piece.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0).astype(
                bool
            )
            if float(np.median(edges[rim])) > 0.2:
                out |= piece
    if cv2.connectedComponents(out.astype(np.uint8), connectivity=8)[0] > 3:  # three letters: a line of text
        # what stands beside a found letter and is fainter (thin strokes shrink to grey) belongs to the same line of text
        near = cv2.dilate(out.astype(np.uint8), np.ones((3, reach), np.uint8)) > 0
        faint = near & valid & (level > 0.6) & (level - ground > 0.2)
        grown = out | (faint if lungs is None else faint & ~lungs)
        if grown.sum() <= 0.05 * valid.sum():  # more is texture
            out = grown
    margin = max(1, round(0.01 * side))
    grown = cv2.dilate(out.astype(np.uint8), np.ones((2 * margin + 1, 2 * margin + 1), np.uint8))
    return (grown > 0) & valid


def _edge_strength(level: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Largest minus smallest value in the 3 x 3 neighbourhood."""
    element = np.ones((3, 3), np.uint8)
    return np.asarray(cv2.dilate(level, element) - cv2.erode(level, element), np.float32)
