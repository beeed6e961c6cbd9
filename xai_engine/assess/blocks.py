"""Square blocks over the valid part of the classifier's grid: what is hidden or shown as one piece."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

ALONG_SIDE = (
    28  # blocks along the longer side: 8 pixels of a 224 grid; single pixels make speckle that fools networks
)

Mask = npt.NDArray[np.bool_]


class Blocks:
    """labels: (rows, columns) int, number of the block, -1 where invalid. sizes: (count,) valid pixels of each."""

    def __init__(self, valid: Mask, along_side: int = ALONG_SIDE) -> None:
        rows, columns = valid.shape
        size = max(2, -(-max(rows, columns) // along_side))
        across = -(-columns // size)
        raw = (np.arange(rows) // size)[:, None] * across + (np.arange(columns) // size)[None, :]
        used, numbered = np.unique(raw[valid], return_inverse=True)
        self.size = size
        self.labels = np.full(valid.shape, -1, np.int64)
        self.labels[valid] = numbered
        self.count = len(used)
        self.sizes = np.bincount(numbered, minlength=self.count).astype(np.float64)
        self.rows, self.columns = used // across, used % across

    def sums(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """(count,) sum of a map over each block."""
        inside = self.labels >= 0
        return np.bincount(
            self.labels[inside], np.asarray(values, np.float64)[inside], minlength=self.count
        ).astype(np.float64)

    def means(self, values: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        """(count,) mean of a map over each block."""
        return self.sums(values) / self.sizes

    def expand(self, chosen: Mask) -> Mask:
        """(n, count) -> (n, rows, columns): pixels of the chosen blocks; False where invalid."""
        padded = np.concatenate([chosen, np.zeros((len(chosen), 1), bool)], 1)
        return padded[:, self.labels]

    def order(self, means: npt.NDArray[np.float64], rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Blocks from the highest to the lowest mean; equal ones in random order, or their position would decide."""
        return np.lexsort((rng.random(self.count), -means))

    def first(self, order: npt.NDArray[np.int64], counts: npt.NDArray[np.int64]) -> Mask:
        """(len(counts), count): the first counts[i] blocks of the order."""
        rank = np.empty(self.count, np.int64)
        rank[order] = np.arange(self.count)
        return rank[None, :] < counts[:, None]

    def random_sets(self, count: int, rng: np.random.Generator, patches: int = 7) -> Mask:
        """(count, blocks): random sets of square patches, `patches` along the longer side at random offsets.

        The share of patches in a set is uniform in 5–60 %; at least one block is in a set.
        """
        extent = int(max(self.rows.max(), self.columns.max())) + 1
        patch = max(1, round(extent / patches))
        out = np.zeros((count, self.count), bool)
        for chosen in out:
            offset = rng.integers(0, patch, 2)
            row, column = (self.rows + offset[0]) // patch, (self.columns + offset[1]) // patch
            grid = rng.random((row.max() + 1, column.max() + 1)) < rng.uniform(0.05, 0.6)
            chosen[:] = grid[row, column]
            if not chosen.any():
                pick = rng.integers(self.count)
                chosen[:] = (row == row[pick]) & (column == column[pick])
        return out
