"""The interface of a backend, the clean copy that backends are compiled from, and what one forward pass costs."""

from __future__ import annotations

import copy
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from xai_engine.classifier.backends import rounding

# Floating-point operations of one pass between two looks for cancellation. On one slow core (10 to 30 thousand million
# a second in fp32) about 0.1 s. The number is fixed and not timed: sums and kernels then never depend on how busy
# the machine was, so one seed gives the same bits again.
UNIT = 3.4e9

_COSTS: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], float]] = WeakKeyDictionary()
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class Backend(Protocol):
    """A compiled copy of a network. name: as in provenance; precisions: what it can compute in."""

    name: str
    precisions: tuple[str, ...]

    def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        """(n, channels, rows, columns) float32 -> (n, outputs of the head) float32, on the CPU, without a graph."""
        ...

    def start(self, batch: torch.Tensor, precision: str) -> Callable[[], torch.Tensor]:
        """Begin; the returned function waits for the outputs, and is called once, in the order of the starts, or not at all.
        Eight batches of one precision may be under way; they must not be changed meanwhile."""
        ...


class AtOnce:
    """For a backend without requests that run by themselves: what is started is computed."""

    def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        raise NotImplementedError

    def start(self, batch: torch.Tensor, precision: str) -> Callable[[], torch.Tensor]:
        found = self.outputs(batch, precision)
        return lambda: found


class Unavailable(Exception):
    """This backend is not installed or cannot run this network; the text says why."""


@contextmanager
def without_hooks(network: nn.Module) -> Iterator[None]:
    """No hooks inside; the same ones afterwards."""
    kept: list[tuple[nn.Module, str, Any]] = []
    try:
        for module in network.modules():
            for name in _HOOKS:
                kept.append((module, name, getattr(module, name)))
                setattr(module, name, OrderedDict())
        yield
    finally:
        for module, name, hooks in kept:
            setattr(module, name, hooks)


def clean_copy(network: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode, frozen, without anybody's hooks, in torch's default memory layout."""
    with without_hooks(network):
        found = copy.deepcopy(network)
    for p in found.parameters():
        p.grad = None
    found = found.cpu().eval().to(memory_format=torch.contiguous_format)
    return found.requires_grad_(False)


def folded(network: nn.Module) -> fx.GraphModule:
    """A clean copy as a graph of its operations, batch normalisation folded into the convolutions before it, channels last.

    Never in a thread of its own: torch.fx replaces `nn.Module.__call__` for the time of it, and a network that runs in another
    thread meanwhile fails, as the next job's does when this one was cancelled. Raises whatever tracing raises.
    """
    from torch.fx.experimental.optimization import fuse

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = fx.symbolic_trace(network)
        known = rounding.inputs(traced)
        found = fuse(traced, inplace=True, no_trace=True)
    assert isinstance(found, fx.GraphModule)
    rounding.remember(found, known)
    return found.eval().requires_grad_(False).to(memory_format=torch.channels_last)


# by network: its weights' fingerprint, and its graph or why there is none
_WRITTEN: WeakKeyDictionary[nn.Module, tuple[tuple[float, ...], fx.GraphModule | str]] = WeakKeyDictionary()


def written(network: nn.Module, tick: Callable[[], object] = lambda: None) -> fx.GraphModule:
    """`folded` of a clean copy, made once per network and weights: nobody may change it. Not in a thread of its own either.

    Raises Unavailable where the network cannot be written down. tick: called between the steps, some hundredths of a second each.
    """
    if isinstance(network, fx.GraphModule) and not any(
        isinstance(m, nn.BatchNorm2d) for m in network.modules()
    ):
        return network  # a part of one that was written before
    weights = fingerprint(network)
    kept = _WRITTEN.get(network)
    if kept is None or kept[0] != weights:
        tick()
        copied = clean_copy(network)
        tick()
        try:
            found: fx.GraphModule | str = folded(copied)
        except Exception as error:  # torch.fx refuses in many ways
            found = f"the network cannot be followed ({type(error).__name__})"
        kept = _WRITTEN[network] = (weights, found)
        tick()
    if isinstance(kept[1], str):
        raise Unavailable(kept[1])
    return kept[1]


def fingerprint(network: nn.Module) -> tuple[float, ...]:
    """Changes when a weight or a buffer changes, so that no stale copy is used: a checksum of each, as it lies in memory. A sum would
    be the same after weights were exchanged, and not quite the same with another number of threads."""
    tensors = [t.detach() for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    bits = [t.view(torch.int16) if t.element_size() == 2 else t for t in tensors]  # numpy knows no bfloat16
    return tuple(float(zlib.crc32(t.cpu().numpy().tobytes(order="K"))) for t in bits)


class _Reads(TorchDispatchMode):
    """Notes whether a tensor's values become numbers of Python, as in a branch or an index."""

    found = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.found |= func.overloadpacket in _READING
        return func(*args, **(kwargs or {}))


_READING = (torch.ops.aten._local_scalar_dense, torch.ops.aten.is_nonzero, torch.ops.aten.equal)


def reads_values(network: nn.Module, shape: tuple[int, ...]) -> bool:
    """Whether a pass depends on values in ways that a trace of its operations does not hold. Raises what the network does."""
    with torch.no_grad(), _Reads() as reads:
        network(torch.zeros(2, *shape))
    return reads.found


def operations(network: nn.Module, shape: tuple[int, ...]) -> float:
    """Floating-point operations of one forward pass of one image (channels, rows, columns); counted once per network.

    NaN where they cannot be counted.
    """
    kept = _COSTS.setdefault(network, {})
    if shape not in kept:
        device = next((p.device for p in network.parameters()), torch.device("cpu"))
        try:
            with without_hooks(network), torch.no_grad(), FlopCounterMode(display=False) as counter:
                network(torch.zeros(1, *shape, device=device))
            kept[shape] = float(counter.get_total_flops())
        except Exception:  # a network that cannot be run here says so where it is used
            kept[shape] = float("nan")
    return kept[shape]


def unit_size(cost: float, most: int) -> int:
    """Images of one pass between two looks for cancellation: `most`, or the power of two that UNIT allows."""
    if not cost > 0:  # nothing counted, or not countable
        return most if cost == 0 else max(1, min(4, most))
    if most * cost <= UNIT:
        return most
    size = 1
    while 2 * size * cost <= UNIT:
        size *= 2
    return size
