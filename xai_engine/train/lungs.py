"""Training of the lung-field network: MONAI's BasicUNet on 128 x 128, human-made masks of children."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from monai.losses.dice import DiceCELoss
from torch import nn

from xai_engine.classifier import preprocess
from xai_engine.classifier.lungs import SIZE, SPEC
from xai_engine.classifier.network import build
from xai_engine.runtime import atomic
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint
from xai_engine.train.augment import Augment, AugmentSpec
from xai_engine.train.images import digest, map_images, read_grey, read_mask
from xai_engine.train.manifest import load
from xai_engine.train.sample import Sample

NETWORK = {
    "_target_": "monai.networks.nets.BasicUNet",
    "spatial_dims": 2,
    "in_channels": 1,
    "out_channels": 1,
    "features": [16, 24, 32, 48, 64, 16],
    "dropout": 0.0,
    "upsample": "nontrainable",
}
STORED = 160  # side of the stored squares: a margin around 128 for rotation and zoom
AUGMENT = AugmentSpec(rotate=20, shear=0.1, scale=0.25, shift=0.1, p_outside=0.0, p_erase=0.4, p_contrast=0.8)


def _square(sample: Sample) -> npt.NDArray[np.uint8]:
    """(3, 160, 160): grey, validity, lung mask, letterboxed in true proportions."""
    grey, valid, aspect = read_grey(sample)
    mask = read_mask(sample).astype(np.float32)
    if mask.shape != grey.shape:
        mask = cv2.resize(mask, (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_LINEAR)
    transform = preprocess.letterbox((grey.shape[0], grey.shape[1]), STORED, aspect)
    small, inside = preprocess.sample(grey, valid, transform)
    lungs, _ = preprocess.sample(mask, valid, transform)
    return (np.stack([small, inside, lungs]) * 255).astype(np.uint8)


def dice(probability: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Dice per image of (n, h, w) probabilities at 0.5 against truth at 0.5; 1 where both are empty."""
    a, b = (probability > 0.5).flatten(1), (truth > 0.5).flatten(1)
    both = (a & b).sum(1).double()
    total = a.sum(1) + b.sum(1)
    return torch.where(total > 0, 2 * both / total.clamp(min=1), torch.ones_like(both))


def train(config: dict[str, Any], root: Path, out: Path, run: Run) -> dict[str, float]:
    """Train as configured; weights and log go to `out`. Returns Dice on validation and test images.

    Raises ManifestError for unusable data, Cancelled when stopped (the last epoch's checkpoint stays).
    """
    samples = [s for source in config["data"] for s in load(source, root) if s.mask is not None]
    out.mkdir(parents=True, exist_ok=True)
    store = out / f"lungs-{digest(samples, STORED)}.npy"
    if not store.exists():
        made = np.stack(map_images(_square, samples, root))
        with atomic.file(store) as path:
            np.save(path, made)
    squares = np.load(store, mmap_mode="r")
    index = {
        split: [i for i, s in enumerate(samples) if s.split == split] for split in ("train", "val", "test")
    }
    torch.manual_seed(config["seed"])
    network = build(NETWORK)
    optimiser = torch.optim.AdamW(network.parameters(), lr=config["lr"], weight_decay=1e-4)
    epochs, batch = int(config["epochs"]), int(config["batch"])
    steps = epochs * (len(index["train"]) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, config["lr"], total_steps=steps, pct_start=0.15)
    start = checkpoint.resume(out, network, optimiser, schedule)
    augment = Augment(AUGMENT, SIZE, SPEC, zoom=1.0)
    loss_function = DiceCELoss(sigmoid=True, lambda_ce=1.0)
    for epoch in range(start, epochs):
        network.train()
        order = np.random.default_rng([config["seed"], epoch]).permutation(index["train"])
        total = 0.0
        count = len(order) // batch
        for step in range(count):
            x, y = _batch(squares, order[step * batch : (step + 1) * batch], augment, config["seed"] + epoch)
            with torch.autocast("cpu", torch.bfloat16, enabled=config.get("bf16", True)):
                logits = network(x)
            loss = loss_function(logits.float(), y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            total += float(loss.detach())
            run.check(
                (epoch + step / count) / epochs, f"epoch {epoch + 1}/{epochs}, loss {total / (step + 1):.3f}"
            )
        score = float(evaluate(network, squares, index["val"]).mean())
        checkpoint.log(out, {"epoch": epoch + 1, "loss": total / count, "val_dice": score})
        checkpoint.save(out, epoch + 1, network, optimiser, schedule)
    scores = {name: evaluate(network, squares, index[name]) for name in ("val", "test")}
    result = {f"{name}_dice": float(s.mean()) for name, s in scores.items()}
    result["test_dice_p5"] = float(np.percentile(scores["test"], 5))
    checkpoint.export(out / "lungs.safetensors", network)
    (out / "result.json").write_text(json.dumps(result, indent=1))
    return result


def _batch(
    squares: npt.NDArray[np.uint8], which: npt.NDArray[np.intp], augment: Augment, seed: int
) -> tuple[torch.Tensor, torch.Tensor]:
    x = np.empty((len(which), 1, SIZE, SIZE), np.float32)
    y = np.empty_like(x)
    for row, i in enumerate(which):
        augment.set_random_state((seed * 1_000_003 + int(i)) % 2**32)
        grey, valid, mask = squares[i].astype(np.float32) / 255
        image, _, lungs, _ = augment(grey, valid > 0.5, mask)
        x[row, 0], y[row, 0] = image, lungs > 0.5
    return torch.from_numpy(x), torch.from_numpy(y)


def evaluate(network: nn.Module, squares: npt.NDArray[np.uint8], which: list[int]) -> npt.NDArray[np.float64]:
    """Dice per image, without augmentation."""
    network.eval()
    plain = Augment(AUGMENT, SIZE, SPEC, zoom=1.0)
    scores = []
    with torch.inference_mode():
        for start in range(0, len(which), 64):
            views = [
                plain(p[0], p[1] > 0.5, p[2], train=False)
                for p in (squares[i].astype(np.float32) / 255 for i in which[start : start + 64])
            ]
            x = torch.from_numpy(np.stack([v[0] for v in views])[:, None])
            y = torch.from_numpy(np.stack([v[2] for v in views]))
            scores.append(dice(torch.sigmoid(network(x)[:, 0]), y).numpy())
    return np.concatenate(scores)
