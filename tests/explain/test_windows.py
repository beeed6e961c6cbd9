"""Windows computed together: the same scores as full passes, and less work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import nn

from tests.explain.networks import KINDS, SIDE, classifier, image
from xai_engine.classifier.backends.base import AtOnce, written
from xai_engine.classifier.network import EfficientNetLite0
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import cuts, windows
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run


def both(network: nn.Module, x: torch.Tensor, size: tuple[int, int], seed: int = 0) -> tuple[float, float]:
    """(images computed for a window, of windows in random rows and columns, also at the borders and in the corners; largest
    difference of the outputs to full passes).
    """
    network = network.eval().requires_grad_(False)
    rng = np.random.default_rng(seed)
    room = np.array(x.shape[2:]) - np.array(size)
    rows, columns = ({0, int(m), *rng.choice(m, 9, replace=False).tolist()} for m in room)
    places = [(r, c) for r in rows for c in columns if rng.random() < 0.9]
    hidden = torch.from_numpy(rng.normal(size=tuple(x.shape)).astype(np.float32))
    graph = written(network)
    shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
    plan = windows.planned(graph, shape, places, size)
    assert plan is not None
    make = windows.replaced(x, hidden, size)
    with torch.inference_mode():
        front = cuts.front(graph, plan.cut)
        together = torch.cat([front(make(plan.held_by(image))) for image in range(plan.images)])
        ready = windows.Together(None, plan, together)  # type: ignore[arg-type]
        found = cuts.rest(graph, plan.cut)(ready.activations(0, len(places)))
        expected = torch.cat([network(make([place])) for place in plan.places])
    assert sorted(plan.places) == sorted(places)
    return plan.images / len(places), float(((found - expected).abs() / (1 + expected.abs())).max())


def lite() -> nn.Module:
    """With statistics that are not those of a fresh network, whose score hardly depends on the image."""
    net = EfficientNetLite0().eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(1.5, 2.5)
            module.bias.data.normal_(0.0, 0.2)
    return net


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
def test_windows_together_give_the_full_pass(network: type[nn.Module], seed: int) -> None:
    torch.manual_seed(seed)
    made = network()
    nn.init.uniform_(made.norm.running_mean)  # type: ignore[union-attr,arg-type]
    side = (150 + seed, 163 - seed)
    share, off = both(made, torch.randn(1, 2, *side), (9 + seed, 12), seed)
    assert share < 0.5
    assert off < 1e-5


def test_the_shipped_architecture_is_cut_where_windows_lie_apart() -> None:
    torch.manual_seed(0)
    share, off = both(EfficientNetLite0(), torch.randn(1, 1, 160, 160), (16, 16))
    assert share < 0.5
    assert off < 1e-5


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 12)), min_size=1, max_size=40))
def test_intervals_of_a_class_lie_apart_and_no_class_is_wasted(drawn: list[tuple[int, int]]) -> None:
    spans = np.array([(first, first + length) for first, length in drawn])
    found = windows.classes(spans)
    for one in range(int(found.max()) + 1):
        mine = spans[found == one]
        mine = mine[mine[:, 0].argsort()]
        assert len(mine)
        assert (mine[1:, 0] >= mine[:-1, 1]).all()
    most = max(int(((spans[:, 0] <= at) & (at < spans[:, 1])).sum()) for at in range(60))
    assert int(found.max()) + 1 == most  # no fewer can do: so many hold one place


def test_a_window_changes_nothing_outside_its_part() -> None:
    """By brute force: where the activation at the cut differs from the image's own."""
    torch.manual_seed(2)
    network = Mixed().eval().requires_grad_(False)
    x, hidden = torch.randn(2, 1, 2, 120, 110)
    places = [(r, c) for r in range(0, 111, 10) for c in range(0, 101, 10)]
    graph = written(network)
    plan = windows.planned(graph, (2, 120, 110), places, (9, 9))
    assert plan is not None
    front, make = cuts.front(graph, plan.cut), windows.replaced(x, hidden, (9, 9))
    with torch.inference_mode():
        whole = front(make([]))
        for place, (a, b, c, d) in zip(plan.places, plan.parts.tolist(), strict=True):
            changed = (front(make([place])) != whole).any(1)[0]
            assert changed.any()
            changed[a:b, c:d] = False
            assert not changed.any()


