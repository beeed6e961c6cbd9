"""What the nodes of a traced network do, for those who write their own passes through it."""

from __future__ import annotations

import operator
from collections.abc import Callable
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
