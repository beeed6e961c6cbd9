"""Forwards that methods share: weights against enumeration, maps against own sampling and exact values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.explain.networks import classifier, image
from tests.explain.test_contract import StopAfter
from xai_engine.explain import registry, running
from xai_engine.explain.compute import lime, rise, shap
from xai_engine.explain.pool import Pool, draw, importance, log_coin, log_kernel, once
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

PLAYERS = 11


def game(seed: int = 3) -> np.ndarray:
    """Worth of all sets of PLAYERS: parts of one, of pairs, of triples."""
    rng = np.random.default_rng(seed)
    z = shap.every_set(PLAYERS).astype(float)
    main, pair = rng.normal(size=PLAYERS), rng.normal(size=(PLAYERS, PLAYERS)) * 0.15
    third = z * np.roll(z, 1, 1) * np.roll(z, 2, 1) @ rng.normal(size=PLAYERS) * 0.2
    return np.asarray(z @ main + np.einsum("ni,ij,nj->n", z, pair, z) + third)


def number(sets: np.ndarray) -> np.ndarray:
    return np.asarray(sets @ (1 << np.arange(sets.shape[1])))


def test_both_distributions_sum_to_one_and_weights_are_bounded() -> None:
    sets = shap.every_set(PLAYERS)
    sizes = sets.sum(1).astype(float)
    coin, kernel = np.exp(log_coin(sizes, PLAYERS)), np.exp(log_kernel(sizes, PLAYERS))
    assert coin.sum() == pytest.approx(1.0)
    assert kernel.sum() == pytest.approx(1.0)
    first, second = importance(sets)
    assert np.allclose(first + second, 2.0)
    assert max(first.max(), second.max()) <= 2.0 + 1e-12
    # unbiased: the mean under the mixture of weight x f is the mean under the wanted distribution
    mixture, f = (coin + kernel) / 2, game()
    assert mixture @ (first * f) == pytest.approx(coin @ f)
    assert mixture @ (second * f) == pytest.approx(kernel @ f)


def test_sets_come_with_the_probability_that_the_weights_assume() -> None:
    players = 5
    sets = draw(np.random.default_rng(0), 80_000, players)
    assert np.array_equal(sets[0::2], ~sets[1::2])
    seen = np.bincount(number(sets), minlength=2**players) / len(sets)
    every = shap.every_set(players)
    sizes = every.sum(1).astype(float)
    expected = (np.exp(log_coin(sizes, players)) + np.exp(log_kernel(sizes, players))) / 2
    assert np.abs(seen - expected).max() < 0.003


def test_pooled_regressions_approach_exact_enumeration() -> None:
    """Shapley values and LIME's population coefficients of 11 players, from one pool; errors as the intervals say."""
    worth, every = game(), shap.every_set(PLAYERS)
    exact_shap = shap.exact(worth, PLAYERS)
    kernel = lime.weights(every, 0.25)
    exact_lime = lime.fit(every, worth, kernel, 0.0).coefficients
    inside = []
    for seed in range(12):
        sets = draw(np.random.default_rng(seed), 2000, PLAYERS)
        scores = worth[number(sets)]
        coin, shapley = importance(sets)
        found, errors = shap.regress(sets, scores, float(worth[0]), float(worth[-1]), shapley)
        assert found.sum() == pytest.approx(worth[-1] - worth[0])
        assert np.abs(found - exact_shap).max() < 0.12
        inside += list(np.abs(found - exact_shap) <= 1.96 * errors + 1e-9)
        local = lime.fit(
            np.concatenate([every[-1:], sets]),
            np.append(worth[-1], scores),
            lime.weights(np.concatenate([every[-1:], sets]), 0.25) * np.append(1.0, coin),
            0.0,
            paired=True,
        )
        assert np.abs(local.coefficients - exact_lime).max() < 0.2
        inside += list(np.abs(local.coefficients - exact_lime) <= local.half_width + 1e-9)
    assert np.mean(inside) > 0.85


def pair(samples: int = 1200, **more: Any) -> list[registry.Method]:
    about: dict[str, Any] = {"segments": 20, "replacement": "mean", "samples": samples, **more}
    return [registry.create("lime", **about), registry.create("kernel-shap", **about)]


def together(methods: list[registry.Method], kind: str = "densenet", seed: int = 4) -> list[Explanation]:
    pool, model, item = Pool.of(methods), classifier(kind), image()
    return [running.explain(m, model, item, "pneumonia", Run(seed=seed), pool) for m in methods]


