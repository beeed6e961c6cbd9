"""Images that stand for "nothing there". All equal the input where it is padding, so that padding gets no
attribution.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from xai_engine.explain.session import Session


def baseline(session: Session, kind: str, sigma: float) -> torch.Tensor:
    """(1, channels, rows, columns) in network units. kind: black, white, mean, blurred or zero; sigma in grid pixels.

    Black is what a black pixel of this image becomes for the network: its smallest valid value; white its largest. Zero would be wrong:
    inputs are standardised, and zero is their mean. Mean and blurred count valid pixels only. Both are computed in float64: what they round to
    does not depend on the number of threads, and reduced precision would make much of a last digit.
    """
    x, valid = session.x, session.valid
    if kind == "zero" or not bool(valid.any()):
        out = torch.zeros_like(x)
    elif kind == "black":
        out = x[..., valid].amin(-1)[..., None, None].expand_as(x)
    elif kind == "white":
        out = x[..., valid].amax(-1)[..., None, None].expand_as(x)
    elif kind == "mean":
        out = x[..., valid].double().mean(-1)[..., None, None].to(x.dtype).expand_as(x)
    elif kind == "blurred":
        out = blurred(x, valid, sigma)
    else:
        raise ValueError(f"no baseline {kind!r}")
    return torch.where(valid, out, x)


def random_baseline(session: Session, rng: np.random.Generator, noise: float) -> torch.Tensor:
    """A flat image of the grey of a random valid pixel, or the image blurred by 4 to 32 grid pixels; with Gaussian noise.

    noise: standard deviation, of the image's grey range.
    """
    x, valid = session.x, session.valid
    inside = x[..., valid] if bool(valid.any()) else x.flatten(2)
    kind, grey, sigma = (float(v) for v in rng.random(3))
    flat = inside[0, :, int(grey * inside.shape[-1])][None, :, None, None].expand_as(x)
    base = flat if kind < 0.5 else blurred(x, valid, 4.0 * 8.0**sigma)
    drawn = torch.from_numpy(rng.standard_normal(x.shape, dtype=np.float32)).to(x.device)
    return torch.where(valid, base + float(inside.max() - inside.min()) * noise * drawn, x)


def blurred(x: torch.Tensor, valid: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur over the valid pixels only (normalised convolution); edges and padding take no part."""
    weight = valid.double().expand(1, 1, *valid.shape)
    mass = _gaussian(weight, sigma)
    out = _gaussian(x.double() * weight, sigma) / mass.clamp_min(1e-12)
    return torch.where(valid, out.to(x.dtype), x)


def _gaussian(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Separable Gaussian, cut at four standard deviations, zeros outside. As two products with banded matrices: twenty
    times as fast as convolutions with kernels as long as this.
    """
    if sigma <= 0:
        return x
    rows, columns = (_band(int(size), sigma).to(x) for size in x.shape[2:])
    return rows @ x @ columns


@lru_cache(maxsize=16)
def _band(size: int, sigma: float) -> torch.Tensor:
    """(size, size) float64: nobody may change it."""
    radius = max(1, int(4.0 * sigma + 0.5))
    total = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / sigma) ** 2).sum()
    places = torch.arange(size, dtype=torch.float64)
    apart = places[:, None] - places
    return torch.exp(-0.5 * (apart / sigma) ** 2) / total * (apart.abs() <= radius)
