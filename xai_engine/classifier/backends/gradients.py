"""Gradients at the image, faster than by autograd through the network as it is.

Two ways, both on a copy with batch normalisation folded into the convolutions before it, both fp32, one image per thread:
`backward`, the backward pass written as a forward graph that OpenVINO compiles, and `streams`, torch without autograd's
memory, for networks that the other does not know and where OpenVINO is not installed. Single gradients of the shipped
network on noise had a rank correlation of 0.93 (bf16) and 0.99 (fp16) with fp32, for units near their edge switch; so
there is no reduced precision here.

Rounding differs from the network as it is by some 1e-7; where a unit lies that close to its edge, the gradient of a few
pixels differs by more. So one method always takes one way, whatever the batch.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import nn

from xai_engine.classifier.backends import base
from xai_engine.classifier.backends.backward import OpenVinoGradients
from xai_engine.classifier.backends.base import Unavailable, clean_copy, fingerprint, operations, unit_size
from xai_engine.classifier.backends.choose import FASTER
from xai_engine.classifier.backends.nodes import Looked, Score
from xai_engine.classifier.backends.streams import Program, Streams

ALIKE = (
    0.02  # norm of the difference to autograd through the network as it is, of the gradient's norm, on noise
)
USUAL = 1e-4  # median difference to it, of the largest gradient
MOST = 4  # images of one pass by autograd


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


def known(network: nn.Module, key: Hashable, weights: tuple[float, ...]) -> Choice | None:
    """The choice made before for this network. weights: its fingerprint."""
    return _KEPT.get(network, {}).get((key, weights))


_SHIPPED: dict[str, tuple[float, ...]] = {}  # bundle -> the weights that it was first met with


def is_shipped(sha256: str, weights: tuple[float, ...]) -> bool:
    """Whether the network with this fingerprint is the bundle's own: copies with other weights, as tests by randomisation make them, are
    explained once or twice each and not worth a compiling.
    """
    return bool(sha256) and _SHIPPED.setdefault(sha256, weights) == weights


def prepare(
    network: nn.Module,
    shape: tuple[int, ...],
    score: Score,
    key: Hashable,
    threads: int,
    wanted: str = "torch",
    tick: Callable[[], None] = lambda: None,
) -> Callable[[], Choice]:
    """Copy and fold the network now (see `base.written`); the returned function verifies and times, and may run in another
    thread.

    key: what tells scores and settings apart. wanted: the backend asked for; OpenVINO is tried for "openvino" and, where it
    is clearly faster than autograd, for "auto". tick: called between what cannot be left to another thread, some
    hundredths of a second each.
    """
    place, size = (key, fingerprint(network)), unit_size(1.5 * operations(network, shape), MOST)
    tick()
    copied = clean_copy(network)
    folded, why = _folded(network, tick)

    def work() -> Choice:
        choice = _choose(copied, folded, why, shape, score, size, threads, wanted)
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
    wanted: str,
) -> Choice:
    probe = torch.randn(size, *shape, generator=torch.Generator().manual_seed(0))
    plain = _Autograd(network, score, size)
    try:
        truth = plain(probe)
    except Exception as error:
        return Choice(None, f"torch: the network cannot be run apart ({type(error).__name__})")
    if folded is None:
        return Choice(None, f"torch: {why}")
    reasons = []
    if wanted in ("auto", "openvino"):
        try:
            graph = OpenVinoGradients(folded, score, shape, threads)
            if not _alike(graph, probe, truth):
                reasons.append("openvino gives other gradients than torch")
            elif wanted == "auto" and _seconds(graph, probe) * FASTER > _seconds(plain, probe):
                reasons.append("openvino is not clearly faster here")
            else:
                return Choice(graph, "openvino: the backward pass compiled")
        except Unavailable as error:
            reasons.append(str(error))
        except Exception as error:  # a compiled copy that fails is one we do not use
            reasons.append(f"openvino fails on this network ({type(error).__name__})")
    if why:
        return Choice(None, f"torch: {'; '.join([*reasons, why])}")
    try:
        streams = Streams(Program(copy.deepcopy(folded), score), threads)
        if _alike(streams, probe, truth):
            reasons.append("batch normalisation folded, one image per thread")
            return Choice(streams, f"torch: {'; '.join(reasons)}")
        reasons.append("folded it gives other gradients")
    except Exception as error:  # an operation that cannot be followed
        reasons.append(f"folded it cannot be followed ({type(error).__name__})")
    return Choice(None, f"torch: {'; '.join(reasons)}")


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
    for _ in range(2):
        began = time.perf_counter()
        way(probe)
        spent.append(time.perf_counter() - began)
    return min(spent)


def _folded(
    network: nn.Module, tick: Callable[[], None] = lambda: None
) -> tuple[torch.fx.GraphModule | None, str]:
    """A copy with batch normalisation folded into the convolutions before it, None where that cannot be had; why that is
    none, or no better than the network.
    """
    try:
        found = base.written(network, tick)
    except Unavailable as error:  # what cannot be traced stays with autograd
        return None, str(error)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) for net in (network, found)]
    return found, "nothing to fold" if norms[0] == norms[1] else ""


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


def _filled(batch: torch.Tensor, size: int) -> torch.Tensor:
    """The batch with its last image repeated, `size` images."""
    missing = size - len(batch)
    return torch.cat([batch, batch[-1:].expand(missing, -1, -1, -1)]).detach().float()
