"""Colour to grey."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def luminance(rgb: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Rec. 601 luma, 0.299 R + 0.587 G + 0.114 B, rounded. (rows, columns, 3) to (rows, columns), dtype kept.

    In strips: a 50-megapixel photograph needs no 600 MB of intermediate values. Grey input is kept exactly.
    """
    out = np.empty(rgb.shape[:2], rgb.dtype)
    if np.issubdtype(rgb.dtype, np.floating):
        for top in range(0, rgb.shape[0], 256):
            strip = rgb[top : top + 256].astype(np.float64)
            out[top : top + 256] = 0.299 * strip[..., 0] + 0.587 * strip[..., 1] + 0.114 * strip[..., 2]
        return out
    for top in range(0, rgb.shape[0], 256):
        strip = rgb[top : top + 256].astype(np.int64)
        out[top : top + 256] = (299 * strip[..., 0] + 587 * strip[..., 1] + 114 * strip[..., 2] + 500) // 1000
    return out
