"""Integrated Gradients and relatives against captum, closed forms and planted truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from tests.explain.networks import SIDE, classifier, image, network
from xai_engine.classifier.types import ModelInput
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run

CNNS = ("densenet", "resnet-in-place", "functional-relu", "vgg", "lite")


class Pixels(nn.Module):
    """A score from the pixels in closed form: sum of w x² (nonlinear, additive)."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * x**2).sum((1, 2, 3))[:, None]


def base_of(kind: str, item: ModelInput, sigma: float = 5.0) -> np.ndarray:
    """The baseline, computed anew with numpy and scipy."""
    array, valid = item.array, item.valid
    out = np.zeros_like(array)
    for c, plane in enumerate(array):
        if kind == "black":
            out[c] = plane[valid].min()
        elif kind == "mean":
            out[c] = plane[valid].mean()
        else:
            over = ndimage.gaussian_filter(plane * valid, sigma, mode="constant", truncate=4.0)
            out[c] = over / ndimage.gaussian_filter(
                valid.astype(np.float64), sigma, mode="constant", truncate=4.0
            )
    return np.where(valid, out, array)


@pytest.mark.parametrize("kind", ["black", "mean", "blurred"])
def test_baselines(kind: str) -> None:
    item = image(3)
    model = classifier("resnet-three-channels")
    with Session(model, item, "pneumonia", Run()) as session:
        ours = baseline(session, kind, 5.0)[0].numpy()
    assert np.allclose(ours, base_of(kind, item), atol=2e-6)
    assert np.array_equal(ours[:, ~item.valid], item.array[:, ~item.valid])


def test_black_is_black_and_not_the_networks_zero() -> None:
    """Inputs are standardised: zero is mean grey. An all-black image is the smallest value, far from zero."""
    item = image()
    with Session(classifier("lite"), item, "pneumonia", Run()) as session:
        black = baseline(session, "black", 1.0)[0, 0].numpy()
    assert np.all(black[item.valid] == item.array[0][item.valid].min())
    assert black[0, 0] < -1


@pytest.mark.parametrize("kind", CNNS)
def test_equals_captum_with_as_many_steps(kind: str) -> None:
    captum = pytest.importorskip("captum.attr")
    item = image(padding=0)
    net = network(kind)
    target = 1 if kind == "vgg" else 0
    for rule, theirs in (("trapezoid", "riemann_trapezoid"), ("gauss-legendre", "gausslegendre")):
        ours = registry.create("integrated-gradients", baseline="black", rule=rule, steps=16, max_steps=16)
        if target:  # a head of two logits is explained by their difference
            wrapped: nn.Module = _Difference(net)
        else:
            wrapped = net
        found = ours.explain(classifier(kind), item, "pneumonia", Run()).values
        x = torch.from_numpy(item.array[None].copy())
        base = torch.from_numpy(base_of("black", item)[None].astype(np.float32))
        steps = 17 if rule == "trapezoid" else 16  # captum counts nodes
        expected = captum.IntegratedGradients(wrapped).attribute(
            x, base, target=0, n_steps=steps, method=theirs
        )
        expected = expected[0].sum(0).detach().numpy()
        if rule == "trapezoid":  # captum divides by the nodes, not the steps: its weights add up to 16/17
            expected = expected * 17 / 16
        assert np.allclose(found, expected, atol=2e-6 + 1e-5 * np.abs(expected).max()), rule


