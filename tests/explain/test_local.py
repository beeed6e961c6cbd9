"""Windows computed on what they touch: the same scores as full passes, and less work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import KINDS, SIDE, classifier, image
from xai_engine.classifier.backends.base import AtOnce
from xai_engine.classifier.network import EfficientNetLite0
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import local, windows
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run


def both(network: nn.Module, x: torch.Tensor, size: tuple[int, int], seed: int = 0) -> tuple[int, float]:
    """(operations run locally, largest difference of the outputs to full passes) for windows at random places, also
    at the borders and in the corners.
    """
    network = network.eval().requires_grad_(False)
    rng = np.random.default_rng(seed)
    room = np.array(x.shape[2:]) - np.array(size)
    starts = np.stack([rng.integers(0, m + 1, 9) for m in room], 1)
    starts[0], starts[1], starts[2] = 0, room, (0, room[1])
    changed = torch.from_numpy(rng.normal(size=(len(starts), x.shape[1], *size)).astype(np.float32))
    plan = local.prepare(network, x, size, starts)()
    if plan is None:
        return 0, 0.0
    full = x.repeat(len(starts), 1, 1, 1)
    for picture, patch, (r, c) in zip(full, changed, starts.tolist(), strict=True):
        picture[:, r : r + size[0], c : c + size[1]] = patch
    with torch.inference_mode():
        expected = network(full)
        found = plan.rest(plan.activations(changed, starts, size, lambda: None))
    return len(plan.nodes), float(((found - expected).abs() / (1 + expected.abs())).max())


class Mixed(nn.Module):
    """Strides, dilation, groups, even kernels, asymmetric padding, both poolings, a sum and a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 8, 5, stride=2, padding=2)
        self.b = nn.Conv2d(8, 8, (3, 5), padding=(2, 4), dilation=2, groups=4)
        self.c = nn.Conv2d(16, 12, 2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.most = nn.MaxPool2d(3, 2, 1)
        self.even = nn.MaxPool2d(2)
        self.mean = nn.AvgPool2d(2)
        self.head = nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        x = self.norm(x + self.b(x))
        x = torch.cat([self.even(x), self.mean(x)], 1)
        x = self.c(x)
        return self.head(x.mean((2, 3)))


class Joined(Mixed):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.relu(self.a(x), inplace=True)
        x = self.norm(x + self.b(x))
        x = torch.cat([x, nn.functional.silu(x)], dim=1)
        return self.head(self.most(x).mean((2, 3))[:, :12])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("network", [Mixed, Joined])
def test_touched_parts_give_the_full_pass(network: type[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    made = network()
    nn.init.uniform_(made.norm.running_mean)  # type: ignore[union-attr,arg-type]
    side = (70 + seed, 83 - seed)
    operations, off = both(made, torch.randn(1, 2, *side), (9 + seed, 12), seed)
    assert operations >= 4
    assert off < 1e-5


def test_the_shipped_architecture_is_cut_behind_its_costly_stages() -> None:
    torch.manual_seed(0)
    operations, off = both(EfficientNetLite0(), torch.randn(1, 1, 160, 160), (24, 24))
    assert operations > 15  # stem and the first stages, where most of the pixels are
    assert off < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion_is_the_same_with_and_without(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the network: local where that is exact, full passes where it is not."""
    about = KINDS[kind]
    method = registry.create("occlusion", window=4, stride=5)
    item = image(about.channels)
    found = method.explain(classifier(kind), item, about.classes[-1], Run())
    monkeypatch.setattr(windows, "FEWEST", 10**9)
    expected = method.explain(classifier(kind), item, about.classes[-1], Run())
    assert expected.extra["operations_reused"] == 0
    scale = max(1.0, float(np.abs(expected.values).max()))
    assert np.abs(found.values - expected.values).max() < 1e-5 * scale
    if kind in ("vit", "monai-vit"):  # attention comes at once
        assert found.extra["operations_reused"] == 0


def test_work_saved_in_multiplications() -> None:
    """Counted by torch, not timed: pixels that convolutions see, with reuse and without."""
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    x = np.random.default_rng(0).normal(size=(1, 160, 160)).astype(np.float32)
    counted: list[int] = []
    real = torch.nn.functional.conv2d

    def conv2d(given: torch.Tensor, weight: torch.Tensor, *args: object, **kwargs: object) -> torch.Tensor:
        out = real(given, weight, *args, **kwargs)  # type: ignore[arg-type]
        counted.append(out.numel() * weight[0].numel())
        return out

    work = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", conv2d)
        for fewest in (16, 10**9):
            patch.setattr(windows, "FEWEST", fewest)
            counted.clear()
            model = ModuleClassifier(network, (1, 160, 160))
            registry.create("occlusion", window=24, stride=12).explain(model, input_of(x), "pneumonia", Run())
            work[fewest] = sum(counted)
    assert work[16] < 0.8 * work[10**9]  # more in time: the early stages are bound by memory


def test_a_wrong_plan_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = local.Plan.activations
    monkeypatch.setattr(local.Plan, "activations", lambda *args: real(*args) * 1.01)
    found = registry.create("occlusion", window=4, stride=5).explain(
        classifier("lite"), image(), "pneumonia", Run()
    )
    assert found.extra["operations_reused"] == 0
    assert found.values.shape[0] == SIDE


class _Compiled(AtOnce):
    """A backend that is torch, and counts what it is given."""

    name, precisions = "test", ("fp32", "bf16")

    def __init__(self, rest: nn.Module) -> None:
        self.rest, self.asked = rest, {"fp32": 0, "bf16": 0}

    def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        assert batch.dtype == torch.float32
        self.asked[precision] += len(batch)
        with torch.inference_mode():
            return self.rest(batch)


def test_what_lies_behind_the_cut_runs_on_the_compiled_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    item = input_of(np.random.default_rng(0).normal(size=(1, 160, 160)).astype(np.float32))
    method = registry.create("occlusion", window=24, stride=14)
    expected = method.explain(ModuleClassifier(network, (1, 160, 160)), item, "pneumonia", Run())
    made: list[_Compiled] = []

    def compiled(self: Session, rest: nn.Module, shape: tuple[int, int, int], entrance: bool) -> _Compiled:
        assert not entrance
        made.append(_Compiled(rest))
        return made[-1]

    monkeypatch.setattr(Session, "compiled", compiled)
    monkeypatch.setattr("xai_engine.explain.session.COMPILE_MINIMUM", 16)
    model = ModuleClassifier(network, (1, 160, 160))
    found = method.explain(model, item, "pneumonia", Run())
    assert (found.backend, found.precision) == ("test", "fp32")
    assert made[0].asked == {"fp32": found.extra["windows"] + windows.VERIFIED, "bf16": 0}
    scale = float(np.abs(expected.values).max())
    assert np.abs(found.values - expected.values).max() <= 1e-5 * scale + 1e-6
