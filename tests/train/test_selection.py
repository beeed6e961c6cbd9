"""Architectures compared: one recipe for all, the table holds what was measured, a finished candidate is not repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xai_engine.classifier.network import build  # noqa: E402
from xai_engine.runtime.run import Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, lungs, metrics, selection, settings  # noqa: E402

SMALL = {"_target_": "xai_engine.classifier.network.SmallNet", "width": 4}
VIT = {
    "_target_": "xai_engine.classifier.network.vision_transformer",
    "size": 32,
    "width": 12,
    "depth": 1,
}


def _setting(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(5)
    for split, count in (("train", 8), ("val", 5), ("test", 5)):
        for name, level in (("sick", 220), ("well", 90)):
            (folder / "set" / split / name).mkdir(parents=True)
            for k in range(count):
                image = rng.integers(0, 60, (120, 100)).astype(np.uint8)
                cv2.circle(image, (50, 60), 22, level, -1)
                cv2.imwrite(str(folder / "set" / split / name / f"{split}{name}{k}.png"), image)
    checkpoint.export(folder / "lungs.safetensors", build(lungs.NETWORK))
    base = settings.complete(
        {
            "seed": 3,
            "network": SMALL,
            "imagenet": False,
            "preprocessing": {"size": 48, "reach": 0.04},
            "batch": 8,
            "precision": "fp32",
            "workers": 0,
            "patience": 0,
            "data": [{"folder": "set", "labels": {"sick": 1, "well": 0}}],
        }
    ) | {"lungs": str(folder / "lungs.safetensors")}
    shared = {"imagenet": False, "lr": 0.01, "style_layers": []}
    config = {
        "size": 32,
        "epochs": 1,
        "images_per_epoch": 16,
        "candidates": [
            {"name": "small", "network": SMALL, "layer": "stages.3", **shared},
            {"name": "transformer", "network": VIT, "layer": "", **shared},
        ],
    }
    return config, base


def test_the_table_holds_what_was_measured_and_a_second_run_trains_nothing(
    tmp_path: Path, monkeypatch
) -> None:
    config, base = _setting(tmp_path)
    page = tmp_path / "page.md"
    trained: list[classifier.Trained] = []
    train = classifier.train

    def keep(*args: Any, **kwargs: Any) -> classifier.Trained:
        trained.append(train(*args, **kwargs))
        return trained[-1]

    monkeypatch.setattr(classifier, "train", keep)
    selection.run(config, base, tmp_path, tmp_path / "runs", page, Run())
    text = page.read_text(encoding="utf-8")
    assert len(trained) == 2
    for found, name in zip(trained, ("small", "transformer"), strict=True):
        samples = found.crops.samples
        which = np.array([i for i, s in enumerate(samples) if s.split == "test"])
        spec = selection.PreprocessSpec(size=32, reach=0.04)
        logits = classifier.logits_of(found.network, found.crops, which, spec)
        area = metrics.auc([samples[i].label for i in which], logits).value
        line = next(x for x in text.splitlines() if x.startswith(f"| {name} |"))
        assert f"{area:.3f} (" in line.split("|")[3]
        parameters = sum(p.numel() for p in found.network.parameters())
        assert f" {parameters * 4 / 1e6:.1f} " in line
    selection.run(config, base, tmp_path, tmp_path / "runs", page, Run())
    assert len(trained) == 2
    assert page.read_text(encoding="utf-8") == text


def test_every_candidate_gets_the_same_recipe(tmp_path: Path) -> None:
    config, base = _setting(tmp_path)
    first, second = (selection.recipe_of(config, base, c) for c in config["candidates"])
    assert {k for k in first if first[k] != second[k]} == {"network"}
    assert first["preprocessing"] == {"size": 32, "reach": 0.04}
    assert first["stages"] == [{"size": 32, "epochs": 1}]
