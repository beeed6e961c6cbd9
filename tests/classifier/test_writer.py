"""Networks written for OpenVINO node by node give what torch gives; what is not known is left to its converter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.explain.networks import KINDS, SIDE, Spoilt, network
from xai_engine.classifier.backends import base, choose
from xai_engine.classifier.backends.compiled import OpenVino

openvino = pytest.importorskip("openvino")


def outputs(net: nn.Module, x: torch.Tensor) -> torch.Tensor:
    from xai_engine.classifier.backends.writer import Writer

    model = openvino.Core().compile_model(
        Writer(base.written(net), tuple(x.shape[1:])).model(), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return torch.from_numpy(model(x.numpy())[0].copy())


@pytest.mark.parametrize(
    "kind", ["lite", "resnet-in-place", "functional-relu", "reused-relu", "vgg", "densenet"]
)
def test_it_gives_what_torch_gives_for_any_number_of_images(kind: str) -> None:
    net = network(kind).eval().requires_grad_(False)
    x = torch.randn(5, KINDS[kind].channels, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        truth = net(x)
    assert truth.std() > 1e-3
    for part in (x[:1], x):
        assert torch.allclose(
            outputs(net, part), truth[: len(part)], rtol=1e-4, atol=1e-5 * float(truth.abs().max())
        )


class Layers(nn.Module):
    """Every operation that only the way forwards knows, with settings that are not the usual ones."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.stem = (
            nn.BatchNorm2d(2),
            nn.Conv2d(2, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        )
        self.largest, self.mean = (
            nn.MaxPool2d(3, 2, 1),
            nn.AvgPool2d((2, 3), (1, 2), (1, 1), count_include_pad=False),
        )
        self.other, self.bare = nn.AvgPool2d(2, 1, 1), nn.BatchNorm2d(6, affine=False)
        self.hard, self.head = nn.Hardswish(), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.silu(self.stem(self.norm(x)))
        x = torch.cat([self.mean(self.largest(x)), self.hard(self.mean(self.bare(self.largest(x))))], 1)
        return self.head(torch.sigmoid(self.other(x)).mean((2, 3)))


def test_it_knows_each_operation_with_its_settings() -> None:
    torch.manual_seed(0)
    net = Layers()
    net(torch.randn(64, 2, 21, 17) * 2 + 1)  # statistics that are not those of a fresh network
    for p in net.norm.parameters():
        p.data.uniform_(0.5, 2.0)
    net.eval().requires_grad_(False)
    x = torch.randn(3, 2, 21, 17, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(outputs(net, x), net(x), rtol=1e-4, atol=1e-5)


def test_a_network_that_is_not_its_graph_is_converted() -> None:
    torch.manual_seed(0)
    net = Spoilt().eval().requires_grad_(False)
    x = torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    truth = net(x.clone())
    assert float((outputs(net, x) - truth).abs().max()) > 1e-3  # by its graph
    choice = choose.prepare(net, (1, SIDE, SIDE), "openvino", "fp32", 1)()
    assert isinstance(choice.backend, OpenVino)
    assert torch.allclose(choice.backend.outputs(x, "fp32"), truth, atol=1e-5)


def test_what_it_does_not_know_is_refused() -> None:
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.Linear(36, 1), nn.Flatten()).eval()
    with pytest.raises(base.Unavailable, match="not known"):
        outputs(net.requires_grad_(False), torch.zeros(1, 1, 8, 8))
