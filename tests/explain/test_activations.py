"""The map of the strongest channels against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, classifier, image
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.runtime.run import Run


class Channels(nn.Module):
    """Rectified channels, averaged, times weights: contributions are weight × mean, exactly."""

    def __init__(self, weights: list[float]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.conv = nn.Conv2d(1, len(weights), 3, 2, 1)
        with torch.no_grad():
            self.conv.weight.copy_(torch.randn(self.conv.weight.shape, generator=generator))
        self.layer = nn.ReLU()
        self.weights = nn.Parameter(torch.tensor(weights))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (self.layer(self.conv(x)).mean((2, 3)) * self.weights).sum(1, keepdim=True)


def test_all_channels_of_an_averaging_head_are_grad_cam() -> None:
    model = ModuleClassifier(Channels([0.5, -2.0, 0.1, 1.0]), (1, SIDE, SIDE), default_layer="layer")
    whole = registry.create("activations", channels=4).explain(model, image(), "pneumonia", Run())
    cam = registry.create("grad-cam").explain(model, image(), "pneumonia", Run())
    assert np.allclose(whole.values, cam.values, atol=1e-5)
    score = float(model.scores(torch.from_numpy(image().array[None].copy()), "pneumonia")[0])
    assert whole.extra["contribution"] == pytest.approx(score, abs=1e-5)
    assert whole.extra["share_of_contributions"] == pytest.approx(1.0)


def test_the_strongest_channel_alone() -> None:
    net = Channels([0.5, -2.0, 0.1, 1.0])
    model = ModuleClassifier(net, (1, SIDE, SIDE), default_layer="layer")
    item = image()
    found = registry.create("activations", show="strongest", alignment="cells").explain(
        model, item, "pneumonia", Run()
    )
    with torch.no_grad():
        maps = torch.relu(net.conv(torch.from_numpy(item.array[None].copy())))[0]
    parts = (maps.mean((1, 2)) * net.weights.detach()).numpy()
    best = int(np.abs(parts).argmax())
    assert found.extra["strongest"] == best
    assert found.extra["contribution"] == pytest.approx(parts[best], rel=1e-4)
    assert found.extra["share_of_contributions"] == pytest.approx(
        abs(parts[best]) / np.abs(parts).sum(), rel=1e-4
    )
    plane = maps[best] * net.weights.detach()[best]  # contribution × activation / mean activation
    expected = nn.functional.interpolate(plane[None, None], (SIDE, SIDE), mode="bilinear")[0, 0].numpy()
    assert not item.valid.all()
    # nothing is coloured that the network was not shown
    assert np.allclose(found.values, np.where(item.valid, expected, 0.0), atol=1e-5)


def test_fewer_channels_explain_less_but_the_largest_first() -> None:
    model = classifier("densenet")
    parts = [
        registry.create("activations", channels=n).explain(model, image(), "pneumonia", Run()).extra
        for n in (1, 3, 100)
    ]
    shares = [p["share_of_contributions"] for p in parts]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)
