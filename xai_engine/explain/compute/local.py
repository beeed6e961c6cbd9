"""Scores of images that differ from one image in a small window, without computing again what the window does not touch.

In a convolutional network the first stages see little: a change under a window changes only the part of an activation
whose receptive field meets the window. The network is written down by torch.fx; its operations are run once on the whole
image, and for every window on the touched part only, cut out of the image's own activations with the margin that the
kernel needs. Once the touched part is no longer small, at a place where everything behind depends on one activation, it
is laid into that activation and the rest of the network runs on the whole. Everything here lies in memory channels last:
on patches of a dozen pixels a depthwise convolution then takes a fifth of the time (measured).

This is the full forward pass, in other order: the same products are summed. Batch norm is folded into the convolutions.
Networks whose first operations are not among those known here, or that torch.fx cannot write down, get full passes;
so does a network for which the first windows give other scores than full passes do.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from xai_engine.classifier.backends import base as backends
from xai_engine.explain.compute import cuts

LARGEST = 0.4  # share of an activation that may be touched before the whole is cheaper
AGREEMENT = 1e-5  # of 1 + |score|, between windows computed both ways

Starts = npt.NDArray[np.int64]
ALIKE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
_IN_PLACE: dict[type[nn.Module], Callable[[torch.Tensor], torch.Tensor]] = {
    nn.ReLU: torch.relu_, nn.ReLU6: lambda x: x.clamp_(0.0, 6.0),
}  # fmt: skip
ALIKE_FUNCTIONS = (F.relu, F.relu6, F.silu, F.gelu, F.softplus, torch.relu, torch.tanh, torch.sigmoid)
ADDS = (operator.add, operator.iadd, torch.add)


@dataclass(slots=True, eq=False)
class _Value:
    """An activation of the image (1, channels, rows, columns), and the part of it that each window changes:
    patches (n, channels, size) at `starts` (n, 2). patches None: not computed (while planning).
    """

    whole: torch.Tensor
    starts: Starts
    size: tuple[int, int]
    patches: torch.Tensor | None = None
    padded: dict[tuple[int, ...], torch.Tensor] = field(
        default_factory=dict
    )  # the whole with a border, as it is needed

    @property
    def share(self) -> float:
        return self.size[0] * self.size[1] / (self.whole.shape[2] * self.whole.shape[3])


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """nodes: run on the touched part; cut: the last of them; rest: a network from the cut's activation to the head.

    wholes: activations of the image, channels last; padded: the same with a border, kept once they were needed.
    """

    graph: fx.GraphModule
    nodes: tuple[fx.Node, ...]
    cut: fx.Node
    rest: nn.Module
    wholes: dict[fx.Node, torch.Tensor]
    shape: tuple[int, int, int]
    padded: dict[fx.Node, dict[tuple[int, ...], torch.Tensor]] = field(default_factory=dict)

    def activations(
        self, changed: torch.Tensor, starts: Starts, size: tuple[int, int], tick: Tick
    ) -> torch.Tensor:
        """(n, channels, rows, columns) at the cut. changed: (n, channels, *size), what lies in each window."""
        values: dict[fx.Node, _Value] = {}
        with torch.inference_mode():
            for node in self.nodes:
                tick()
                values[node] = _step(self.graph, node, values, self.wholes[node], (changed, starts, size))
                values[node].padded = self.padded.setdefault(node, {})
            found = values[self.cut]
            rows, columns = found.whole.shape[2:]
            return _around(found, np.zeros_like(starts), (int(rows), int(columns)))


Tick = Callable[[], object]


def prepare(
    network: nn.Module, image: torch.Tensor, size: tuple[int, int], starts: Starts
) -> Callable[[], Plan | None]:
    """Copy and fold the network now; the returned function finds how windows of this size at these places (n, 2) are computed,
    None where full passes are right or cheaper. It may run in another thread.

    image: (1, channels, rows, columns) on the CPU.
    """
    try:
        graph = backends.written(network)
    except backends.Unavailable:  # full passes are always right
        return lambda: None

    def work() -> Plan | None:
        try:
            with torch.inference_mode():
                return _plan(graph, image, size, starts)
        except Exception:  # an operation that is not known here
            return None

    return work


def _plan(graph: fx.GraphModule, image: torch.Tensor, size: tuple[int, int], starts: Starts) -> Plan | None:
    nodes = [n for n in graph.graph.nodes if n.op != "output"]
    narrow = set(cuts.narrow(graph))
    values: dict[fx.Node, _Value] = {}
    best = -1
    for index, node in enumerate(nodes):
        if node.op == "get_attr":
            break
        try:
            whole = image if node.op == "placeholder" else _whole(graph, node, values)
            whole = whole.contiguous(memory_format=torch.channels_last)
            value = _step(graph, node, values, whole, (None, starts, size))
        except _Unknown:
            break
        if value.share > LARGEST:
            break
        values[node] = value
        if node in narrow:
            best = index
    if best < 0:
        return None
    before = tuple(nodes[: best + 1])
    cut = nodes[best]
    shape = values[cut].whole.shape
    wholes = {n: values[n].whole for n in before}
    rest = cuts.rest(graph, cut)
    return Plan(graph, before, cut, rest, wholes, (int(shape[1]), int(shape[2]), int(shape[3])))


class _Unknown(Exception):
    """An operation that is not known to be local."""


def _whole(graph: fx.GraphModule, node: fx.Node, values: dict[fx.Node, _Value]) -> torch.Tensor:
    """The node's activation for the image itself. Arguments are copies: an operation in place spoils no other."""
    known = {n: v.whole.clone() for n, v in values.items() if n in node.all_input_nodes}

    def given(argument: Any) -> Any:
        return fx.node.map_arg(argument, lambda n: known[n])

    if node.op == "call_module":
        result = graph.get_submodule(str(node.target))(*given(node.args), **given(node.kwargs))
    elif node.op == "call_function":
        result = node.target(*given(node.args), **given(node.kwargs))  # type: ignore[operator]
    else:
        raise _Unknown
    if not isinstance(result, torch.Tensor) or result.ndim != 4:
        raise _Unknown
    return result


