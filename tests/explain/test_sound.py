"""Networks that no map can be trusted of are refused by name; those that are hard to follow get the maps of plain passes."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.explain.networks import SIDE, Spoilt, classifier, image
from tests.explain.test_contract import hooks, left_as_found, small
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import sound
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run


class Net(nn.Module):
    """Two convolutions; `between` works on what lies between them."""

    def __init__(self, between: Callable[[torch.Tensor], torch.Tensor] | None = None) -> None:
        super().__init__()
        self.first, self.second, self.head = (
            nn.Conv2d(1, 6, 3, 2, 1),
            nn.Conv2d(6, 8, 3, 2, 1),
            nn.Linear(8, 1),
        )
        self.between = between or nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.between(torch.relu(self.first(x)))
        return self.head(torch.relu(self.second(y)).mean((2, 3)))


class Branch(Net):
    """Takes a branch by the mean of all that it is given."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        y = 3.0 * y if float(x.mean()) > 0.5 else y
        return self.head(torch.relu(self.second(y)).mean((2, 3)))


class EachBranch(Net):
    """Takes a branch by each image: independent of the others, but no graph of operations."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        y = torch.stack([3.0 * a if float(b.mean()) > 0.1 else a for a, b in zip(y, x, strict=True)])
        return self.head(torch.relu(self.second(y)).mean((2, 3)))


class Typed(Net):
    """Asks for the type of what it is given, as MONAI's BasicUNet does: while it is traced that is no tensor, so its graph lacks a
    layer's input."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Conv2d(12, 8, 3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.relu(self.first(x))
        if isinstance(y, torch.Tensor):
            y = torch.cat([y, -y], 1)
        return self.head(torch.relu(self.second(y)).mean((2, 3)))


class Counter(Net):
    calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(x) * (1.0 + self.calls % 2)


class StaysOn(nn.Dropout):
    def train(self, mode: bool = True) -> StaysOn:
        self.training = True
        return self


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


UNSOUND = {
    "batch norm of the batch": (lambda: Net(nn.BatchNorm2d(6, track_running_stats=False)), "between"),
    "mean of the batch": (lambda: Net(lambda y: y - y.mean(0, keepdim=True)), "second"),
    "dropout that stays on": (lambda: Net(StaysOn(0.5).train(False)), "between"),
    "dropout as a function": (lambda: Net(lambda y: F.dropout(y, 0.5)), "second"),
    "noise": (lambda: Net(lambda y: y + torch.randn_like(y)), "second"),
    "a branch by the batch": (Branch, "second"),
    "a counter": (Counter, "network"),
}


@pytest.mark.parametrize("kind", UNSOUND)
def test_a_network_whose_scores_hang_on_chance_or_on_other_images_is_refused(kind: str) -> None:
    """Batches of 32 and of 7 gave two maps of such a network, each finite and neither right."""
    make, layer = UNSOUND[kind]
    model = ModuleClassifier(seeded(make), (1, SIDE, SIDE), default_layer="second")
    for name in ("saliency", "grad-cam", "lime", "occlusion", "rise", "integrated-gradients", "lrp"):
        with left_as_found(model.network), pytest.raises(UnsupportedModel, match=f"^layer '{layer}'"):
            small(name).explain(model, image(), "pneumonia", Run(seed=7))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.mean((2, 3)), x


MISSHAPEN = {
    "two things": (Pair, "gives a tuple"),
    "no row for each image": (lambda: nn.Sequential(Net(), nn.Flatten(0)), r"gives \(1,\)"),
    "float64": (lambda: Net().double(), "layer 'first': cannot take"),
    "bfloat16": (lambda: Net().bfloat16(), "layer 'first': cannot take"),
    "three channels": (lambda: nn.Sequential(nn.Conv2d(3, 1, 3), nn.Flatten(), nn.Linear(900, 1)), "layer '0': cannot take"),
    "scripted": (lambda: torch.jit.script(Net()), "layer 'network': is compiled TorchScript"),
    "another size": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(9, 1)), "layer '1': cannot take"),
}  # fmt: skip


@pytest.mark.parametrize("kind", MISSHAPEN)
def test_a_network_that_cannot_be_given_the_image_is_refused(kind: str) -> None:
    make, told = MISSHAPEN[kind]
    model = ModuleClassifier(make(), (1, SIDE, SIDE))
    for name in ("saliency", "lime"):
        with pytest.raises(UnsupportedModel, match=told):
            small(name).explain(model, image(), "pneumonia", Run(seed=7))
    assert hooks(model.network) == 0


def test_it_looks_once_at_an_architecture_and_again_when_something_was_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = []
    look = sound._look
    monkeypatch.setattr(sound, "_look", lambda session: (looks.append(session), look(session)))
    method, item = small("saliency"), image()
    net = seeded(lambda: Net(nn.Dropout(0.123)))
    model = ModuleClassifier(net, (1, SIDE, SIDE))
    for _ in range(2):
        method.explain(model, item, "pneumonia", Run())
    assert len(looks) == 1
    other = copy.deepcopy(net)  # as tests by randomisation make them
    nn.init.normal_(other.head.weight)
    method.explain(ModuleClassifier(other, (1, SIDE, SIDE)), item, "pneumonia", Run())
    assert len(looks) == 1
    changed = seeded(lambda: Net(StaysOn(0.123).train(False)))
    with pytest.raises(UnsupportedModel):
        method.explain(ModuleClassifier(changed, (1, SIDE, SIDE)), item, "pneumonia", Run())
    assert len(looks) == 2


