"""The classifier's training images: lungs found, cropped with room for augmentation, stored as bytes."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from xai_engine.classifier import preprocess
from xai_engine.classifier.lungs import LungFinder
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.errors import OutputError
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.runtime.run import Run
from xai_engine.train import further, synthetic
from xai_engine.train.augment import Augment
from xai_engine.train.images import digest, map_images, read_grey
from xai_engine.train.sample import ManifestError, Sample

ROOM = 0.25  # stored margin around the lungs; the bundle's own margin is smaller
GREY, VALID, LUNGS, BOXES = range(4)


@dataclass(frozen=True)
class Crops:
    """pixels: (n, 4, side, side) uint8: grey, validity, lung probability, expert boxes; found: lungs were found."""

    samples: tuple[Sample, ...]
    pixels: npt.NDArray[np.uint8]
    found: npt.NDArray[np.bool_]
    zoom: float


def build(
    samples: Sequence[Sample], finder: LungFinder, spec: PreprocessSpec, folder: Path, root: Path, run: Run
) -> Crops:
    """Read every image, find its lungs, store the crop; kept in `folder` under a key of files and lung weights.

    Raises ManifestError listing every unreadable file.
    """
    side = round(spec.size * (1 + 2 * ROOM) / (1 + 2 * spec.margin))
    weights = sum(float(p.detach().double().abs().sum()) for p in finder.network.parameters())
    key = digest(samples, (side, ROOM, weights))
    path, found_path = folder / f"crops-{key}.npy", folder / f"found-{key}.npy"
    zoom = (1 + 2 * ROOM) / (1 + 2 * spec.margin)
    if not found_path.exists():
        temporary = path.with_suffix(".tmp")
        needed = len(samples) * 4 * side * side
        if shutil.disk_usage(folder).free < needed:  # a mapped file that meets a full disk ends the process
            raise OutputError(
                f"{folder}: the prepared images need {needed / 2**20:.0f} MB; free some space or choose another --runs"
            )
        pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, (len(samples), 4, side, side))
        found = np.zeros(len(samples), bool)
        problems: list[str] = []
        for start in range(0, len(samples), 256):
            run.check(start / len(samples), f"preparing images {start}/{len(samples)}")
            part = samples[start : start + 256]
            try:
                images = map_images(read_grey, part, root)
            except ManifestError as error:  # go on, so that all of them are named
                problems += error.problems
                continue
            if problems:
                continue
            for offset, (image, lungs) in enumerate(zip(images, finder.find(images), strict=True)):
                grey, valid, aspect = image
                shape = (grey.shape[0], grey.shape[1])
                found[start + offset] = lungs.box is not None
                if lungs.box is not None:
                    transform = preprocess.square_around(lungs.box, ROOM, side, shape, aspect)
                else:
                    transform = preprocess.letterbox(shape, side, aspect)
                small, inside = preprocess.sample(grey, valid, transform)
                probability = lungs.in_grid(transform)
                boxes = _boxes(part[offset], transform, shape)
                planes = np.stack([small, inside, probability, boxes])
                pixels[start + offset] = np.clip(np.rint(planes * 255), 0, 255).astype(np.uint8)
        pixels.flush()
        del pixels
        if problems:
            temporary.unlink()
            with contextlib.suppress(OSError):  # only where nothing else is in it
                folder.rmdir()
            raise ManifestError(root, problems)
        os.replace(temporary, path)
        np.save(found_path, found)
    return Crops(tuple(samples), np.load(path, mmap_mode="r"), np.load(found_path), zoom)


def _boxes(sample: Sample, transform: GridTransform, shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Expert boxes drawn on the grid; sample.boxes are in stored pixels, `shape` is the (possibly reduced) grey image."""
    out = np.zeros(transform.grid_shape, np.float32)
    if not sample.boxes:
        return out
    from PIL import Image

    with Image.open(sample.path) as image:
        row_factor, column_factor = shape[0] / image.height, shape[1] / image.width
    for x, y, width, height in sample.boxes:
        top, left = transform.to_grid(y * row_factor, x * column_factor)
        bottom, right = transform.to_grid((y + height) * row_factor, (x + width) * column_factor)
        out[max(0, round(top)) : max(0, round(bottom)), max(0, round(left)) : max(0, round(right))] = 1.0
    return out


class Views(Dataset[dict[str, torch.Tensor]]):
    """Augmented (train) or plain views. Item k of epoch e depends on (seed, e, k) alone.

    p_synthetic: share of the normal training images that get painted opacities, and so become positive; p_neutral:
    share of all training images that lose their lungs, and so become undecidable (see `synthetic`).
    """

    def __init__(
        self,
        crops: Crops,
        order: npt.NDArray[np.intp],
        augment: Augment,
        seed: int,
        epoch: int,
        train: bool,
        p_synthetic: float = 0.0,
        p_neutral: float = 0.0,
    ) -> None:
        self.crops, self.order, self.augment = crops, order, augment
        self.seed, self.epoch, self.train = seed, epoch, train
        self.p_synthetic, self.p_neutral = p_synthetic, p_neutral
        self.targets = further.names(crops.samples)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, position: int) -> dict[str, torch.Tensor]:
        index = int(self.order[position])
        sample = self.crops.samples[index]
        planes = self.crops.pixels[index].astype(np.float32) / 255
        sequence = np.random.SeedSequence([self.seed, self.epoch, position])
        self.augment.set_random_state(int(sequence.generate_state(1)[0]))
        label, weight, has_boxes = sample.label, sample.weight, bool(sample.boxes)
        targets = sample.targets
        if self.train and self.crops.found[index]:
            rng = np.random.default_rng(sequence.spawn(1)[0])
            chance = float(rng.random())
            if chance < self.p_neutral:
                planes[GREY] = synthetic.without_lungs(planes[GREY], planes[LUNGS], rng)
                planes[BOXES], label, has_boxes = 0.0, synthetic.NEUTRAL, False
                targets = {}  # no longer to be seen, or not as they are named
            elif sample.label < 0.1 and chance < self.p_neutral + self.p_synthetic * (1 - self.p_neutral):
                painted, mask = synthetic.add_opacities(planes[GREY], planes[LUNGS], rng)
                if mask.any():
                    planes[GREY], planes[BOXES], label, has_boxes = painted, mask, 1.0, True
                    targets = {}
        # lung probability and boxes travel through the same geometry
        image, valid, lungs, boxes = self.augment(
            planes[GREY], planes[VALID] > 0.5, planes[LUNGS], train=self.train, extra=planes[BOXES]
        )
        return {
            "image": torch.from_numpy(image)[None],
            "valid": torch.from_numpy(valid),
            "lungs": torch.from_numpy(lungs),
            "boxes": torch.from_numpy(boxes),
            "has_boxes": torch.tensor(has_boxes),
            "label": torch.tensor(label, dtype=torch.float32),
            "weight": torch.tensor(weight, dtype=torch.float32),
            "targets": further.row(targets, self.targets),
            "index": torch.tensor(index),
        }
