"""Where the cells of an inner layer look in the image, and resampling of their maps accordingly.

A convolution of kernel k, padding p, stride s centres its cell j on input pixel s j + (k - 1) / 2 - p. With
odd kernels and
padding (k - 1) / 2 that is s j, the first pixel of the cell's own area: over five strides a map drawn "each
cell over its own
area" lies 15.5 of 224 pixels too far down and right (Araujo, Norris & Sim 2019, Computing Receptive Fields,
section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

Size = tuple[int, int]
_SPATIAL = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


@dataclass(frozen=True, slots=True)
class Lattice:
    """Centres of cells, in pixel centres of the input: first + step * index, for rows and columns."""

    first: tuple[float, float]
    step: tuple[float, float]


@dataclass
class Trace:
    """What changes the grid's size in a pass: input size -> {(output size, stride, offset)}."""

    steps: dict[Size, set[tuple[Size, Size, tuple[float, float]]]] = field(default_factory=dict)

    def lattice(self, image: Size, layer: Size) -> Lattice | None:
        """From the image to a layer of this size; None where a step is not known or not the same on all branches."""
        first, step, size = [0.0, 0.0], [1.0, 1.0], image
        while size != layer:
            known = self.steps.get(size, set())
            if len(known) != 1:
                return None
            size, stride, offset = next(iter(known))
            for axis in (0, 1):
                first[axis] += step[axis] * offset[axis]
                step[axis] *= stride[axis]
        return Lattice((first[0], first[1]), (step[0], step[1]))


_TRACES: WeakKeyDictionary[nn.Module, dict[Size, Trace]] = WeakKeyDictionary()


@contextmanager
def traced(network: nn.Module, image: Size) -> Iterator[Trace]:
    """Follow the passes of images of one size that are made inside. What a pass does to sizes is the same for all
    such images: it is followed once per network.
    """
    known = _TRACES.setdefault(network, {})
    if image in known:
        yield known[image]
        return
    trace = Trace()

    def hook(module: Any, args: Any, output: torch.Tensor) -> None:
        before, after = _size(args[0]), _size(output)
        if before == after:
            return
        kernel, stride, padding = (
            _pair(getattr(module, name)) for name in ("kernel_size", "stride", "padding")
        )
        dilation = _pair(getattr(module, "dilation", 1))
        offset = tuple(dilation[i] * (kernel[i] - 1) / 2 - padding[i] for i in (0, 1))
        trace.steps.setdefault(before, set()).add((after, stride, (offset[0], offset[1])))

    handles = [
        m.register_forward_hook(hook)
        for m in network.modules()
        if isinstance(m, _SPATIAL) and not isinstance(m.padding, str)
    ]
    try:
        yield trace
        known[image] = trace  # not where the pass was broken off
    finally:
        for handle in handles:
            handle.remove()


def cells(image: Size, layer: Size) -> Lattice:
    """Each cell over its own area: bilinear resampling with `align_corners=False`."""
    step = (image[0] / layer[0], image[1] / layer[1])
    return Lattice(((step[0] - 1) / 2, (step[1] - 1) / 2), step)


def to_image(values: npt.NDArray[np.float64], image: Size, lattice: Lattice) -> npt.NDArray[np.float64]:
    """Bilinear resampling of a cell map to the image; the outermost cells are held to the border."""
    for axis in (0, 1):
        low, high, share = _weights(values.shape[axis], image[axis], lattice.first[axis], lattice.step[axis])
        share = share.reshape((-1, 1) if axis == 0 else (1, -1))
        lower = values.take(low, axis)
        values = values.take(high, axis)
        values -= lower
        values *= share
        values += lower
    return values


@lru_cache(maxsize=64)
def _weights(
    cells: int, pixels: int, first: float, step: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """For each pixel of one axis the cells before and behind it and how far it is from the one towards the other."""
    place = np.clip((np.arange(pixels) - first) / step, 0, cells - 1)
    low = np.minimum(place.astype(np.int64), max(cells - 2, 0))
    return low, np.minimum(low + 1, cells - 1), place - low


def _size(x: torch.Tensor) -> Size:
    return int(x.shape[-2]), int(x.shape[-1])


def _pair(value: Any) -> Size:
    return (int(value), int(value)) if isinstance(value, int) else (int(value[0]), int(value[1]))
