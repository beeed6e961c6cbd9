"""Small training sets and configurations: pictures of 64 pixels, a network of four layers, seconds."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from xai_engine.classifier.network import build
from xai_engine.train import checkpoint, lungs

SMALL = {"_target_": "xai_engine.classifier.network.SmallNet", "in_channels": 1, "num_classes": 1, "width": 4}
REPOSITORY = Path(__file__).resolve().parents[2]


def images(folder: Path, count: int = 6) -> None:
    """`count` pictures of each class in each split: a disc, bright or not so bright, on noise."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for name, level in (("sick", 200), ("well", 150)):
            target = folder / "set" / split / name
            target.mkdir(parents=True)
            for k in range(count):
                image = rng.integers(0, 90, (64, 56)).astype(np.uint8)
                cv2.circle(image, (28, 32), 12, int(level), -1)
                cv2.imwrite(str(target / f"{split}{name}{k}.png"), image)


def config(folder: Path, **changes: Any) -> dict[str, Any]:
    """A complete small configuration; lung weights are made in `folder`."""
    torch.manual_seed(0)
    weights = folder / "lungs.safetensors"
    if not weights.exists():
        checkpoint.export(weights, build(lungs.NETWORK))
    return {
        "name": "small",
        "seed": 4,
        "network": SMALL,
        "imagenet": False,
        "lungs": str(weights),
        "preprocessing": {"size": 48},
        "stages": [{"size": 32, "epochs": 1}, {"size": 48, "epochs": 2}],
        "images_per_epoch": 16,
        "batch": 4,
        "lr": 0.01,
        "precision": "fp32",
        "workers": 0,
        "data": [{"folder": "set", "labels": {"sick": 1, "well": 0}}],
        "layers": ["stages.2", "stages.3"],
        "default_layer": "stages.3",
    } | changes


def measure_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bundle be measured by its predictions alone: robustness, localisation and the gate have tests of their own."""
    from xai_engine.train import finish

    full = finish.measure
    monkeypatch.setattr(finish, "measure", lambda *a, **k: full(*a, **(k | {"quick": True})))


def environment() -> dict[str, str]:
    """For child processes: one thread, our package, no data from elsewhere."""
    kept = {k: v for k, v in os.environ.items() if k not in ("RADIOLUCENT_DATA", "WORLD_SIZE", "RANK")}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "PYTHONWARNINGS": "ignore"}


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config(folder, **changes)))
    return path


def torchrun(processes: int, *arguments: str) -> list[str]:
    """The command line of torch's launcher."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *arguments,
    ]  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor of a run's checkpoint that the next step depends on, by its path; floats as they are."""
    state = checkpoint.peek(folder)
    assert state is not None
    out: dict[str, torch.Tensor] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, torch.Tensor):
            out[name] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(inner, f"{name}.{key}")
        elif isinstance(value, list | tuple):
            for index, inner in enumerate(value):
                walk(inner, f"{name}.{index}")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            out[name] = torch.tensor(float(value), dtype=torch.float64)

    walk(state, "")
    return out


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []
