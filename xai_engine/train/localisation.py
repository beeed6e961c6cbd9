"""Do maps point where experts drew boxes? Pointing game, pixel AUPRC, mIoU, against floors that know no model.

AUPRC ranks pixels by the map's signed value, nothing clipped or scaled: "mean" is taken within each image and averaged
over the images with boxes, "pooled" ranks the pixels of all images together in the map's own unit. What the model was
not shown (outside its crop or the chest field) ranks last: there it claims nothing.
Hit rate and IoU take the positive part, divided by its largest value in the image. An image whose map has no positive
part, or nothing above the threshold, is an empty prediction: it counts 0 in "all" and is left out of "non_empty" (CheXlocalize,
Saporta 2022, reports the second by default, which flatters).
Floors: random values; a Gaussian at the centre of the image; the lung fields found, blurred (a map that says "lung" and
no more).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.classifier.lungs import LungFields
from xai_engine.classifier.predict import Classifier
from xai_engine.errors import UnreadableImage, UnsupportedModel
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.runtime.run import Run
from xai_engine.train import evaluate, metrics
from xai_engine.train.sample import Sample

Map = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
METHODS: Mapping[str, Mapping[str, Any]] = {
    "cam": {},
    "grad-cam": {},
    "grad-cam-plus-plus": {},
    "layer-cam": {},
    "integrated-gradients": {"steps": 32, "max_steps": 32},
    "occlusion": {"window": 32, "stride": 16},
}
FLOORS = ("random", "centre-prior", "lung-prior")
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


def reduced(values: npt.NDArray[np.floating[Any]], shape: tuple[int, int]) -> Map:
    """A source map on the comparison grid, averages of areas."""
    return cv2.resize(np.asarray(values, np.float32), shape[::-1], interpolation=cv2.INTER_AREA)


def positive(values: npt.NDArray[np.floating[Any]]) -> Map:
    """Positive part, largest value 1 (or all 0)."""
    part = np.maximum(values, 0)
    top = float(part.max())
    return (part / top if top > 0 else part).astype(np.float32)


def seen(transform: GridTransform, valid: Mask, shape: tuple[int, int]) -> Mask:
    """Cells of the comparison grid that the model was shown."""
    return reduced(transform.map_to_source(valid.astype(np.float32), 0), shape) >= 0.5


def centre_prior(shape: tuple[int, int]) -> Map:
    """A Gaussian at the centre, standard deviation a quarter of each side."""
    y, x = ((np.arange(n) + 0.5) / n - 0.5 for n in shape)
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / (2 * 0.25**2)).astype(np.float32)


def lung_prior(lungs: LungFields | None, shape: tuple[int, int]) -> Map:
    """Probability of lung, blurred by a 32nd of the side; zero where no lungs were found."""
    if lungs is None:
        return np.zeros(shape, np.float32)
    field = reduced(lungs.transform.map_to_source(lungs.probability), shape)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), SIDE / 32), np.float32)


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
    parts = [(positive(v), m) for v, m in pairs]
    means = [np.mean([iou(v, m, float(t)) or 0.0 for v, m in parts]) for t in THRESHOLDS]
    return float(THRESHOLDS[int(np.argmax(means))])


def score(pairs: Sequence[tuple[Map, Mask]], threshold: float) -> dict[str, Any]:
    """Figures over images given as (signed map, boxes): hit rate and mIoU (both slices), AUPRC as mean and pooled."""
    if not pairs:
        return {"images": 0}
    parts = [(positive(v), m) for v, m in pairs]
    hits = [hit(v, m) for v, m in parts]
    filled = [h for h, (v, _) in zip(hits, parts, strict=True) if v.max() > 0]
    overlaps = [iou(v, m, threshold) for v, m in parts]
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

    Unreadable images are left out: `evaluate.run` has listed them. A method that this network cannot do is left out.
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
        pairs["lung-prior"][side].append((lung_prior(classifier.lungs(radiograph), mask.shape), mask))
        shown = seen(prepared.transform, prepared.valid, mask.shape)
        for index, (name, explain) in enumerate(list(made.items())):
            steps = len(made) * total
            part = run.part((number * len(made) + index) / steps, (number * len(made) + index + 1) / steps)
            try:
                explanation = explain(classifier, prepared, classifier.info.classes[-1], part)
            except UnsupportedModel:
                del made[name], pairs[name]
                continue
            run.check(number / total)  # a cancelled map is partial: do not count it
            values = reduced(explanation.in_source(), mask.shape)
            values[~shown] = min(float(values.min()), 0.0)
            pairs[name][side].append((values, mask))
    return {name: score(test, best_threshold(tune)) for name, (tune, test) in pairs.items()}