def test_pooled_maps_agree_with_own_samples_at_half_the_cost() -> None:
    methods = pair(3000)
    found = together(methods)
    alone = [m.explain(classifier("densenet"), image(), "pneumonia", Run(seed=4)) for m in methods]
    for ours, own in zip(found, alone, strict=True):
        assert np.corrcoef(ours.values.ravel(), own.values.ravel())[0, 1] > 0.97
    assert found[0].forwards <= 3002
    assert found[1].forwards == 0
    assert sum(e.forwards for e in found) <= 0.51 * sum(e.forwards for e in alone)
    assert all(e.extra["forwards_shared"] == 3002 for e in found)
    assert all(any("shared with other maps" in note for note in e.notes) for e in found)
    assert not any("forwards_shared" in e.extra for e in alone)
    assert all(e.shared_with == tuple((m.name, m.values()) for m in methods) for e in found)
    assert not any(e.shared_with for e in alone)
    again = together(methods)
    assert all(np.array_equal(a.values, b.values) for a, b in zip(found, again, strict=True))
    back = together(methods[::-1])[::-1]  # whoever comes first pays; the maps are the same
    assert all(np.array_equal(a.values, b.values) for a, b in zip(found, back, strict=True))


def test_one_method_alone_or_with_another_family_is_untouched() -> None:
    ours, theirs = pair()
    other = registry.create("kernel-shap", segments=12, replacement="mean", samples=300)
    stopping = registry.create("lime", segments=20, replacement="mean", samples=1200, tolerance=0.2)
    for methods in ([ours], [ours, other], [stopping, theirs], [ours, registry.create("rise", masks=40)]):
        pool = Pool.of(methods)
        assert not pool.sizes
        assert not any(pool.serves(m) for m in methods)
        first = running.explain(methods[0], classifier("lite"), image(), "pneumonia", Run(seed=2), pool)
        alone = methods[0].explain(classifier("lite"), image(), "pneumonia", Run(seed=2))
        assert np.array_equal(first.values, alone.values)


def test_few_superpixels_are_enumerated_as_ever() -> None:
    methods = [
        registry.create(n, segments=7, replacement="mean", samples=600) for n in ("lime", "kernel-shap")
    ]
    found = together(methods)
    assert found[1].extra["samples"] == 2 ** found[1].extra["superpixels"]


def test_cancelled_pool_gives_partial_maps_and_is_not_reused() -> None:
    methods = pair()
    pool, model, item = Pool.of(methods), classifier("lite"), image()
    cut = running.explain(methods[0], model, item, "pneumonia", Run(seed=4, cancel=StopAfter(60)), pool)
    assert cut.partial
    assert not pool.found
    whole = running.explain(methods[1], model, item, "pneumonia", Run(seed=4), pool)
    assert not whole.partial


def test_infidelity_of_the_pool_is_that_of_all_sets() -> None:
    """The pool's weighted estimate beside the mean over freshly drawn coins of the same network."""
    methods = pair(4000)
    pool, model, item = Pool.of(methods), classifier("densenet"), image()
    found = running.explain(methods[0], model, item, "pneumonia", Run(seed=4), pool)
    (shared,) = pool.found.values()
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (3000, shared.sets.shape[1])).astype(bool)
    with Session(model, item, "pneumonia", Run()) as frame:
        falls = shared.full - frame.scores(shared.parts.images(sets))
    labels = shared.parts.labels
    for values in (found.values, np.random.default_rng(1).normal(size=found.values.shape)):
        sums = np.array([values[labels == s].sum() for s in range(sets.shape[1])])
        told = ~sets @ sums
        expected = 1 - max(0.0, float(told @ falls)) ** 2 / float((told @ told) * (falls @ falls))
        assert shared.infidelity(values) == pytest.approx(expected, abs=0.05)


def test_sets_that_were_drawn_twice_are_scored_once() -> None:
    sets = draw(np.random.default_rng(0), 400, 6)
    rows, place = once(sets)
    assert np.array_equal(rows[place], sets)
    assert len(rows) == len({tuple(row) for row in sets.tolist()}) < len(sets)
    assert np.array_equal(
        np.unique(place, return_index=True)[1], np.sort(np.unique(place, return_index=True)[1])
    )
    found = together(pair(600, segments=16))
    assert found[0].forwards < 602
    assert found[0].extra["forwards_shared"] == 602


