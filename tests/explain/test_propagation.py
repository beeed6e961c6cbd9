"""LRP against its rules in matrix form, gradients and captum; what the graph that it shares with DeepLIFT refuses."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.explain.networks import KINDS, classifier, image, network
from xai_engine.classifier.types import ModelInput
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.explain.compute.graph import Graph
from xai_engine.explain.compute.relevance import Absorbed
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

Array = npt.NDArray[np.float64]
RECTIFIED = (
    "densenet", "torchvision-densenet", "resnet-in-place", "resnet-three-channels", "functional-relu", "reused-relu", "vgg",
)  # fmt: skip
PLAIN = {"rule": "epsilon", "epsilon": 0.0, "input": "same", "bias": "absorbed"}


def lively(net: nn.Module, item: ModelInput, seed: int = 0) -> nn.Module:
    """Random weights through which signals of every layer reach the score, which becomes 1 or -1."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.2, 0.3)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    torch.set_rng_state(state)
    net.eval()
    head = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        score = net(torch.from_numpy(item.array[None].copy())).abs().max()
        head.weight /= score
        if head.bias is not None:
            head.bias /= score
    return net


def explained(net: nn.Module, item: ModelInput, name: str = "lrp", **params: object) -> Explanation:
    model = ModuleClassifier(net, item.array.shape)  # type: ignore[arg-type]
    return registry.create(name, **params).explain(model, item, "pneumonia", Run(seed=7))


# ---- rules in matrix form ------------------------------------------------------------------------------------------


class Toy(nn.Module):
    """Batch norm to fold and batch norm that cannot be folded, a residual, a concatenation, pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.conv2, self.bn2 = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.bn3 = nn.BatchNorm2d(6)
        self.conv3 = nn.Conv2d(6, 2, 1)
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(18, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(a))
        y += a
        y = F.relu(y, inplace=True)
        c = F.avg_pool2d(self.relu(self.bn3(torch.cat([a, y], 1))), 2)
        return self.fc(self.relu(self.conv3(c)).reshape(x.size(0), -1))


def affine(f: Callable[[torch.Tensor], torch.Tensor], shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The matrix and the bias of an affine function, from unit vectors."""
    size = int(np.prod(shape))
    with torch.no_grad():
        b = f(torch.zeros(1, *shape, dtype=torch.float64)).flatten().numpy()
        a = f(torch.eye(size, dtype=torch.float64).view(size, *shape)).flatten(1).numpy().T - b[:, None]
    return a, b


def by_epsilon(a: Array, b: Array, x: Array, r: Array, epsilon: float) -> Array:
    z = a @ x + b
    n = z + epsilon * np.sqrt((z**2).mean()) * np.where(z >= 0, 1, -1)
    return np.array([sum(a[j, i] * x[i] / n[j] * r[j] for j in range(len(z)) if r[j]) for i in range(len(x))])


def by_gamma(a: Array, b: Array, x: Array, r: Array, gamma: float) -> Array:
    out = np.zeros_like(x)
    for j in range(len(b)):
        c, bias = a[j] * x, b[j]
        side = np.maximum if c.sum() + bias >= 0 else np.minimum
        c, bias = c + gamma * side(c, 0), bias + gamma * side(bias, 0)
        if r[j]:
            out += c / (c.sum() + bias) * r[j]
    return out


def by_box(a: Array, x: Array, r: Array, low: Array, high: Array) -> Array:
    c = a * x - np.maximum(a, 0) * low - np.minimum(a, 0) * high
    return np.asarray((c / c.sum(1, keepdims=True) * r[:, None]).sum(0))


