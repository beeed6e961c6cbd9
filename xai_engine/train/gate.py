"""Training of the gate: is this a frontal chest radiograph, which way up is it, is it inverted?"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from xai_engine.classifier import bundle, preprocess
from xai_engine.classifier.backends.base import fingerprint
from xai_engine.classifier.gate import OUTPUTS, SIZE, gate_input
from xai_engine.classifier.lungs import LungFinder
from xai_engine.classifier.network import build
from xai_engine.runtime import atomic
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint, gateviews, lungs, negatives, projections
from xai_engine.train.images import digest, map_images, read_grey, read_mask
from xai_engine.train.manifest import load
from xai_engine.train.projections import Projections
from xai_engine.train.sample import Sample

NETWORK = {
    "_target_": "xai_engine.classifier.network.SmallNet",
    "in_channels": 1,
    "num_classes": OUTPUTS,
    "width": 24,
    "pools": 2,
}
STORED = 256  # twice the gate's grid, so that crops are not told by their blur
Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def _square(sample: Sample) -> npt.NDArray[np.uint8]:
    """(3, 256, 256): grey, validity, lungs as drawn by hand (0 where nobody has), letterboxed in true proportions."""
    grey, valid, aspect = read_grey(sample)
    transform = preprocess.letterbox((grey.shape[0], grey.shape[1]), STORED, aspect)
    small, inside = preprocess.sample(grey, valid, transform)
    drawn = np.zeros_like(small)
    if sample.mask is not None:
        mask = cv2.resize(
            read_mask(sample).astype(np.float32), grey.shape[::-1], interpolation=cv2.INTER_LINEAR
        )
        drawn = (preprocess.sample(mask, valid, transform)[0] > 0.5).astype(np.float32)
    return (np.stack([small, inside, drawn]) * 255).astype(np.uint8)


def _find_lungs(squares: npt.NDArray[np.uint8], finder: LungFinder) -> None:
    """Fills the third plane with what the lung model finds, where nobody has drawn the lungs."""
    where = np.flatnonzero(~squares[:, 2].any((1, 2)))
    for start in range(0, len(where), 32):
        some = where[start : start + 32]
        fields = finder.find([(squares[i, 0].astype(np.float32) / 255, squares[i, 1] > 0, 1.0) for i in some])
        for i, found in zip(some, fields, strict=True):
            mask = found.mask.astype(np.uint8) * 255
            squares[i, 2] = cv2.resize(mask, (STORED, STORED), interpolation=cv2.INTER_NEAREST)


@dataclass(frozen=True)
class Projected:
    """Views computed from CT. squares: the frontal ones, as `_square` makes them of radiographs."""

    views: Projections
    squares: npt.NDArray[np.uint8]


def _projected(views: Projections, finder: LungFinder, seed: int) -> Projected:
    made = []
    for image in projections.fronts(views, seed):
        transform = preprocess.letterbox((image.shape[0], image.shape[1]), STORED, 1.0)
        small, inside = preprocess.sample(image, np.ones(image.shape, bool), transform)
        made.append((np.stack([small, inside, np.zeros_like(small)]) * 255).astype(np.uint8))
    squares = np.stack(made)
    _find_lungs(squares, finder)
    return Projected(views, squares)


def _finder(runs: Path) -> LungFinder:
    """The lung model trained in `runs`, else that of the shipped bundle. Raises ModelError without either."""
    trained = runs / "lungs" / "lungs.safetensors"
    network = build(lungs.NETWORK)
    checkpoint.load_weights(
        trained if trained.exists() else bundle.find() / "models" / "lungs.safetensors", network
    )
    return LungFinder(network)


def frontal(rng: np.random.Generator, grey: Image, inside: Mask, lung: Mask) -> tuple[Image, Mask]:
    """A view of a whole chest, float32 and bool (128, 128): moved, leaning by up to 12°, squeezed, framed, exposed anew.

    At least `gateviews.KEPT` of the lungs stay in sight; where no draw of eight keeps them the chest stays as it is.
    """
    side = grey.shape[0]
    if rng.random() < 0.4:  # many copies were squashed to a square that they fill: no bars, false proportions
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        grey = cv2.resize(np.ascontiguousarray(grey[part]), (side, side), interpolation=cv2.INTER_AREA)
        lung = cv2.resize(lung[part].astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST) > 0
        inside = np.ones_like(inside)
    as_it_comes = rng.random() < 0.3
    for attempt in range(9):
        angle, zoom = rng.uniform(-12, 12), rng.uniform(0.8, 1.22)
        stretch, shift = np.exp(rng.uniform(-0.3, 0.3)), rng.uniform(-0.07, 0.07, 2)
        if as_it_comes:
            angle, zoom, stretch = 0.0, float(rng.uniform(1.0, 1.15)), 1.0
        if attempt == 8:
            angle, zoom, stretch, shift = 0.0, 1.0, 1.0, np.zeros(2)
        matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, zoom * SIZE / side)
        matrix[:, 0] *= stretch
        matrix[:, 2] = SIZE / 2 - matrix[:, :2] @ np.full(2, side / 2) + shift * SIZE
        there = cv2.warpAffine(lung.astype(np.uint8), matrix, (SIZE, SIZE), flags=cv2.INTER_NEAREST)
        if there.sum() >= gateviews.KEPT * lung.sum() * abs(np.linalg.det(matrix[:, :2])):
            break
    soft = cv2.GaussianBlur(grey, (0, 0), 0.4 * side / SIZE / zoom)  # warpAffine averages no areas
    image = cv2.warpAffine(soft, matrix, (SIZE, SIZE), flags=cv2.INTER_LINEAR)
    valid = cv2.warpAffine(inside.astype(np.uint8), matrix, (SIZE, SIZE), flags=cv2.INTER_NEAREST) > 0
    if not valid.any():
        valid[:] = True
    if rng.random() < 0.3:
        image = gateviews.equipped(rng, image)
    image = gateviews.exposed(rng, image)
    kind = rng.random()
    if kind < 0.25:  # collimation: a bright or dark frame
        edge = int(rng.integers(2, 14))
        if gateviews.kept(there > 0, (edge, edge, SIZE - edge, SIZE - edge)) < 0.97:
            edge = 1
        frame = np.float32(rng.random() < 0.5)
        image[:edge] = image[-edge:] = frame
        image[:, :edge] = image[:, -edge:] = frame
    elif kind < 0.4:
        image, valid = gateviews.bordered(rng, image, valid)
    return image, valid


def example(
    rng: np.random.Generator,
    square: npt.NDArray[np.uint8],
    other: npt.NDArray[np.uint8],
    projected: Projected | None = None,
) -> tuple[Image, int, int, int]:
    """One training image (128, 128) with: is it a frontal chest (1/0), quarter turns counter-clockwise, inverted (1/0).

    square, other: (3, side, side) grey, validity and lungs of two chests. Turns and inversion are meaningful only for
    chests. projected: views computed from CT, drawn among both.
    """
    if projected is not None and rng.random() < projected.views.frontals:
        square = projected.squares[int(rng.integers(len(projected.squares)))]
    grey, inside, lung = square[0].astype(np.float32) / 255, square[1] > 0, square[2] > 0
    if rng.random() < 0.5:
        lines = projected.views if projected is not None else None
        image, valid = negatives.draw(rng, SIZE, grey, inside, lung, other[0].astype(np.float32) / 255, lines)
        # pictures have proportions of their own, too: bars up to 1 : 3.5
        if valid.all() and rng.random() < 0.4:
            bar = int(rng.uniform(0, 0.36) * SIZE)
            part = slice(0, SIZE) if bar == 0 else slice(bar, SIZE - bar)
            small = cv2.resize(image, (SIZE, SIZE - 2 * bar), interpolation=cv2.INTER_AREA)
            image, valid = np.zeros_like(image), np.zeros_like(valid)
            image[part], valid[part] = small, True
            if rng.random() < 0.5:
                image, valid = np.ascontiguousarray(image.T), np.ascontiguousarray(valid.T)
        return gate_input(image, valid), 0, 0, 0
    image, valid = frontal(rng, grey, inside, lung)
    inverted = int(rng.random() < 0.3)
    if inverted:
        image = 1.0 - image
    turns = int(rng.choice(4, p=(0.58, 0.14, 0.14, 0.14)))
    image, valid = np.rot90(image, turns), np.rot90(valid, turns)
    return gate_input(np.ascontiguousarray(image), np.ascontiguousarray(valid)), 1, turns, inverted


def batch(
    squares: npt.NDArray[np.uint8],
    which: npt.NDArray[np.intp],
    seed: tuple[int, ...],
    projected: Projected | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (n, 1, 128, 128), chest, turns, inverted, each drawn from (seed, position); the second chest is the next."""
    drawn = [
        example(
            np.random.default_rng([*seed, k]), squares[i], squares[which[(k + 1) % len(which)]], projected
        )
        for k, i in enumerate(which)
    ]
    x = torch.from_numpy(np.stack([d[0] for d in drawn])[:, None])
    chest, turns, inverted = (torch.tensor([d[j] for d in drawn]) for j in (1, 2, 3))
    return x, chest, turns, inverted


