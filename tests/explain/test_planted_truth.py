"""Models whose attributions are known: additive, with interactions, a shortcut, exact Shapley values, the phantom."""

from __future__ import annotations

import itertools
import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE
from tests.explain.test_contract import small
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.types import Explanation
from xai_engine.radiograph import phantom
from xai_engine.runtime.run import Run

Values = npt.NDArray[np.float64]
ROWS, COLUMNS = 3, 4
PLAYERS = ROWS * COLUMNS
TILES = np.kron(np.arange(PLAYERS).reshape(ROWS, COLUMNS), np.ones((8, 8))).astype(np.int32)


class Game(nn.Module):
    """Score of an image of twelve flat tiles: a sum of single tiles, products of two and one product of three."""

    def __init__(self, single: Values, pairs: dict[tuple[int, ...], float]) -> None:
        super().__init__()
        self.single = nn.Parameter(torch.from_numpy(single.astype(np.float32)))
        self.pairs = pairs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles = nn.functional.avg_pool2d(x, 8).flatten(1)
        out = tiles @ self.single
        for members, worth in self.pairs.items():
            out = out + worth * tiles[:, list(members)].prod(1)
        return out[:, None]


def worth(net: Game, shown: frozenset[int], image: Values, base: float) -> float:
    tiles = np.array([image[i] if i in shown else base for i in range(PLAYERS)])
    out = float(tiles @ net.single.detach().double().numpy())
    return out + sum(w * float(np.prod(tiles[list(m)])) for m, w in net.pairs.items())


def shapley(net: Game, image: Values, base: float) -> Values:
    """By enumeration of all 4,096 coalitions (Shapley 1953)."""
    value = {
        frozenset(s): worth(net, frozenset(s), image, base)
        for n in range(PLAYERS + 1)
        for s in itertools.combinations(range(PLAYERS), n)
    }
    weight = [
        math.factorial(n) * math.factorial(PLAYERS - n - 1) / math.factorial(PLAYERS) for n in range(PLAYERS)
    ]
    out = np.zeros(PLAYERS)
    for shown, v in value.items():
        for i in set(range(PLAYERS)) - shown:
            out[i] += weight[len(shown)] * (value[shown | {i}] - v)
    return out


@pytest.fixture
def tiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai_engine.explain.compute.superpixels.segment", lambda *_: TILES)


def play(name: str, net: nn.Module, tiles: Values, **params: object) -> Explanation:
    array = tiles.astype(np.float32)[TILES][None]
    model = ModuleClassifier(net, (1, *TILES.shape))
    return registry.create(name, **params).explain(model, input_of(array), "pneumonia", Run(5))


def sums(e: Explanation) -> Values:
    return np.bincount(TILES.ravel(), e.values.astype(np.float64).ravel(), PLAYERS)


def image_of(seed: int) -> Values:
    tiles = np.random.default_rng(seed).normal(size=PLAYERS)
    return tiles - tiles.mean()  # the mean of the image, which hides tiles, is nought


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.usefixtures("tiled")
def test_exact_shapley_values_of_twelve_players(seed: int) -> None:
    rng = np.random.default_rng([9, seed])
    pairs = {(0, 5): 0.8, (3, 7): -0.6, (1, 2): 0.5, (4, 8, 11): 0.7}
    net, tiles = Game(rng.normal(size=PLAYERS), pairs), image_of(seed)
    expected = shapley(net, tiles, 0.0)
    found = play("kernel-shap", net, tiles, samples=4096, replacement="mean")
    value = np.array([found.values[i == TILES][0] for i in range(PLAYERS)])
    assert np.allclose(value, expected, atol=2e-4)
    assert value.sum() == pytest.approx(worth(net, frozenset(range(PLAYERS)), tiles, 0.0), abs=1e-4)
    # with half the coalitions it is near, and still adds up
    fewer = play("kernel-shap", net, tiles, samples=1500, replacement="mean")
    near = np.array([fewer.values[i == TILES][0] for i in range(PLAYERS)])
    assert np.abs(near - expected).max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("integrated-gradients", {"baseline": "mean"}),
        ("input-x-gradient", {}),
        ("lime", {"samples": 1000, "kernel_width": 10.0, "ridge": 0.0, "replacement": "mean"}),
        ("kernel-shap", {"samples": 1000, "replacement": "mean"}),
        ("occlusion", {"window": 8, "stride": 8, "replacement": "mean"}),
    ],
)
@pytest.mark.usefixtures("tiled")
def test_additive_model_gives_its_terms(name: str, params: dict[str, object]) -> None:
    net, tiles = Game(np.random.default_rng(4).normal(size=PLAYERS), {}), image_of(4)
    truth = tiles * net.single.detach().double().numpy()
    found = play(name, net, tiles, **params)
    per_tile = found.unit.endswith("superpixel") or name == "occlusion"
    value = np.array([found.values[i == TILES].mean() for i in range(PLAYERS)]) if per_tile else sums(found)
    assert np.allclose(value, truth, atol=2e-3 * np.abs(truth).max())


