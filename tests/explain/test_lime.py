"""LIME and superpixels against the lime package itself, sklearn, and planted truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, classifier, image, network
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import lime as ours
from xai_engine.explain.compute.superpixels import segment
from xai_engine.explain.methods.perturbation import SEGMENTATIONS
from xai_engine.runtime.run import Run


def test_regression_equals_the_lime_package() -> None:
    """The same design matrix, distances and scores: coefficients, intercept, fit and local prediction agree."""
    base = pytest.importorskip("lime.lime_base")
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    for samples, count, width in ((60, 9, 0.25), (1000, 60, 0.25), (500, 40, 1.0), (30, 40, 0.25)):
        shown = ours.design(rng, samples, count)
        scores = (
            shown @ rng.normal(size=count)
            + 0.3 * (shown[:, 0] & shown[:, 1])
            + 0.1 * rng.normal(size=samples)
        )

        def kernel(d: np.ndarray, width: float = width) -> np.ndarray:
            return np.sqrt(np.exp(-(d**2) / width**2))

        data = shown.astype(int)
        distances = metrics.pairwise_distances(data, data[0].reshape(1, -1), metric="cosine").ravel()
        intercept, pairs, r2, local = base.LimeBase(kernel).explain_instance_with_data(
            data, scores[:, None], distances, 0, 100000, feature_selection="auto"
        )
        theirs = np.zeros(count)
        for index, value in pairs:
            theirs[index] = value
        weight = ours.weights(shown, width)
        assert np.allclose(weight, kernel(distances), atol=1e-12)
        found = ours.fit(shown, scores, weight, 1.0)
        assert np.abs(found.coefficients - theirs).max() < 1e-9
        assert found.intercept == pytest.approx(intercept, abs=1e-9)
        assert found.r2 == pytest.approx(r2, abs=1e-9)
        assert found.local == pytest.approx(float(local[0]), abs=1e-9)


def test_whole_explanation_equals_lime_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """lime's own LimeImageExplainer on the grey image as it demands it (three channels), with our
    superpixels and samples.
    """
    lime_image = pytest.importorskip("lime.lime_image")
    item = image(padding=0)
    model = classifier("densenet")
    method = registry.create("lime", samples=200, segments=12)
    found = method.explain(model, item, "pneumonia", Run(seed=5))
    assert found.segments is not None
    count = int(found.segments.max()) + 1
    shown = ours.design(Run(seed=5).rng(31), 200, count)
    net = network("densenet")

    def probabilities(images: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(images[..., 0][:, None].astype(np.float32))
        with torch.no_grad():
            return net(grey).numpy()

    explainer = lime_image.LimeImageExplainer(kernel_width=0.25)
    monkeypatch.setattr(explainer, "random_state", _Given(shown))
    theirs = explainer.explain_instance(
        item.array[0].astype(np.float64),
        probabilities,
        labels=(0,),
        top_labels=None,
        num_samples=200,
        segmentation_fn=lambda _: found.segments,
        random_seed=1,
    )
    coefficients = dict(theirs.local_exp[0])
    expected = np.vectorize(coefficients.__getitem__)(found.segments)
    assert np.abs(found.values - expected).max() < 1e-5
    assert found.extra["r2"] == pytest.approx(theirs.score, abs=1e-4)


class _Given:
    """A random state that gives prepared coins."""

    def __init__(self, shown: np.ndarray) -> None:
        self.shown = shown

    def randint(self, low: int, high: int, size: int) -> np.ndarray:
        assert size == self.shown.size
        return self.shown.astype(int).ravel()


class Additive(nn.Module):
    """A score that is a weighted sum of block means: what each block adds is known."""

    def __init__(self, worth: np.ndarray, block: int, pair: float = 0.0) -> None:
        super().__init__()
        self.worth = torch.from_numpy(worth).float()
        self.block = block
        self.pair = pair

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means = nn.functional.avg_pool2d(x.mean(1, keepdim=True), self.block)[:, 0]
        score = (means * self.worth).sum((1, 2))
        return (score + self.pair * means[:, 0, 0] * means[:, -1, -1])[:, None]


def blocks(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(4, 4) worth and a 32 x 32 image of 16 flat blocks of clearly different grey."""
    rng = np.random.default_rng(seed)
    grey = rng.permutation(np.linspace(-2, 2, 16)).reshape(4, 4)
    return rng.normal(size=(4, 4)), np.kron(grey, np.ones((8, 8)))[None].astype(np.float32)


