"""MixStyle: feature statistics of early layers are mixed between the images of a batch (Zhou et al., ICLR 2021).

Mean and deviation of early features carry what a detector and its processing do to an image, not what is wrong with
the patient; mixing them takes away the clue that one class was recorded differently from the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


def mix(features: torch.Tensor, alpha: float) -> torch.Tensor:
    """Features (n, c, h, w) with the statistics of another image of the batch mixed in, one Beta(alpha, alpha) share each."""
    x = features.float()
    mean = x.mean((2, 3), keepdim=True)
    deviation = (x.var((2, 3), keepdim=True) + 1e-6).sqrt()
    normalised = (x - mean.detach()) / deviation.detach()
    share = torch.distributions.Beta(alpha, alpha).sample((len(x), 1, 1, 1)).to(x.device)
    partner = torch.randperm(len(x)).to(x.device)
    mean = (share * mean + (1 - share) * mean[partner]).detach()
    deviation = (share * deviation + (1 - share) * deviation[partner]).detach()
    return (normalised * deviation + mean).to(features.dtype)


@contextmanager
def mixing(layers: Sequence[nn.Module], chance: float, alpha: float = 0.1) -> Iterator[None]:
    """While open, each of the layers mixes the styles of a training batch with probability `chance`.

    Draws from torch's global generator, whose state is part of a checkpoint. Hooks are gone afterwards.
    """

    def hook(module: nn.Module, inputs: Any, output: torch.Tensor) -> torch.Tensor | None:
        if not module.training or float(torch.rand(())) >= chance:
            return None
        return mix(output, alpha)

    handles = [layer.register_forward_hook(hook) for layer in layers] if chance > 0 else []
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
