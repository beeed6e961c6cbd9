"""Guided Integrated Gradients and XRAI against transcriptions of the papers' algorithms and closed forms."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, classifier, image
from tests.explain.test_integrated_gradients import Pixels, base_of
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import xrai
from xai_engine.runtime.run import Run


def reference_path(
    gradient_at, x: np.ndarray, base: np.ndarray, steps: int, fraction: float, deviation: float
):  # type: ignore[no-untyped-def]
    """The positions after each step, written after algorithm 1 of Kapishnikov et al. 2021 with a loop over the pixels."""
    at = base.copy()
    whole = np.abs(x - base).sum()
    path = [at.copy()]
    for step in range(1, steps + 1):
        gradient = gradient_at(at).copy()
        alpha = step / steps
        low = base + (x - base) * max(alpha - deviation, 0)
        high = base + (x - base) * min(alpha + deviation, 1)
        target = whole * (1 - alpha)
        gamma = np.inf
        while gamma > 1:
            for i in range(len(x)):
                part = (at[i] - base[i]) / (x[i] - base[i])
                if part < max(alpha - deviation, 0):
                    at[i] = low[i]
            current = np.abs(at - x).sum()
            if np.isclose(target, current, rtol=1e-9, atol=1e-9):
                break
            gradient[np.isclose(at, high, rtol=0, atol=1e-12)] = np.inf
            threshold = np.quantile(np.abs(gradient), fraction, method="lower")
            chosen = (np.abs(gradient) <= threshold) & (gradient != np.inf)
            distance = (np.abs(at - high) * chosen).sum()
            gamma = (current - target) / distance if distance > 0 else np.inf
            at = np.where(chosen, high if gamma > 1 else at + gamma * (high - at), at)
        path.append(at.copy())
    return path


def test_guided_path_is_the_papers() -> None:
    """On a network whose gradient is known in closed form; the path's integral is then done by the trapezoid rule."""
    item = image(padding=0)
    weight = np.random.default_rng(1).standard_normal((1, SIDE, SIDE)).astype(np.float32)
    model = ModuleClassifier(Pixels(torch.from_numpy(weight)), (1, SIDE, SIDE))
    found = registry.create(
        "guided-ig", baseline="black", steps=20, max_steps=20, fraction=0.3, deviation=0.05
    ).explain(model, item, "pneumonia", Run())
    x, w = item.array.astype(np.float64).ravel(), weight.astype(np.float64).ravel()
    base = np.full_like(x, x.min())
    moving = x != base
    path = reference_path(lambda at: 2 * w[moving] * at, x[moving], base[moving], 20, 0.3, 0.05)
    expected = np.zeros_like(x)
    for before, after in pairwise(path):
        expected[moving] += (after - before) * w[moving] * (before + after)
    assert np.allclose(path[-1], x[moving])
    assert np.allclose(found.values.ravel(), expected, atol=1e-4 * np.abs(expected).max())
    # of an additive network every path gives the same: w (x² - b²), exactly, as the trapezoid rule is exact for squares
    assert np.allclose(found.values.ravel(), w * (x**2 - base**2), atol=1e-4 * np.abs(expected).max())


class Product(nn.Module):
    """The product of the means of the left and the right half: which half moves first decides who gets the credit."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[3] // 2
        return (x[..., :half].mean((1, 2, 3)) * (1 + 4 * x[..., half:].mean((1, 2, 3))))[:, None]


def test_insensitive_pixels_move_first() -> None:
    """f = l (1 + 4 r) from (0, 0) to (1, 1), free path. Per pixel df/dl = 1 + 4 r is above df/dr = 4 l while l is small, so
    the right half moves first and gets nothing; the straight path would give it 2.
    """
    plane = np.ones((1, 8, 8), np.float32)
    plane[0, 0, 0] = 0.0  # the black baseline is zero
    model = ModuleClassifier(Product(), (1, 8, 8))
    params = {"baseline": "black", "steps": 40, "max_steps": 40}
    free = registry.create("guided-ig", deviation=1.0, fraction=0.5, **params)
    found = free.explain(model, input_of(plane), "pneumonia", Run())
    straight = registry.create("integrated-gradients", **params).explain(
        model, input_of(plane), "pneumonia", Run()
    )
    assert float(straight.values[:, 4:].sum()) == pytest.approx(2.0, abs=0.1)
    assert abs(float(found.values[:, 4:].sum())) < 0.1
    assert found.values.sum() == pytest.approx(straight.values.sum(), abs=1e-3)


def test_without_deviation_it_is_integrated_gradients() -> None:
    model, item = classifier("densenet"), image()
    params = {"baseline": "black", "steps": 16, "max_steps": 16}
    one = registry.create("guided-ig", deviation=0.0, **params).explain(model, item, "pneumonia", Run())
    other = registry.create("integrated-gradients", **params).explain(model, item, "pneumonia", Run())
    assert np.allclose(one.values, other.values, atol=1e-5 * np.abs(other.values).max())


@pytest.mark.parametrize("kind", ["resnet-in-place", "lite", "vit"])
def test_guided_path_adds_up_or_says_so(kind: str) -> None:
    item = image(3 if kind == "vit" else 1)
    model = classifier(kind)
    found = registry.create("guided-ig").explain(model, item, "pneumonia", Run())
    error = abs(float(found.values.sum(dtype=np.float64)) - found.extra["change"]) / max(
        abs(found.extra["change"]), 0.05
    )
    assert found.completeness_error == pytest.approx(error, abs=1e-3)
    assert found.converged or "Not converged" in found.notes[0]


# ---- XRAI ----------------------------------------------------------------------------------------------------------


def greedy(attribution: np.ndarray, masks: list[np.ndarray], least_new: int) -> np.ndarray:
    """The paper's algorithm 1 with sets of pixels."""
    taken: set[int] = set()
    left = [set(np.flatnonzero(m).tolist()) for m in masks]
    order = np.full(attribution.size, -1)
    turn = 0
    while True:
        gains = [
            np.mean([attribution.flat[p] for p in m - taken]) if len(m - taken) >= least_new else -np.inf
            for m in left
        ]
        if max(gains) == -np.inf:
            break
        fresh = left[int(np.argmax(gains))] - taken
        order[list(fresh)] = turn
        taken |= fresh
        turn += 1
    order[order < 0] = turn
    return order.reshape(attribution.shape)


