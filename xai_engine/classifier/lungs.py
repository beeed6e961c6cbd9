"""Where the lungs are: a small U-Net and the geometry that follows from its answer."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xai_engine.classifier import preprocess
from xai_engine.radiograph.geometry import GridTransform

SIZE = 128  # side of the U-Net's grid
SPEC = preprocess.PreprocessSpec(size=SIZE, margin=0.0)


@dataclass(frozen=True, slots=True, eq=False)
class LungFields:
    """Lung probability on the letterboxed grid, and what was made of it.

    probability: float32 (128, 128). mask: bool, the (at most two) lungs after cleaning.
    box: top, left, bottom, right in source pixels; None where no lungs were found.
    areas: share of the valid grid of each lung, image-left lung first (0 where missing).
    """

    probability: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    transform: GridTransform
    box: tuple[float, float, float, float] | None
    areas: tuple[float, float]

    def placed(self, top: int, left: int, shape: tuple[int, int]) -> LungFields:
        """The same lungs in an image of `shape`, of which theirs was the part from row `top` and column `left` on."""
        frame = self.transform
        moved = replace(
            frame,
            origin_row=frame.origin_row + top,
            origin_column=frame.origin_column + left,
            source_shape=shape,
        )
        box = self.box and (self.box[0] + top, self.box[1] + left, self.box[2] + top, self.box[3] + left)
        return replace(self, transform=moved, box=box)

    def in_grid(self, transform: GridTransform) -> npt.NDArray[np.float32]:
        """Lung probability sampled on another grid over the same image, 0 outside."""
        rows = transform.origin_row + (np.arange(transform.grid_shape[0]) + 0.5) * transform.scale_row
        columns = (
            transform.origin_column + (np.arange(transform.grid_shape[1]) + 0.5) * transform.scale_column
        )
        y = (rows - self.transform.origin_row) / self.transform.scale_row - 0.5
        x = (columns - self.transform.origin_column) / self.transform.scale_column - 0.5
        map_x, map_y = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
        return cv2.remap(
            self.probability * self.mask,
            map_x,
            map_y,
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=0,
        )


class LungFinder:
    """Runs the U-Net; holds no other state."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    def prepare(
        self, grey: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], aspect: float = 1.0
    ) -> tuple[npt.NDArray[np.float32], GridTransform, npt.NDArray[np.bool_]]:
        """Input (128, 128) of the U-Net for one upright grey image."""
        transform = preprocess.letterbox((grey.shape[0], grey.shape[1]), SIZE, aspect)
        small, inside = preprocess.sample(grey, valid, transform)
        return preprocess.standardise(small, inside, SPEC), transform, inside

    def find(
        self, images: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], float]]
    ) -> list[LungFields]:
        """Lung fields of images given as (grey, valid, pixel aspect)."""
        prepared = [self.prepare(*image) for image in images]
        device = next(self.network.parameters()).device
        out: list[LungFields] = []
        with torch.inference_mode():
            for start in range(0, len(prepared), 32):
                part = prepared[start : start + 32]
                batch = torch.from_numpy(np.stack([p[0] for p in part])[:, None]).to(device)
                probability = torch.sigmoid(self.network(batch)[:, 0]).float().cpu().numpy()
                out += [tidy(p, t, inside) for p, (_, t, inside) in zip(probability, part, strict=True)]
        return out


def tidy(
    probability: npt.NDArray[np.float32], transform: GridTransform, inside: npt.NDArray[np.bool_]
) -> LungFields:
    """Keep the two largest pieces (each at least 1 % of the image) and draw the box around them."""
    binary = ((probability > 0.5) & inside).astype(np.uint8)
    count, labels, stats, centres = cv2.connectedComponentsWithStats(binary, connectivity=4)
    total = max(int(inside.sum()), 1)
    order = sorted(range(1, count), key=lambda i: -int(stats[i, cv2.CC_STAT_AREA]))
    keep = [i for i in order[:2] if stats[i, cv2.CC_STAT_AREA] >= 0.01 * total]
    mask = np.isin(labels, keep) if keep else np.zeros_like(inside)
    if not keep:
        return LungFields(probability, mask, transform, None, (0.0, 0.0))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = transform.to_source(float(rows[0]), float(columns[0]))
    bottom, right = transform.to_source(float(rows[-1] + 1), float(columns[-1] + 1))
    shares = [float(stats[i, cv2.CC_STAT_AREA]) / total for i in keep]
    if len(keep) == 2:
        left_first = sorted(range(2), key=lambda j: centres[keep[j]][0])
        areas = (shares[left_first[0]], shares[left_first[1]])
    else:
        middle = (columns[0] + columns[-1]) / 2
        areas = (shares[0], 0.0) if middle < inside.shape[1] / 2 else (0.0, shares[0])
    return LungFields(probability, mask, transform, (top, left, bottom, right), areas)
