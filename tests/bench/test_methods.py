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


SIZES = methods.Sizes(steps=16, samples=150, masks=40, seeds=2)


def test_every_row_beside_its_peers() -> None:
    for needed in ("lime", "shap", "captum", "pytorch_grad_cam"):
        pytest.importorskip(needed, reason=f"{needed} is not installed (extra peers)")
    classifier = ModuleClassifier(Small(), (1, 64, 64), default_layer="last")
    rng = np.random.default_rng(2)
    shown = input_of(rng.normal(size=(1, 64, 64)).astype(np.float32))

    figures = {f.key: f for f in methods.measure(classifier, shown, 1, True, SIZES)}

    assert list(figures) == [
        "grad-cam", "grad-cam-ratio", "integrated-gradients", "integrated-gradients-1", "lime-fp32", "lime", "lime-stop",
        "kernel-shap-fp32", "kernel-shap", "kernel-shap-same", "occlusion", "rise", "pool",
    ]  # fmt: skip
    assert all(f.value for f in figures.values()), [f.note for f in figures.values()]
    peers = {(key, p.name): p for key, f in figures.items() for p in f.peers}
    assert all(p.value and not p.note for p in peers.values()), [p.note for p in peers.values()]

    def agreement(key: str, name: str) -> tuple[float, float]:
        found = peers[key, name].agreement
        return found[methods.RANKS], found.get(methods.LARGEST, 0.0)

    ranks, largest = agreement("grad-cam", "captum LayerGradCam")
    assert ranks > 0.999
    assert largest < 1e-3
    ranks, largest = agreement("integrated-gradients", "captum IntegratedGradients, 16 steps")
    assert ranks > 0.99
    assert largest < 0.02
    assert agreement("lime-fp32", "lime package, our superpixels and coins")[1] < 1e-5  # digit by digit
    assert agreement("rise", "a loop as the authors' code")[1] < 1e-4
    assert agreement("occlusion", "captum Occlusion")[0] > 0.8  # their last window at the border is narrower
    # as far as fp32 goes on so flat a score
    assert agreement("kernel-shap-same", "shap KernelExplainer")[1] < 5e-5
    assert agreement("kernel-shap-fp32", "shap KernelExplainer")[0] > 0.9
    assert agreement("kernel-shap-fp32", "captum KernelShap")[0] > 0.5  # random sets without pairs
    assert peers["lime", "lime package, our superpixels and coins"].wanted == 10.0
    assert "forward passes" in figures["pool"].note


def test_a_peer_that_crashes_is_told_in_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    for needed in ("lime", "shap", "captum", "pytorch_grad_cam"):
        pytest.importorskip(needed, reason=f"{needed} is not installed (extra peers)")

    def crash(*_: object) -> None:
        raise RuntimeError("leaves 732 hooks\nand more")

    monkeypatch.setattr(methods.peers, "captum_occlusion", crash)
    classifier = ModuleClassifier(Small(), (1, 32, 32), default_layer="last")
    shown = input_of(np.random.default_rng(2).normal(size=(1, 32, 32)).astype(np.float32))
    bench = methods.Bench(classifier, shown, 1, True, SIZES)
    (figure,) = bench.occlusion()
    assert figure.value
    failed, whole = figure.peers
    assert failed.value is None
    assert failed.note == "failed: RuntimeError: leaves 732 hooks"
    assert whole.value


def test_without_peers_nothing_else_is_measured() -> None:
    classifier = ModuleClassifier(Small(), (1, 32, 32), default_layer="last")
    shown = input_of(np.random.default_rng(2).normal(size=(1, 32, 32)).astype(np.float32))
    assert all(f.peers == () for f in methods.measure(classifier, shown, 1, False, SIZES))


def test_rounds_are_interleaved_and_the_first_call_is_not_counted() -> None:
    from xai_engine.bench.contest import Entrant, contest

    seen: list[str] = []
    entrants = [
        Entrant("a", lambda: seen.append("a")),
        Entrant("b", lambda: seen.append("b"), warm=False, most=2),
    ]
    contest(entrants, 3)
    assert seen == ["a", "a", "b", "a", "b", "a"]
    assert [len(e.samples) for e in entrants] == [3, 2]