def loss_of(
    outputs: torch.Tensor, chest: torch.Tensor, turns: torch.Tensor, inverted: torch.Tensor
) -> torch.Tensor:
    """Cross-entropy of the three questions; the last two only where there is a chest."""
    loss = F.binary_cross_entropy_with_logits(outputs[:, 0], chest.float())
    here = chest.bool()
    if here.any():
        loss = loss + F.cross_entropy(outputs[here, 1:5], turns[here])
        loss = loss + F.binary_cross_entropy_with_logits(outputs[here, 5], inverted[here].float())
    return loss


def train(config: dict[str, Any], root: Path, out: Path, run: Run) -> dict[str, float]:
    """Train as configured; weights go to `out/gate.safetensors`. Returns figures on validation images.

    Raises UsageError where the configuration asks for projections of volumes that are not there.
    """
    views = None
    if "projections" in config:
        out.mkdir(parents=True, exist_ok=True)
        views = projections.load(config["projections"], out.parent, out, config["seed"], run.part(0.0, 0.2))
        run = run.part(0.2, 1.0)
    samples = [s for source in config["data"] for s in load(source, root) if s.split != "test"]
    out.mkdir(parents=True, exist_ok=True)
    finder = _finder(out.parent)
    store = out / f"squares-{digest(samples, (STORED, fingerprint(finder.network)))}.npy"
    if not store.exists():
        made = np.stack(map_images(_square, samples, root))
        _find_lungs(made, finder)
        with atomic.file(store) as path:
            np.save(path, made)
    squares = np.load(store, mmap_mode="r")
    projected = None if views is None else _projected(views, finder, config["seed"])
    adults = np.array([s.population == "adults" for s in samples])
    split = np.array([s.split for s in samples])
    indices = np.flatnonzero(split == "train")
    shares = np.where(adults[indices], 0.4 / adults[indices].sum(), 0.6 / (~adults[indices]).sum())
    torch.manual_seed(config["seed"])
    network = build(NETWORK)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config["lr"], weight_decay=1e-4)
    epochs, size = int(config["epochs"]), int(config["batch"])
    count = int(config["images_per_epoch"]) // size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config["lr"], total_steps=epochs * count)
    start = checkpoint.resume(out, network, optimiser, schedule)
    for epoch in range(start, epochs):
        network.train()
        order = np.random.default_rng([config["seed"], epoch]).choice(indices, count * size, p=shares)
        total = 0.0
        for step in range(count):
            x, *answers = batch(
                squares, order[step * size : (step + 1) * size], (config["seed"], epoch, step), projected
            )
            loss = loss_of(network(x), *answers)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            run.check(
                (epoch + step / count) / epochs, f"epoch {epoch + 1}/{epochs}, loss {total / (step + 1):.3f}"
            )
        checkpoint.log(out, {"epoch": epoch + 1, "loss": total / count})
        checkpoint.save(out, epoch + 1, network, optimiser, schedule)
    result = evaluate(network, squares, np.flatnonzero(split == "val"), config["seed"] + 1)
    checkpoint.export(out / "gate.safetensors", network, () if views is None else views.attribution)
    (out / "result.json").write_text(json.dumps(result, indent=1))
    return result


def evaluate(
    network: nn.Module, squares: npt.NDArray[np.uint8], which: npt.NDArray[np.intp], seed: int
) -> dict[str, float]:
    """Shares that are right on fresh draws from held-out chests (and fresh negatives)."""
    network.eval()
    outputs, answers = [], []
    with torch.inference_mode():
        for start in range(0, len(which), 64):
            x, *truth = batch(squares, which[start : start + 64], (seed, start))
            outputs.append(network(x))
            answers.append(torch.stack(truth, 1))
    o, a = torch.cat(outputs), torch.cat(answers)
    chest = a[:, 0] == 1
    return {
        "chests_accepted": float((o[chest, 0] > 0).float().mean()),
        "others_refused": float((o[~chest, 0] <= 0).float().mean()),
        "turn_right": float((o[chest, 1:5].argmax(1) == a[chest, 1]).float().mean()),
        "inversion_right": float(((o[chest, 5] > 0).long() == a[chest, 2]).float().mean()),
    }
