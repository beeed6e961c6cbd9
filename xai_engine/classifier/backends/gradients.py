"""Gradients at the image, faster than by autograd through the network as it is.

Two ways, both on a copy with batch normalisation folded into the convolutions before it: `streams`, without autograd's
memory and one image per thread, made in half a second; and the backward pass itself written as a forward graph (the
vector-Jacobian product traced once, every convolution's backward pass written as a convolution), which OpenVINO compiles
in seconds and gigabytes: taken where OpenVINO was asked for by name. Both are fp32. Single gradients of the shipped
network on noise had a rank correlation of 0.93 (bf16) and 0.99 (fp16) with fp32, for units near their edge switch, at
hardly less time; so there is no reduced precision here.

Rounding differs from the network as it is by some 1e-7; where a unit lies that close to its edge, the gradient of a few
pixels differs by more. So one method always takes one way, whatever the batch.
"""

from __future__ import annotations

import copy
import importlib.util
import time
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from xai_engine.classifier.backends import base
from xai_engine.classifier.backends.base import Unavailable, clean_copy, fingerprint, operations, unit_size
from xai_engine.classifier.backends.choose import FASTER
from xai_engine.classifier.backends.compiled import _array, _quiet
from xai_engine.classifier.backends.streams import Looked, Program, Score
from xai_engine.classifier.backends.streams import Streams as Streams

ALIKE = (
    0.02  # norm of the difference to autograd through the network as it is, of the gradient's norm, on noise
)
USUAL = 1e-4  # median difference to it, of the largest gradient
MOST = 4  # images of one pass

aten = torch.ops.aten


