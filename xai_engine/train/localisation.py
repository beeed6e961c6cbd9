"""Do maps point where experts drew boxes? Pointing game, pixel AUPRC, mIoU, against random and centre-prior floors.

Maps count by their positive part, divided by its largest value in the image. An image whose map has no positive
part, or nothing above the threshold, is an empty prediction: it counts 0 in "all" and is left out of "non_empty" (CheXlocalize,
Saporta 2022, reports the second by default, which flatters).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.classifier.predict import Classifier
from xai_engine.errors import UnreadableImage
from xai_engine.runtime.run import Run
from xai_engine.train import evaluate, metrics
from xai_engine.train.manifest import Sample

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
METHODS: Mapping[str, Mapping[str, Any]] = {
    "grad-cam": {},
    "layer-cam": {},
    "integrated-gradients": {},
    "occlusion": {},
}
FLOORS = ("random", "centre-prior")
SIDE = 128  # longest side of the grid in which maps and boxes meet
THRESHOLDS = np.linspace(0.05, 0.95, 19)


def grid_shape(rows: int, columns: int) -> tuple[int, int]:
    """Rows, columns of the comparison grid of an image."""
    scale = min(1.0, SIDE / max(rows, columns))
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def box_mask(boxes: Sequence[tuple[float, ...]], rows: int, columns: int) -> Mask:
    """Cells of the comparison grid whose centre lies in a box (x, y, width, height in stored pixels)."""
    r, c = grid_shape(rows, columns)
    y = (np.arange(r) + 0.5)[:, None] * rows / r
    x = (np.arange(c) + 0.5)[None, :] * columns / c
    mask = np.zeros((r, c), bool)
    for left, top, width, height in boxes:
        mask |= (x >= left) & (x < left + width) & (y >= top) & (y < top + height)
    return mask


def positive(values: npt.NDArray[np.floating[Any]], shape: tuple[int, int]) -> Map:
    """Positive part on the comparison grid, largest value 1 (or all 0)."""
    small = cv2.resize(
        np.maximum(np.nan_to_num(values), 0).astype(np.float32), shape[::-1], interpolation=cv2.INTER_AREA
    )
    top = float(small.max())
    return (small / top if top > 0 else np.zeros(shape)).astype(np.float32)


def centre_prior(shape: tuple[int, int]) -> Map:
    """A Gaussian at the centre, standard deviation a quarter of each side."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2)).astype(np.float32)


def hit(values: Map, mask: Mask) -> float:
    """Pointing game (Zhang 2016): is the maximum in a box. Tied maxima count by their share; an empty map is a miss."""
    top = values.max()
    return float(mask[values == top].mean()) if top > 0 else 0.0


def iou(values: Map, mask: Mask, threshold: float) -> float | None:
    """Intersection over union of "value >= threshold" and the boxes; None where nothing reaches the threshold."""
    called = values >= threshold
    return float((called & mask).sum() / (called | mask).sum()) if called.any() else None


def best_threshold(pairs: Sequence[tuple[Map, Mask]]) -> float:
    """The threshold with the largest mean IoU (empty predictions count 0) on validation images; 0.5 without any."""
    if not pairs:
        return 0.5
    means = [np.mean([iou(v, m, float(t)) or 0.0 for v, m in pairs]) for t in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(means))])


def score(pairs: Sequence[tuple[Map, Mask]], threshold: float) -> dict[str, Any]:
    """Figures over images: hit rate and mIoU (both slices), AUPRC as mean over images and of all pixels pooled."""
    if not pairs:
        return {"images": 0}
    hits = [hit(v, m) for v, m in pairs]
    filled = [h for h, (v, _) in zip(hits, pairs, strict=True) if v.max() > 0]
    overlaps = [iou(v, m, threshold) for v, m in pairs]
    kept = [o for o in overlaps if o is not None]
    return {
        "images": len(pairs),
        "empty": len(pairs) - len(kept),
        "hit_rate": float(np.mean(hits)),
        "hit_rate_non_empty": float(np.mean(filled)) if filled else None,
        "auprc_mean": float(np.mean([metrics.average_precision(m.ravel(), v.ravel()) for v, m in pairs])),
        "auprc_pooled": metrics.average_precision(
            np.concatenate([m.ravel() for _, m in pairs]), np.concatenate([v.ravel() for v, _ in pairs])
        ),
        "miou": float(np.mean([o or 0.0 for o in overlaps])),
        "miou_non_empty": float(np.mean(kept)) if kept else None,
        "threshold": threshold,
    }


def measure(
    classifier: Classifier,
    tuning: Sequence[Sample],
    testing: Sequence[Sample],
    run: Run,
    methods: Mapping[str, Mapping[str, Any]] = METHODS,
) -> dict[str, dict[str, Any]]:
    """Figures per method and floor on `testing` samples with boxes; thresholds from `tuning`. Raises Cancelled.

    Unreadable images are left out: `evaluate.run` has listed them.
    """
    from xai_engine.explain import registry

    made: dict[str, Callable[..., Any]] = {n: registry.create(n, **p).explain for n, p in methods.items()}
    tests = [s for s in testing if s.boxes]
    if not tests:
        return {}
    tunes = [s for s in tuning if s.boxes]
    pairs: dict[str, tuple[list[tuple[Map, Mask]], ...]] = {n: ([], []) for n in (*FLOORS, *made)}
    rng = np.random.default_rng(0)
    total = len(tunes) + len(tests)
    for number, sample in enumerate((*tunes, *tests)):
        run.check(number / total, f"localisation {number}/{total}")
        try:
            radiograph = evaluate.read_sample(sample)
        except UnreadableImage:
            continue
        side = int(number >= len(tunes))
        mask = box_mask(sample.boxes, radiograph.rows, radiograph.columns)
        if not mask.any():
            continue
        pairs["random"][side].append((rng.random(mask.shape, np.float32), mask))
        pairs["centre-prior"][side].append((centre_prior(mask.shape), mask))
        prepared = classifier.prepare(radiograph)
        for name, explain in made.items():
            part = run.part(number / total, (number + 1) / total)
            explanation = explain(classifier, prepared, classifier.info.classes[-1], part)
            run.check(
                number / total, f"localisation {number}/{total}"
            )  # a cancelled map is partial: do not count it
            pairs[name][side].append((positive(explanation.in_source(), mask.shape), mask))
    return {name: score(test, best_threshold(tune)) for name, (tune, test) in pairs.items()}