@pytest.mark.parametrize(
    "params",
    [
        {"rule": "epsilon", "input": "same", "epsilon": 0.05},
        {"rule": "gamma", "input": "same", "gamma": 0.3},
        {"rule": "composite", "input": "same", "gamma": 0.3, "epsilon": 0.02},
        {"rule": "composite", "input": "box"},
        {"rule": "epsilon", "input": "flat"},
    ],
    ids=lambda p: "-".join(str(v) for v in p.values()),
)
@pytest.mark.parametrize("seed", [0, 1])
def test_rules_in_matrix_form(params: dict[str, object], seed: int) -> None:
    item = image(side=6, padding=1, seed=seed)
    net = lively(Toy(), item, seed)
    method = registry.create("lrp", bias="absorbed", **params)
    found = explained(net, item, **method.values())
    v = method.values()
    wide = lively(Toy(), item, seed).double()
    wide.load_state_dict({k: t.double() for k, t in net.state_dict().items()})

    def conv(a: Array, b: Array, x: Array, r: Array) -> Array:
        if v["rule"] == "epsilon":
            return by_epsilon(a, b, x, r, float(v["epsilon"]))
        return by_gamma(a, b, x, r, float(v["gamma"]))

    def other(a: Array, b: Array, x: Array, r: Array) -> Array:
        if v["rule"] == "gamma":
            return by_gamma(a, b, x, r, float(v["gamma"]))
        return by_epsilon(a, b, x, r, float(v["epsilon"]))

    first = affine(lambda t: wide.bn1(wide.conv1(t)), (1, 6, 6))
    second = affine(lambda t: wide.bn2(wide.conv2(t)), (3, 6, 6))
    third = affine(wide.bn3, (6, 6, 6))
    pool = affine(lambda t: F.avg_pool2d(t, 2), (6, 6, 6))
    fourth = affine(wide.conv3, (6, 3, 3))
    last = affine(wide.fc, (18,))
    x = item.array.astype(np.float64).ravel()
    a = np.maximum(first[0] @ x + first[1], 0)
    y = second[0] @ a + second[1]
    c = np.concatenate([a, np.maximum(y + a, 0)])
    d = np.maximum(third[0] @ c + third[1], 0)
    e = pool[0] @ d
    f = np.maximum(fourth[0] @ e + fourth[1], 0)
    score = float((last[0] @ f + last[1])[0])
    assert found.extra["score"] == pytest.approx(score, rel=1e-4)

    r = other(*last, f, np.array([score]))
    r = conv(*fourth, e, r)
    r = by_epsilon(*pool, d, r, 1e-12)
    r = other(*third, c, r)
    left, right = r[: len(a)], r[len(a) :]
    share = np.where(y + a == 0, 0, right / np.where(y + a == 0, 1, y + a))
    left = left + a * share + conv(*second, a, y * share)
    valid = item.valid.ravel()
    if v["input"] == "same":
        r = conv(*first, x, left)
    elif v["input"] == "flat":
        pattern = (first[0] != 0) * valid
        r = (pattern / pattern.sum(1, keepdims=True) * left[:, None]).sum(0)
    else:
        low, high = (np.where(valid, g, x) for g in (x[valid].min(), x[valid].max()))
        r = by_box(first[0], x, left, low, high)
    expected = np.where(valid, r, 0).reshape(6, 6)
    assert np.abs(found.values - expected).max() <= 2e-4 * np.abs(expected).max()


# ---- conservation --------------------------------------------------------------------------------------------------


def large(name: str) -> tuple[nn.Module, ModelInput]:
    from monai.networks.nets import DenseNet121
    from torchvision.models import resnet18

    from xai_engine.classifier.network import EfficientNetLite0

    item = image(3 if name == "resnet18" else 1, side=64)
    make: dict[str, Callable[[], nn.Module]] = {
        "densenet121": lambda: DenseNet121(2, 1, 1),
        "resnet18": lambda: resnet18(num_classes=1),
        "lite0": lambda: EfficientNetLite0(),
    }
    return lively(make[name](), item), item


@pytest.mark.parametrize("name", ["densenet121", "resnet18", "lite0"])
def test_large_networks_conserve_and_equal_the_gradient(name: str) -> None:
    """LRP-0 is input x gradient in a network of rectifiers; every rule's map adds up to the score."""
    net, item = large(name)
    x = torch.from_numpy(item.array[None].copy()).requires_grad_(True)
    score = net(x)
    (gradient,) = torch.autograd.grad(score.sum(), x)
    reference = np.where(item.valid, (x * gradient)[0].sum(0).detach().numpy(), 0)
    plain = explained(net, item, **PLAIN)
    if name != "lite0":  # beyond its bound a ReLU6 is no rectifier: LRP passes, the gradient does not
        assert np.abs(plain.values - reference).max() <= 2e-3 * np.abs(reference).max()
    for params in ({}, {"rule": "epsilon"}, {"rule": "gamma", "input": "flat"}, {"input": "same"}):
        found = explained(net, item, **params)
        total = float(found.values.sum(dtype=np.float64))
        assert total == pytest.approx(float(score[0, 0]), rel=0.01), params
        assert found.completeness_error is not None
        assert found.completeness_error <= 0.01
        assert found.converged
        pixels = explained(net, item, bias="absorbed", **params)
        assert np.abs(pixels.values).sum() > 0.05 * abs(total), "the pixels must take part"
    lift = explained(net, item, "deep-lift", baseline="black")
    base = np.where(item.valid, item.array[:, item.valid].min(1)[:, None, None], item.array)[None]
    with torch.no_grad():
        change = float(score[0, 0]) - float(net(torch.from_numpy(base.astype(np.float32)))[0, 0])
    assert float(lift.values.sum(dtype=np.float64)) == pytest.approx(change, rel=0.01)


