"""The quicker ways to gradients at the image against autograd through the network as it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, classifier, image, network
from tests.explain.test_contract import StopAfter, left_as_found, unsettle
from xai_engine.classifier.backends import gradients
from xai_engine.classifier.backends.base import Unavailable
from xai_engine.explain import registry, session
from xai_engine.runtime.run import Run


def score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 0]


def by_autograd(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(leaf.clone())[:, 0].sum(), [leaf])
    return gradient


@pytest.mark.parametrize("kind", ["lite", "resnet-in-place", "functional-relu", "reused-relu", "vgg"])
def test_the_traced_backward_pass_is_the_gradient(kind: str) -> None:
    """Without autograd: bounded and plain rectifiers, in place and reused, strides, groups, residuals, max pooling."""
    net = network(kind).eval().requires_grad_(False)
    x = torch.randn(2, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    graph = gradients.traced(net, score, torch.zeros_like(x))
    with torch.inference_mode():
        _, found = graph(x.clone())
    truth = by_autograd(net, x)
    assert torch.allclose(found, truth, rtol=0, atol=1e-6 * float(truth.abs().max()))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("dilation", [1, 2])
def test_convolution_backward(stride: int, groups: int, dilation: int) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(2, 6, 13, 14, generator=draw, dtype=torch.float64).requires_grad_(True)
    weight = torch.randn(6 if groups == 6 else 4, 6 // groups, 3, 3, generator=draw, dtype=torch.float64)
    out = nn.functional.conv2d(x, weight, None, stride, 1, dilation, groups)
    above = torch.randn(out.shape, generator=draw, dtype=torch.float64)
    (truth,) = torch.autograd.grad(out, [x], above)
    found, _, _ = gradients.convolution_backward(
        above, x, weight, None, [stride] * 2, [1, 1], [dilation] * 2, False, [0, 0], groups, [True, False, False]
    )  # fmt: skip
    assert torch.allclose(found, truth, atol=1e-12)


def _missing(*_: object) -> None:
    raise Unavailable("not installed")


@pytest.mark.parametrize("compiled", [False, True])
def test_integrated_gradients_by_the_quick_way(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:
        pytest.importorskip("openvino")
    else:
        monkeypatch.setattr(gradients, "OpenVinoGradients", _missing)
    monkeypatch.setattr(gradients, "_SHIPPED", {})
    monkeypatch.setattr(gradients, "_seconds", lambda way, _: 0.0)  # no timing decides here
    model = classifier("resnet-in-place")
    plain = registry.create("integrated-gradients", steps=64, max_steps=64)
    truth = plain.explain(model, image(), "pneumonia", Run())
    monkeypatch.setattr(session, "QUICKEN_MINIMUM", 64)
    model.policy = replace(model.policy, backend="openvino")
    model.info = replace(model.info, sha256="0" * 64)
    unsettle(model.network)
    with left_as_found(model.network):
        found = plain.explain(model, image(), "pneumonia", Run())
    assert found.backend == ("openvino" if compiled else "torch")
    assert found.forwards == found.backwards == 65
    assert np.abs(found.values - truth.values).max() <= 1e-4 * np.abs(truth.values).max()
    again = plain.explain(model, image(), "pneumonia", Run())
    assert np.array_equal(found.values, again.values)
    with left_as_found(model.network):
        cut = plain.explain(model, image(), "pneumonia", Run(cancel=StopAfter(5)))
    assert cut.partial
    weights = model.network.state_dict()
    with torch.no_grad():
        next(iter(weights.values())).mul_(1.5)
    other = plain.explain(model, image(), "pneumonia", Run())
    assert other.backend == "torch"  # other weights than the bundle's
    assert not np.allclose(other.values, found.values)
