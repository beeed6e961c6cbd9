"""What small harmless changes of an image do to the score: AUC and mean |change of probability|."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from xai_engine.classifier.predict import Classifier
from xai_engine.errors import UnreadableImage
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.run import Run
from xai_engine.train import evaluate, metrics
from xai_engine.train.sample import Sample

Grey = npt.NDArray[np.float32]


def noise(grey: Grey, strength: float) -> Grey:
    """Gaussian noise, standard deviation `strength` of the range; seeded, so every model meets the same noise."""
    deviation = np.random.default_rng(0).standard_normal(grey.shape, np.float32) * np.float32(strength)
    return np.asarray(grey + deviation, np.float32)


def blur(grey: Grey, strength: float) -> Grey:
    """Gaussian blur, standard deviation `strength` of the longer side."""
    return np.asarray(cv2.GaussianBlur(grey, (0, 0), strength * max(grey.shape)), np.float32)


def gamma(grey: Grey, strength: float) -> Grey:
    """Contrast curve grey ** strength."""
    return np.asarray(grey**strength, np.float32)


def jpeg(grey: Grey, strength: float) -> Grey:
    """8-bit JPEG of quality `strength`."""
    done, code = cv2.imencode(
        ".jpg", np.round(grey * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(strength)]
    )
    if not done:
        raise ValueError("the image could not be compressed")
    return np.asarray(cv2.imdecode(code, cv2.IMREAD_GRAYSCALE), np.float32) / np.float32(255)


def rotate(grey: Grey, strength: float) -> Grey:
    """Rotation about the centre by `strength` degrees, counter-clockwise; the border is repeated."""
    rows, columns = grey.shape
    matrix = cv2.getRotationMatrix2D(((columns - 1) / 2, (rows - 1) / 2), strength, 1.0)
    return np.asarray(
        cv2.warpAffine(grey, matrix, (columns, rows), borderMode=cv2.BORDER_REPLICATE), np.float32
    )


CHANGES: dict[str, tuple[Callable[[Grey, float], Grey], tuple[float, ...], str]] = {
    "noise": (noise, (0.01, 0.03, 0.06), "of the range"),
    "blur": (blur, (0.002, 0.005, 0.01), "of the longer side"),
    "contrast": (gamma, (0.7, 1.4), "gamma"),
    "compression": (jpeg, (75, 40, 15), "JPEG quality"),
    "rotation": (rotate, (-5, 5, 10), "degrees"),
}


def changed(radiograph: Radiograph, change: Callable[[Grey, float], Grey], strength: float) -> Radiograph:
    """The radiograph with its pixels changed: scaled to [0, 1] over its own range, changed, clipped, scaled back."""
    pixels = radiograph.pixels.astype(np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    if high <= low:
        return radiograph
    grey = np.clip(change((pixels - low) / (high - low), strength), 0, 1) * (high - low) + low
    kind = radiograph.pixels.dtype
    values = np.round(grey).astype(kind) if np.issubdtype(kind, np.integer) else grey.astype(kind)
    values.flags.writeable = False
    # the classifier remembers prepared images by this hash: a changed image must not pass for the original
    return replace(radiograph, pixels=values, sha256=hashlib.sha256(values.tobytes()).hexdigest())


def _scores(classifier: Classifier, radiographs: Sequence[Radiograph]) -> list[tuple[float, float, bool]]:
    """Logit, probability, refused: one pass each, as the prediction without its uncertainty."""
    prepared = classifier.prepared(radiographs)
    batch = torch.from_numpy(np.stack([p.input.array for p in prepared]))
    logits = classifier.scores(batch, classifier.info.classes[-1], "fp32").cpu().numpy()
    probabilities = classifier.calibration(logits)
    return [
        (float(z), float(p), bool(item.refusal))
        for z, p, item in zip(logits, probabilities, prepared, strict=True)
    ]


def measure(
    classifier: Classifier, samples: Sequence[Sample], run: Run, limit: int = 80
) -> dict[str, list[dict[str, Any]]]:
    """Rows per population: change, strength, AUC with interval, mean |Δp|, how many the gate refused; the first row is the unchanged image.

    At most `limit` surely labelled images per population, drawn with a fixed seed. Raises Cancelled.
    """
    table: dict[str, list[dict[str, Any]]] = {}
    settings = [("none", None, 0.0, "")] + [(n, f, s, u) for n, (f, many, u) in CHANGES.items() for s in many]
    populations = sorted({s.population for s in samples if s.sure})
    for index, population in enumerate(populations):
        part = run.part(index / len(populations), (index + 1) / len(populations))
        members = [s for s in samples if s.population == population and s.sure]
        order = np.random.default_rng(0).permutation(len(members))[:limit]
        labels: list[float] = []
        found: list[list[tuple[float, float, bool]]] = [[] for _ in settings]
        for done, k in enumerate(order):
            part.check(done / len(order), f"robustness, {population} {done}/{len(order)}")
            try:
                radiograph = evaluate.read_sample(members[k])
            except UnreadableImage:
                continue
            labels.append(float(members[k].label >= 0.5))
            images = [changed(radiograph, f, s) if f else radiograph for _, f, s, _ in settings]
            for row, outcome in zip(found, _scores(classifier, images), strict=True):
                row.append(outcome)
        base = np.array([p for _, p, _ in found[0]])
        table[population] = [
            {
                "change": name,
                "strength": strength,
                "unit": unit,
                "images": len(labels),
                "auc": [
                    v if np.isfinite(v) else None
                    for v in metrics.auc(labels, [z for z, _, _ in row]).as_tuple()
                ],
                "mean_abs_change": float(np.abs(np.array([p for _, p, _ in row]) - base).mean())
                if labels
                else None,
                "refused": sum(refused for _, _, refused in row),
            }
            for (name, _, strength, unit), row in zip(settings, found, strict=True)
        ]
    return table