class InputGradients(Protocol):
    """name: as in provenance. size: images of one call, at most."""

    name: str
    size: int

    def __call__(
        self, batch: torch.Tensor, looked: Looked | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(n <= size, channels, rows, columns) float32 -> scores (n,), gradients of the scores, shaped as the batch.

        looked: called with the images done since the last call, all in all with n, a few times a second where the way
        can do that.
        """
        ...


@dataclass(slots=True)
class Choice:
    """ways: None where autograd through the network as it is remains. why: a sentence."""

    ways: InputGradients | None
    why: str


_KEPT: WeakKeyDictionary[nn.Module, dict[Hashable, Choice]] = WeakKeyDictionary()


def known(network: nn.Module, key: Hashable) -> Choice | None:
    """The choice made before for this network with these weights."""
    return _KEPT.get(network, {}).get((key, fingerprint(network)))


_SHIPPED: dict[str, tuple[float, ...]] = {}  # bundle -> the weights that it was first met with


def is_shipped(network: nn.Module, sha256: str) -> bool:
    """Whether the network is the bundle's own: copies with other weights, as tests by randomisation make them, are
    explained once or twice each and not worth seconds of compiling.
    """
    return bool(sha256) and _SHIPPED.setdefault(sha256, fingerprint(network)) == fingerprint(network)


def prepare(
    network: nn.Module,
    shape: tuple[int, ...],
    score: Score,
    key: Hashable,
    threads: int,
    compiled: bool = False,
    tick: Callable[[], None] = lambda: None,
) -> Callable[[], Choice]:
    """Copy and fold the network now (see `base.folded`); the returned function verifies and times, and may run in another
    thread.

    key: what tells scores and settings apart. compiled: whether OpenVINO may be worth its seconds. tick: called between what
    cannot be left to another thread, some hundredths of a second each.
    """
    place, size = (key, fingerprint(network)), unit_size(1.5 * operations(network, shape), MOST)
    tick()
    copied = clean_copy(network)
    tick()
    folded, why = _folded(copied)
    tick()

    def work() -> Choice:
        choice = _choose(copied, folded, why, shape, score, size, threads, compiled)
        kept = _KEPT.setdefault(network, {})
        for old in [k for k in kept if isinstance(k, tuple) and k[1] != place[1]]:
            del kept[old]  # weights of before
        kept[place] = choice
        return choice

    return work


def _choose(
    network: nn.Module,
    folded: torch.fx.GraphModule | None,
    why: str,
    shape: tuple[int, ...],
    score: Score,
    size: int,
    threads: int,
    compiled: bool,
) -> Choice:
    probe = torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))
    plain = _Autograd(network, score, size)
    try:
        truth = plain(probe)
    except Exception as error:
        return Choice(None, f"torch: the network cannot be run apart ({type(error).__name__})")
    best: InputGradients | None = None
    reasons = []
    if folded is None:
        reasons.append(why)
    else:
        try:
            best = Streams(Program(copy.deepcopy(folded), score), threads)
            if not _alike(best, probe, truth):
                best = None
                reasons.append("folded it gives other gradients")
        except Exception as error:  # an operation that cannot be followed
            best = None
            reasons.append(f"folded it cannot be followed ({type(error).__name__})")
    if best is not None:
        reasons.append("batch normalisation folded, one image per thread")
    if not compiled:
        return Choice(best, f"torch: {'; '.join(reasons)}")
    try:
        plainly = copy.deepcopy(folded or network).to(memory_format=torch.contiguous_format)
        graph = OpenVinoGradients(plainly, score, shape, size, threads)
        if not _alike(graph, probe, truth):
            reasons.append("openvino gives other gradients than torch")
        elif _seconds(graph, probe) * FASTER > _seconds(best or plain, probe):
            reasons.append("openvino is not clearly faster here")
        else:
            return Choice(graph, "openvino: the backward pass compiled")
    except Unavailable as error:
        reasons.append(str(error))
    except Exception as error:  # a compiled copy that fails is one we do not use
        reasons.append(f"openvino fails on this network ({type(error).__name__})")
    return Choice(best, f"torch: {'; '.join(reasons)}")


def _alike(way: InputGradients, probe: torch.Tensor, truth: tuple[torch.Tensor, torch.Tensor]) -> bool:
    """Twice the same, and what autograd gives but for units that switch at a rounding."""
    (scores, first), (_, second) = way(probe), way(probe)
    apart = (first - truth[1]).abs()
    return (
        bool(torch.equal(first, second))
        and bool(torch.allclose(scores.double(), truth[0].double(), rtol=1e-4, atol=1e-4))
        and float(apart.norm()) <= ALIKE * float(truth[1].norm())
        and float(apart.median()) <= USUAL * float(truth[1].abs().max())
    )


def _seconds(way: InputGradients, probe: torch.Tensor) -> float:
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        way(probe)
        spent.append(time.perf_counter() - began)
    return min(spent)


def _folded(network: nn.Module) -> tuple[torch.fx.GraphModule | None, str]:
    """A copy with batch normalisation folded into the convolutions before it; None and why where that cannot be had."""
    try:
        found = base.folded(network)
    except Exception as error:  # tracing refuses in many ways; what cannot be traced stays with autograd
        return None, f"the network cannot be followed ({type(error).__name__})"
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in (network, found)]
    return (None, "nothing to fold") if norms[0] == norms[1] else (found, "")


class _Autograd:
    """Batches of one size, fewer are filled up, so that the kernels are always the same."""

    name = "torch"

    def __init__(self, network: nn.Module, score: Score, size: int) -> None:
        self.network, self.score, self.size = network, score, size

    def __call__(
        self, batch: torch.Tensor, looked: Looked | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = _filled(batch, self.size).requires_grad_(True)
        with torch.enable_grad():
            placed = leaf.contiguous(memory_format=torch.channels_last)
            # a copy, so that a network whose first operation works in place does not change the leaf
            scores = self.score(self.network(placed.clone()).float())
            (gradient,) = torch.autograd.grad(scores.sum(), [leaf])
        return scores.detach()[: len(batch)], gradient[: len(batch)]


class OpenVinoGradients:
    """Scores and gradients as one graph without autograd, compiled by OpenVINO in fp32 (extra `openvino`)."""

    name = "openvino"

    def __init__(
        self, network: nn.Module, score: Score, shape: tuple[int, ...], size: int, threads: int
    ) -> None:
        """network: frozen, in eval mode, on the CPU. Raises Unavailable, and whatever tracing raises."""
        if importlib.util.find_spec("openvino") is None:
            raise Unavailable("OpenVINO is not installed (pip install radiolucent[openvino])")
        import openvino

        self.size = size
        example = torch.zeros(size, *shape)
        with warnings.catch_warnings(), _quiet():
            warnings.simplefilter("ignore")
            program = torch.export.export(traced(network, score, example), (example,))
            model = openvino.convert_model(program)
            settings = {
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": threads,
                "PERFORMANCE_HINT": "LATENCY",
            }
            self._request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(
        self, batch: torch.Tensor, looked: Looked | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        found = self._request.infer([_array(_filled(batch, self.size))])
        scores, gradients = (torch.from_numpy(np.array(found[i][: len(batch)], np.float32)) for i in (0, 1))
        if looked is not None:
            looked(len(batch))
        return scores, gradients


def _filled(batch: torch.Tensor, size: int) -> torch.Tensor:
    """The batch with its last image repeated, `size` images."""
    missing = size - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)]).detach().float()


# ---- the backward pass as a graph ----------------------------------------------------------------------------------


_KNOWN = (
    aten.hardtanh_backward.default,
    aten.select_backward.default,
    aten.slice_backward.default,
)


def traced(network: nn.Module, score: Score, example: torch.Tensor) -> torch.fx.GraphModule:
    """x -> (scores, gradients at x), for batches of the example's shape, made of operations that need no autograd."""
    from torch._decomp import core_aten_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        leaf = x.detach().requires_grad_(True)
        scores = score(network(leaf.clone()).float())
        (gradient,) = torch.autograd.grad(scores.sum(), [leaf])
        return scores.detach(), gradient

    # backward passes alone, and of these not the ones of views: OpenVINO knows these and all that runs forwards
    table: dict[Any, Callable[..., Any]] = {
        operation: way
        for operation, way in core_aten_decompositions().items()
        if "_backward" in str(operation) and operation not in _KNOWN
    }
    table[aten.convolution_backward.default] = convolution_backward
    with torch.enable_grad():
        graph: torch.fx.GraphModule = make_fx(both, decomposition_table=table)(example)
    _mask_by_output(graph.graph)
    graph.graph.eliminate_dead_code()
    graph.recompile()
    return graph


def convolution_backward(
    gradient: torch.Tensor,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    output_padding: list[int],
    groups: int,
    wanted: list[bool],
) -> tuple[torch.Tensor, None, None]:
    """`aten.convolution_backward` towards the input: at stride 1 a convolution with the kernel turned by 180° and its
    channels exchanged, else a transposed convolution. Raises NotImplementedError for what is not needed here.
    """
    if transposed or wanted[1] or wanted[2] or weight.ndim != 4:
        raise NotImplementedError("only the input's gradient of plain convolutions in two dimensions")
    outputs, inputs, *kernel = weight.shape
    reach = [dilation[i] * (kernel[i] - 1) for i in (0, 1)]
    turned_padding = [reach[i] - padding[i] for i in (0, 1)]
    if list(stride) == [1, 1] and min(turned_padding) >= 0:
        turned = weight.reshape(groups, outputs // groups, inputs, *kernel).transpose(1, 2)
        turned = turned.reshape(groups * inputs, outputs // groups, *kernel).flip(2, 3)
        found = aten.convolution.default(
            gradient, turned, None, [1, 1], turned_padding, dilation, False, [0, 0], groups
        )
        return found, None, None
    left = [
        x.shape[2 + i] - ((gradient.shape[2 + i] - 1) * stride[i] - 2 * padding[i] + reach[i] + 1)
        for i in (0, 1)
    ]
    found = aten.convolution.default(gradient, weight, None, stride, padding, dilation, True, left, groups)
    return found, None, None


def _mask_by_output(graph: torch.fx.Graph) -> None:
    """Gradients of bounded rectifiers from what they put out: low < min(max(x, low), high) < high exactly where
    low < x < high, and the convolution before can then put out the bounded values alone.
    """
    for node in list(graph.nodes):
        if node.op != "call_function" or node.target is not aten.hardtanh_backward.default:
            continue
        gradient, x, low, high = node.args
        same = (
            user for user in x.users if user.target is aten.hardtanh.default and user.args == (x, low, high)
        )
        out = next(same, x)
        with graph.inserting_before(node):
            above = graph.call_function(aten.gt.Scalar, (out, low))
            below = graph.call_function(aten.lt.Scalar, (out, high))
            active = graph.call_function(aten.bitwise_and.Tensor, (above, below))
            zero = graph.call_function(aten.scalar_tensor.default, (0.0,))
            kept = graph.call_function(aten.where.self, (active, gradient, zero))
        node.replace_all_uses_with(kept)
        graph.erase_node(node)
