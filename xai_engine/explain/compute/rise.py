"""RISE: random soft masks, by their parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.methods.perturbation import Rise
from xai_engine.explain.session import Attribution, Session
from xai_engine.runtime.run import Run

MASK_STEP = 64  # masks; a multiple of the images of a pass

FloatArray = npt.NDArray[np.float64]


def soft_mask(
    rng: np.random.Generator, shape: tuple[int, int], cells: int, shown: float
) -> npt.NDArray[np.float32]:
    """(rows, columns) in [0, 1]: a random grid of (cells + 1)² resampled bilinearly and cut at a random
    offset (RISE, section 3.2).
    """
    grid = (rng.random((cells + 1, cells + 1)) < shown).astype(np.float64)
    for axis in (0, 1):
        step = np.ceil(shape[axis] / cells)
        low, share = _between(shape[axis], cells, int(rng.integers(step)))
        share = share.reshape((-1, 1) if axis == 0 else (1, -1))
        grid = grid.take(low, axis) * (1 - share) + grid.take(low + 1, axis) * share
    return grid.astype(np.float32)


def _between(length: int, cells: int, offset: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """(cell before each pixel of one side, share of the cell behind it) of a grid cut at this offset."""
    step = np.ceil(length / cells)
    place = np.clip((np.arange(length) + offset + 0.5) / step - 0.5, 0, cells)
    low = np.minimum(place.astype(np.int64), cells - 1)
    return low, place - low


def shared_cells(length: int, cells: int) -> FloatArray:
    """(length, length): how far two pixels of one side hang on the same cells, in the mean over the offsets of a grid.

    Cells are independent, so two pixels of a soft mask have the covariance shown (1 - shown) times the product of these
    numbers for their rows and their columns.
    """
    weights = _interpolation(length, cells)
    return np.asarray((weights @ weights.transpose(0, 2, 1)).mean(0))


class SoftMasks:
    """The masks of `soft_mask`, one stream of the run's generator each, as products: a mask is rows[above] @ grid @ columns[left]ᵀ.

    A bilinear mask has (cells + 1)² numbers, an image hundreds of times as many; what is summed over masks is summed over
    grids of the same offsets, and becomes an image once, at the end.
    """

    def __init__(
        self, run: Run, count: int, shape: tuple[int, int], cells: int, shown: float, stream: int = 50
    ) -> None:
        self.run, self.stream, self.cells, self.shown = run, stream, cells, shown
        self.shape = shape
        self.grids = np.zeros((count, cells + 1, cells + 1), np.float32)
        self.offsets = np.zeros((count, 2), np.int64)
        self.drawn = 0
        self.rows, self.columns = (_interpolation(n, cells) for n in shape)
        self._float = [torch.from_numpy(m.astype(np.float32)) for m in (self.rows, self.columns)]
        self._pooled = [_pooling(n, cells) @ m for n, m in zip(shape, (self.rows, self.columns), strict=True)]

    def _draw(self, stop: int) -> None:
        """As they are needed: thousands of generators take some tenths of a second."""
        for i in range(self.drawn, stop):
            rng = self.run.rng(self.stream, i)
            self.grids[i] = rng.random(self.grids.shape[1:]) < self.shown
            self.offsets[i] = [rng.integers(len(m)) for m in (self.rows, self.columns)]
        self.drawn = max(self.drawn, stop)

    def images(self, start: int, stop: int, behind: torch.Tensor, front: torch.Tensor) -> torch.Tensor:
        """(stop - start, channels, rows, columns): behind + mask * front."""
        self._draw(stop)
        above, left = (m[self.offsets[start:stop, k]] for k, m in enumerate(self._float))
        masks = above @ torch.from_numpy(self.grids[start:stop]) @ left.transpose(1, 2)
        return torch.addcmul(behind, masks[:, None].to(behind.device), front)

    def pooled(self, start: int, stop: int) -> FloatArray:
        """(stop - start, cells²): what each mask shows, by blocks as large as its cells."""
        self._draw(stop)
        above, left = (m[self.offsets[start:stop, k]] for k, m in enumerate(self._pooled))
        return np.asarray(
            (above @ self.grids[start:stop] @ left.transpose(0, 2, 1)).reshape(stop - start, -1)
        )

    def sums(self, plane: FloatArray, count: int) -> FloatArray:
        """(count,) of plane (rows, columns) times each of the first masks, summed over the pixels."""
        part = self.rows.transpose(0, 2, 1) @ plane
        out = np.empty(count)
        for start in range(0, count, 256):
            a, b = self.offsets[start : start + 256].T
            grids = self.grids[start : start + 256]
            out[start : start + 256] = np.einsum("nij,nij->n", part[a] @ self.columns[b], grids)[
                : count - start
            ]
        return out

    def weighted(self, weights: FloatArray) -> FloatArray:
        """(rows, columns): sum of the first masks, times their weights (n,)."""
        steps = (len(self.rows), len(self.columns))
        n = len(weights)
        grids = np.zeros((*steps, *self.grids.shape[1:]))
        np.add.at(grids, tuple(self.offsets[:n].T), weights[:, None, None] * self.grids[:n])
        total = np.zeros(self.shape)
        for row, of in zip(self.rows, grids, strict=True):
            total += row @ np.einsum("bij,bkj->ik", of, self.columns, optimize=True)
        return total


def _interpolation(length: int, cells: int) -> FloatArray:
    """(offsets, length, cells + 1): how much each pixel of one side has of each point of the grid."""
    steps = int(np.ceil(length / cells))
    out = np.zeros((steps, length, cells + 1))
    for offset in range(steps):
        low, share = _between(length, cells, offset)
        out[offset, np.arange(length), low] = 1 - share
        out[offset, np.arange(length), low + 1] += share
    return out


def _pooling(length: int, cells: int) -> FloatArray:
    """(cells, length): the mean over each of as many blocks, as torch's adaptive pooling divides a side."""
    out = np.zeros((cells, length))
    for k in range(cells):
        first, last = k * length // cells, -(-(k + 1) * length // cells)
        out[k, first:last] = 1.0 / (last - first)
    return out