def plain(net: nn.Module, monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The map as it comes, and one in which every image is scored by itself, by the network as it is in float64."""
    item = image(padding=0)
    few = {"samples": 320} if name == "lime" else {"window": 8, "stride": 5}
    method = small(name, **few)
    policy = DevicePolicy("cpu", "fp32", 1, "auto")
    found = method.explain(
        ModuleClassifier(net, (1, SIDE, SIDE), policy=policy), item, "pneumonia", Run(seed=7)
    ).values
    slow = copy.deepcopy(net).double()

    class One(ModuleClassifier):
        def scores(self, batch: torch.Tensor, target: str, precision: str | None = None) -> torch.Tensor:
            with torch.no_grad():
                return torch.cat([slow(x[None].double().clone()) for x in batch])[:, 0]

    monkeypatch.setattr("xai_engine.explain.compute.combinations.Combinations.of", lambda *_: None)
    monkeypatch.setattr("xai_engine.explain.compute.windows.Together.of", lambda *_: None)
    model = One(copy.deepcopy(net), (1, SIDE, SIDE))
    return found, method.explain(model, item, "pneumonia", Run(seed=7)).values


class Small(nn.Module):
    """The scores of another network, a millionth of them: a probability near nought."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 1e-6 * self.net(x)


HARD = {
    "branch by image": EachBranch,
    "asks for a type": Typed,
    "in place, small scores": lambda: Small(Spoilt()),
    "its input in place": lambda: nn.Sequential(nn.ReLU(inplace=True), Net()),
    "instance norm": lambda: Net(nn.InstanceNorm2d(6)),
    "pooled and added": lambda: Net(lambda y: y + F.adaptive_avg_pool2d(y, 1)),
    "moved far": lambda: Net(lambda y: torch.roll(y, (5, 7), (2, 3))),
    "reflected": lambda: nn.Sequential(nn.ReflectionPad2d(2), Net()),
    "spectral norm": lambda: nn.Sequential(
        nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 1, 3)), nn.BatchNorm2d(1), Net()
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ["lime", "occlusion"])
@pytest.mark.parametrize("kind", HARD)
def test_networks_that_are_hard_to_follow(kind: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortcuts through a network (looked-up first layers, windows, compiled copies) fall back where they would be wrong."""
    found, expected = plain(seeded(HARD[kind]).eval(), monkeypatch, name)
    scale = float(np.abs(expected).max())
    assert scale > 0
    assert np.abs(found - expected).max() <= 1e-3 * scale


def test_relevance_of_constants_laid_beside_the_image_is_booked() -> None:
    class Place(nn.Module):
        """Tells its first layer where a row lies."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(2, 6, 3, 2, 1)
            self.head = nn.Linear(6, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            place = torch.linspace(1, 2, x.shape[2]).view(1, 1, -1, 1).expand(x.shape[0], 1, -1, x.shape[3])
            return self.head(torch.relu(self.body(torch.cat([x, place], 1))).mean((2, 3)))

    found = small("lrp").explain(
        ModuleClassifier(seeded(Place), (1, SIDE, SIDE)), image(), "pneumonia", Run()
    )
    assert found.completeness_error is not None
    assert found.completeness_error <= 1e-3


def test_the_shipped_kinds_are_sound() -> None:
    for kind in ("densenet", "vit", "swin", "efficientnet"):
        channels = 3 if kind != "densenet" else 1
        model = classifier(kind)
        small("saliency").explain(model, image(channels), model.info.classes[-1], Run())
        assert model.network in sound._SOUND


@pytest.mark.parametrize("name", ["lime", "occlusion"])
def test_exchanged_weights_are_other_weights(name: str) -> None:
    """Copies of a network were told apart by the sums of its weights, which exchanging them leaves as they are."""
    net, item = seeded(Net), image(padding=0)
    method = small(name, **({"samples": 320} if name == "lime" else {"window": 8, "stride": 5}))
    before = method.explain(ModuleClassifier(net, (1, SIDE, SIDE)), item, "pneumonia", Run(seed=7)).values
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(p.flatten().flip(0).view_as(p))
    found = method.explain(ModuleClassifier(net, (1, SIDE, SIDE)), item, "pneumonia", Run(seed=7)).values
    fresh = ModuleClassifier(copy.deepcopy(net), (1, SIDE, SIDE))
    expected = method.explain(fresh, item, "pneumonia", Run(seed=7)).values
    assert np.abs(found - expected).max() <= 1e-6 * np.abs(expected).max()
    assert np.abs(found - before).max() > 0.01 * np.abs(expected).max()
