"""What the nodes of a traced network do, for those who write their own passes through it."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional as F

Score = Callable[[torch.Tensor], torch.Tensor]  # (n, outputs) -> (n,)
Looked = Callable[[int], None]  # images done since the last call; whatever it raises ends the work

_SUMS: set[Any] = {operator.add, operator.iadd, torch.add, torch.Tensor.add, torch.Tensor.add_, "add", "add_"}
_RECTIFIERS: set[Any] = {F.relu, torch.relu, torch.relu_, F.relu_, "relu", "relu_"}


def is_sum(node: fx.Node) -> bool:
    """Of two results of the network, as it is."""
    tensors = len(node.args) == 2 and all(isinstance(a, fx.Node) for a in node.args)
    return (
        node.op in ("call_function", "call_method") and node.target in _SUMS and tensors and not node.kwargs
    )


def bounds(node: fx.Node, modules: dict[str, nn.Module]) -> tuple[float, float] | None:
    """What a rectifier clamps to; None for anything else."""
    if node.op == "call_module":
        module = modules[str(node.target)]
        if isinstance(module, nn.Hardtanh):  # and ReLU6
            return float(module.min_val), float(module.max_val)
        return (0.0, float("inf")) if isinstance(module, nn.ReLU) else None
    if node.op in ("call_function", "call_method"):
        if node.target in _RECTIFIERS:
            return 0.0, float("inf")
        if node.target is F.relu6:
            return 0.0, 6.0
    return None


@dataclass(frozen=True, slots=True, eq=False)
class WayBack:
    """What a convolution with zeros around does to a gradient: at stride 1 it is a convolution with the kernel turned by 180°
    and its channels exchanged, else a transposed convolution.

    turned: that kernel, None where the convolution is to be transposed; around: the zeros around it, (rows, columns).
    """

    module: nn.Conv2d
    reach: tuple[int, int]
    around: tuple[int, int]
    turned: torch.Tensor | None

    @staticmethod
    def of(module: nn.Conv2d) -> WayBack:
        weight, groups = module.weight.detach(), module.groups
        outputs, inputs, *kernel = weight.shape
        reach = tuple(module.dilation[i] * (kernel[i] - 1) for i in (0, 1))
        around = tuple(reach[i] - int(module.padding[i]) for i in (0, 1))
        turned = None
        if tuple(module.stride) == (1, 1) and min(around) >= 0:
            turned = weight.reshape(groups, outputs // groups, inputs, *kernel).transpose(1, 2)
            turned = turned.reshape(groups * inputs, outputs // groups, *kernel).flip(2, 3)
        return WayBack(module, (reach[0], reach[1]), (around[0], around[1]), turned)

    def left(self, image: Sequence[int], gradient: Sequence[int]) -> list[int]:
        """Rows and columns of the image that the transposed convolution does not reach from the gradient's (output padding)."""
        m = self.module
        return [
            image[i] - ((gradient[i] - 1) * m.stride[i] - 2 * int(m.padding[i]) + self.reach[i] + 1)
            for i in (0, 1)
        ]
