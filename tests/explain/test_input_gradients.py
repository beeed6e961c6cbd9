"""The quicker ways to gradients at the image against autograd through the network as it is."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import KINDS, SIDE, classifier, image, network
from tests.explain.test_contract import StopAfter, left_as_found, unsettle
from xai_engine.classifier.backends import backward, gradients, streams
from xai_engine.classifier.backends.base import Unavailable, clean_copy
from xai_engine.explain import registry
from xai_engine.runtime.run import Run


def score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, 0]


def by_autograd(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    leaf = x.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(leaf.clone())[:, 0].sum(), [leaf])
    return gradient


class Various(nn.Module):
    """Convolutions of many kinds, rectifiers bounded and not, in place and as functions, a sum, a head of three."""

    def __init__(self, stride: int, groups: int, dilation: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 6, 3, stride, 1, dilation, bias=False)
        self.bounded = nn.Hardtanh(-0.4, 0.7)
        self.second = nn.Conv2d(6, 12, (3, 5), stride, (1, 2), dilation, groups)
        self.third = nn.Conv2d(12, 12, 1)
        self.plain = nn.ReLU(inplace=True)
        self.head = nn.Linear(12, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu6(self.second(self.bounded(self.first(x))))
        x = self.plain(self.third(x)) + x
        return self.head(x.mean((2, 3)))


def various(stride: int = 2, groups: int = 6, dilation: int = 1, outputs: int = 1) -> nn.Module:
    torch.manual_seed(stride + groups + dilation)
    return Various(stride, groups, dilation, outputs).eval().requires_grad_(False)


def compiled(net: nn.Module, of: streams.Score = score, threads: int = 2) -> backward.OpenVinoGradients:
    pytest.importorskip("openvino")
    return backward.OpenVinoGradients(torch.fx.symbolic_trace(net), of, (1, SIDE, SIDE), threads)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("dilation", [1, 2])
def test_the_compiled_backward_pass_is_the_gradient(stride: int, groups: int, dilation: int) -> None:
    net = various(stride, groups, dilation)
    x = torch.randn(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    scores, found = compiled(net)(x)
    truth = by_autograd(net, x)
    assert float(truth.abs().max()) > 0
    assert torch.allclose(found, truth, rtol=0, atol=3e-6 * float(truth.abs().max()))
    assert torch.allclose(scores, net(x)[:, 0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (7, 4)])
@pytest.mark.parametrize("stride", [2, 3])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2), (3, 1)])
def test_a_first_convolution_with_strides_goes_back_by_interleaving(
    kernel: tuple[int, int], stride: int, padding: tuple[int, int]
) -> None:
    """Against autograd, also where the last rows and columns of the image are reached by nothing."""
    pytest.importorskip("openvino")
    torch.manual_seed(0)
    for channels, rows, columns in ((1, 23, 20), (3, 16, 17)):
        net = nn.Sequential(
            nn.Conv2d(channels, 5, kernel, stride, padding), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1)
        ).eval()
        x = torch.randn(2, channels, rows, columns)
        net(x)
        net.requires_grad_(False)
        way = backward.OpenVinoGradients(torch.fx.symbolic_trace(net), score, (channels, rows, columns), 2)
        truth = by_autograd(net, x)
        assert float(truth.abs().max()) > 0
        assert torch.allclose(way(x)[1], truth, rtol=0, atol=3e-6 * float(truth.abs().max()))


def test_the_compiled_backward_pass_of_a_score_that_bends() -> None:
    """One output: its slope is put on afterwards. More: only where the score is linear, else no compiled way."""
    x = torch.randn(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))

    def bent(outputs: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(3 * outputs[:, 0])

    def truth(net: nn.Module, of: streams.Score) -> torch.Tensor:
        leaf = x.clone().requires_grad_(True)
        return torch.autograd.grad(of(net(leaf)).sum(), [leaf])[0]

    for net, of in (
        (various(outputs=1), bent),
        (various(outputs=3), lambda o: o[:, 1] - 2 * o[:, 2]),
    ):
        _, found = compiled(net, of)(x)
        right = truth(net, of)
        assert torch.allclose(found, right, rtol=0, atol=3e-6 * float(right.abs().max()))
    with pytest.raises(Unavailable, match="linear"):
        compiled(various(outputs=3), lambda o: torch.softmax(o, 1)[:, 0])


@pytest.mark.parametrize("kind", ["lite", "resnet-in-place", "functional-relu", "reused-relu"])
def test_the_compiled_way_is_taken_where_all_is_known(kind: str) -> None:
    pytest.importorskip("openvino")
    net = network(kind).eval().requires_grad_(False)
    x = torch.randn(3, KINDS[kind].channels, SIDE, SIDE, generator=torch.Generator().manual_seed(3))
    choice = gradients.prepare(net, tuple(x.shape[1:]), score, "key", 2, "openvino")()
    assert isinstance(choice.ways, backward.OpenVinoGradients), choice.why
    truth = by_autograd(net, x)
    assert torch.allclose(choice.ways(x)[1], truth, rtol=0, atol=3e-6 * float(truth.abs().max()))


@pytest.mark.parametrize("kind", ["vgg", "densenet", "efficientnet", "swin"])
def test_what_the_compiled_way_does_not_know_is_refused(kind: str) -> None:
    """Max pooling, dense connections, other activations: no wrong gradient, and the streams are there."""
    pytest.importorskip("openvino")
    net = network(kind).eval().requires_grad_(False)
    channels = KINDS[kind].channels
    choice = gradients.prepare(net, (channels, SIDE, SIDE), score, "key", 1, "openvino")()
    assert choice.ways is None or choice.ways.name == "torch"
    assert "not known" in choice.why or "cannot be followed" in choice.why


def test_bits_of_the_compiled_way_depend_neither_on_threads_nor_on_the_batch() -> None:
    net = various()
    x = torch.randn(7, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(4))
    scores, gradient = compiled(net, threads=1)(x)
    for other in (2, 3):
        more = compiled(net, threads=other)(x)
        assert torch.equal(more[0], scores)
        assert torch.equal(more[1], gradient)
    assert torch.equal(compiled(net)(x[3:4])[1], gradient[3:4])


def test_the_compiled_way_stops_and_goes_on_afterwards() -> None:
    class Enough(Exception):
        pass

    seen = 0

    def enough(done: int) -> None:
        nonlocal seen
        seen += done
        if seen == 2:
            raise Enough

    way = compiled(various())
    x = torch.randn(8, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    before = way(x)
    with pytest.raises(Enough):
        way(x, enough)
    seen = -100
    again = way(x, enough)
    assert seen == -92
    assert torch.equal(again[1], before[1])


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
        copied, why = gradients._folded(clean_copy(net))
        if copied is None or why:
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
    right_backward = streams._Convolution.backward

    def wrong(self, p, gradient, buffers):  # type: ignore[no-untyped-def]
        right_backward(self, p, streams._Gradient(gradient.value * 1.001, False), buffers)

    monkeypatch.setattr(streams._Convolution, "backward", wrong)
    refused = gradients.prepare(net, (1, SIDE, SIDE), score, "key", 1)()
    assert refused.ways is None
    assert "other gradients" in refused.why


@pytest.mark.parametrize("backend", ["torch", "auto", "openvino"])
def test_integrated_gradients_by_the_quick_way(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if backend != "torch":
        pytest.importorskip("openvino")
    monkeypatch.setattr(gradients, "_SHIPPED", {})
    monkeypatch.setattr(gradients, "_seconds", lambda way, _: 0.0)  # no timing decides here
    model = classifier("lite")
    plain = registry.create("integrated-gradients", steps=64, max_steps=64)
    truth = plain.explain(model, image(), "pneumonia", Run())
    model.policy = replace(model.policy, backend=backend)
    model.info = replace(model.info, sha256="0" * 64)
    unsettle(model.network)
    with left_as_found(model.network):
        found = plain.explain(model, image(), "pneumonia", Run())
    assert found.backend == ("torch" if backend == "torch" else "openvino")
    assert found.forwards == found.backwards == 65
    assert np.abs(found.values - truth.values).max() <= 1e-4 * np.abs(truth.values).max()
    again = plain.explain(model, image(), "pneumonia", Run())
    assert np.array_equal(found.values, again.values)
    with left_as_found(model.network):
        cut = plain.explain(model, image(), "pneumonia", Run(cancel=StopAfter(5)))
    assert cut.partial
    ways = [c.ways for c in gradients._KEPT[model.network].values()]
    assert [type(w) for w in ways] == [streams.Streams if backend == "torch" else backward.OpenVinoGradients]
    weights = model.network.state_dict()
    with torch.no_grad():
        next(iter(weights.values())).mul_(1.5)
    other = plain.explain(model, image(), "pneumonia", Run())
    assert other.backend == "torch"  # other weights than the bundle's
    assert not np.allclose(other.values, found.values)


def test_nothing_is_traced_in_a_thread_that_nobody_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
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
    work = gradients.prepare(net, tuple(x.shape[1:]), score, "key", 2)
    within = True
    assert work() is not None
    assert inside
    assert not any(inside)
