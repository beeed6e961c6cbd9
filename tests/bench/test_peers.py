"""The harness around other packages hands them the right thing: each is checked where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xai_engine.bench import peers


class Small(nn.Module):
    """Two convolutions and a pooled linear head: Grad-CAM of it can be written down."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 5, 3, padding=1, stride=2)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        stage: Tensor = self.last(torch.tanh(self.first(x)))
        out: Tensor = self.head(stage.mean((2, 3)))
        return out


@pytest.fixture
def small() -> tuple[Small, Tensor]:
    network = Small().eval()
    network.requires_grad_(False)
    return network, torch.from_numpy(np.random.default_rng(5).normal(size=(1, 1, 16, 16)).astype(np.float32))


def test_grad_cam_of_captum_and_monai_is_the_closed_form(small: tuple[Small, Tensor]) -> None:
    network, x = small
    stage = network.last(torch.tanh(network.first(x)))
    weights = (
        network.head.weight[1] / stage[0, 0].numel()
    )  # gradient of the score by each activation, then averaged
    expected = (weights[:, None, None] * stage[0]).sum(0)
    upsampled = torch.nn.functional.interpolate(expected[None, None], (16, 16), mode="bilinear")[0, 0].numpy()
    ours = peers.captum_grad_cam(lambda b: network(b)[:, 1], network.last, x)
    np.testing.assert_allclose(ours, upsampled, atol=1e-6)
    rectified = peers.monai_grad_cam(network, "last", x, 1)
    clipped = torch.nn.functional.interpolate(expected.clamp(min=0)[None, None], (16, 16), mode="bilinear")
    np.testing.assert_allclose(rectified, clipped[0, 0].numpy(), atol=1e-6)
    assert not network.last._forward_hooks


def test_integrated_gradients_of_a_linear_score(small: tuple[Small, Tensor]) -> None:
    _, x = small
    weights = torch.linspace(-1, 1, 256).reshape(1, 1, 16, 16)
    baseline = torch.full_like(x, 0.25)
    found = peers.captum_integrated_gradients(lambda b: (b * weights).sum((1, 2, 3)), x, baseline, 8)
    np.testing.assert_allclose(found, ((x - baseline) * weights)[0, 0].numpy(), atol=1e-5)


@pytest.mark.parametrize("channels", [1, 3])
def test_lime_recovers_a_linear_score(small: tuple[Small, Tensor], channels: int) -> None:
    pytest.importorskip("lime", reason="lime is not installed (pip install lime)")
    x = small[1].repeat(1, channels, 1, 1)
    segments = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 8, 0), 8, 1).astype(np.int32)
    segments[:, 15] = -1  # padding
    truth = np.array([2.0, -1.0, 0.0, 3.0])

    def score(batch: Tensor) -> Tensor:
        assert batch.shape[1:] == x.shape[1:]
        shown = torch.stack(
            [batch[:, 0, segments == s].std(1) > 0.1 for s in range(4)], 1
        )  # hidden: all one grey
        return (shown * torch.from_numpy(truth)).sum(1).float()

    found = peers.lime_weights(score, x, segments, 400, 1)
    # lime's ridge (alpha 1) shrinks a little towards zero
    np.testing.assert_allclose([found[segments == s][0] for s in range(4)], truth, atol=0.1)
    assert not found[:, 15].any()


def test_comparisons() -> None:
    first = np.array([[0.0, 1.0], [2.0, -4.0]])
    assert peers.largest_difference(first, first + 1.0) == pytest.approx(0.25)
    assert peers.largest_difference(first, 3 * first, factor=True) == pytest.approx(0.0)
    assert peers.spearman(first, np.exp(first)) == pytest.approx(1.0)
    assert peers.spearman(first, np.zeros((2, 2))) == 0.0
