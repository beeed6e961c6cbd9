"""XRAI: regions of several sizes, ranked by the integrated gradients in them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from skimage import segmentation

from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.path import integrate
from xai_engine.explain.methods.paths import Xrai
from xai_engine.explain.session import Attribution, Session

SCALES = (50, 100, 150, 250, 500, 1200)  # of Felzenszwalb's segmentation, as in the paper
SIGMA = 0.8
LEAST_NEW = 1.0 / 3.0  # of the smallest region: what a region must add to be worth a place in the order

FloatArray = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]


def regions(grey: FloatArray, valid: npt.NDArray[np.bool_], smallest: int, margin: int) -> Masks:
    """(n, rows, columns): overlapping regions of all scales, widened by a disc of radius `margin`. Deterministic."""
    if not valid.any():
        return np.zeros((0, *valid.shape), bool)
    low, high = float(grey[valid].min()), float(grey[valid].max())
    image = np.where(valid, (grey - low) / max(high - low, 1e-12), 0.0)
    offsets = np.arange(-margin, margin + 1)
    disc = offsets[:, None] ** 2 + offsets[None, :] ** 2 <= margin**2
    found: dict[bytes, npt.NDArray[np.bool_]] = {}
    for scale in SCALES:
        labels = segmentation.felzenszwalb(image, scale=scale, sigma=SIGMA, min_size=smallest)
        for index in np.unique(labels[valid]):
            mask = (labels == index) & valid
            if margin:
                mask = ndimage.binary_dilation(mask, disc) & valid
            found.setdefault(np.packbits(mask).tobytes(), mask)
    return np.stack(list(found.values()))


def rank(attribution: FloatArray, masks: Masks, least_new: int) -> npt.NDArray[np.int32]:
    """(rows, columns): the turn at which a pixel is taken, from 0; what no region takes comes last, as one region.

    At each turn the region whose new pixels have the largest mean attribution is taken (algorithm 1 of the paper); regions
    with fewer than `least_new` new pixels are dropped.
    """
    flat = masks.reshape(len(masks), attribution.size)
    values = attribution.ravel()
    order = np.full(values.shape, -1, np.int32)
    sums, counts = flat @ values, flat.sum(1).astype(np.int64)
    turn = 0
    while True:
        able = counts >= max(least_new, 1)
        if not able.any():
            break
        best = int(np.argmax(np.where(able, sums / np.maximum(counts, 1), -np.inf)))
        fresh = flat[best] & (order < 0)
        order[fresh] = turn
        sums -= flat[:, fresh] @ values[fresh]
        counts -= flat[:, fresh].sum(1)
        turn += 1
    order[order < 0] = turn
    return order.reshape(attribution.shape)


def explain(method: Xrai, session: Session) -> Attribution:
    valid = session.input.valid
    total = np.zeros(valid.shape)
    errors, changes, steps, notes = [], [], 0.0, []
    done = 0
    for number, kind in enumerate(("black", "white")):
        base = baseline(session, kind, 1.0)
        difference = session.x - base

        def path(
            position: float, base: torch.Tensor = base, difference: torch.Tensor = difference
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return base + position * difference if position < 1.0 else session.x, difference

        with session.part(0.5 if number == 0 else 0.95):
            found = integrate(session, path, "trapezoid", method.steps, max(method.steps, method.max_steps))
        if session.partial and number and not found.extra["steps"]:
            break  # the first baseline's map alone is worth more than with scraps of the second
        total += found.values
        done += 1
        errors.append(found.completeness_error)
        changes.append(found.extra.get("change", 0.0))
        steps = max(steps, found.extra["steps"])
        notes += [f"{kind.capitalize()} baseline: {note}" for note in found.notes]
        if session.partial:
            break
    total = np.where(valid, total / max(done, 1), 0.0)
    if session.partial:
        return Attribution(total, extra={"baselines": float(done), "steps": steps})
    smallest = max(2, round(method.smallest / 100.0 * float(valid.sum())))
    grey = session.input.array.mean(0).astype(np.float64)
    with session.stoppable():
        session.plan(1, "cutting out regions")
        masks = session.awaited(lambda: regions(grey, valid, smallest, method.margin))
        order = session.awaited(lambda: rank(total, masks, round(smallest * LEAST_NEW)))
        return _painted(total, valid, order, changes, errors, steps, notes)
    return Attribution(total, extra={"baselines": float(done), "steps": steps})


def _painted(
    total: FloatArray,
    valid: npt.NDArray[np.bool_],
    order: npt.NDArray[np.int32],
    changes: list[float],
    errors: list[float | None],
    steps: float,
    notes: list[str],
) -> Attribution:
    """Every region filled with its mean, so that sums are kept."""
    chosen = order[valid]
    count = int(chosen.max(initial=-1)) + 1
    areas = np.bincount(chosen, minlength=count)
    means = np.bincount(chosen, weights=total[valid], minlength=count) / np.maximum(areas, 1)
    labels = np.where(valid, order, -1).astype(np.int32)
    values = np.append(means, 0.0)[labels]
    top = int(np.argmax(means)) if count else 0
    extra = {"regions": float(count), "steps": steps, "change": float(np.mean(changes))}
    if count:
        extra |= {
            "first_region_logit": float(means[top] * areas[top]),
            "first_region_share_of_area": float(areas[top] / areas.sum()),
        }
    known = [e for e in errors if e is not None]
    error = max(known) if known else None
    return Attribution(values, error, not notes, tuple(notes), labels, extra)
