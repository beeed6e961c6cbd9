"""Copies of a network whose weights have been replaced by chance, from the output down (Adebayo et al. 2018, NeurIPS)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from xai_engine.classifier.backends.base import fingerprint
from xai_engine.explain.protocol import Explainable

How = Literal["redrawn", "shuffled"]

CALIBRATION = 8  # random images on which batch norm statistics of a copy are measured

_KEPT: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], nn.Module]] = WeakKeyDictionary()
_MOST = 24  # copies kept per model


def layers(network: nn.Module) -> list[nn.Module]:
    """Modules with weights of their own, in the order of definition, which is taken for the order of computation."""
    return [m for m in network.modules() if any(p.is_floating_point() for p in m.parameters(recurse=False))]


def can_randomise(network: nn.Module) -> bool:
    return any(p.ndim > 1 and p.is_floating_point() and bool(p.any()) for p in network.parameters())


def randomised(
    classifier: Explainable,
    share: float,
    seed: int,
    stream: int,
    tick: Callable[[], object] = lambda: None,
    how: How = "redrawn",
) -> Explainable:
    """A classifier like `classifier` whose last `share` (0, 1] of the layers has random weights.

    Weights are redrawn from a normal distribution of the same root mean square, vectors (biases, norms) are permuted; batch
    norm statistics of those layers are measured anew on random images, or activations would die out or explode.
    "shuffled" permutes every tensor and leaves the statistics as they are. The original is not touched; copies are kept per model. `tick` is called between layers and may raise.
    """
    kept = _KEPT.setdefault(classifier.network, {})
    key = (share, seed, stream, how, classifier.device, fingerprint(classifier.network))
    if key not in kept:
        network = _copy(classifier, share, np.random.default_rng([seed, 7, stream]), tick, how)
        while len(kept) >= _MOST:
            kept.pop(next(iter(kept)))
        kept[key] = network
    other = copy.copy(classifier)
    other.network = kept[key]
    return other


def _copy(
    classifier: Explainable, share: float, rng: np.random.Generator, tick: Callable[[], object], how: How
) -> nn.Module:
    network = copy.deepcopy(classifier.network).eval()
    for module in network.modules():  # a user's hooks are no part of the model
        for hooks in (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks):
            hooks.clear()
    found = layers(network)
    chosen = found[len(found) - max(1, round(share * len(found))) :]
    norms = [m for m in chosen if isinstance(m, _BatchNorm) and m.track_running_stats and how == "redrawn"]
    anew = _redrawn if how == "redrawn" else _shuffled
    with torch.no_grad():
        for module in chosen:
            tick()
            for p in module.parameters(recurse=False):
                p.requires_grad_(False)
                p.grad = None
                if p.is_floating_point():
                    p.copy_(torch.from_numpy(anew(p.detach().float().cpu().numpy(), rng)).to(p.dtype))
        if norms:
            momenta = [m.momentum for m in norms]
            for m in norms:
                m.reset_running_stats()
                m.momentum = None  # plain average
                m.train()
            images = _random_images(classifier.info.input_shape, rng).to(classifier.device)
            handles = [m.register_forward_pre_hook(lambda *_: tick() and None) for m in norms]
            try:
                network(images)
            finally:
                for handle in handles:
                    handle.remove()
                for m, momentum in zip(norms, momenta, strict=True):
                    m.eval()
                    m.momentum = momentum
    return network


def _redrawn(weights: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    if weights.ndim < 2:
        return rng.permutation(weights) if weights.ndim else weights
    size = float(np.sqrt(np.mean(np.square(weights, dtype=np.float64))))
    return (size * rng.standard_normal(weights.shape)).astype(np.float32)


def _shuffled(weights: np.ndarray[Any, Any], rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return rng.permutation(weights.ravel()).reshape(weights.shape)


def _random_images(shape: tuple[int, int, int], rng: np.random.Generator) -> torch.Tensor:
    """Standardised noise with the 1/f amplitudes of natural images, the same in all channels."""
    rows, columns = shape[1], shape[2]
    frequency = np.hypot(np.fft.fftfreq(rows)[:, None], np.fft.rfftfreq(columns)[None])
    frequency[0, 0] = np.inf
    out = np.empty((CALIBRATION, *shape), np.float32)
    for image in out:
        noise = np.fft.irfft2(
            np.fft.rfft2(rng.standard_normal((rows, columns))) / frequency, s=(rows, columns)
        )
        image[:] = noise / noise.std()
    return torch.from_numpy(out)