class _Difference(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.net(x)
        return z[:, 1:2] - z[:, 0:1]


@pytest.mark.parametrize("kind", CNNS)
@pytest.mark.parametrize("base", ["black", "mean", "blurred"])
def test_adds_up_or_says_that_it_does_not(kind: str, base: str) -> None:
    item = image()
    model = classifier(kind)
    found = registry.create("integrated-gradients", baseline=base, blur=5.0).explain(
        model, item, "pneumonia", Run()
    )
    ends = np.stack([item.array, base_of(base, item)]).astype(np.float32)
    scores = model.scores(torch.from_numpy(ends), "pneumonia", "fp32").numpy()
    change = float(scores[0]) - float(scores[1])
    error = abs(float(found.values.sum(dtype=np.float64)) - change) / max(abs(change), 0.05)
    assert found.completeness_error == pytest.approx(error, abs=1e-3)
    assert found.converged == (found.completeness_error is not None and found.completeness_error <= 0.01)
    assert found.converged or "Not converged" in found.notes[0]


def test_says_when_it_cannot_converge() -> None:
    class Step(nn.Module):
        """Almost a step: the gradient along the path misses the jump."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid((x.mean((1, 2, 3)) + 0.123) * 1e5)[:, None]

    item = input_of(np.ones((1, 8, 8), np.float32) * np.linspace(-1, 1, 8, dtype=np.float32))
    found = registry.create("integrated-gradients", baseline="black", max_steps=64).explain(
        ModuleClassifier(Step(), (1, 8, 8)), item, "pneumonia", Run()
    )
    assert not found.converged
    assert found.completeness_error is not None
    assert found.completeness_error > 0.5
    assert "Not converged" in found.notes[0]
    assert found.forwards == 65  # to 64 steps, and kept the earlier nodes


def test_closed_form() -> None:
    """For sum w x² the integral is w (x² - b²) per pixel, and the trapezoid rule is exact on its linear gradient."""
    rng = np.random.default_rng(2)
    weight = rng.normal(size=(1, 1, 12, 12)).astype(np.float32)
    array = rng.normal(size=(1, 12, 12)).astype(np.float32)
    model = ModuleClassifier(Pixels(torch.from_numpy(weight)), (1, 12, 12))
    found = registry.create("integrated-gradients", baseline="black", steps=2).explain(
        model, input_of(array), "pneumonia", Run()
    )
    assert np.allclose(found.values, weight[0, 0] * (array[0] ** 2 - array.min() ** 2), atol=1e-5)
    assert found.forwards == 3
    opposite = registry.create("integrated-gradients", baseline="black", steps=2).explain(
        model, input_of(array), "normal", Run()
    )
    assert np.allclose(opposite.values, -found.values, atol=1e-6)


class Bends(nn.Module):
    """Sum of w relu(x - t): each pixel bends once, all of them late on the way from black."""

    def __init__(self, weight: torch.Tensor, threshold: torch.Tensor) -> None:
        super().__init__()
        self.weight, self.threshold = nn.Parameter(weight), nn.Parameter(threshold)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.weight * torch.relu(x - self.threshold)).sum((1, 2, 3))[:, None]


def test_steps_are_added_where_the_sum_is_off_and_nothing_is_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    from xai_engine.explain.compute import path

    monkeypatch.setattr(path, "TOLERANCE", 2e-4)
    rng = np.random.default_rng(8)
    weight = rng.uniform(0.5, 1.5, size=(1, 1, 12, 12)).astype(np.float32)
    array = rng.uniform(1.0, 2.0, size=(1, 12, 12)).astype(np.float32)
    low = float(array.min())
    place = rng.uniform(0.70, 0.74, size=array.shape)  # of the way from black
    threshold = (low + place * (array - low)).astype(np.float32)
    model = ModuleClassifier(Bends(torch.from_numpy(weight), torch.from_numpy(threshold[None])), (1, 12, 12))
    truth = weight[0, 0] * (array[0] - threshold[0])
    make = lambda **how: registry.create("integrated-gradients", baseline="black", **how).explain(  # noqa: E731
        model, input_of(array), "pneumonia", Run()
    )
    found = make(steps=16, max_steps=256)
    steps = found.forwards - 1
    even = make(steps=steps, max_steps=steps)
    assert found.converged
    assert 16 < steps < 100
    assert np.linalg.norm(found.values - truth) < np.linalg.norm(even.values - truth)
    # the error that is told is that of the map, not zero by construction
    error = abs(float(found.values.sum(dtype=np.float64)) - truth.sum(dtype=np.float64)) / truth.sum()
    assert found.completeness_error == pytest.approx(error, abs=1e-5)
    assert found.completeness_error > 1e-6
    again = make(steps=16, max_steps=256)
    assert np.array_equal(again.values, found.values)


def test_refining_ends_where_the_maps_would_take_too_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    from xai_engine.explain.compute import path

    monkeypatch.setattr(path, "KEPT", 4 * SIDE * SIDE * 13)
    found = registry.create("integrated-gradients", steps=4, max_steps=512).explain(
        classifier("lite"), image(), "pneumonia", Run()
    )
    assert found.forwards <= 13


def test_expected_gradients_closed_form() -> None:
    """For sum w x² the expectation over baselines is w (x² - E b²); the map must come close and add up."""
    rng = np.random.default_rng(2)
    weight = np.abs(rng.normal(size=(1, 1, 12, 12))).astype(np.float32)
    array = 3 * rng.normal(size=(1, 12, 12)).astype(np.float32)
    model = ModuleClassifier(Pixels(torch.from_numpy(weight)), (1, 12, 12))
    found = registry.create("gradient-shap", samples=1500, noise=0.01).explain(
        model, input_of(array), "pneumonia", Run(seed=1)
    )
    assert found.converged
    w = weight[0, 0].ravel()
    design = np.stack([w * array[0].ravel() ** 2, w], 1)  # the first known, the second times -E b²
    solution, *_ = np.linalg.lstsq(design, found.values.ravel(), rcond=None)
    assert solution[0] == pytest.approx(1.0, abs=0.05)
    residual = found.values.ravel() - design @ solution
    assert residual.var() < 0.02 * found.values.var()
    small = registry.create("gradient-shap", samples=60, noise=0.01)
    first, second = (small.explain(model, input_of(array), "pneumonia", Run(seed=s)).values for s in (1, 2))
    assert not np.array_equal(first, second)


def test_blur_path_adds_up_and_ends_at_the_image() -> None:
    item = image()
    model = classifier("vgg")
    found = registry.create("blur-ig", blur=6.0).explain(model, item, "pneumonia", Run())
    ends = np.stack([item.array, base_of("blurred", item, 6.0)]).astype(np.float32)
    scores = model.scores(torch.from_numpy(ends), "pneumonia", "fp32").numpy()
    assert found.converged
    assert float(found.values.sum()) == pytest.approx(float(scores[0] - scores[1]), rel=0.015)


def test_cancelled_map_is_the_integral_so_far() -> None:
    """Stopped while refining, the last complete refinement is handed over."""
    item = image()
    method = registry.create("integrated-gradients", steps=2, max_steps=512)
    model = classifier("vgg")
    seen: list[str] = []

    class Stop:
        def is_set(self) -> bool:
            return any("refining" in m for m in seen)

    run = Run(cancel=Stop(), report=lambda p: seen.append(p.message), min_interval_s=0.0)
    cut = method.explain(model, item, "pneumonia", run)
    plain = registry.create("integrated-gradients", steps=2, max_steps=2).explain(
        model, item, "pneumonia", Run()
    )
    assert cut.partial
    assert np.array_equal(cut.values, plain.values)


def test_memory_does_not_grow_with_the_steps() -> None:
    """captum#538: the batch of a pass is bounded, whatever the number of steps."""
    largest = []

    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            largest.append(len(x))
            return torch.sin(3 * x).mean((1, 2, 3))[:, None]

    item = image(side=SIDE)
    method = registry.create("integrated-gradients", steps=512, max_steps=512)
    method.explain(ModuleClassifier(Watch(), (1, SIDE, SIDE)), item, "pneumonia", Run())
    assert max(largest) <= 8