@pytest.mark.usefixtures("tiled")
def test_an_interaction_is_shared_as_theory_says() -> None:
    """A product of two: Shapley values and the straight path give each half; LIME around the image sees it likewise."""
    net, tiles = Game(np.zeros(PLAYERS), {(2, 9): 1.0}), np.zeros(PLAYERS)
    tiles[[2, 9]], tiles[[0, 11]] = 1.0, -1.0  # their mean is nought
    half = np.zeros(PLAYERS)
    half[[2, 9]] = 0.5
    shap = play("kernel-shap", net, tiles, samples=4096, replacement="mean")
    assert np.allclose([shap.values[i == TILES][0] for i in range(PLAYERS)], half, atol=1e-4)
    path = play("integrated-gradients", net, tiles, baseline="mean")
    assert np.allclose(sums(path), half, atol=0.01)
    lime = play("lime", net, tiles, samples=2000, kernel_width=10.0, ridge=0.0, replacement="mean")
    value = np.array([lime.values[i == TILES][0] for i in range(PLAYERS)])
    assert np.allclose(value, half, atol=0.08)  # the regression's own sampling error
    # each alone is decisive: one window at a time sees the whole product in both
    alone = play("occlusion", net, tiles, window=8, stride=8, replacement="mean")
    assert np.allclose([alone.values[i == TILES].mean() for i in range(PLAYERS)], 2 * half, atol=1e-4)


# ---- a shortcut --------------------------------------------------------------------------------------------------


class Marker(nn.Module):
    """Sees nothing but what is as bright as a lead marker."""

    def __init__(self) -> None:
        super().__init__()
        self.bright = nn.Conv2d(1, 4, 1)
        self.smooth = nn.Conv2d(4, 4, 3, padding=1, groups=4, bias=False)
        self.act, self.act2 = nn.ReLU(), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(4, 1)
        with torch.no_grad():
            self.bright.weight.fill_(1.0)
            self.bright.bias.copy_(-torch.tensor([1.5, 1.6, 1.7, 1.8]))  # type: ignore[union-attr]
            self.smooth.weight.fill_(1 / 9)
            self.head.weight.fill_(10.0)
            self.head.bias.fill_(-0.8)  # without the marker the finding is gone

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act2(self.smooth(self.act(self.bright(x))))
        return self.head(self.pool(y).flatten(1))


ELSEWHERE = {
    "var-grad": "shows where the gradient changes: at the edge of being bright, not at the marker",
    "xrai": "also compares with a white image, where all that is not the marker has changed",
}


@pytest.mark.parametrize("name", registry.names())
def test_every_method_finds_the_shortcut(name: str) -> None:
    rng = np.random.default_rng(6)
    array = rng.normal(0, 0.3, (1, SIDE, SIDE)).astype(np.float32)
    marker = np.zeros((SIDE, SIDE), bool)
    marker[3:9, 22:28] = True
    array[0, marker] = 3.0
    near = cv2.dilate(marker.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    model = ModuleClassifier(Marker(), (1, SIDE, SIDE), default_layer="act2")
    if registry.method_class(name).family == "attention":
        pytest.skip("reads transformers only; see their own tests")
    if name in ELSEWHERE:
        pytest.skip(ELSEWHERE[name])
    try:
        more = {"rise": {"masks": 400}, "anchors": {"samples": 4000}}.get(name, {})
        found = small(name, **more).explain(model, input_of(array), "pneumonia", Run(2))
    except UnsupportedModel as refusal:
        pytest.fail(f"a plain network of rectifiers: {refusal}")
    magnitude = np.abs(found.values).astype(np.float64)
    assert magnitude[near].max() >= 0.999 * magnitude.max()  # maps of superpixels are flat around it
    assert magnitude[marker].mean() > 1.3 * magnitude[~near].mean()


# ---- the phantom -------------------------------------------------------------------------------------------------


class Template(nn.Module):
    """The score is how much brighter the place of the lesion is than the image: its exact attribution is known."""

    def __init__(self, where: npt.NDArray[np.bool_]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy((where / where.sum()).astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4.0 * (x[:, 0] * self.weight).sum((1, 2))[:, None]


def test_maps_of_the_phantom_lie_on_its_lesion() -> None:
    made = phantom.make(21, consolidation=phantom.Consolidation("left lower"), rows=192, columns=192)
    shrink = [cv2.resize(v.astype(np.float32), (64, 64), interpolation=cv2.INTER_AREA) for v in (made.pixels, made.lesion)]  # fmt: skip
    image, lesion = (shrink[0] - shrink[0].mean()) / shrink[0].std(), shrink[1] > 0.5
    model = ModuleClassifier(Template(lesion), (1, 64, 64))
    item = input_of(image[None].astype(np.float32))
    truth = np.where(lesion, 4.0 * image / lesion.sum(), 0.0)
    for name, params in (("integrated-gradients", {"baseline": "mean"}), ("input-x-gradient", {})):
        found = registry.create(name, **params).explain(model, item, "pneumonia", Run(1)).values
        assert np.allclose(found, truth, atol=1e-5), name
    wide = cv2.dilate(lesion.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    for name, params in (
        ("occlusion", {"window": 8, "stride": 4}),
        ("lime", {"samples": 300, "replacement": "mean"}),
        ("kernel-shap", {"samples": 300, "replacement": "mean"}),
        ("rise", {"masks": 400, "replacement": "mean"}),
    ):
        found = registry.create(name, **params).explain(model, item, "pneumonia", Run(1)).values
        found = np.abs(found)  # the lesion may be darker than the mean of the image, the tissue is brighter
        assert wide[np.unravel_index(int(np.argmax(found)), found.shape)], name
        assert found[lesion].mean() > 2 * found[~wide].mean(), name
