"""Augmentation: what may differ between two radiographs of the same chest without changing the finding.

MONAI transforms do the geometry and most of the intensity work; the ones of our own take shortcuts away (burned-in
letters, borders, everything outside the lungs). Every draw follows from (seed, epoch, index), so that a run that was
killed goes on exactly as if it had not been.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from monai.transforms.intensity.array import (
    RandAdjustContrast,
    RandBiasField,
    RandGaussianNoise,
    RandHistogramShift,
)
from monai.transforms.spatial.array import RandAffine
from monai.transforms.transform import Randomizable

from xai_engine.classifier.preprocess import PreprocessSpec, chest_field, standardise

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class AugmentSpec:
    """Strengths. rotate: degrees; scale: relative; shift: share of the side; gamma: widest power of the grey values;
    the p_… are probabilities per image. p_field: only the chest field is shown (where the bundle does so), grown by a
    random reach; p_outside: only the lungs, or these and what lies between them."""

    rotate: float = 12.0
    shear: float = 0.06
    scale: float = 0.16
    shift: float = 0.05
    p_flip: float = 0.0
    p_contrast: float = 0.7
    p_histogram: float = 0.3
    p_bias: float = 0.3
    p_noise: float = 0.4
    p_blur: float = 0.3
    p_marker: float = 0.4
    p_erase: float = 0.3
    p_outside: float = 0.5
    p_field: float = 0.0
    p_local: float = 0.0
    p_coarse: float = 0.0
    gamma: float = 1.7


class Augment(Randomizable):
    """Random view of one image. The output of `size` pixels shows the central 1 / `zoom` of the stored square."""

    def __init__(self, spec: AugmentSpec, size: int, preprocess: PreprocessSpec, zoom: float) -> None:
        self.spec = spec
        self.size = size
        self.preprocess = preprocess
        turn = float(np.deg2rad(spec.rotate))
        self.affine = RandAffine(
            prob=1.0,
            rotate_range=turn,
            shear_range=(spec.shear, spec.shear),
            # one entry per axis: MONAI applies a lone number to the first axis only
            translate_range=(spec.shift * size, spec.shift * size),
            scale_range=(spec.scale, spec.scale),
            padding_mode="zeros",
        )
        self.zoom = zoom
        self.contrast = RandAdjustContrast(prob=spec.p_contrast, gamma=(1 / spec.gamma, spec.gamma))
        self.histogram = RandHistogramShift(num_control_points=(5, 9), prob=spec.p_histogram)
        self.bias = RandBiasField(degree=2, coeff_range=(-0.25, 0.25), prob=spec.p_bias)
        self.noise = RandGaussianNoise(prob=spec.p_noise, std=0.04)

    def set_random_state(
        self, seed: int | None = None, state: np.random.RandomState | None = None
    ) -> Augment:
        super().set_random_state(seed, state)
        for index, transform in enumerate(
            (self.affine, self.contrast, self.histogram, self.bias, self.noise)
        ):
            transform.set_random_state(None if seed is None else (seed + 7919 * (index + 1)) % 2**32)
        return self

    def __call__(
        self, grey: Image, valid: Mask, lungs: Image, train: bool = True, extra: Image | None = None
    ) -> tuple[Image, Mask, Image, Image]:
        """One view of a stored square.

        grey in [0, 1], valid, lung probability and one more plane (expert boxes): (side, side).
        Returns (size, size): network input, validity, lungs, the further plane (zeros without one).
        """
        further = np.zeros_like(grey) if extra is None else extra
        stacked = np.stack([grey, valid.astype(np.float32), lungs, further])
        side = grey.shape[0]
        window = side / self.zoom
        offset = (side - window) / 2
        scale = window / self.size
        matrix = np.array(
            [[scale, 0, offset + scale / 2 - 0.5], [0, scale, offset + scale / 2 - 0.5]], np.float32
        )
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        blur = scale > 1.5
        planes = [cv2.GaussianBlur(p, (0, 0), 0.4 * scale) if blur else p for p in stacked]
        stacked = np.stack([cv2.warpAffine(p, matrix, (self.size, self.size), flags=flags) for p in planes])
        if train:
            tensor = self.affine(torch.from_numpy(stacked))
            stacked = np.asarray(tensor, dtype=np.float32)
        image, inside, lung, further = stacked[0], stacked[1] > 0.5, np.clip(stacked[2], 0.0, 1.0), stacked[3]
        if train:
            image = self._intensity(image, inside)
            image, inside = self._shortcuts(image, inside, lung)
            if self.preprocess.reach is not None and self.R.random() < self.spec.p_field:
                inside = inside & chest_field(lung, float(self.R.uniform(0.0, 2 * self.preprocess.reach)))
            if self.spec.p_flip and self.R.random() < self.spec.p_flip:
                image, lung, further = image[:, ::-1], lung[:, ::-1], further[:, ::-1]
                inside = inside[:, ::-1]
        elif self.preprocess.reach is not None:
            inside = inside & chest_field(lung, self.preprocess.reach)
        out = standardise(np.ascontiguousarray(image), np.ascontiguousarray(inside), self.preprocess)
        return out, np.ascontiguousarray(inside), np.ascontiguousarray(lung), np.ascontiguousarray(further)

    def _intensity(self, image: Image, inside: Mask) -> Image:
        if self.R.random() < self.spec.p_local:  # processing with local contrast, as some vendors apply
            byte = (np.clip(image, 0, 1) * 255).astype(np.uint8)
            tiles = int(self.R.randint(2, 9))
            clahe = cv2.createCLAHE(float(self.R.uniform(1.0, 3.0)), (tiles, tiles))
            share = float(self.R.uniform(0.2, 1.0))
            image = (1 - share) * image + share * clahe.apply(byte).astype(np.float32) / 255
        if self.R.random() < self.spec.p_coarse:  # fewer pixels at the source, lossy compression
            side = int(self.size * self.R.uniform(0.4, 0.9))
            byte = cv2.resize(
                (np.clip(image, 0, 1) * 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_AREA
            )
            _, coded = cv2.imencode(".jpg", byte, [cv2.IMWRITE_JPEG_QUALITY, int(self.R.randint(30, 95))])
            byte = cv2.resize(cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE), (self.size, self.size))
            image = byte.astype(np.float32) / 255
        tensor: Any = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
        tensor = self.contrast(tensor)
        tensor = self.bias(self.histogram(tensor))
        image = np.asarray(self.noise(tensor), dtype=np.float32)[0]
        if self.R.random() < self.spec.p_blur:
            sigma = float(self.R.uniform(0.4, 1.3))
            blurred = cv2.GaussianBlur(image, (0, 0), sigma)
            image = (
                blurred
                if self.R.random() < 0.6
                else image + float(self.R.uniform(0.3, 1.2)) * (image - blurred)
            )
        return image * inside

    def _shortcuts(self, image: Image, inside: Mask, lung: Image) -> tuple[Image, Mask]:
        """Planted letters and bars, random erasing, and removal of everything outside the lungs."""
        size = self.size
        image = image.copy()
        low, high = float(image.min()), float(image.max())
        if self.R.random() < self.spec.p_marker:
            for _ in range(self.R.randint(1, 4)):
                text = "".join(self.R.choice(list("ABDEFLPRSTU0123456789"), self.R.randint(1, 6)))
                where = (int(self.R.randint(0, size - 8)), int(self.R.randint(8, size)))
                if lung[max(0, where[1] - 6) : where[1], where[0] : where[0] + 8].mean() > 0.3:
                    continue
                font = float(self.R.uniform(0.25, 0.8)) * size / 224
                ink = np.zeros((size, size), np.uint8)
                cv2.putText(ink, text, where, cv2.FONT_HERSHEY_SIMPLEX, font, 255, 1, cv2.LINE_AA)
                image += (ink / np.float32(255)) * (high - image)
        if self.R.random() < self.spec.p_erase:
            height, width = self.R.randint(size // 16, size // 5, size=2)
            top, left = self.R.randint(0, size - height), self.R.randint(0, size - width)
            image[top : top + height, left : left + width] = float(self.R.uniform(low, high))
        if self.R.random() < self.spec.p_outside:
            reach = int(self.R.randint(1, max(2, size // 14))) * 2 + 1
            field = cv2.dilate((lung > 0.4).astype(np.uint8), np.ones((reach, reach), np.uint8))
            if self.R.random() < 0.5:  # the lungs and what lies between them
                points = cv2.findNonZero(field)
                if points is not None:
                    cv2.fillConvexPoly(field, cv2.convexHull(points), 1)
            if field.any():
                keep = field.astype(bool)
                if self.R.random() < 0.5:
                    inside = inside & keep
                else:
                    image[~keep] = float(image[keep].mean())
        return image, inside
