"""DeepLIFT and Deep SHAP against closed forms and captum."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from tests.explain.networks import classifier, image
from tests.explain.test_propagation import explained, large, lively
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import deeplift
from xai_engine.explain.compute.graph import Graph, Step
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run


def test_deep_lift_closed_form() -> None:
    """relu(x1 + x2 - 1) from (0, 0) to (2, 1): output 2, difference 3, so each input gets 2/3 of its own difference."""

    class Saturating(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 1)
            nn.init.ones_(self.fc.weight)
            nn.init.constant_(self.fc.bias, -1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.fc(x.flatten(1)))

    item = input_of(np.array([[[2.0, 1.0]]], np.float32))
    with Session(ModuleClassifier(Saturating(), (1, 1, 2)), item, "pneumonia", Run()) as session:
        graph = Graph(session)
        tape, base = graph.run(session.x, 2.0), graph.run(torch.zeros_like(session.x), 0.0)
        m = deeplift.multipliers(session, tape, base)[0, 0, 0].numpy()
    assert np.allclose(m, [2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("x", "x0", "expected"), [((3, 1), (0, 2), (1, 0)), ((1, 0.5), (0, 2), (0, -1)), ((4, 1), (1, 0), (3, 0))]
)
def test_maximum_closed_form(
    x: tuple[float, ...], x0: tuple[float, ...], expected: tuple[float, ...]
) -> None:
    """What exceeds the reference's maximum is the winner's, what is missing to it is the former winner's."""

    def pool(t: torch.Tensor) -> torch.Tensor:
        return F.max_pool2d(t, (1, 2))

    node = fx.Graph().placeholder("x")
    a, b = (torch.tensor(v, dtype=torch.float32).view(1, 1, 1, 2) for v in (x, x0))
    m = deeplift._maximum(
        Step(node, "pool", "maximum", (node,), pool), pool(a), pool(b), a, b, torch.ones(1, 1, 1, 1)
    )
    assert np.allclose((m * (a - b)).flatten().numpy(), expected)


class Pooled(nn.Module):
    """Everything a module of its own, as captum needs it."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.conv1, self.act1, self.pool = nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), pool
        self.conv2, self.act2, self.fc = nn.Conv2d(4, 5, 3, padding=1), nn.ReLU(), nn.Linear(5 * 256, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.act2(self.conv2(self.pool(self.act1(self.conv1(x))))), 1))


@pytest.mark.parametrize("pool", [nn.AvgPool2d(2), nn.MaxPool2d(2)], ids=["average", "maximum"])
def test_deep_lift_equals_captum_where_captum_adds_up(pool: nn.Module) -> None:
    """captum 0.9 does not add up behind a max pooling, and says so only when asked for its delta."""
    captum = pytest.importorskip("captum.attr")
    item = image(padding=0)
    net = lively(Pooled(pool), item)
    x = torch.from_numpy(item.array[None].copy())
    base = torch.full_like(x, float(item.array.min()))
    theirs = captum.DeepLift(net).attribute(x, base, target=0)[0, 0].detach().numpy()
    found = explained(net, item, "deep-lift", baseline="black")
    with torch.no_grad():
        change = float(net(x) - net(base))
    assert float(found.values.sum(dtype=np.float64)) == pytest.approx(change, abs=1e-4)
    if isinstance(pool, nn.AvgPool2d):
        assert np.abs(found.values - theirs).max() <= 1e-4 * np.abs(theirs).max()
    else:
        assert abs(float(theirs.sum()) - change) > 0.01 * abs(change)


def test_captum_deep_lift_is_off_on_densenet() -> None:
    """Ours adds up where captum 0.9 does not."""
    captum = pytest.importorskip("captum.attr")
    net, item = large("densenet121")
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    x = torch.from_numpy(item.array[None].copy())
    base = np.where(item.valid, item.array[:, item.valid].min(), item.array).astype(np.float32)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = captum.DeepLift(net).attribute(x, torch.from_numpy(base), target=0)
    with torch.no_grad():
        change = float(net(x) - net(torch.from_numpy(base)))
    ours = explained(net, item, "deep-lift", baseline="black")
    assert ours.extra["change"] == pytest.approx(change, abs=1e-3)
    assert abs(float(ours.values.sum()) - change) <= 0.01 * abs(change)
    assert abs(float(theirs.sum()) - change) > abs(float(ours.values.sum()) - change)


def test_deep_shap_is_the_mean_over_its_baselines() -> None:
    """Each baseline's own map adds up; one seed, one draw; more baselines, the same first ones."""
    item = image()
    model = classifier("densenet")
    one = registry.create("deep-shap", baselines=1).explain(model, item, "pneumonia", Run(seed=3))
    many = registry.create("deep-shap", baselines=12).explain(model, item, "pneumonia", Run(seed=3))
    for found in (one, many):
        change = found.extra["score"] - found.extra["baseline_score"]
        assert float(found.values.sum(dtype=np.float64)) == pytest.approx(change, rel=1e-3, abs=1e-4)
    two = registry.create("deep-shap", baselines=2).explain(model, item, "pneumonia", Run(seed=3))
    other = 2 * two.values.astype(np.float64) - one.values
    second = 2 * two.extra["baseline_score"] - one.extra["baseline_score"]
    assert float(other.sum()) == pytest.approx(two.extra["score"] - second, rel=1e-3, abs=1e-4)
