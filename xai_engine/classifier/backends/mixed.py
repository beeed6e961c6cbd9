"""An OpenVINO model whose later convolutions compute in bf16, the first ones and what follows the last in fp32.

Rounding to bf16 does most of its harm at the entrance: what is lost on the finest grid, in few channels, passes through
everything behind. On the shipped network the first three of 49 convolutions carry nine tenths of the variance of bf16's
error, for 4 % of the multiplications and a tenth of the time (docs/decisions/0009). So they stay in fp32. The CPU plugin
keeps types that are written down: it is told fp32, and computes in bf16 where the model says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

FIRST = 0.05  # share of the multiplications that stays in fp32, at the entrance
_CONVOLUTIONS = ("Convolution", "GroupConvolution")
_SOURCES = ("Constant", "Parameter", "Result")


def mixed(
    model: Any, fp32: float = FIRST, constants: Mapping[str, npt.NDArray[np.float32]] | None = None
) -> Any | None:
    """A copy of an openvino.Model; None where it has no two convolutions or its shapes are not known but for the images.

    fp32: share of the multiplications that stays so, at the entrance; 0 for a network whose entrance is another's work.
    constants: by name, those that were rounded already, see `rounding`; all others are rounded to the nearest.
    Raises whatever OpenVINO raises on a model whose operations do not allow it.
    """
    from openvino import Type, opset13

    copied = model.clone()
    order = list(copied.get_ordered_ops())
    found = [index for index, node in enumerate(order) if node.get_type_name() in _CONVOLUTIONS]
    if any(node.get_output_partial_shape(0).rank.is_dynamic for node in (order[i] for i in found)):
        return None
    costs = [_multiplications(order[index]) for index in found]
    if len(found) < 2 or None in costs:
        return None
    first, spent = 0, 0.0
    for index, cost in zip(found, costs, strict=True):
        spent += float(cost or 0.0)
        if spent > fp32 * sum(float(c or 0.0) for c in costs):
            first = index
            break
    between = order[first : found[-1] + 1]
    low = {node.get_friendly_name() for node in between if node.get_type_name() not in _SOURCES}
    converted: dict[tuple[str, int, str], Any] = {}
    for node in order:
        if node.get_type_name() in ("Constant", "Parameter"):
            continue
        inside = node.get_friendly_name() in low
        for entry in node.inputs():
            source = entry.get_source_output()
            name = source.get_node().get_friendly_name()
            if source.get_element_type() not in (Type.f32, Type.bf16) or (name in low) == inside:
                continue
            key = (name, source.get_index(), "bf16" if inside else "f32")
            if key not in converted:
                if inside and source.get_node().get_type_name() == "Constant":
                    source = opset13.constant(_rounded(source.get_node(), constants or {})).output(0)
                converted[key] = opset13.convert(source, key[2]).output(0)
            entry.replace_source_output(converted[key])
    copied.validate_nodes_and_infer_types()
    return copied


def _rounded(node: Any, constants: Mapping[str, npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Numbers of bf16: OpenVINO itself cuts a constant's digits off, which makes all weights smaller and, on the shipped network,
    doubles the error of the scores.
    """
    values = np.array(node.data, np.float32)
    known = constants.get(node.get_friendly_name())
    if known is not None:
        return known.reshape(values.shape)
    return np.asarray(torch.from_numpy(values).bfloat16().float().numpy())


def _multiplications(node: Any) -> float | None:
    """Of a convolution, for one image."""
    out, weight = node.get_output_partial_shape(0), node.input_value(1).get_partial_shape()
    each = list(weight)[2 if node.get_type_name() == "GroupConvolution" else 1 :]
    sizes = [*list(out)[1:], *each]
    if any(size.is_dynamic for size in sizes):
        return None
    return float(prod(size.get_length() for size in sizes))