def exact_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Superpixels that are the 16 blocks."""
    labels = np.kron(np.arange(16).reshape(4, 4), np.ones((8, 8))).astype(np.int32)
    monkeypatch.setattr("xai_engine.explain.compute.superpixels.segment", lambda *_: labels)


@pytest.mark.parametrize("kind", ["exact", *SEGMENTATIONS])
def test_planted_truth(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Superpixels find the flat blocks, and each gets grey difference x worth."""
    worth, array = blocks()
    if kind == "exact":
        exact_blocks(monkeypatch)
        kind = "slic"
        sharp = True
    else:
        sharp = False
    model = ModuleClassifier(Additive(worth, 8), (1, SIDE, SIDE))
    method = registry.create(
        "lime", segmentation=kind, segments=16, samples=3000, kernel_width=10.0, ridge=0.0, replacement="mean"
    )
    found = method.explain(model, input_of(array), "pneumonia", Run(seed=2))
    means = array[0].reshape(4, 8, 4, 8).mean((1, 3))
    expected = np.kron(worth * (means - array.mean()), np.ones((8, 8)))
    assert found.extra["r2"] > 0.999
    if sharp:
        assert np.allclose(found.values, expected, atol=1e-3)
    else:  # borders may be off by a pixel
        assert found.extra["superpixels"] >= 8
    # where a superpixel is not a whole block, sums over blocks need not agree, the total must
    counts = np.bincount(found.segments.ravel()) if found.segments is not None else np.ones(1)
    total = sum(found.values[found.segments == s].flat[0] for s in range(len(counts)))
    assert total == pytest.approx(expected[::8, ::8].sum(), abs=0.02)


def test_one_seed_gives_one_map_and_another_another() -> None:
    model, item = classifier("lite"), image()
    method = registry.create("lime", samples=60, segments=10, segmentation="quickshift")
    a, b, c = (method.explain(model, item, "pneumonia", Run(seed=s)) for s in (1, 1, 2))
    assert np.array_equal(a.values, b.values)
    assert not np.array_equal(a.values, c.values)


