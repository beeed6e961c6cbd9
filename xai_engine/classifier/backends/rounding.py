"""Weights in bf16 whose rounding errors cancel in what a layer puts out on average.

Rounded one by one, a layer's weights shift each of its channels by the sum of their errors times what comes in on average, and on
every image alike: that shift is most of what bf16 does to a score. Batch normalisation knows what a channel is on average, so
no images are needed to put it right (Nagel et al. 2019, ICCV, Data-free quantization through weight equalization and bias correction). A bias
in bf16 is too coarse to take the correction up, so the weights do: after some were rounded, those that are left are moved to where
the layer's output is least off in expectation (the step of Frantar et al. 2023, ICLR, GPTQ, for inputs that vary independently
around their means).
"""

from __future__ import annotations

from collections.abc import Mapping
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from scipy.special import ndtr
from torch import fx, nn

from xai_engine.classifier.backends.nodes import bounds, is_sum

FloatArray = npt.NDArray[np.float64]
Moments = tuple[FloatArray, FloatArray]  # mean and variance of each channel

STEADY = 0.01  # of its squared mean: variance that a channel has at least, so that no weight is moved far for its sake
_KEEP = (
    nn.Identity,
    nn.Dropout,
    nn.Dropout2d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool2d,
)  # the mean, if not the variance

# by convolution of a graph that was written down: the moments of what comes in
_INPUTS: WeakKeyDictionary[nn.Conv2d, Moments] = WeakKeyDictionary()


def inputs(traced: fx.GraphModule) -> dict[str, Moments]:
    """By name of a convolution: what its input's channels are like on the images that the network was trained on, as far as batch
    normalisation tells. traced: with its batch normalisation still in it."""
    modules = dict(traced.named_modules())
    known: dict[fx.Node, Moments | None] = {}
    found: dict[str, Moments] = {}
    often: set[str] = set()  # one convolution on two inputs
    for node in traced.graph.nodes:
        sources = [known.get(n) for n in node.all_input_nodes]
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d):
            name = str(node.target)
            if sources[0] is not None and name not in often:
                found[name] = sources[0]
            if name in often:
                found.pop(name, None)
            often.add(name)
        known[node] = _put_out(node, module, modules, sources)
    return found


def _put_out(
    node: fx.Node, module: nn.Module | None, modules: dict[str, nn.Module], sources: list[Moments | None]
) -> Moments | None:
    if isinstance(module, nn.BatchNorm2d):
        if not module.affine:
            return np.zeros(module.num_features), np.ones(module.num_features)
        return _numbers(module.bias), _numbers(module.weight) ** 2
    told = [s for s in sources if s is not None]
    if not told or len(told) < len(sources):
        return None
    limits = bounds(node, modules)
    if limits is not None:
        return clamped(*told[0], *limits)
    if is_sum(node) and len(told) == 2 and told[0][0].shape == told[1][0].shape:
        return told[0][0] + told[1][0], told[0][1] + told[1][1]
    if node.target is torch.cat and 1 in (node.args[-1], node.kwargs.get("dim")):
        return np.concatenate([t[0] for t in told]), np.concatenate([t[1] for t in told])
    return told[0] if isinstance(module, _KEEP) else None


def clamped(mean: FloatArray, variance: FloatArray, low: float, high: float) -> Moments:
    """Mean and variance of normal values that a rectifier clamps to [low, high]."""
    sd = np.sqrt(np.maximum(variance, 1e-12))
    a, b = (low - mean) / sd, (high - mean) / sd
    inside, below, above = ndtr(b) - ndtr(a), ndtr(a), ndtr(-b)

    def density(z: FloatArray) -> FloatArray:
        return np.asarray(np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi))

    def edge(z: FloatArray) -> FloatArray:  # z times its density, 0 at infinity
        return np.where(np.isfinite(z), z, 0.0) * density(z)

    first = mean * inside + sd * (density(a) - density(b))
    second = (
        (mean**2 + sd**2) * inside + 2 * mean * sd * (density(a) - density(b)) + sd**2 * (edge(a) - edge(b))
    )
    for limit, share in ((low, below), (high, above)):
        if np.isfinite(limit):
            first, second = first + limit * share, second + limit**2 * share
    return first, np.maximum(second - first**2, 0.0)


def remember(graph: fx.GraphModule, found: Mapping[str, Moments]) -> None:
    """What comes into the convolutions of a graph; parts of it that share them know it, too."""
    for name, moments in found.items():
        module = graph.get_submodule(name)
        if isinstance(module, nn.Conv2d) and len(moments[0]) == module.in_channels:
            _INPUTS[module] = moments


def constants(graph: fx.GraphModule) -> dict[str, npt.NDArray[np.float32]]:
    """Weights and biases of the convolutions, all of them numbers of bf16, by the names that `writer` gives these constants. Those of which
    nothing is known are not among them."""
    found = {}
    modules = dict(graph.named_modules())
    for node in graph.graph.nodes:
        module = modules.get(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Conv2d) and module in _INPUTS:
            weight, bias = rounded(module, _INPUTS[module])
            found[f"{node.name}.weight"] = weight
            if module.bias is not None:
                found[f"{node.name}.bias"] = bias
    return found


def rounded(module: nn.Conv2d, moments: Moments) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(weights, biases) of bf16, the weights shaped as the module's; without a bias it is 0. moments: of its input's channels."""
    groups, outputs = module.groups, module.out_channels
    weight = _numbers(module.weight).reshape(groups, outputs // groups, -1)
    bias = np.zeros(outputs) if module.bias is None else _numbers(module.bias)
    taps = weight.shape[2] // (module.in_channels // groups)
    mean, variance = (np.repeat(m.reshape(groups, 1, -1), taps, axis=2) for m in moments)
    variance = np.maximum(variance, STEADY * mean**2) + 1e-12
    pull, weigh = mean / variance, mean**2 / variance
    bias_found = _bf16(bias)
    off = (bias_found - bias).reshape(groups, -1, 1)  # of the mean of what each channel puts out
    found, left = np.zeros_like(weight), np.arange(weight.shape[2])
    while len(left):  # half of those that are left at a time
        now, strength = left[::2], 1.0 + weigh[:, :, left].sum(2, keepdims=True)
        found[:, :, now] = _bf16(weight[:, :, now] - off * pull[:, :, now] / strength)
        off = off + ((found[:, :, now] - weight[:, :, now]) * mean[:, :, now]).sum(2, keepdims=True)
        left = left[1::2]
    return found.reshape(tuple(module.weight.shape)).astype(np.float32), bias_found.astype(np.float32)


def _bf16(values: FloatArray) -> FloatArray:
    """To the nearest number of bf16."""
    return np.asarray(torch.from_numpy(np.ascontiguousarray(values)).bfloat16().double().numpy())


def _numbers(values: torch.Tensor) -> FloatArray:
    return np.asarray(values.detach().double().numpy())