def test_covariance_of_soft_masks_by_enumeration() -> None:
    """Every grid of 3 x 3 cells at every offset: 512 x 6 masks of 5 x 4 pixels, weighted by their probability."""
    rows, columns, cells, shown = 5, 4, 2, 0.3

    class Given:
        def __init__(self, grid: np.ndarray, offsets: list[int]) -> None:
            self.grid, self.offsets = grid, offsets

        def random(self, shape: tuple[int, int]) -> np.ndarray:
            return self.grid.reshape(shape)

        def integers(self, steps: float) -> int:
            return self.offsets.pop(0)

    masks, chance = [], []
    for bits in shap.every_set((cells + 1) ** 2):
        for down in range(3):
            for right in range(2):
                given = Given(np.where(bits, 0.0, 1.0), [down, right])
                masks.append(rise.soft_mask(given, (rows, columns), cells, shown).ravel())  # type: ignore[arg-type]
                chance.append(shown ** bits.sum() * (1 - shown) ** (~bits).sum() / 6)
    m, p = np.array(masks, np.float64), np.array(chance)
    assert p.sum() == pytest.approx(1.0)
    mean = p @ m
    assert np.allclose(mean, shown, atol=1e-6)
    expected = ((m - mean) * p[:, None]).T @ (m - mean)
    one, two = rise.shared_cells(rows, cells), rise.shared_cells(columns, cells)
    assert np.allclose(expected, shown * (1 - shown) * np.kron(one, two), atol=1e-6)


def test_rise_with_a_pool_is_as_near_to_many_masks_with_fewer_of_its_own() -> None:
    """Its fill is another than that of the pool: the sum over superpixels is a control variate, whatever it hides with."""
    method = registry.create("rise", masks=640, cells=5)
    model, item = classifier("densenet"), image()
    far = registry.create("rise", masks=6000, cells=5).explain(model, item, "pneumonia", Run(seed=99)).values
    errors: dict[str, list[float]] = {"alone": [], "pooled": []}
    for seed in range(5):
        methods = [*pair(800), method]
        found = together(methods, seed=seed)[2]
        own = method.explain(model, item, "pneumonia", Run(seed=seed))
        errors["pooled"].append(float(np.square(found.values - far).mean()))
        errors["alone"].append(float(np.square(own.values - far).mean()))
        assert found.extra["masks"] < 640 == own.extra["masks"]
        assert found.forwards < own.forwards
        assert 0 < found.extra["told_by_shared"] < 1
        assert "forwards_shared" not in own.extra
    assert np.mean(errors["pooled"]) < 1.15 * np.mean(errors["alone"])


def test_a_pool_that_tells_nothing_leaves_rise_all_its_masks() -> None:
    assert rise.enough_masks(4000, 0.0) == 4000
    assert rise.enough_masks(4000, 0.95) == 2048  # at least half, in steps of 64
    assert rise.enough_masks(4000, 0.41) == 2368
    assert rise.enough_masks(50, 0.3) == 50
    assert rise._explained(np.arange(9.0), np.zeros(9)) == 0.0


def test_maps_of_three_are_the_same_in_any_order() -> None:
    methods = [*pair(400), registry.create("rise", masks=256)]
    first, turned = together(methods, "lite"), together(methods[::-1], "lite")[::-1]
    for one, other in zip(first, turned, strict=True):
        assert np.array_equal(one.values, other.values)
        assert one.notes == other.notes
        assert (one.precision, one.backend, one.extra) == (other.precision, other.backend, other.extra)
    for method, whole in zip(methods, first, strict=True):  # from what is on record, each by itself
        again = Pool.again(whole.shared_with)
        alone = running.explain(method, classifier("lite"), image(), "pneumonia", Run(seed=4), again)
        assert np.array_equal(alone.values, whole.values)
        assert alone.shared_with == whole.shared_with
    stopped = running.explain(
        methods[2],
        classifier("lite"),
        image(),
        "pneumonia",
        Run(seed=4, cancel=StopAfter(40)),
        Pool.of(methods),
    )
    assert stopped.partial


def test_lime_that_stops_early_keeps_its_own_sets_beside_a_pool() -> None:
    stopping = registry.create("lime", segments=20, replacement="mean", samples=1200, tolerance=0.2)
    pool = Pool.of([*pair(400), stopping])
    assert pool.sizes
    assert not pool.serves(stopping)
    found = running.explain(stopping, classifier("lite"), image(), "pneumonia", Run(seed=2), pool)
    alone = stopping.explain(classifier("lite"), image(), "pneumonia", Run(seed=2))
    assert np.array_equal(found.values, alone.values)
    assert found.shared_with == ()