def rise(method: Rise, session: Session) -> Attribution:
    """Mean score weighted by the mask less mean score weighted by its complement, pixel by pixel.

    Where LIME and KernelSHAP have a pool, a sum over pixels fitted to it is the control variate: its own map is known
    exactly, only what it misses is estimated, with as many masks as give the precision of `method.masks` without it.
    """
    x, valid = session.x, session.input.valid
    helper = None if session.shared is None else session.shared.help(session)
    if session.partial:
        return Attribution(np.zeros(valid.shape), converged=False)
    slope = None if helper is None else helper.slope()
    behind = baseline(session, method.replacement, method.blur)
    front = x - behind
    session.plan(method.masks, "scoring masked images")
    shape = (valid.shape[0], valid.shape[1])
    masks = SoftMasks(session.run, method.masks, shape, method.cells, method.shown)
    found: list[float] = []
    wanted: int | None = None
    with session.stoppable():
        for _, _, scores in session.scored(
            method.masks, lambda a, b: masks.images(a, b, behind, front), features=masks.pooled, means=True
        ):
            found += scores.tolist()
            first = method.masks // 2
            if slope is not None and len(found) >= first:
                if wanted is None:
                    told = _explained(np.array(found[:first]), masks.sums(slope, first))
                    wanted = enough_masks(method.masks, told)
                if len(found) >= wanted:
                    break
    found = found[:wanted]
    done = len(found)
    if done < 2:
        return Attribution(np.zeros(valid.shape), converged=False)
    f = np.array(found)
    mass = masks.weighted(np.ones(done))
    sure = (mass > 1e-6) & (done - mass > 1e-6) & valid

    def contrast(scores: FloatArray) -> FloatArray:
        shown, total = masks.weighted(scores), float(scores.sum())
        return shown / np.maximum(mass, 1e-9) - (total - shown) / np.maximum(done - mass, 1e-9)

    extra = {"masks": float(done)}
    if helper is None or slope is None:
        values = contrast(f)
    else:
        g = masks.sums(slope, done)
        factor = float(np.cov(f, g)[0, 1]) / max(float(g.var(ddof=1)), 1e-30)
        rows, columns = (shared_cells(n, method.cells) for n in valid.shape)
        values = contrast(f - factor * g) + factor * (rows @ slope @ columns)
        share = _explained(f, g)
        extra |= {"forwards_shared": float(len(helper.scores) + 2), "told_by_shared": share}
        session.notes.append(
            f"A sum over superpixels, from changed images that other maps of this analysis share, tells {share:.0%} of how its "
            f"masks move the score: {done} masks give the precision of {round(done / max(1.0 - share, 1e-3))}."
        )
    return Attribution(np.where(sure, values, 0.0), extra=extra)


def enough_masks(asked: int, explained: float) -> int:
    """Masks whose mean is as precise as that of `asked` once this share of the variance is known otherwise; never fewer than
    half, in steps, so that rounding errors do not change the number."""
    needed = max(asked / 2, asked * (1.0 - explained))
    return min(asked, int(np.ceil(needed / MASK_STEP - 1e-9)) * MASK_STEP)


def _explained(scores: FloatArray, sums: FloatArray) -> float:
    """Share of the variance of the scores that a multiple of the sums explains."""
    power = float(scores.var() * sums.var())
    return float(((scores - scores.mean()) * (sums - sums.mean())).mean() ** 2) / power if power > 0 else 0.0
