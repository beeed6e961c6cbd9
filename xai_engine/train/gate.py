"""Training of the gate: is this a frontal chest radiograph, which way up is it, is it inverted?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from xai_engine.classifier import preprocess
from xai_engine.classifier.gate import OUTPUTS, SIZE, gate_input
from xai_engine.classifier.network import build
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint, negatives
from xai_engine.train.images import digest, map_images, read_grey
from xai_engine.train.manifest import Sample, load

NETWORK = {
    "_target_": "xai_engine.classifier.network.SmallNet",
    "in_channels": 1,
    "num_classes": OUTPUTS,
    "width": 24,
    "pools": 2,
}
STORED = 160
Image = npt.NDArray[np.float32]


def _square(sample: Sample) -> npt.NDArray[np.uint8]:
    grey, valid, aspect = read_grey(sample)
    transform = preprocess.letterbox((grey.shape[0], grey.shape[1]), STORED, aspect)
    small, inside = preprocess.sample(grey, valid, transform)
    return (np.stack([small, inside]) * 255).astype(np.uint8)


def example(rng: np.random.Generator, square: npt.NDArray[np.uint8]) -> tuple[Image, int, int, int]:
    """One training image (128, 128) with: is it a frontal chest (1/0), quarter turns counter-clockwise, inverted (1/0).

    Turns and inversion are meaningful only for chests.
    """
    grey, inside = square.astype(np.float32) / 255
    if rng.random() < 0.45:
        image = negatives.draw(rng, SIZE, grey)
        valid = np.ones_like(image, bool)
        if rng.random() < 0.6:  # pictures have proportions of their own, too: bars beside them, up to 1 : 3.5
            bar = int(rng.uniform(0, 0.36) * SIZE)
            side = slice(0, SIZE) if bar == 0 else slice(bar, SIZE - bar)
            small = cv2.resize(image, (SIZE, SIZE - 2 * bar), interpolation=cv2.INTER_AREA)
            image, valid = np.zeros_like(image), np.zeros_like(valid)
            image[side], valid[side] = small, True
            if rng.random() < 0.5:
                image, valid = np.ascontiguousarray(image.T), np.ascontiguousarray(valid.T)
        return gate_input(image, valid), 0, 0, 0
    if rng.random() < 0.4:  # many copies were squashed to a square that they fill: no bars, false proportions
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        grey = cv2.resize(np.ascontiguousarray(grey[part]), (STORED, STORED), interpolation=cv2.INTER_AREA)
        inside = np.ones_like(grey)
    angle, zoom = rng.uniform(-12, 12), rng.uniform(0.8, 1.22)
    stretch = np.exp(rng.uniform(-0.3, 0.3))
    if rng.random() < 0.3:
        angle, zoom, stretch = 0.0, float(rng.uniform(1.0, 1.15)), 1.0  # as it comes
    matrix = cv2.getRotationMatrix2D((STORED / 2, STORED / 2), angle, zoom * SIZE / STORED)
    matrix[:, 0] *= stretch
    matrix[:, 2] += (
        SIZE / 2 - matrix[:, :2] @ np.full(2, STORED / 2) - matrix[:, 2] + rng.uniform(-0.07, 0.07, 2) * SIZE
    )
    image = cv2.warpAffine(grey, matrix, (SIZE, SIZE), flags=cv2.INTER_AREA)
    valid = cv2.warpAffine(inside, matrix, (SIZE, SIZE), flags=cv2.INTER_NEAREST) > 0.5
    if not valid.any():
        valid[:] = True
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.5, 1.9))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < 0.4:
        image = image + rng.normal(0, rng.uniform(0.01, 0.06), image.shape).astype(np.float32)
    if rng.random() < 0.3:  # collimation: a bright or dark frame
        edge = int(rng.integers(2, 14))
        frame = np.float32(rng.random() < 0.5)
        image[:edge] = image[-edge:] = frame
        image[:, :edge] = image[:, -edge:] = frame
    inverted = int(rng.random() < 0.3)
    if inverted:
        image = 1.0 - image
    turns = int(rng.choice(4, p=(0.58, 0.14, 0.14, 0.14)))
    image, valid = np.rot90(image, turns), np.rot90(valid, turns)
    return gate_input(np.ascontiguousarray(image), np.ascontiguousarray(valid)), 1, turns, inverted


def batch(
    squares: npt.NDArray[np.uint8], which: npt.NDArray[np.intp], seed: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (n, 1, 128, 128), chest, turns, inverted, each drawn from (seed, position)."""
    drawn = [example(np.random.default_rng([*seed, k]), squares[i]) for k, i in enumerate(which)]
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
    """Train as configured; weights go to `out/gate.safetensors`. Returns figures on validation images."""
    samples = [s for source in config["data"] for s in load(source, root)]
    out.mkdir(parents=True, exist_ok=True)
    store = out / f"squares-{digest(samples, STORED)}.npy"
    if not store.exists():
        np.save(store, np.stack(map_images(_square, samples, root)))
    squares = np.load(store, mmap_mode="r")
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
                squares, order[step * size : (step + 1) * size], (config["seed"], epoch, step)
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
    checkpoint.export(out / "gate.safetensors", network)
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
