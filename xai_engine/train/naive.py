"""What models that know nothing of chests reach: the floor of every table.

Each is trained on the train split of its population: logistic regression on 16 x 16 thumbnails, and single numbers
(height of the image at the detector, its proportions, its mean grey) with the sign that separates the training images.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.train import metrics
from xai_engine.train.evaluate import THUMB, Outcome
from xai_engine.train.images import map_images, read_grey
from xai_engine.train.sample import Sample

Floats = npt.NDArray[np.float64]
FEWEST = 5  # training images of a class, or a floor would be chance
FLOORS = {
    "thumbnail": "16 × 16 thumbnails",
    "height": "image height alone",
    "aspect": "proportions alone",
    "intensity": "mean grey alone",
}


def scores(samples: Sequence[Sample], outcomes: Sequence[Outcome]) -> dict[str, dict[str, Floats]]:
    """Population -> floor -> score of each sure outcome, in order; no entry where there are too few training images (a
    foreign manifest has none) or where the manifest does not tell the number."""
    found: dict[str, dict[str, Floats]] = {}
    for population in sorted({s.population for s in samples}):
        train = [
            s
            for s in samples
            if s.population == population and s.split == "train" and not 0.05 < s.label < 0.95
        ]
        sure = [o for o in outcomes if o.sample.population == population and o.sample.sure]
        labels = np.array([float(s.label >= 0.5) for s in train])
        if min((labels == 0).sum(), (labels == 1).sum()) < FEWEST or not sure:
            continue
        x = np.stack(map_images(thumbnail, train, train[0].path.parent))
        thumbs = np.stack([o.thumbnail for o in sure])
        entry = {"thumbnail": logistic((x, labels), thumbs)}
        numbers = {
            "height": ([s.height for s in train], [o.sample.height for o in sure]),
            "aspect": ([s.aspect for s in train], [o.sample.aspect for o in sure]),
            "intensity": (x.mean(1), thumbs.mean(1)),
        }
        for name, (known, new) in numbers.items():
            known, new = np.asarray(known, np.float64), np.asarray(new, np.float64)
            if len(np.unique(known)) > 1 and len(np.unique(new)) > 1:
                entry[name] = new if metrics.auc(labels, known).value >= 0.5 else -new
        found[population] = entry
    return found


def thumbnail(sample: Sample) -> npt.NDArray[np.float32]:
    """(256,) grey values of the whole image."""
    grey, _, _ = read_grey(sample)
    return cv2.resize(grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA).ravel().astype(np.float32)


def logistic(
    train: tuple[npt.NDArray[np.float32], Floats], test: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Scores of a ridge-penalised logistic regression on standardised features, by Newton's method."""
    x, y = train
    mean, deviation = x.mean(0), x.std(0) + 1e-6
    a = np.hstack([(x - mean) / deviation, np.ones((len(x), 1))]).astype(np.float64)
    b = np.hstack([(test - mean) / deviation, np.ones((len(test), 1))]).astype(np.float64)
    beta = np.zeros(a.shape[1])
    penalty = np.diag(np.append(np.full(a.shape[1] - 1, 10.0), 1e-6))
    for _ in range(30):
        p = 0.5 * (1 + np.tanh(0.5 * a @ beta))
        gradient = a.T @ (p - y) + penalty @ beta
        hessian = (a * (p * (1 - p))[:, None]).T @ a + penalty
        step = np.linalg.solve(hessian, gradient)
        beta -= step
        if float(np.abs(step).max()) < 1e-8:
            break
    return np.asarray(b @ beta)