def test_poor_fit_is_said() -> None:
    """A score that no sum can describe: the parity of bright pixels' presence."""

    class Parity(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = (nn.functional.avg_pool2d(x, 8).round() == 0).sum((1, 2, 3))
            return (hidden % 2).float()[:, None]

    _, array = blocks()
    method = registry.create(
        "lime", segmentation="felzenszwalb", segments=16, samples=400, replacement="mean"
    )
    found = method.explain(ModuleClassifier(Parity(), (1, SIDE, SIDE)), input_of(array), "pneumonia", Run())
    assert found.extra["r2"] < 0.5
    assert not found.converged
    assert "Poor fit" in found.notes[0]


def test_stops_when_the_intervals_are_narrow_and_the_intervals_are_right() -> None:
    """Additive scores with a little noise: it stops early, and the truth lies within the intervals."""
    worth, array = blocks()
    model = ModuleClassifier(Additive(worth, 8, pair=0.3), (1, SIDE, SIDE))
    long: dict[str, Any] = {
        "segmentation": "felzenszwalb",
        "segments": 16,
        "replacement": "mean",
        "ridge": 0.0,
    }
    truth = registry.create("lime", samples=20000, **long).explain(
        model, input_of(array), "pneumonia", Run(seed=9)
    )
    method = registry.create("lime", samples=5000, tolerance=0.05, **long)
    inside = []
    for seed in range(12):
        found = method.explain(model, input_of(array), "pneumonia", Run(seed=seed))
        assert found.converged
        assert found.extra["samples"] < 5000
        inside.append(np.abs(found.values - truth.values).max() <= 1.5 * found.extra["half_width_95"])
    assert np.mean(inside) >= 0.75


@pytest.mark.parametrize("count", [2, 7, 8, 60])
def test_paired_coins_are_fair_and_orthogonal_within_a_block(count: int) -> None:
    order = 2 ** int(np.floor(np.log2(count)) + 1)
    shown = ours.paired_design(np.random.default_rng(5), 1 + 6 * order, count)
    assert shown[0].all()
    signs = 2.0 * shown[1:] - 1.0
    assert np.array_equal(signs[1::2], -signs[::2])
    for block in np.split(signs[::2], 3):
        assert np.array_equal(block.T @ block, order * np.eye(count))
    many = [ours.paired_design(np.random.default_rng(s), 3, count)[1] for s in range(2000)]
    assert np.abs(np.mean(many, 0) - 0.5).max() < 0.05  # each row by itself is coins
    if count == 2:
        assert np.abs(np.bincount(np.array(many) @ [1, 2], minlength=4) / 2000 - 0.25).max() < 0.05


@pytest.mark.parametrize("pairs", [75, 100, 160])
def test_intervals_hold_what_they_say_with_few_pairs(pairs: int) -> None:
    """Scores with interactions, 60 superpixels: nine to ten of ten true coefficients lie within. Intervals that count the
    members of pairs as if they were independent hold seven to nine."""
    rng = np.random.default_rng(1)
    linear, left, right = rng.normal(size=60), rng.integers(0, 60, 200), rng.integers(0, 60, 200)
    third, size = rng.integers(0, 60, 200), 2.0 * rng.normal(size=200)

    def score(shown: np.ndarray) -> np.ndarray:
        return np.asarray(shown @ linear + (shown[:, left] & shown[:, right] & shown[:, third]) @ size)

    def coefficients(seed: int, samples: int) -> Any:
        shown = ours.paired_design(np.random.default_rng(seed), 1 + 2 * samples, 60)
        return ours.fit(shown, score(shown), ours.weights(shown, 0.25), 0.0, paired=True)

    truth = coefficients(99, 20000).coefficients
    found = [coefficients(seed, pairs) for seed in range(40)]
    inside = np.mean([np.abs(f.coefficients - truth) <= f.half_width for f in found])
    assert 0.93 <= inside <= 0.995
    assert np.isinf(coefficients(0, 61).half_width).all()  # too few to say


@pytest.mark.parametrize("kind", SEGMENTATIONS)
@pytest.mark.parametrize("count", [2, 20, 60])
def test_superpixels(kind: str, count: int) -> None:
    """At most so many, numbered without gaps, each in one piece, none in the padding, the same again."""
    from scipy import ndimage

    item = image(side=96, padding=9)
    labels = segment(item.array[0], item.valid, kind, count, 0.1, 3)
    n = int(labels.max()) + 1
    assert 2 <= n <= count
    assert n >= count // 3
    assert np.array_equal(np.unique(labels), np.arange(-1, n))
    assert np.array_equal(labels >= 0, item.valid)
    for index in range(n):
        assert ndimage.label(labels == index)[1] == 1
    assert np.array_equal(labels, segment(item.array[0], item.valid, kind, count, 0.1, 3))


def test_hidden_superpixels_are_replaced_and_nothing_else() -> None:
    """The gather against a loop over superpixels."""
    from xai_engine.explain.compute.superpixels import hider
    from xai_engine.explain.session import Session

    item = image(3)
    for replacement in ("superpixel", "mean", "black", "blurred"):
        method = registry.create("lime", segments=8, replacement=replacement)
        with Session(classifier("resnet-three-channels"), item, "pneumonia", Run()) as session:
            parts = hider(method, session)  # type: ignore[arg-type]
        shown = np.random.default_rng(0).integers(0, 2, (5, parts.count)).astype(bool)
        made = parts.images(shown).numpy()
        behind = parts.behind[0].numpy()
        if replacement == "superpixel":
            for s in range(parts.count):
                for c in range(3):
                    mean = item.array[c][parts.labels == s].mean(dtype=np.float64)
                    assert np.allclose(behind[c][parts.labels == s], mean, atol=1e-6)
        for row, picture in zip(shown, made, strict=True):
            expected = item.array.copy()
            for s in np.flatnonzero(~row):
                expected[:, parts.labels == s] = behind[:, parts.labels == s]
            assert np.array_equal(picture, expected)
