"""The quicker ways to gradients at the image against autograd through the network as it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import KINDS, SIDE, classifier, image, network
from tests.explain.test_contract import StopAfter, left_as_found, unsettle
from xai_engine.classifier.backends import gradients, streams
from xai_engine.classifier.backends.base import clean_copy
from xai_engine.explain import registry, session
from xai_engine.explain.compute import local
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


def program(net: nn.Module) -> streams.Program:
    return streams.Program(torch.fx.symbolic_trace(clean_copy(net)), score)


FOLLOWED = ["lite", "resnet-in-place", "functional-relu", "reused-relu", "vgg", "densenet", "efficientnet"]


@pytest.mark.parametrize("kind", FOLLOWED)
@pytest.mark.parametrize("folded", [False, True])
def test_the_streams_give_the_gradient(kind: str, folded: bool) -> None:
    """Rectifiers in place, bounded, functional and reused, dense and residual connections, grouped and strided
    convolutions, activations that are left to autograd.
    """
    net = network(kind).eval().requires_grad_(False)
    x = torch.randn(3, KINDS[kind].channels, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    kept = x.clone()
    if folded:
        copied, _ = gradients._folded(clean_copy(net))
        if copied is None:
            pytest.skip("nothing to fold")
        found = streams.Streams(streams.Program(copied, score), 2)
    else:
        found = streams.Streams(program(net), 2)
    seen: list[int] = []
    scores, gradient = found(x, seen.append)
    truth = by_autograd(net, x)
    assert torch.allclose(gradient, truth, rtol=0, atol=2e-6 * float(truth.abs().max()))
    assert torch.allclose(scores, net(x.clone())[:, 0], rtol=1e-5, atol=1e-5)
    assert torch.equal(x, kept)
    assert sum(seen) == 3
    again = found(x)
    assert torch.equal(again[0], scores)
    assert torch.equal(again[1], gradient)


def test_bits_depend_neither_on_threads_nor_on_the_batch() -> None:
    found = program(network("lite").eval())
    x = torch.randn(5, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    threads = torch.get_num_threads()
    scores, gradient = streams.Streams(found, 1)(x)
    for other in (2, 3):
        more = streams.Streams(found, other)(x)
        assert torch.equal(more[0], scores)
        assert torch.equal(more[1], gradient)
    alone = streams.Streams(found, 2)(x[3:4])
    assert torch.equal(alone[1], gradient[3:4])
    assert torch.get_num_threads() == threads


def test_streams_stop_within_an_image_and_go_on_afterwards() -> None:
    class Enough(Exception):
        pass

    def enough(_: int) -> None:
        raise Enough

    way = streams.Streams(program(network("lite").eval()), 2)
    x = torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    before = way(x)
    threads = torch.get_num_threads()
    with pytest.raises(Enough):
        way(x, enough)
    stop = streams.Event()
    stop.set()
    with pytest.raises(streams.Stopped):
        way.program(x[:1], streams._Buffers(), stop)
    assert torch.get_num_threads() == threads
    assert torch.equal(way(x)[1], before[1])


def test_a_copy_that_gives_other_gradients_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    net = network("lite").eval().requires_grad_(False)
    right = gradients.prepare(net, (1, SIDE, SIDE), score, "key", 1)()
    assert isinstance(right.ways, streams.Streams)
    backward = streams._Convolution.backward

    def wrong(self, p, gradient, buffers):  # type: ignore[no-untyped-def]
        backward(self, p, streams._Gradient(gradient.value * 1.001, False), buffers)

    monkeypatch.setattr(streams._Convolution, "backward", wrong)
    refused = gradients.prepare(net, (1, SIDE, SIDE), score, "key", 1)()
    assert refused.ways is None
    assert "other gradients" in refused.why


@pytest.mark.parametrize("compiled", [False, True])
def test_integrated_gradients_by_the_quick_way(compiled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if compiled:
        pytest.importorskip("openvino")
    monkeypatch.setattr(gradients, "_SHIPPED", {})
    monkeypatch.setattr(gradients, "_seconds", lambda way, _: 0.0)  # no timing decides here
    model = classifier("resnet-in-place")
    plain = registry.create("integrated-gradients", steps=64, max_steps=64)
    truth = plain.explain(model, image(), "pneumonia", Run())
    monkeypatch.setattr(session, "QUICKEN_COMPILED", 64)
    model.policy = replace(model.policy, backend="openvino" if compiled else "auto")
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
    assert any(
        isinstance(c.ways, streams.Streams) != compiled for c in gradients._KEPT[model.network].values()
    )
    other = plain.explain(model, image(), "pneumonia", Run())
    assert other.backend == "torch"  # other weights than the bundle's
    assert not np.allclose(other.values, found.values)


@pytest.mark.parametrize("what", ["gradients", "windows"])
def test_nothing_is_traced_in_a_thread_that_nobody_waits_for(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.fx replaces nn.Module.__call__ for all threads: the prediction after a cancelled map ended in a NameError."""
    net = network("lite").eval().requires_grad_(False)
    x = torch.randn(1, KINDS["lite"].channels, SIDE, SIDE)
    inside: list[bool] = []
    within = False
    trace = torch.fx.Tracer.trace

    def noted(self: torch.fx.Tracer, *args: Any, **kwargs: Any) -> torch.fx.Graph:
        inside.append(within)
        return trace(self, *args, **kwargs)

    monkeypatch.setattr(torch.fx.Tracer, "trace", noted)
    if what == "gradients":
        work: Callable[[], object] = gradients.prepare(net, tuple(x.shape[1:]), score, "key", 2)
    else:
        work = local.prepare(net, x, (8, 8), np.zeros((1, 2), np.int64))
    within = True
    assert work() is not None
    assert inside
    assert not any(inside)