@pytest.mark.parametrize("name", ["resnet18", "densenet121"])
def test_captum_loses_or_creates_relevance(name: str) -> None:
    """captum 0.9 is off by orders of magnitude, even with a rule set on each layer by hand and each rectifier a module of its own."""
    lrp = pytest.importorskip("captum.attr").LRP
    rules = pytest.importorskip("captum.attr._utils.lrp_rules")
    net, item = large(name)

    def block(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))  # type: ignore[operator]
        return self.relu2(y + (x if self.downsample is None else self.downsample(x)))  # type: ignore[operator]

    for module in list(net.modules()):
        if type(module).__name__ == "BasicBlock":
            module.relu2 = nn.ReLU()
            module.forward = MethodType(block, module)
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
        if not any(True for _ in module.children()):
            module.rule = rules.EpsilonRule()
    x = torch.from_numpy(item.array[None].copy())
    score = float(net(x)[0, 0])
    theirs = float(lrp(net).attribute(x, target=0).sum())
    assert not abs(theirs - score) <= 0.5 * abs(score)  # not a number on this DenseNet
    ours = explained(net, item)
    assert abs(float(ours.values.sum(dtype=np.float64)) - score) <= 0.01 * abs(score)


@pytest.mark.parametrize("kind", RECTIFIED)
def test_plain_rule_is_input_times_gradient(kind: str) -> None:
    item = image(KINDS[kind].channels)
    model = classifier(kind)
    found = registry.create("lrp", **PLAIN).explain(model, item, "pneumonia", Run())
    x = model.tensor(item).requires_grad_(True)
    score = model.differentiable_scores(x, "pneumonia")
    (gradient,) = torch.autograd.grad(score.sum(), x)
    expected = (x * gradient)[0].sum(0).detach().numpy()
    assert np.abs(found.values - expected).max() <= 1e-4 * np.abs(expected).max()
    # what is missing is exactly what the biases took
    taken = float(score) - float(expected.sum(dtype=np.float64))
    assert found.extra["absorbed"] == pytest.approx(taken, abs=1e-4)
    assert "Biases took" in found.notes[-1]


def test_shared_bias_lies_where_the_bias_looks() -> None:
    """Against the matrix of bilinear enlargement; what covers no valid pixel goes to all of them."""
    rng = np.random.default_rng(0)
    valid = np.ones((12, 10), bool)
    valid[:, 6:] = False
    grid = rng.standard_normal((3, 5))
    absorbed = Absorbed()
    absorbed.add(torch.from_numpy(grid)[None, None])
    absorbed.add(torch.full((1, 4), 0.25, dtype=torch.float64))
    found = absorbed.over(torch.from_numpy(valid)).numpy()
    unit = torch.eye(15, dtype=torch.float64).view(15, 1, 3, 5)
    u = F.interpolate(unit, size=(12, 10), mode="bilinear", align_corners=False)[:, 0].numpy()
    expected, rest = np.zeros((12, 10)), 1.0
    for cell, value in zip(u, grid.ravel(), strict=True):
        inside = cell * valid
        if inside.sum() > 1e-3 * 120 / 15:
            expected += value * inside / inside.sum()
        else:
            rest += value
    expected += valid * rest / valid.sum()
    assert np.allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(grid.sum() + 1.0)
    assert absorbed.total() == pytest.approx(grid.sum() + 1.0)


# ---- what graphs may hold ------------------------------------------------------------------------------------------


