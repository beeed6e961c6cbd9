"""Which parts of the image each place of an early activation sees, by the operations in between.

A convolution, a pooling or a sum looks at a few places of what it is given, so a change under a window or a superpixel
changes only the places whose receptive field meets it. Operations that are not known here may look anywhere: the walk ends
before them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

AGREEMENT = 1e-5  # of 1 + |score|, between images computed both ways

ALIKE = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.Identity,
)  # fmt: skip
ALIKE_FUNCTIONS = (F.relu, F.relu6, F.silu, F.gelu, F.softplus, torch.relu, torch.tanh, torch.sigmoid)
ADDS = (operator.add, operator.iadd, torch.add)

Size = int | tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Sight:
    """A node of a network that was written down, and what its places see.

    seen: (parts, 1, rows, columns), 1 where the value depends on what the part of the image shows, else 0; the same object for nodes
    that see the same. channels: of its value. multiplications: of all convolutions up to it, for one image.
    """

    node: fx.Node
    seen: torch.Tensor
    channels: int
    multiplications: float


class _Unknown(Exception):
    """An operation of which it is not known what it sees."""


def walk(graph: fx.GraphModule, parts: npt.NDArray[np.bool_], channels: int) -> Iterator[Sight]:
    """From the first operation to the last one that is known. parts: (parts, rows, columns) of the image, which has `channels`."""
    seen: dict[fx.Node, torch.Tensor] = {}
    deep: dict[fx.Node, int] = {}
    spent = 0.0
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            seen[node], deep[node] = torch.from_numpy(parts)[:, None].float(), channels
            continue
        try:
            seen[node] = _seen(graph, node, seen)
        except _Unknown:
            return
        deep[node] = _channels(graph, node, deep)
        module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            spent += float(seen[node].shape[2] * seen[node].shape[3] * prod(module.weight.shape))
        yield Sight(node, seen[node], deep[node], spent)


def _seen(graph: fx.GraphModule, node: fx.Node, seen: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
    sources = [seen[n] for n in node.all_input_nodes if n in seen]
    if not sources or len(sources) < len(node.all_input_nodes):
        raise _Unknown
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ):
        return _widened(sources[0], module.kernel_size, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.MaxPool2d) and not module.ceil_mode and not module.return_indices:
        return _widened(sources[0], module.kernel_size, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.AvgPool2d) and not module.ceil_mode:
        return _widened(sources[0], module.kernel_size, module.stride, module.padding, 1)
    if isinstance(module, ALIKE):
        return sources[0]
    if node.op == "call_function" and not set(node.kwargs) - {"inplace", "dim"}:
        if node.target in ALIKE_FUNCTIONS and len(node.args) == 1:
            return sources[0]
        joined = node.target in ADDS or (
            node.target is torch.cat and 1 in (node.args[-1], node.kwargs.get("dim"))
        )
        if joined and all(s.shape == sources[0].shape for s in sources):
            return torch.stack(sources).amax(0)
    raise _Unknown


def _channels(graph: fx.GraphModule, node: fx.Node, channels: dict[fx.Node, int]) -> int:
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    if node.target is torch.cat:
        return sum(channels[n] for n in node.all_input_nodes)
    return channels[node.all_input_nodes[0]]


def _pair(value: Size) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[1]))


def _widened(seen: torch.Tensor, kernel: Size, stride: Size, padding: Size, dilation: Size) -> torch.Tensor:
    if _pair(kernel) == _pair(stride) == (1, 1) and _pair(padding) == (0, 0):
        return seen
    rows, columns = _pair(padding)
    around = F.pad(seen, (columns, columns, rows, rows))
    return F.max_pool2d(around, _pair(kernel), _pair(stride), 0, _pair(dilation))
