"""Maps that know nothing of the model but are as smooth as a given one: what faithfulness is compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def of_same_smoothness(
    values: npt.NDArray[np.floating[Any]], valid: npt.NDArray[np.bool_], count: int, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """`count` surrogates (count, rows, columns) with the power spectrum of `values` and random phases, 0 where invalid.

    The map less its mean over the valid area is transformed, its amplitudes are kept, its phases are taken from white
    noise (so that the result is real), and the mean is put back (Theiler et al. 1992, surrogate data). Where everything is
    valid the spectrum is kept exactly.
    """
    inside = np.asarray(values, np.float64)
    mean = float(inside[valid].mean()) if valid.any() else 0.0
    amplitude = np.abs(np.fft.rfft2(np.where(valid, inside - mean, 0.0)))
    out = np.empty((count, *inside.shape), np.float32)
    for index in range(count):
        noise = np.fft.rfft2(rng.standard_normal(inside.shape))
        size = np.abs(noise)
        phase = np.divide(noise, size, out=np.ones_like(noise), where=size > 0)
        surrogate = np.fft.irfft2(amplitude * phase, s=inside.shape) + mean
        out[index] = np.where(valid, surrogate, 0.0)
    return out
