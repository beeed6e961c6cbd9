"""Ways to make a region look otherwise: filled in from around it, blurred, flat, or like its mirror. numpy, scipy, OpenCV.

All work on grey values float32 in [0, 1] and change nothing outside the mask.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from xai_engine.errors import UsageError
from xai_engine.radiograph.mirror import Midline

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
BLUR = 0.5  # standard deviation of the blur over the region's equivalent radius
RING = 0.25  # width of the surroundings over the region's equivalent radius
DETAIL = 2.0  # pixels; finer structure than this counts as texture


def radius(mask: Mask) -> float:
    """Radius of the disc with the mask's area, in pixels."""
    return math.sqrt(float(mask.sum()) / math.pi)


def inpaint(grey: Grey, valid: Mask, mask: Mask, rng: np.random.Generator) -> Grey:
    """The smoothest surface that meets the surroundings (Laplace's equation), with their texture as noise upon it.

    Nothing that could be read as a finding is made up: a harmonic surface has no extremum inside (maximum principle).
    Raises UsageError where there are no surroundings.
    """
    out, box, inner, near = _local(grey, valid, mask)
    here, ok = grey[box], valid[box]
    ring = near & ok & ~inner
    if not ring.any():
        raise UsageError("the region has no surroundings to be filled in from; draw a smaller one")
    filled = _harmonic(here, inner & ok, ok, float(here[ring].mean()))
    noise = _texture(here, ring, ok & ~inner, rng)
    out[box][inner & ok] = np.clip(filled + noise[inner & ok], 0.0, 1.0)
    return out


def blur(grey: Grey, valid: Mask, mask: Mask) -> Grey:
    """Gaussian blur with half the region's equivalent radius as standard deviation; padding does not bleed in."""
    out = grey.copy()
    sigma = max(1.0, BLUR * radius(mask))
    reach = math.ceil(4 * sigma)
    box = _box(mask, reach)
    inner = mask[box] & valid[box]
    out[box][inner] = _smooth(grey[box], valid[box], sigma)[inner].clip(0.0, 1.0)
    return out


def mean(grey: Grey, valid: Mask, mask: Mask) -> Grey:
    """The mean of the surroundings everywhere. Raises UsageError where there are none."""
    out, box, inner, near = _local(grey, valid, mask)
    ring = near & valid[box] & ~inner
    if not ring.any():
        raise UsageError("the region has no surroundings to take a mean of; draw a smaller one")
    out[box][inner & valid[box]] = grey[box][ring].mean()
    return out


def mirror(
    grey: Grey, valid: Mask, mask: Mask, line: Midline, step: tuple[float, float]
) -> tuple[Grey, float]:
    """What lies on the other side of the mid-line. step: source pixels per pixel (rows, columns), for the line's sake.

    Returns the changed copy and the share of the region that has a counterpart in the image; the rest stays.
    """
    out = grey.copy()
    at = np.argwhere(mask & valid)
    if not len(at):
        return out, 0.0
    there = line.reflect((at + 0.5) * step) / step - 0.5
    nearest = np.rint(there).astype(np.int64)
    ok: Mask = np.asarray(((nearest >= 0) & (nearest < grey.shape)).all(axis=1))
    ok[ok] = valid[tuple(nearest[ok].T)]
    values = ndimage.map_coordinates(grey, there[ok].T, order=1, mode="nearest")
    out[tuple(at[ok].T)] = values
    return out, float(ok.mean())


def _box(mask: Mask, reach: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(0, int(rows[0]) - reach), int(rows[-1]) + 1 + reach),
        slice(max(0, int(columns[0]) - reach), int(columns[-1]) + 1 + reach),
    )


def _local(grey: Grey, valid: Mask, mask: Mask) -> tuple[Grey, tuple[slice, slice], Mask, Mask]:
    """Copy to be changed; box around the mask; in the box: the mask, and the mask grown by the ring's width."""
    width = max(3, round(RING * radius(mask)))
    box = _box(mask, width + 1)
    inner = mask[box]
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    return grey.copy(), box, inner, cv2.dilate(inner.astype(np.uint8), disc).astype(bool)


def _harmonic(grey: Grey, unknown: Mask, valid: Mask, middle: float) -> Grey:
    """Solve Laplace's equation on `unknown`, values (n,) in its order; the valid pixels around are the boundary, the
    edge of the image and padding let nothing through. `middle` holds where no boundary is."""
    number = np.full(unknown.shape, -1, np.int64)
    count = int(unknown.sum())
    number[unknown] = np.arange(count)
    diagonal, right = np.full(count, 1e-9), np.full(count, 1e-9 * middle)
    rows: list[npt.NDArray[np.int64]] = []
    columns: list[npt.NDArray[np.int64]] = []
    for axis in (0, 1):
        for low, high in ((slice(None, -1), slice(1, None)), (slice(1, None), slice(None, -1))):
            a = (low, slice(None)) if axis == 0 else (slice(None), low)
            b = (high, slice(None)) if axis == 0 else (slice(None), high)
            both = unknown[a] & valid[b]
            me, other = number[a][both], number[b][both]
            np.add.at(diagonal, me, 1.0)
            inside = other >= 0
            rows.append(me[inside])
            columns.append(other[inside])
            np.add.at(right, me[~inside], grey[b][both][~inside].astype(np.float64))
    i, j = np.concatenate(rows), np.concatenate(columns)
    matrix = sparse.csc_matrix((-np.ones(len(i)), (i, j)), shape=(count, count)) + sparse.diags(diagonal)
    return np.asarray(spsolve(matrix.tocsc(), right), np.float32)


def _smooth(grey: Grey, valid: Mask, sigma: float) -> Grey:
    """Gaussian mean of the valid pixels around each."""
    weight = ndimage.gaussian_filter(valid.astype(np.float32), sigma, mode="nearest")
    summed = ndimage.gaussian_filter(np.where(valid, grey, np.float32(0)), sigma, mode="nearest")
    return np.asarray(summed / np.maximum(weight, 1e-6), np.float32)


def _texture(grey: Grey, ring: Mask, known: Mask, rng: np.random.Generator) -> Grey:
    """Noise with the deviation and the neighbour correlation of the ring's fine structure.

    known: where grey may be looked at: neither padding nor the region itself.
    White noise behind a Gaussian of standard deviation s has the correlation exp(-1 / (4 s²)) between neighbours.
    """
    fine = grey - _smooth(grey, known, DETAIL)
    white = rng.standard_normal(grey.shape).astype(np.float32)
    deviation = float(fine[ring].std())
    if deviation == 0.0:
        return np.zeros(grey.shape, np.float32)
    pairs = ring[:, :-1] & ring[:, 1:]
    product = float((fine[:, :-1] * fine[:, 1:])[pairs].mean()) if pairs.any() else 0.0
    correlation = min(max(product / deviation**2, 0.0), 0.95)
    if correlation > 0.05:
        sigma = math.sqrt(-0.25 / math.log(correlation))
        white = ndimage.gaussian_filter(white, sigma, mode="wrap")
    return np.asarray(white * (deviation / max(float(white.std()), 1e-12)), np.float32)