@pytest.mark.parametrize("kind", KINDS)
def test_occlusion_is_the_same_with_and_without(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the network: together where that is exact, full passes where it is not."""
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
            registry.create("occlusion", window=24, stride=7).explain(model, input_of(x), "pneumonia", Run())
            work[fewest] = sum(counted)
    assert work[16] < 0.9 * work[10**9]  # more in time: the early stages are bound by memory


def test_a_wrong_plan_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = windows.Together.activations
    monkeypatch.setattr(windows.Together, "activations", lambda *args: real(*args) * 1.01)
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
        assert entrance is (not made)  # the first layers come first
        made.append(_Compiled(rest))
        return made[-1]

    monkeypatch.setattr(Session, "compiled", compiled)
    monkeypatch.setattr("xai_engine.explain.session.COMPILE_MINIMUM", 16)
    model = ModuleClassifier(network, (1, 160, 160))
    found = method.explain(model, item, "pneumonia", Run())
    assert (found.backend, found.precision) == ("test", "fp32")
    front, rest = made
    assert rest.asked == {"fp32": found.extra["windows"] + windows.VERIFIED, "bf16": 0}
    assert 0 < front.asked["fp32"] < found.extra["windows"] / 2
    assert front.asked["bf16"] == 0
    scale = float(np.abs(expected.values).max())
    assert np.abs(found.values - expected.values).max() <= 1e-5 * scale + 1e-6


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("size", [0.004, 0.02])
def test_what_is_expected_of_the_map_is_what_comes(alike: bool, size: float) -> None:
    """Scores of windows over a smooth picture, off by chance, or as if each pixel had an error of its own: the map of all windows
    keeps its ranks as well as it was said after the first ones, or better."""
    places = [(r, c) for r in range(0, 97, 8) for c in range(0, 97, 8)]
    expected, found = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        order = [places[i] for i in rng.permutation(len(places))]
        wave = np.cumsum(np.cumsum(rng.normal(size=(128, 128)), 0), 1)
        picture = (wave - wave.mean()) / wave.std()
        under = lambda image, at=order: np.array([image[r : r + 32, c : c + 32].mean() for r, c in at])  # noqa: E731
        drops = under(picture)
        noise = 32 * under(rng.normal(size=(128, 128))) if alike else rng.normal(size=len(order))
        reduced = 1.0 - drops + size * noise + 0.3
        expected.append(windows.keeps(order, (32, 32), 1.0)((1.0 - drops)[:32], reduced[:96]))
        maps = np.zeros((2, 128, 128))
        count = np.zeros((128, 128))
        for (r, c), a, b in zip(order, drops, 1.0 - reduced, strict=True):
            maps[:, r : r + 32, c : c + 32] += np.array([a, b])[:, None, None]
            count[r : r + 32, c : c + 32] += 1
        found.append(spearmanr(*(maps / count).reshape(2, -1)).statistic)
    assert np.mean(np.array(found) >= np.array(expected)) >= 0.9
    # and it is no empty promise: errors that do more harm are told from those that do less
    assert np.mean(expected) > (0.99 if size < 0.01 else 0.7)


def test_bf16_is_taken_where_the_map_keeps_its_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reduced scores that are off by a constant keep the map to the last digit; those that are chance are refused."""
    torch.manual_seed(0)
    network = lite()
    item = input_of(np.random.default_rng(0).normal(size=(1, 160, 160)).astype(np.float32))
    method = registry.create("occlusion", window=24, stride=10)
    expected = method.explain(ModuleClassifier(network, (1, 160, 160)), item, "pneumonia", Run())

    class Off(_Compiled):
        by = 0.0

        def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
            out = super().outputs(batch, precision)
            if precision == "fp32":
                return out
            return out + 0.25 if not self.by else out + self.by * torch.randn(out.shape)

    monkeypatch.setattr(Session, "compiled", lambda self, rest, shape, entrance: Off(rest))
    monkeypatch.setattr("xai_engine.explain.session.COMPILE_MINIMUM", 16)
    model = ModuleClassifier(network, (1, 160, 160))
    model.precision = "bf16"
    scale = float(np.abs(expected.values).max())
    found = method.explain(model, item, "pneumonia", Run())
    assert found.precision == "bf16"
    assert np.abs(found.values - expected.values).max() <= 1e-5 * scale + 1e-6
    Off.by = 10 * scale
    found = method.explain(model, item, "pneumonia", Run())
    assert found.precision == "fp32"
    assert any("bf16 changes the ranks" in note for note in found.notes)
    assert np.abs(found.values - expected.values).max() <= 1e-5 * scale + 1e-6
