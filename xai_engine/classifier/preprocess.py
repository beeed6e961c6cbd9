"""From a radiograph to what a network is shown: polarity, intensity, geometry. numpy and OpenCV only, no torch.

Independent of the window that the reader has chosen: display and classification are two functions of the radiograph.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import Radiograph, VoiLut

FloatImage = npt.NDArray[np.float32]
BoolImage = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class PreprocessSpec:
    """How a bundle wants its input.

    size: side of the square grid in pixels. margin: kept around the lungs, as a share of their larger extent.
    low, high: percentiles of the valid pixels that become 0 and 1 before standardising to mean 0, deviation 1.
    clip: standardised values are limited to ± clip.
    reach: what lies farther than this share of the side from the chest field (`chest_field`) is not shown; None shows
    the whole crop.
    """

    size: int = 224
    margin: float = 0.08
    low: float = 0.5
    high: float = 99.5
    clip: float = 3.0
    reach: float | None = None


def upright_grey(radiograph: Radiograph) -> tuple[FloatImage, BoolImage]:
    """Grey values with bright = dense, in [0, 1], and where they are real.

    A VOI LUT or sigmoid is part of how the vendor meant the image to look and is applied; linear windows only choose a
    range and are not. Percentiles 0.1 and 99.9 of the pixels that are not padding become 0 and 1.
    Returns float32 (rows, columns) and bool (rows, columns).
    """
    valid = np.ones(radiograph.pixels.shape, bool) if radiograph.padding is None else ~radiograph.padding
    values = radiograph.pixels.astype(np.float32)
    voi = radiograph.voi[0] if radiograph.voi else None
    if isinstance(voi, VoiLut):
        index = np.clip(values - voi.first, 0, len(voi.data) - 1).astype(np.int64)
        values = voi.data[index].astype(np.float32)
    elif voi is not None and voi.function == "SIGMOID":
        values = (1.0 / (1.0 + np.exp(-4.0 * (values - voi.center) / voi.width))).astype(np.float32)
    grey = stretch(values, valid, 0.1, 99.9)
    if radiograph.inverted:
        grey = 1.0 - grey
    grey[~valid] = 0.0
    return grey, valid


def stretch(values: FloatImage, valid: BoolImage, low: float, high: float) -> FloatImage:
    """Percentiles `low` and `high` of the valid values become 0 and 1, clipped. A constant image becomes 0."""
    return between(values, *limits(values, valid, low, high))


def limits(values: FloatImage, valid: BoolImage, low: float, high: float) -> tuple[float, float]:
    """Percentiles `low` and `high` of the valid values; (0, 0) where there are none."""
    inside = values[valid]
    if inside.size == 0:
        return 0.0, 0.0
    if inside.size > 1_000_000:  # percentiles of a sample are as good and much cheaper
        inside = inside[:: inside.size // 500_000]
    a, b = np.percentile(inside, (low, high))
    return float(a), float(b)


def between(values: FloatImage, a: float, b: float) -> FloatImage:
    """a and b become 0 and 1, clipped; everything 0 where a is not below b."""
    if not b > a:
        return np.zeros_like(values)
    return np.clip((values - np.float32(a)) / np.float32(b - a), 0.0, 1.0, dtype=np.float32)


def content(grey: FloatImage, valid: BoolImage) -> tuple[slice, slice] | None:
    """What is left without even borders (the same grey along whole rows and columns); None where there are none.

    Up to 1 % of a row may differ, as letters and noise do, by more than 0.03 of the grey scale. None too where less than
    a quarter of the rows or columns would be left: then the image itself is even.
    """
    top, left, (bottom, right) = 0, 0, grey.shape
    values = np.where(valid, grey, np.float32(0))
    for axis in (1, 0, 1, 0):  # a border on the left and right goes only once those above and below have gone
        part = values[top:bottom, left:right]
        step = max(1, part.shape[axis] // 1000)  # a thousand of a row's pixels tell enough
        some = part[:, ::step] if axis == 1 else part[::step]
        low, high = np.percentile(some, (0.5, 99.5), axis=axis)
        uneven = np.flatnonzero(high - low > 0.03)
        if len(uneven) == 0:
            return None
        first, last = int(uneven[0]), int(uneven[-1]) + 1
        if axis == 1:
            top, bottom = top + first, top + last
        else:
            left, right = left + first, left + last
    if (bottom - top, right - left) == grey.shape:
        return None
    if 4 * (bottom - top) < grey.shape[0] or 4 * (right - left) < grey.shape[1]:
        return None
    return slice(top, bottom), slice(left, right)


def sample(image: FloatImage, valid: BoolImage, transform: GridTransform) -> tuple[FloatImage, BoolImage]:
    """Resample an image on a grid: area averages when shrinking (no aliasing), bilinear at the exact positions.

    Returns float32 and bool of `transform.grid_shape`; cells whose centre is outside the image or in padding are not valid.
    """
    rows, columns = image.shape
    step = min(transform.scale_row, transform.scale_column)
    factor = max(1, int(step))
    if factor > 1:
        small = (max(1, columns // factor), max(1, rows // factor))
        image = cv2.resize(image, small, interpolation=cv2.INTER_AREA)
    row_factor, column_factor = rows / image.shape[0], columns / image.shape[1]
    y = (
        transform.origin_row + (np.arange(transform.grid_shape[0]) + 0.5) * transform.scale_row
    ) / row_factor - 0.5
    x = (
        transform.origin_column + (np.arange(transform.grid_shape[1]) + 0.5) * transform.scale_column
    ) / column_factor
    map_x, map_y = np.meshgrid((x - 0.5).astype(np.float32), y.astype(np.float32))
    out = cv2.remap(image, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = transform.inside()
    if not valid.all():
        nearest = valid.astype(np.uint8)
        source_x = np.clip(((map_x + 0.5) * column_factor).astype(np.int64), 0, columns - 1)
        source_y = np.clip(((map_y + 0.5) * row_factor).astype(np.int64), 0, rows - 1)
        mask &= nearest[source_y, source_x].astype(bool)
    out[~mask] = 0.0
    return out, mask


def letterbox(shape: tuple[int, int], size: int, aspect: float = 1.0) -> GridTransform:
    """Grid of `size` x `size` that holds the whole image, centred, in true proportions.

    aspect: physical height of a pixel over its width (1 for square pixels).
    """
    rows, columns = shape
    side = max(rows * aspect, columns)  # in column units
    scale_column = side / size
    scale_row = scale_column / aspect
    return GridTransform(
        (rows - scale_row * size) / 2,
        (columns - scale_column * size) / 2,
        scale_row,
        scale_column,
        (size, size),
        shape,
    )


def square_around(
    box: tuple[float, float, float, float],
    margin: float,
    size: int,
    shape: tuple[int, int],
    aspect: float = 1.0,
) -> GridTransform:
    """Square grid around a box (top, left, bottom, right in source pixels) with `margin` x its larger extent on each side."""
    top, left, bottom, right = box
    side = max((bottom - top) * aspect, right - left) * (1 + 2 * margin)
    scale_column = side / size
    scale_row = scale_column / aspect
    middle_row, middle_column = (top + bottom) / 2, (left + right) / 2
    return GridTransform(
        middle_row - scale_row * size / 2,
        middle_column - scale_column * size / 2,
        scale_row,
        scale_column,
        (size, size),
        shape,
    )


def standardise(
    grey: FloatImage, valid: BoolImage, spec: PreprocessSpec, like: FloatImage | None = None
) -> FloatImage:
    """Percentile stretch, then mean 0 and deviation 1 over the valid pixels, limited to ± clip; 0 elsewhere.

    like: an image on the same grid whose percentiles, mean and deviation are used in place of the image's own, so that
    a change in one place leaves all others as they were.
    """
    ends = limits(grey if like is None else like, valid, spec.low, spec.high)
    out = between(grey, *ends)
    inside = (out if like is None else between(like, *ends))[valid]
    if inside.size:
        deviation = float(inside.std())
        out = np.clip((out - inside.mean()) / max(deviation, 1e-3), -spec.clip, spec.clip).astype(np.float32)
    out[~valid] = 0.0
    return out


def chest_field(lungs: FloatImage, reach: float) -> BoolImage:
    """Where a chest finding can be: the convex hull of both lungs and their mirror images, grown by `reach` x the side.

    lungs: lung probability (size, size). The hull holds the heart and the mediastinum, the growth the pleura; shoulders,
    neck, belly, borders and burned-in letters stay outside. Each lung is mirrored onto the other side, so that a lung
    that the segmentation cut short (dense consolidation, effusion) is covered as far as its partner reaches.
    All True where no lungs are given.
    """
    binary = (lungs > 0.4).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(binary, connectivity=4)
    order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))[:2]
    if not order:
        return np.ones(lungs.shape, bool)
    found = np.isin(labels, order)
    points = np.argwhere(found)
    if len(order) == 2:
        left, right = sorted(order, key=lambda i: float(centres[i][0]))
        inner_left = stats[left, cv2.CC_STAT_LEFT] + stats[left, cv2.CC_STAT_WIDTH]
        middle = (inner_left + stats[right, cv2.CC_STAT_LEFT]) / 2
        mirrored = np.stack([points[:, 0], np.rint(2 * middle - 1 - points[:, 1])], axis=1)
        mirrored[:, 1] = np.clip(mirrored[:, 1], 0, lungs.shape[1] - 1)
        points = np.concatenate([points, mirrored.astype(points.dtype)])
    hull = cv2.convexHull(np.ascontiguousarray(points[:, ::-1], dtype=np.int32))
    field = np.zeros(lungs.shape, np.uint8)
    cv2.fillConvexPoly(field, hull, 1)
    width = 2 * round(reach * lungs.shape[0]) + 1
    return cv2.dilate(field, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))).astype(bool)


def pixel_aspect(radiograph: Radiograph) -> float:
    """Height over width of a pixel; 1 where the file does not say."""
    spacing = radiograph.spacing
    if spacing is None or not (0.2 < spacing.row_mm / spacing.column_mm < 5):
        return 1.0
    return spacing.row_mm / spacing.column_mm
