"""How alike two maps are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.explain.ranks import rank_correlation

Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two maps of one method compared. value: the larger of rank and linear correlation.

    Ranks see the noise among pixels near zero, which nobody sees in the map; the linear one follows the strong areas only.
    """

    rank: float
    linear: float
    ssim: float | None

    @property
    def value(self) -> float:
        return max(self.rank, self.linear)


def likeness(a: Map, b: Map, valid: Mask) -> Likeness:
    return Likeness(spearman(a, b, valid), pearson(a, b, valid), ssim(a, b, valid))


def pearson(a: Map, b: Map, valid: Mask) -> float:
    """Linear correlation over the valid pixels, in [-1, 1]; 0 where one of the maps is constant."""
    first, second = np.asarray(a, np.float64)[valid], np.asarray(b, np.float64)[valid]
    if first.size < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def spearman(a: Map, b: Map, valid: Mask) -> float:
    """Rank correlation over the valid pixels, in [-1, 1]; 0 where one of the maps is constant."""
    first, second = np.asarray(a, np.float64)[valid], np.asarray(b, np.float64)[valid]
    if first.size < 2 or np.ptp(first) == 0.0 or np.ptp(second) == 0.0:
        return 0.0
    return rank_correlation(first, second)


def ssim(a: Map, b: Map, valid: Mask) -> float | None:
    """Structural similarity (Wang et al. 2004, window 7) of the maps, each divided by its largest magnitude, mean over
    the valid pixels. None for maps smaller than the window."""
    from skimage.metrics import structural_similarity

    if min(a.shape) < 7 or not valid.any():
        return None
    scaled = []
    for values in (a, b):
        values = np.where(valid, np.asarray(values, np.float64), 0.0)
        top = float(np.abs(values).max())
        scaled.append(values / top if top > 0 else values)
    _, local = structural_similarity(scaled[0], scaled[1], data_range=2.0, full=True)
    return float(local[valid].mean())


def top_overlap(a: Map, b: Map, valid: Mask, share: float = 0.1) -> float:
    """Intersection over union of the `share` highest valid pixels of each map, in [0, 1].

    Ties at the border of the set count in part: a pixel that ties belongs to the set with the probability that fills it.
    """
    p, q = (_membership(np.asarray(v, np.float64)[valid], share) for v in (a, b))
    union = float(np.maximum(p, q).sum())
    return float(np.minimum(p, q).sum()) / union if union > 0 else 0.0


def _membership(values: npt.NDArray[np.float64], share: float) -> npt.NDArray[np.float64]:
    wanted = max(1, round(share * values.size))
    edge = np.partition(values, values.size - wanted)[values.size - wanted]
    above, ties = values > edge, values == edge
    return above + ties * ((wanted - int(above.sum())) / int(ties.sum()))


def relative_change(a: Map, b: Map, valid: Mask) -> float:
    """‖b - a‖ / ‖a‖ over the valid pixels; infinite where a is zero and b is not."""
    first, second = np.asarray(a, np.float64)[valid], np.asarray(b, np.float64)[valid]
    norm, change = float(np.linalg.norm(first)), float(np.linalg.norm(second - first))
    if norm == 0.0:
        return 0.0 if change == 0.0 else float("inf")
    return change / norm
