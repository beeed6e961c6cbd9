"""Floors: what a model that knows no chest reaches."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.optimize import minimize

from xai_engine.train import naive
from xai_engine.train.evaluate import Outcome
from xai_engine.train.sample import Sample


def sample(folder: Path, number: int, label: int, split: str, height: float = 0.0) -> Sample:
    """Brighter above where the label is 1, else below: each image's grey values are brought to one range when it is read."""
    path = folder / f"{number}.png"
    pixels = np.random.default_rng(number).integers(0, 60, (64, 48))
    pixels[32 * (1 - label) : 32 * (2 - label)] += 120
    cv2.imwrite(str(path), pixels.astype(np.uint8))
    return Sample(path, float(label), 1.0, True, f"p{number}", split, "all", 1.0, height=height)


def outcome(of: Sample) -> Outcome:
    return Outcome(of, 0.0, 0.5, 0.0, "", 0.0, 0.0, naive.thumbnail(of))


@pytest.mark.parametrize("each", [naive.FEWEST - 1, naive.FEWEST])
def test_a_few_training_images_of_each_class_give_floors(tmp_path: Path, each: int) -> None:
    train = [sample(tmp_path, k, k % 2, "train") for k in range(2 * each)]
    test = [sample(tmp_path, 100 + k, k % 2, "test") for k in range(8)]
    found = naive.scores([*train, *test], [outcome(t) for t in test])
    if each < naive.FEWEST:
        assert found == {}
        return
    assert set(found["all"]) == {"thumbnail", "intensity"}  # no heights are known, and all have one shape
    labels = np.array([t.label for t in test])
    scores = found["all"]["thumbnail"]
    assert scores[labels == 1].min() > scores[labels == 0].max()


def test_the_sign_is_that_of_the_training_images(tmp_path: Path) -> None:
    """Small images are the sick ones in training; in the test split it is the other way round."""
    count = 2 * naive.FEWEST
    train = [sample(tmp_path, k, k % 2, "train", height=2000.0 - 900.0 * (k % 2)) for k in range(count)]
    test = [sample(tmp_path, 100 + k, k % 2, "test", height=1000.0 + 900.0 * (k % 2)) for k in range(6)]
    heights = naive.scores([*train, *test], [outcome(t) for t in test])["all"]["height"]
    assert np.array_equal(heights, [-t.height for t in test])


def test_the_regression_is_at_its_least_loss() -> None:
    """Against a general minimiser."""
    rng = np.random.default_rng(3)
    x, new = rng.normal(size=(40, 5)).astype(np.float32), rng.normal(size=(7, 5)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 0.0, 0.0] + rng.normal(size=40) > 0).astype(float)
    a = (x - x.mean(0)) / (x.std(0) + 1e-6)
    b = (new - x.mean(0)) / (x.std(0) + 1e-6)

    def loss(beta: np.ndarray) -> float:
        z = a @ beta[:5] + beta[5]
        return float((np.logaddexp(0.0, z) - y * z).sum() + 5.0 * (beta[:5] ** 2).sum() + 5e-7 * beta[5] ** 2)

    best = minimize(loss, np.zeros(6), method="BFGS", options={"gtol": 1e-9}).x
    assert np.allclose(naive.logistic((x, y), new), b @ best[:5] + best[5], atol=1e-4)
