"""A small bundle with seeded random weights, for tests that need a model but not a good one."""

from __future__ import annotations

from pathlib import Path


def make_bundle(folder: Path, *, size: int = 64, seed: int = 5) -> Path:
    """Write a SmallNet bundle (one logit, one channel, no lung model, so its gate only checks size and contrast)."""
    import torch

    from xai_engine.classifier.calibration import Platt
    from xai_engine.classifier.network import build
    from xai_engine.classifier.preprocess import PreprocessSpec
    from xai_engine.classifier.types import ConformalLimits, OperatingPoint
    from xai_engine.train.export import BundleContent, write_bundle

    definition = {
        "_target_": "xai_engine.classifier.network.SmallNet",
        "in_channels": 1,
        "num_classes": 1,
        "width": 8,
    }
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    network = build(definition)
    with torch.no_grad():
        network.fc.weight.mul_(8.0)  # logits that differ visibly between images
    torch.set_rng_state(state)
    content = BundleContent(
        name="tiny",
        version="0.0.1",
        title="Tiny test model",
        architecture="SmallNet",
        network_def=definition,
        network=network,
        preprocessing=PreprocessSpec(size=size),
        calibration=Platt(1.5, -0.2),
        classes=("normal", "pneumonia"),
        layers=("stages.0", "stages.1", "stages.2", "stages.3"),
        default_layer="stages.3",
        operating_points=(OperatingPoint("balanced", 0.5, (0.9, 0.85, 0.94), (0.8, 0.75, 0.84), "a test"),),
        intended_use="Tests only.",
        limitations=("Random weights.",),
        training_data=("None.",),
        metrics={"auc": 0.5},
        conformal=ConformalLimits(0.1, (0.7, 0.6), "a test"),
    )
    write_bundle(content, folder)
    return folder