def _step(
    graph: fx.GraphModule,
    node: fx.Node,
    values: dict[fx.Node, _Value],
    whole: torch.Tensor,
    windows: tuple[torch.Tensor | None, Starts, tuple[int, int]],
) -> _Value:
    """What the node makes of the touched parts. Raises _Unknown."""
    if node.op == "placeholder":
        changed, starts, size = windows
        return _Value(whole, starts, size, changed)
    sources = [values[n] for n in node.all_input_nodes]
    if node.op == "call_module":
        module = graph.get_submodule(str(node.target))
        if (
            isinstance(module, nn.Conv2d)
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        ):
            kernel, stride, padding, dilation = (
                pair(v) for v in (module.kernel_size, module.stride, module.padding, module.dilation)
            )
            weight, bias, groups = module.weight, module.bias, module.groups
            convolve = lambda x: F.conv2d(x, weight, bias, stride, 0, dilation, groups)  # noqa: E731
            return _windowed(sources[0], whole, kernel, stride, padding, dilation, 0.0, convolve)
        if isinstance(module, nn.MaxPool2d) and not module.ceil_mode and not module.return_indices:
            kernel, stride, padding, dilation = (
                pair(v) for v in (module.kernel_size, module.stride, module.padding, module.dilation)
            )
            pool = lambda x: F.max_pool2d(x, kernel, stride, 0, dilation)  # noqa: E731
            return _windowed(sources[0], whole, kernel, stride, padding, dilation, float("-inf"), pool)
        if isinstance(module, nn.AvgPool2d) and not module.ceil_mode and pair(module.padding) == (0, 0):
            kernel, stride = pair(module.kernel_size), pair(module.stride)
            mean = lambda x: F.avg_pool2d(x, kernel, stride)  # noqa: E731
            return _windowed(sources[0], whole, kernel, stride, (0, 0), (1, 1), 0.0, mean)
        if isinstance(module, ALIKE):
            only = len(node.all_input_nodes[0].users) == 1
            return _alike(sources[0], whole, _IN_PLACE.get(type(module), module) if only else module, only)
    elif node.op == "call_function" and not set(node.kwargs) - {"inplace"}:
        if node.target in ALIKE_FUNCTIONS and len(node.args) == 1:
            function = node.target
            return _alike(sources[0], whole, lambda x: function(x))
        if node.target in ADDS and len(sources) == 2 and sources[0].whole.shape == sources[1].whole.shape:
            return _joined(sources, whole, lambda parts: parts[0] + parts[1])
    elif node.op == "call_function" and node.target is torch.cat and node.kwargs == {"dim": 1}:
        return _joined(sources, whole, lambda parts: torch.cat(list(parts), 1))
    if node.op == "call_function" and node.target is torch.cat and list(node.args[1:]) == [1]:
        return _joined(sources, whole, lambda parts: torch.cat(list(parts), 1))
    raise _Unknown


def pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _alike(
    source: _Value, whole: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor], only: bool = False
) -> _Value:
    """A function of each value by itself. only: nobody else needs what it is given, so that it may work in place."""
    patches = source.patches
    if patches is not None:
        patches = function(patches if only else patches.clone())
    return _Value(whole, source.starts, source.size, patches)


def _joined(
    sources: Sequence[_Value],
    whole: torch.Tensor,
    function: Callable[[Sequence[torch.Tensor]], torch.Tensor],
) -> _Value:
    """Of several activations in one grid: what any of them has touched."""
    starts = np.minimum.reduce([s.starts for s in sources])
    ends = np.maximum.reduce([s.starts + np.array(s.size) for s in sources])
    starts, size = _fit(starts, (ends - starts).max(0), whole)
    if any(s.patches is None for s in sources):
        return _Value(whole, starts, size)
    return _Value(whole, starts, size, function([_around(s, starts, size) for s in sources]))


def _windowed(
    source: _Value,
    whole: torch.Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    fill: float,
    function: Callable[[torch.Tensor], torch.Tensor],
) -> _Value:
    """An operation on a sliding window: output o sees the inputs o·stride - padding … + dilation·(kernel - 1)."""
    s, p = np.array(stride), np.array(padding)
    reach = np.array(dilation) * (np.array(kernel) - 1)
    first = -((source.starts + p - reach) // -s)  # rounded up
    last = (source.starts + np.array(source.size) - 1 + p) // s
    starts, size = _fit(first, np.maximum(last - first + 1, 1).max(0), whole)
    if source.patches is None:
        return _Value(whole, starts, size)
    seen = tuple(int((n - 1) * step + r + 1) for n, step, r in zip(size, stride, reach, strict=True))
    taken = _around(source, starts * s - p, (seen[0], seen[1]), (int(p[0]), int(p[1])), fill)
    return _Value(whole, starts, size, function(taken))


def _fit(starts: Starts, size: npt.NDArray[np.int64], whole: torch.Tensor) -> tuple[Starts, tuple[int, int]]:
    """One size for all windows, within the activation."""
    shape = np.array(whole.shape[2:], np.int64)
    size = np.minimum(size, shape)
    return np.clip(starts, 0, shape - size), (int(size[0]), int(size[1]))


def _around(
    source: _Value,
    starts: Starts,
    size: tuple[int, int],
    padding: tuple[int, int] = (0, 0),
    fill: float = 0.0,
) -> torch.Tensor:
    """(n, channels, *size) of the changed activation at `starts`, which may reach `padding` over the border."""
    assert source.patches is not None
    if size == source.size and np.array_equal(starts, source.starts):
        return source.patches  # as a convolution of 1 x 1 sees nothing around
    rows, columns = padding
    key = (rows, columns, int(fill == 0.0))
    if key not in source.padded:
        whole = source.whole
        if rows or columns:
            whole = F.pad(whole, (columns, columns, rows, rows), value=fill)
        source.padded[key] = whole[0].permute(1, 2, 0).contiguous()
    plane = source.padded[key]
    out = plane.new_empty((len(starts), *size, plane.shape[2]))
    for index, (r, c) in enumerate((starts + np.array(padding)).tolist()):
        out[index] = plane[r : r + size[0], c : c + size[1]]
    patches = source.patches.permute(0, 2, 3, 1)
    offsets = source.starts - starts  # of the patch in the part that is cut out
    for offset in np.unique(offsets, axis=0):
        which = torch.from_numpy(np.flatnonzero((offsets == offset).all(1)))
        spans = []
        for axis in (0, 1):
            begin, end = int(offset[axis]), int(offset[axis]) + source.size[axis]
            low, high = max(begin, 0), min(end, size[axis])
            spans.append((low, high, low - begin, high - begin))
        (a, b, e, f), (g, h, i, j) = spans
        if a < b and g < h:
            if len(which) == len(out):  # the usual case: windows come ordered by their place in the strides
                out[:, a:b, g:h] = patches[:, e:f, i:j]
            else:
                out[which, a:b, g:h] = patches[which, e:f, i:j]
    return out.permute(0, 3, 1, 2)
