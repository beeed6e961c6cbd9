"""Class activation mapping against the head applied by hand to each cell, and where it must refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import KINDS, SIDE, classifier, image
from xai_engine.classifier.network import EfficientNetLite0
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.runtime.run import Run


def test_values_are_the_cell_logits_of_the_shipped_kind_of_network() -> None:
    torch.manual_seed(2)
    net = EfficientNetLite0(dropout=0.0).eval()
    nn.init.constant_(net.fc.bias, 0.8)
    model = ModuleClassifier(net, (1, 96, 96), default_layer="head")
    from xai_engine.explain.adapter import input_of

    item = input_of(np.random.default_rng(0).normal(size=(1, 96, 96)).astype(np.float32))
    found = registry.create("cam", alignment="cells").explain(model, item, "pneumonia", Run())
    with torch.no_grad():
        x = torch.from_numpy(item.array[None].copy())
        cells = net.cell_logits(net.features(x))[0, 0].numpy()
        logit = float(net(x))
    assert found.extra["mean_of_cells"] == pytest.approx(logit, abs=1e-5)
    assert found.extra["bias"] == pytest.approx(0.8, abs=1e-6)
    centres = (
        found.values[15::32, 15::32] / 2 + found.values[16::32, 16::32] / 2
    )  # bilinear: exact in the middle
    assert np.allclose(centres, cells, atol=0.05 * np.ptp(cells))
    assert found.values[0, 0] == pytest.approx(cells[0, 0], abs=1e-5)
    assert found.values[-1, -1] == pytest.approx(cells[-1, -1], abs=1e-5)


@pytest.mark.parametrize("kind", ["resnet-in-place", "resnet-three-channels", "lite", "efficientnet"])
@pytest.mark.parametrize("target", ["normal", "pneumonia"])
def test_mean_of_the_cells_is_the_score(kind: str, target: str) -> None:
    model = classifier(kind)
    last = [m for m in model.network.modules() if isinstance(m, nn.Linear)][-1]
    nn.init.uniform_(last.bias, 0.2, 0.6)
    item = image(KINDS[kind].channels)
    found = registry.create("cam").explain(model, item, target, Run())
    score = float(model.scores(model.tensor(item), target)[0])
    assert found.extra["mean_of_cells"] == pytest.approx(score, abs=1e-5)
    assert found.values.shape == (SIDE, SIDE)


def test_a_layer_that_is_not_averaged_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedModel, match=r"layer 'layer1'.*no weighted average"):
        registry.create("cam", layer="layer1").explain(
            classifier("resnet-in-place"), image(), "pneumonia", Run()
        )
    pooled_to_four = ModuleClassifier(
        nn.Sequential(
            nn.Conv2d(1, 4, 3, 2, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 1)
        ).eval(),
        (1, SIDE, SIDE),
        default_layer="0",
    )  # affine, but not the same weight everywhere
    with pytest.raises(UnsupportedModel, match="layer '0'"):
        registry.create("cam").explain(pooled_to_four, image(), "pneumonia", Run())
