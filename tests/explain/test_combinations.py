"""First layers looked up place by place: the same activations as passes from the image, and what that rests on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import fx, nn

from tests.explain.networks import KINDS, SIDE, Spoilt, classifier, image, network
from tests.explain.test_windows import Mixed, lite
from xai_engine.classifier.backends.base import written
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import combinations, cuts
from xai_engine.explain.compute.combinations import Combinations, coloured
from xai_engine.explain.compute.superpixels import Hider
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run


def blobs(rng: np.random.Generator, rows: int, columns: int, count: int) -> np.ndarray:
    """Superpixels of odd shapes, padding among them: the nearest of some points, every seventh of them padding."""
    points = rng.uniform(0, (rows, columns), (count, 2))
    grid = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), -1)
    nearest = ((grid[:, :, None] - points) ** 2).sum(-1).argmin(-1)
    names = np.where(np.arange(count) % 7 == 6, -1, np.cumsum(np.arange(count) % 7 != 6) - 1)
    found = names[nearest]
    used = np.unique(found[found >= 0])
    out = np.full(found.shape, -1, np.int32)
    for index, name in enumerate(used):
        out[found == name] = index
    return out


def session_of(net: nn.Module, shape: tuple[int, int, int], seed: int) -> Session:
    values = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    return Session(ModuleClassifier(net, shape), input_of(values), "pneumonia", Run())


def parts_of(session: Session, seed: int, count: int = 12) -> Hider:
    rng = np.random.default_rng(seed)
    labels = blobs(rng, *session.x.shape[2:], count)
    behind = torch.from_numpy(rng.normal(size=tuple(session.x.shape)).astype(np.float32))
    return Hider(session.x, behind, labels, int(labels.max()) + 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 14), st.integers(1, 30), st.floats(0.02, 0.5), st.integers(0, 2**31))
def test_what_a_place_sees_together_has_different_colours(
    n: int, places: int, share: float, seed: int
) -> None:
    seen = np.random.default_rng(seed).random((n, places)) < share
    colours = coloured(seen)
    assert set(colours.tolist()) == set(range(int(colours.max()) + 1))
    for place in seen.T:
        assert len(np.unique(colours[place])) == place.sum()
    assert int(colours.max()) + 1 <= max(1, (seen.astype(int) @ seen.T.astype(int) > 0).sum(1).max())


@pytest.mark.parametrize("kind", ["lite", "resnet-in-place", "functional-relu", "vgg", "densenet"])
def test_each_part_of_a_cut_network_does_its_share(kind: str) -> None:
    net = network(kind).eval().requires_grad_(False)
    graph = written(net)
    x = torch.randn(2, KINDS[kind].channels, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    truth = net(x.clone())
    narrow = cuts.narrow(graph)
    assert len(narrow) > 3
    for cut in narrow:
        found = cuts.rest(graph, cut)(cuts.front(graph, cut)(x.clone()))
        assert torch.allclose(found, truth, rtol=1e-5, atol=1e-6), cut
    assert cuts.rest(graph, narrow[0]) is cuts.rest(graph, narrow[0])


def test_a_network_is_not_cut_beside_a_shortcut() -> None:
    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(4, 1)
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            z = torch.relu(self.b(y)) + y
            return self.c((z * self.scale).mean((2, 3)) * self.scale)

    graph = fx.symbolic_trace(Shortcut().eval())
    names = [n.name for n in cuts.narrow(graph)]
    assert names == [
        "a",
        "add",
        "mul",
        "mean",
        "mul_1",
    ]  # a constant that is used on both sides is in no one's way
    x = torch.randn(2, 1, 8, 8)
    for cut in cuts.narrow(graph):
        assert torch.equal(cuts.rest(graph, cut)(cuts.front(graph, cut)(x)), graph(x))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (lite, (1, 64, 72)),
        (lambda: network("resnet-in-place"), (1, SIDE, SIDE)),
        (lambda: network("vgg"), (KINDS["vgg"].channels, SIDE, SIDE)),
        (lambda: network("densenet"), (KINDS["densenet"].channels, SIDE, SIDE)),
        (Mixed, (2, 50, 46)),
    ],
)
def test_activations_are_those_of_a_pass_from_the_image(
    net: object, shape: tuple[int, int, int], seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(combinations, "LARGEST", 1000)
    torch.manual_seed(seed)
    made = net().eval()  # type: ignore[operator]
    with session_of(made, shape, seed) as session:
        parts = parts_of(session, seed)
        shown = np.random.default_rng(seed).random((40, parts.count)) < 0.5
        ready = Combinations.of(session, parts, shown[:2], 1000)
        assert ready is not None
        graph = written(made)
        cut = next(n for n in cuts.narrow(graph) if cuts.rest(graph, n) is ready.behind.rest)
        with torch.inference_mode():
            expected = cuts.front(graph, cut)(parts.images(shown))
        found = ready.activations(shown)
    assert found.shape == expected.shape
    assert expected.std() > 0.01
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def test_the_more_images_are_to_come_the_later_the_cut() -> None:
    torch.manual_seed(0)
    net = lite()
    with session_of(net, (1, 128, 128), 0) as session:
        parts = parts_of(session, 3, 20)
        shown = np.random.default_rng(0).random((2, parts.count)) < 0.5
        graph = written(net)
        order = {id(cuts.rest(graph, n)): i for i, n in enumerate(cuts.narrow(graph))}
        found = [Combinations.of(session, parts, shown, count) for count in (60, 300, 2400)]
    assert found[0] is None
    places = [order[id(f.behind.rest)] for f in found[1:] if f is not None]
    assert len(places) == 2
    assert places[0] < places[1]
    for each, count in zip(found[1:], (300, 2400), strict=True):
        assert each is not None
        sets = len(each.table) // (each.shape[1] * each.shape[2])
        assert sets <= count / combinations.SHARE


@pytest.mark.parametrize("name", ["lime", "kernel-shap"])
def test_maps_are_those_of_full_passes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(combinations, "LARGEST", 1000)
    torch.manual_seed(0)
    net = lite()
    values = np.add.outer(np.sin(np.arange(64) / 5), np.cos(np.arange(64) / 7))[None].astype(np.float32)
    method = registry.create(name, samples=320, segments=20, replacement="mean")
    ready = []
    whole = Combinations.of

    def noted(*args: object) -> Combinations | None:
        ready.append(whole(*args))  # type: ignore[arg-type]
        return ready[-1]

    monkeypatch.setattr(Combinations, "of", staticmethod(noted))
    found = method.explain(ModuleClassifier(net, (1, 64, 64)), input_of(values), "pneumonia", Run())
    assert len(ready) == 1
    assert ready[0] is not None
    monkeypatch.setattr(Combinations, "of", staticmethod(lambda *_: None))
    expected = method.explain(ModuleClassifier(net, (1, 64, 64)), input_of(values), "pneumonia", Run())
    scale = float(np.abs(expected.values).max())
    assert scale > 1e-3
    assert np.abs(found.values - expected.values).max() <= 1e-5 * scale
    assert found.forwards == expected.forwards + 2 * combinations.VERIFIED


def test_full_passes_where_the_network_is_not_its_graph_or_somebody_looks_into_it() -> None:
    torch.manual_seed(0)
    for net, hooked, ready in ((Mixed(), False, True), (Mixed(), True, False), (Spoilt(), False, False)):
        shape = (1 if isinstance(net, Spoilt) else 2, 50, 46)
        if hooked:
            net.a.register_forward_hook(lambda *_: None)  # type: ignore[union-attr,operator]
        with session_of(net.eval(), shape, 0) as session:
            parts = parts_of(session, 0)
            shown = np.random.default_rng(0).random((2, parts.count)) < 0.5
            assert (Combinations.of(session, parts, shown, 5000) is not None) is ready
    with Session(
        classifier("vit"), image(channels=KINDS["vit"].channels), KINDS["vit"].classes[-1], Run()
    ) as session:
        assert Combinations.of(session, parts_of(session, 0), np.ones((2, 1), bool), 5000) is None