def test_regions_are_taken_in_the_papers_order() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        attribution = rng.standard_normal((12, 14))
        masks = [rng.random((12, 14)) < p for p in rng.uniform(0.02, 0.5, 25)]
        assert np.array_equal(xrai.rank(attribution, np.stack(masks), 3), greedy(attribution, masks, 3))


def test_regions_cover_the_valid_area_at_several_scales() -> None:
    item = image(padding=6, side=64)
    masks = xrai.regions(item.array[0].astype(np.float64), item.valid, 12, 2)
    assert np.array_equal(masks.any(0), item.valid)
    assert len(np.unique(masks.reshape(len(masks), -1), axis=0)) == len(masks)
    again = xrai.regions(item.array[0].astype(np.float64), item.valid, 12, 2)
    assert np.array_equal(masks, again)


class Disc(nn.Module):
    """The mean brightness within a mask."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        self.mask = nn.Parameter(torch.from_numpy(mask.astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x * self.mask).sum((1, 2, 3)) / self.mask.sum())[:, None]


def test_xrai_finds_a_planted_region_and_keeps_the_sum() -> None:
    rows, columns = np.mgrid[:64, :64]
    disc = (rows - 24) ** 2 + (columns - 40) ** 2 < 9**2
    rng = np.random.default_rng(2)
    plane = (disc + 0.3 * (columns > 20) + 0.02 * rng.standard_normal((64, 64))).astype(np.float32)
    model = ModuleClassifier(Disc(disc), (1, 64, 64))
    item = input_of(plane[None])
    found = registry.create("xrai", margin=0, smallest=1.0).explain(model, item, "pneumonia", Run())
    assert found.segments is not None
    top = found.values > found.values.max() / 2  # noise may cut the disc in parts
    overlap = (top & disc).sum() / (top | disc).sum()
    assert overlap > 0.9
    assert found.values[24, 40] > 0.9 * found.values.max()
    score = plane[disc].mean()
    change = ((score - plane.min()) + (score - plane.max())) / 2  # the mean of a black and a white baseline
    assert found.values.sum() == pytest.approx(change, rel=0.02)
    for label in range(int(found.extra["regions"])):
        assert len(np.unique(found.values[found.segments == label])) <= 1


def test_xrai_is_integrated_gradients_summed_over_its_regions() -> None:
    model, item = classifier("resnet-in-place"), image()
    found = registry.create("xrai", steps=16, max_steps=16).explain(model, item, "pneumonia", Run())
    planes = []
    for kind in ("black", "white"):
        base = (
            base_of("black", item)
            if kind == "black"
            else -base_of("black", input_of(-item.array, item.valid))
        )
        x = torch.from_numpy(item.array[None].copy())
        b = torch.from_numpy(np.where(item.valid, base, item.array).astype(np.float32)[None])
        total = torch.zeros_like(x)
        for k in range(17):
            leaf = (b + k / 16 * (x - b)).requires_grad_(True)
            (g,) = torch.autograd.grad(model.differentiable_scores(leaf, "pneumonia").sum(), [leaf])
            total += g * (x - b) / 16 * (0.5 if k in (0, 16) else 1.0)
        planes.append(total[0].sum(0).numpy())
    plane = np.mean(planes, 0)
    for label in np.unique(found.segments[item.valid]):  # type: ignore[index]
        inside = found.segments == label
        assert np.allclose(found.values[inside], plane[inside].mean(), atol=1e-5)
