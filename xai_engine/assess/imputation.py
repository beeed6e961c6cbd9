"""Noisy linear imputation (ROAD: Rong et al. 2022, ICML, section 4.2): hidden pixels become a blend of what is around."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

NOISE = 0.01  # standard deviation of the noise, share of the image's own, as in the authors' code on standardised images
_NEIGHBOURS = [(r, c, 1 / 12 if r and c else 1 / 6) for r in (-1, 0, 1) for c in (-1, 0, 1) if r or c]


def impute(
    image: npt.NDArray[np.floating[Any]],
    hidden: npt.NDArray[np.bool_],
    valid: npt.NDArray[np.bool_],
    rng: np.random.Generator | None = None,
) -> npt.NDArray[np.float32]:
    """Fill `hidden` pixels so that each is the weighted mean of its valid neighbours: direct ones 1/6, diagonal ones 1/12.

    image: (channels, rows, columns). The equations are solved together by conjugate gradients to 1e-5. Neighbours outside
    the image or in the padding take no part. A group of hidden pixels without any known neighbour gets the mean of the
    valid pixels. With `rng`, noise is added to the hidden pixels. Returns a new array.
    """
    from scipy.sparse import csr_matrix, diags
    from scipy.sparse.linalg import cg

    out = np.array(image, np.float32)
    hidden = hidden & valid
    known = valid & ~hidden
    n = int(hidden.sum())
    if n == 0:
        return out
    if not known.any():
        hidden_values = [float(plane[valid].mean()) * np.ones(n) for plane in out]
    else:
        index = np.full((valid.shape[0] + 2, valid.shape[1] + 2), -1, np.int64)
        index[1:-1, 1:-1][hidden] = np.arange(n)
        source = np.pad(known, 1)
        row, column = np.nonzero(hidden)
        total, terms, starts, ends = np.zeros(n), [], [], []
        borders: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64], float]] = []
        for down, right, weight in _NEIGHBOURS:
            r, c = row + 1 + down, column + 1 + right
            other = index[r, c]
            here = np.flatnonzero(other >= 0)
            starts.append(here)
            ends.append(other[here])
            terms.append(np.full(len(here), -weight))
            fixed = np.flatnonzero(source[r, c])
            borders.append((fixed, r[fixed] - 1, c[fixed] - 1, weight))
            total[here] += weight
            total[fixed] += weight
        # a pixel without a single neighbour keeps a valid equation: it becomes the mean below
        matrix = csr_matrix(
            (np.concatenate(terms), (np.concatenate(starts), np.concatenate(ends))), shape=(n, n)
        ) + diags(np.where(total > 0, total, 1.0))
        loose = ~_reached(hidden, known)[hidden]
        hidden_values = []
        for channel, plane in enumerate(out):
            if channel and np.array_equal(plane[valid], image[0][valid]):
                hidden_values.append(hidden_values[0])
                continue
            mean = float(plane[known].mean())
            right_side = np.zeros(n)
            for fixed, r, c, weight in borders:
                right_side[fixed] += weight * (plane[r, c].astype(np.float64) - mean)
            solution, _ = cg(matrix, right_side, rtol=1e-5, maxiter=4000)
            hidden_values.append(np.where(loose, mean, solution + mean))
    noise = None
    if rng is not None:
        noise = rng.standard_normal(n)
    for plane, filled in zip(out, hidden_values, strict=True):
        spread = float(image[0][valid].std()) * NOISE
        plane[hidden] = filled if noise is None else filled + spread * noise
    return out


def _reached(hidden: npt.NDArray[np.bool_], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Hidden pixels whose connected group touches a known one."""
    from scipy.ndimage import binary_dilation, label

    around = np.ones((3, 3), bool)
    groups, _ = label(hidden, around)
    touched = np.unique(groups[hidden & binary_dilation(known, around)])
    return hidden & np.isin(groups, touched)
