"""A network's operations written for OpenVINO node by node, in hundredths of a second: converting the same network traces it,
takes a hundred times as long and holds Python's lock meanwhile. What is not known here raises Unavailable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from xai_engine.classifier.backends.base import Unavailable
from xai_engine.classifier.backends.nodes import bounds, is_sum

Array = npt.NDArray[np.float32]


class Writer:
    """A network's operations as OpenVINO's, of one image; `model` takes any number.

    values: what each node puts out; nodes: those between input and output, in order.
    """

    def __init__(self, network: fx.GraphModule, shape: tuple[int, ...]) -> None:
        """network: traced, frozen, in eval mode, on the CPU. shape: of one image. Raises Unavailable."""
        from openvino import opset13

        self.ops = opset13
        self.modules = dict(network.named_modules())
        self.values: dict[fx.Node, Any] = {}
        self.nodes: list[fx.Node] = []
        for node in network.graph.nodes:
            if node.op == "placeholder":
                if self.values:
                    raise Unavailable("the network has more than one input")
                self.first = node
                self.values[node] = self.input = self.ops.parameter([1, *shape], np.float32)
            elif node.op == "output":
                self.last = node.args[0]
            else:
                self.nodes.append(node)
                self.values[node] = self._forward(node)
        if not isinstance(self.last, fx.Node):
            raise Unavailable("the network puts out more than one thing")

    def model(self) -> Any:
        """openvino.Model: (n, *shape) -> what the network puts out."""
        import openvino

        found = openvino.Model([self.ops.result(self.values[self.last])], [self.input])
        found.reshape([-1, *list(self.input.get_output_shape(0))[1:]])
        return found

    def _forward(self, node: fx.Node) -> Any:
        module = self.module(node)
        inputs = [self.values.get(n) for n in node.all_input_nodes]
        if not inputs or inputs[0] is None:
            raise Unavailable(f"{node.name}: takes no result of the network")
        x = inputs[0]
        if isinstance(module, nn.Conv2d):
            return self._convolution(node.name, module, x)
        limits = bounds(node, self.modules)
        if limits is not None:
            return self.ops.clamp(x, *limits) if limits[1] < float("inf") else self.ops.relu(x)
        if is_sum(node) and all(v is not None for v in inputs):
            terms = [self.values[n] for n in both(node)]
            if terms[0].output(0).get_shape() != terms[1].output(0).get_shape():
                raise Unavailable(f"{node.name}: adds tensors of unlike shapes")
            return self.ops.add(*terms)
        if isinstance(module, (nn.Identity, nn.Dropout)):  # in eval mode
            return x
        if isinstance(module, nn.Linear):
            product = self.ops.matmul(x, self.constant(module.weight), False, True)
            return product if module.bias is None else self.ops.add(product, self.constant(module.bias))
        if is_pooled(node, module) or is_mean(node):
            return self.ops.reduce_mean(x, self.integers([2, 3]), is_pooled(node, module))
        if is_flat(node, module):
            return self.ops.reshape(x, self.integers([0, -1]), True)  # 0: as many images as there are
        return self._forward_only(node, module, x)

    def _forward_only(self, node: fx.Node, module: nn.Module | None, x: Any) -> Any:
        """Operations whose way back is not written."""
        ops = self.ops
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            scale = torch.rsqrt(_kept(module.running_var) + module.eps)
            scale = scale * module.weight if module.affine else scale
            offset = (module.bias if module.affine else 0.0) - module.running_mean * scale
            scaled = ops.multiply(x, self.constant(scale.reshape(1, -1, 1, 1)))
            return ops.add(scaled, self.constant(offset.reshape(1, -1, 1, 1)))
        if isinstance(module, nn.MaxPool2d) and not (
            module.ceil_mode or module.return_indices or _two(module.dilation) != [1, 1]
        ):
            from openvino import opset1  # of one output; the later ones say where the largest were, too

            around = _two(module.padding)
            return opset1.max_pool(x, _two(module.stride), around, around, _two(module.kernel_size))
        if isinstance(module, nn.AvgPool2d) and not module.ceil_mode and not module.divisor_override:
            around = _two(module.padding)
            about = (_two(module.stride), around, around, _two(module.kernel_size))
            return ops.avg_pool(x, *about, exclude_pad=not module.count_include_pad)
        if isinstance(module, nn.SiLU) or node.target is F.silu:
            return ops.swish(x)
        if isinstance(module, nn.Sigmoid) or node.target is torch.sigmoid:
            return ops.sigmoid(x)
        if isinstance(module, nn.Hardswish):
            return ops.hswish(x)
        if node.target is torch.cat and isinstance(node.args[0], (list, tuple)):
            axis = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim", 0)
            parts = [self.values[n] for n in node.args[0] if isinstance(n, fx.Node)]
            if axis == 1 and len(parts) == len(node.args[0]):
                return ops.concat(parts, 1)
        raise Unavailable(f"{node.name}: an operation that is not known here")

    def _convolution(self, name: str, module: nn.Conv2d, x: Any) -> Any:
        """Its constants' names are those of `rounding.constants`."""
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise Unavailable("a convolution with padding that is not known here")
        stride, padding, dilation = (list(n) for n in (module.stride, module.padding, module.dilation))
        way, kernel = self.kernel(numbers(module.weight), module.groups)
        kernel.set_friendly_name(f"{name}.weight")
        y = way(x, kernel, stride, padding, padding, dilation)
        if module.bias is None:
            return y
        bias = self.constant(module.bias.reshape(1, -1, 1, 1))
        bias.set_friendly_name(f"{name}.bias")
        return self.ops.add(y, bias)

    def kernel(self, weight: Array, groups: int, back: bool = False) -> tuple[Any, Any]:
        """The operation and its kernel; weight: (outputs, inputs per group, rows, columns)."""
        if groups == 1:
            way = self.ops.convolution_backprop_data if back else self.ops.convolution
            return way, self.constant(weight)
        way = self.ops.group_convolution_backprop_data if back else self.ops.group_convolution
        return way, self.constant(weight.reshape(groups, len(weight) // groups, *weight.shape[1:]))

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(int(n) for n in self.values[node].output(0).get_shape())

    def module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def constant(self, values: torch.Tensor | npt.NDArray[Any]) -> Any:
        return self.ops.constant(numbers(values))

    def integers(self, values: Sequence[int]) -> Any:
        return self.ops.constant(np.array(values, np.int64))


def _two(value: int | tuple[int, ...]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(v) for v in value]


def _kept(statistics: torch.Tensor | None) -> torch.Tensor:
    assert statistics is not None  # asked before
    return statistics


def numbers(values: torch.Tensor | npt.NDArray[Any]) -> Array:
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    return np.ascontiguousarray(values, np.float32)


def both(node: fx.Node) -> list[fx.Node]:
    """The terms of a sum; the same one twice, where it is added to itself."""
    return [n for n in node.args if isinstance(n, fx.Node)]


def is_pooled(node: fx.Node, module: nn.Module | None) -> bool:
    """The mean over all rows and columns, which stay as one each."""
    if module is not None:
        return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))
    return node.target is F.adaptive_avg_pool2d and node.args[1:] in ((1,), ((1, 1),)) and not node.kwargs


def is_mean(node: fx.Node) -> bool:
    """The mean over all rows and columns, which are gone."""
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    plain = node.target in ("mean", torch.mean) and not node.kwargs.keys() - {"dim"} and len(node.args) <= 2
    return plain and isinstance(axes, (tuple, list)) and sorted(int(a) % 4 for a in axes) == [2, 3]


def is_flat(node: fx.Node, module: nn.Module | None) -> bool:
    """Everything of an image in one row."""
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    return node.target in (torch.flatten, "flatten") and node.args[1:] == (1,) and not node.kwargs