class Everything(nn.Module):
    """Functions and methods for what modules do elsewhere; a skip that an operation in place changes."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(1, 4, 3, padding=1)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(48, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.a(x * 0.5 + 0.1)
        z = self.b(F.relu(y, inplace=True))  # y itself is rectified from here on
        z = torch.add(z, y)
        z = F.max_pool2d(z.relu_(), 2) / 2
        z = torch.cat([z, z, y[:, :, ::2, ::2] + 0.5], dim=1)
        return self.fc(F.adaptive_avg_pool2d(z, 2).reshape(z.shape[0], -1))


def test_functions_methods_constants_and_operations_in_place() -> None:
    item = image(side=8, padding=0)
    net = lively(Everything(), item)
    x = torch.from_numpy(item.array[None].copy()).requires_grad_(True)
    (gradient,) = torch.autograd.grad(net(x.clone()).sum(), x)
    expected = (x * gradient)[0, 0].detach().numpy()
    found = explained(net, item, **PLAIN)
    assert np.abs(found.values - expected).max() <= 1e-4 * np.abs(expected).max()
    for params in ({}, {"rule": "gamma"}):
        whole = explained(net, item, **params)
        assert float(whole.values.sum()) == pytest.approx(whole.extra["score"], rel=1e-3)


def test_gates_pass_relevance_to_the_signal_only() -> None:
    class Excited(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.squeeze, self.fc = (
                nn.Conv2d(1, 3, 3),
                nn.Conv2d(3, 3, 1),
                nn.Linear(3, 1, bias=False),
            )

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.relu(self.conv(x))
            gate = torch.sigmoid(self.squeeze(F.adaptive_avg_pool2d(y, 1)))
            return self.fc((y * gate).mean((2, 3)))

    item = image(side=8, padding=0)
    net = lively(Excited(), item)
    x = torch.from_numpy(item.array[None].copy()).requires_grad_(True)
    y = torch.relu(net.conv(x))  # type: ignore[operator]
    gate = torch.sigmoid(net.squeeze(y.mean((2, 3), keepdim=True))).detach()  # type: ignore[operator]
    (gradient,) = torch.autograd.grad(net.fc((y * gate).mean((2, 3))).sum(), x)  # type: ignore[operator]
    expected = (x * gradient)[0, 0].detach().numpy()
    assert np.abs(explained(net, item, **PLAIN).values - expected).max() <= 1e-4 * np.abs(expected).max()
    lift = explained(net, item, "deep-lift", baseline="mean")
    assert lift.completeness_error is not None
    assert lift.completeness_error < 1e-3


def test_refuses_by_name_what_it_has_no_rule_for() -> None:
    class Signals(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            return self.fc((y * y.exp()).mean((2, 3)))

    class Branching(Signals):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            turned = torch.stack([image if image.sum() > 0 else -image for image in x])
            return self.fc(self.conv(turned).mean((2, 3)))

    item = image(side=8)
    for name in ("lrp", "deep-lift"):
        with pytest.raises(UnsupportedModel, match=r"layer 'exp'.*exp"):
            explained(Signals(), item, name)
        with pytest.raises(UnsupportedModel, match="Branching: its operations cannot be written down"):
            explained(Branching(), item, name)
        with pytest.raises(
            UnsupportedModel, match=r"layer 'encoder\.layers\.encoder_layer_0\.ln_1'.*LayerNorm"
        ):
            registry.create(name).explain(classifier("vit"), image(3), "pneumonia", Run())


def test_what_the_graph_does_not_see_is_an_error_and_not_a_wrong_map() -> None:
    net = network("lite")
    net.pool.register_forward_hook(lambda m, a, o: o + 1)  # type: ignore[union-attr, operator]
    for name in ("lrp", "deep-lift", "deep-shap"):
        with pytest.raises(UnsupportedModel, match=r"layer 'pool'.*hook"):
            explained(net, image(), name)

    class Viewed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(1, 2, 3), nn.Linear(2, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            torch.relu_(y[:, :, 1:])  # changes y through a view
            return self.fc(y.mean((2, 3)))

    item = image(side=8)
    for name in ("lrp", "deep-lift", "deep-shap"):
        with pytest.raises(UnsupportedModel, match="instead of"):
            explained(lively(Viewed(), item), item, name)


def test_writing_the_graph_down_can_be_stopped_and_leaves_torch_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Enough(Exception):
        pass

    call = nn.Module.__call__
    with Session(classifier("densenet"), image(), "pneumonia", Run()) as session:
        looks = 0

        def tick() -> None:
            nonlocal looks
            looks += 1
            if looks == 10:
                raise Enough

        monkeypatch.setattr(session, "tick", tick)
        with pytest.raises(Enough):
            Graph(session)
    assert nn.Module.__call__ is call  # torch.fx replaces it for the time of tracing
