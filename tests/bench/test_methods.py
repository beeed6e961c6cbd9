"""What bench says about agreement: on a small network our maps are the peers' maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_engine.bench import methods
from xai_engine.explain.adapter import ModuleClassifier, input_of


class Small(nn.Module):
    """One logit from two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(11)
        self.first = nn.Conv2d(1, 6, 5, padding=2)
        self.last = nn.Conv2d(6, 6, 3, padding=1, stride=2)
        self.head = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        stage: Tensor = torch.nn.functional.softplus(self.last(torch.tanh(self.first(x))))
        out: Tensor = self.head(stage.mean((2, 3)))
        return out


def test_three_methods_beside_their_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lime", reason="lime is not installed (pip install lime)")
    monkeypatch.setattr(methods, "SAMPLES", 150)
    classifier = ModuleClassifier(Small(), (1, 64, 64), default_layer="last")
    rng = np.random.default_rng(2)
    shown = input_of(rng.normal(size=(1, 64, 64)).astype(np.float32))

    figures = {f.key: f for f in methods.measure(classifier, shown, 1, with_peers=True)}

    assert list(figures) == ["grad-cam", "integrated-gradients", "lime"]
    assert all(f.value and f.limit for f in figures.values())
    by_name = {p.name: p for f in figures.values() for p in f.peers}
    assert {"captum LayerGradCam", "captum IntegratedGradients", "lime package, our superpixels"} <= set(
        by_name
    )
    exact = by_name["captum LayerGradCam"].agreement
    assert exact["rank correlation"] > 0.999
    assert exact["largest difference, share of the maximum"] < 1e-3
    path = by_name["captum IntegratedGradients"].agreement
    assert path["rank correlation"] > 0.99
    assert path["largest difference, share of the maximum"] < 0.02
    assert all(p.value for p in by_name.values())


def test_without_peers_nothing_else_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(methods, "SAMPLES", 50)
    classifier = ModuleClassifier(Small(), (1, 32, 32), default_layer="last")
    shown = input_of(np.random.default_rng(2).normal(size=(1, 32, 32)).astype(np.float32))
    assert all(f.peers == () for f in methods.measure(classifier, shown, 1, with_peers=False))
