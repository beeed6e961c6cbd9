"""Superpixels of a network input, and images in which some are hidden."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage import segmentation

from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.methods.perturbation import _Superpixels
from xai_engine.explain.session import Session

Labels = npt.NDArray[np.int32]


def segment(
    grey: npt.NDArray[np.floating],
    valid: npt.NDArray[np.bool_],
    kind: str,
    count: int,
    compactness: float,
    seed: int,
) -> Labels:
    """int32 (rows, columns): 0 … n - 1 with n <= count on the valid area, -1 elsewhere. Deterministic.

    grey: (rows, columns), any scale. The lime package's default (quickshift on RGB) is `quickshift` here,
    on the grey repeated.
    """
    if not valid.any():
        return np.full(grey.shape, -1, np.int32)
    low, high = float(grey[valid].min()), float(grey[valid].max())
    image = np.where(valid, (grey - low) / max(high - low, 1e-12), 0.0)
    if kind in ("slic", "watershed"):
        raw = np.zeros(grey.shape, np.int64)
        for more in (1.0, 1.3, 1.7, 2.5, 4.0):  # both may give far fewer than they are asked for
            raw = _seeded(image, valid, kind, round(more * count), compactness)
            if len(np.unique(raw[valid])) >= max(2, 0.85 * count):
                break
    elif kind == "felzenszwalb":
        smallest = max(2, int(valid.sum() / count / 4))
        raw = segmentation.felzenszwalb(image, scale=100, sigma=0.8, min_size=smallest)
    elif kind == "quickshift":
        colour = np.repeat(image[..., None], 3, axis=2)
        raw = np.zeros(grey.shape, np.int64)
        for width, reach in ((4, 200), (4, 10), (3, 6), (2, 4)):  # the first is the lime package's
            raw = segmentation.quickshift(colour, ratio=0.2, kernel_size=width, max_dist=reach, rng=seed)
            if len(np.unique(raw[valid])) >= max(2, count // 3):
                break
    else:
        raise ValueError(f"no segmentation {kind!r}")
    return _merge(_connected(np.where(valid, raw, -1), valid), image, count)


def _seeded(
    image: npt.NDArray[np.float64], valid: npt.NDArray[np.bool_], kind: str, count: int, compactness: float
) -> npt.NDArray[np.int_]:
    """The segmentations that grow from `count` seeds."""
    if kind == "slic":
        mask = None if valid.all() else valid.copy()  # its compiled part refuses read-only arrays
        raw = segmentation.slic(image, count, compactness, channel_axis=None, mask=mask, start_label=0)
    else:
        gradient = ndimage.gaussian_gradient_magnitude(image, 1.0)
        raw = segmentation.watershed(gradient, markers=count, mask=valid, compactness=compactness * 0.01)
    return np.asarray(raw, np.int64)


def _connected(raw: npt.NDArray[np.int_], valid: npt.NDArray[np.bool_]) -> Labels:
    """Number the connected pieces (4-neighbourhood) of every label 0 … n - 1."""
    out = np.full(raw.shape, -1, np.int32)
    found = 0
    for index, box in enumerate(ndimage.find_objects(raw + 1), start=0):
        if box is None:
            continue
        pieces, count = ndimage.label(raw[box] == index)
        inside = pieces > 0
        out[box][inside] = pieces[inside] - 1 + found
        found += count
    out[~valid] = -1
    return out


def _merge(labels: Labels, image: npt.NDArray[np.float64], count: int) -> Labels:
    """Merge the smallest superpixel into its neighbour of the most similar grey until there are at most `count`."""
    n = int(labels.max()) + 1
    flat = labels.ravel()
    inside = flat >= 0
    sizes = np.bincount(flat[inside], minlength=n).astype(np.float64)
    sums = np.bincount(flat[inside], weights=image.ravel()[inside], minlength=n)
    if n > count:
        near: list[set[int]] = [set() for _ in range(n)]
        for a, b in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
            touching = (a != b) & (a >= 0) & (b >= 0)
            for i, j in np.unique(np.stack([a[touching], b[touching]], 1), axis=0).tolist():
                near[i].add(j)
                near[j].add(i)
        into = np.arange(n)
        left = n
        while left > count:
            smallest = int(np.argmin(sizes))
            # an island in the padding has no neighbour: it joins the largest
            options = sorted(near[smallest]) or [int(np.argmax(np.where(np.isinf(sizes), -1, sizes)))]
            mean = sums[smallest] / sizes[smallest]
            best = min(options, key=lambda k: abs(sums[k] / sizes[k] - mean))
            if best == smallest:
                break
            into[into == smallest] = best
            sums[best] += sums[smallest]
            sizes[best] += sizes[smallest]
            for k in near[smallest]:
                near[k].discard(smallest)
                if k != best:
                    near[k].add(best)
                    near[best].add(k)
            near[smallest] = set()
            sizes[smallest] = np.inf
            left -= 1
        flat = np.where(inside, into[np.maximum(flat, 0)], -1)
    used = np.unique(flat[inside])
    lookup = np.full(n + 1, -1, np.int32)
    lookup[used] = np.arange(len(used), dtype=np.int32)
    return lookup[flat].reshape(labels.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Hider:
    """Makes images with some superpixels replaced. labels: (rows, columns); count: of superpixels."""

    x: torch.Tensor
    behind: torch.Tensor
    labels: Labels
    count: int

    def images(self, shown: npt.NDArray[np.bool_]) -> torch.Tensor:
        """shown: (n, count) bool -> (n, channels, rows, columns). Padding stays as it is."""
        # the last is the padding's, -1
        padded = np.concatenate([shown, np.ones((len(shown), 1), bool)], axis=1)
        mask = torch.from_numpy(padded.take(self.labels, axis=1)).to(self.x.device)
        return torch.where(mask[:, None], self.x, self.behind)

    def map(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """One value per superpixel, painted; 0 in the padding."""
        return np.append(values, 0.0)[self.labels]


def hider(method: _Superpixels, session: Session) -> Hider:
    grey = session.input.array.mean(0)
    seed = int(session.run.rng(30).integers(2**31))
    about = (method.segmentation, method.segments, method.compactness, seed)
    labels = session.awaited(lambda: segment(grey, session.input.valid, *about))
    count = int(labels.max()) + 1
    if method.replacement == "superpixel":
        behind = session.x.clone()
        for channel in range(behind.shape[1]):
            plane = session.x[0, channel].double().cpu().numpy().ravel()
            chosen = labels.ravel() >= 0
            sums = np.bincount(labels.ravel()[chosen], weights=plane[chosen], minlength=count)
            means = sums / np.maximum(np.bincount(labels.ravel()[chosen], minlength=count), 1)
            painted = np.where(labels < 0, plane.reshape(labels.shape), np.append(means, 0.0)[labels])
            behind[0, channel] = torch.from_numpy(painted).to(behind)
    else:
        behind = baseline(session, method.replacement, method.blur)
    return Hider(session.x, behind, labels, count)
