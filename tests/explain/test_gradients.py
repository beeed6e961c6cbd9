"""Gradient methods against captum, finite differences and the defects known of other packages."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, FunctionalRelu, ReusedRelu, classifier, image, network
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.runtime.run import Run


def values(name: str, kind: str, item: object, seed: int = 0, **params: object) -> np.ndarray:
    return registry.create(name, **params).explain(classifier(kind), item, "pneumonia", Run(seed=seed)).values  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["resnet-in-place", "functional-relu", "reused-relu", "lite"])
def test_saliency_and_product_equal_captum(kind: str) -> None:
    captum = pytest.importorskip("captum.attr")
    item = image(padding=0)
    x = torch.from_numpy(item.array[None].copy())
    net = network(kind)
    gradient = (
        captum.Saliency(net).attribute(x.clone().requires_grad_(), target=0, abs=False)[0].sum(0).numpy()
    )
    product = (
        captum.InputXGradient(net).attribute(x.clone().requires_grad_(), target=0)[0].sum(0).detach().numpy()
    )
    assert np.allclose(values("saliency", kind, item, magnitude=False), gradient, atol=1e-6)
    assert np.allclose(values("saliency", kind, item), np.abs(gradient), atol=1e-6)
    assert np.allclose(values("input-x-gradient", kind, item), product, atol=1e-6)


def test_repeated_calls_do_not_add_up() -> None:
    """MONAI's VanillaGrad doubles when it is called again on one tensor."""
    model, item = classifier("lite"), image()
    method = registry.create("saliency")
    first = method.explain(model, item, "pneumonia", Run()).values
    for _ in range(3):
        again = method.explain(model, item, "pneumonia", Run()).values
    assert np.array_equal(first, again)


def test_smooth_grad_of_a_linear_model_is_its_weight() -> None:
    """Whatever the number of samples: MONAI's scale falls as one over its root."""
    weight = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))

    class Linear(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (weight * x).sum((1, 2, 3))[:, None]

    item = input_of(np.random.default_rng(0).normal(size=(1, 8, 8)).astype(np.float32))
    model = ModuleClassifier(Linear(), (1, 8, 8))
    for samples in (2, 9, 40):
        for average, expected in (("signed", weight), ("absolute", weight.abs()), ("squared", weight**2)):
            method = registry.create("smooth-grad", samples=samples, average=average)
            found = method.explain(model, item, "pneumonia", Run()).values
            assert np.allclose(found, expected[0, 0].numpy(), atol=1e-6)
        still = registry.create("var-grad", samples=samples).explain(model, item, "pneumonia", Run()).values
        assert np.abs(still).max() < 1e-12


def test_smooth_grad_and_var_grad_of_a_square_follow_the_noise() -> None:
    """For sum w x² the gradient is 2 w x: noise of deviation s gives mean 2 w x and variance 4 w² s²."""
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, (1, 1, 8, 8)).astype(np.float32)

    class Square(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (torch.from_numpy(weight) * x**2).sum((1, 2, 3))[:, None]

    array = rng.normal(size=(1, 8, 8)).astype(np.float32)
    model, item = ModuleClassifier(Square(), (1, 8, 8)), input_of(array)
    sigma = 0.1 * (array.max() - array.min())
    mean = registry.create("smooth-grad", samples=2000).explain(model, item, "pneumonia", Run(seed=3)).values
    variance = registry.create("var-grad", samples=2000).explain(model, item, "pneumonia", Run(seed=3)).values
    assert np.allclose(mean, 2 * weight[0, 0] * array[0], atol=5 * 2 * weight.max() * sigma / np.sqrt(2000))
    assert np.allclose(variance, 4 * weight[0, 0] ** 2 * sigma**2, rtol=0.25)


class _Modules(nn.Module):
    """The twin of FunctionalRelu with a module per rectifier, which captum can hook."""

    def __init__(self, twin: FunctionalRelu) -> None:
        super().__init__()
        self.first, self.second, self.head = twin.first, twin.second, twin.head
        self.a, self.b = nn.ReLU(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.b(self.second(self.a(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("kind", ["functional-relu", "reused-relu"])
def test_guided_backprop_sees_functions_and_reused_modules(kind: str) -> None:
    """captum is right on one module per rectifier; ours must give that for every way to write the same network.

    MONAI's guided backpropagation silently is the plain gradient unless the activation is named "relu".
    """
    captum = pytest.importorskip("captum.attr")
    item = image(padding=0)
    net = network(kind)
    assert isinstance(net, (FunctionalRelu, ReusedRelu))
    x = torch.from_numpy(item.array[None].copy()).requires_grad_()
    expected = captum.GuidedBackprop(_Modules(net)).attribute(x, target=0)[0, 0].detach().numpy()  # type: ignore[arg-type]
    found = values("guided-backprop", kind, item)
    plain = values("saliency", kind, item, magnitude=False)
    assert np.allclose(found, expected, atol=1e-6)
    assert not np.allclose(found, plain, atol=1e-3 * np.abs(plain).max())


def test_guided_backprop_of_relu6() -> None:
    """By hand for one unit: passes where 0 < z < 6 and the gradient is positive."""

    class Unit(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (nn.functional.relu6(2 * x) * torch.tensor([1.0, 1.0, 1.0, -1.0])).sum((1, 2, 3))[:, None]

    item = input_of(np.array([[[-1.0, 1.0, 4.0, 1.0]]], np.float32))
    found = registry.create("guided-backprop").explain(
        ModuleClassifier(Unit(), (1, 1, 4)), item, "pneumonia", Run()
    )
    assert found.values.tolist() == [[0.0, 2.0, 0.0, 0.0]]


def test_guided_backprop_refuses_a_network_without_rectifiers() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.Flatten(), nn.Linear((SIDE - 2) ** 2, 1))
    with pytest.raises(UnsupportedModel, match="no ReLU"):
        registry.create("guided-backprop").explain(
            ModuleClassifier(net, (1, SIDE, SIDE)), image(), "pneumonia", Run()
        )


def test_guided_grad_cam_equals_captum() -> None:
    captum = pytest.importorskip("captum.attr")
    item = image(padding=0)
    net = network("functional-relu")
    twin = _Modules(net)  # type: ignore[arg-type]
    x = torch.from_numpy(item.array[None].copy()).requires_grad_()
    theirs = captum.GuidedGradCam(twin, twin.second).attribute(x, target=0, interpolate_mode="bilinear")[0, 0]
    found = values("guided-grad-cam", "functional-relu", item, alignment="cells")
    expected = theirs.detach().numpy() * (SIDE // 4) ** 2  # ours sums the gradient over the cells
    assert np.abs(expected).max() > 0
    assert np.allclose(found, expected, atol=1e-5 * np.abs(expected).max())
