"""Anchors against planted rules over superpixels, and bounds against scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import optimize
from torch import nn

from tests.explain.networks import SIDE, classifier, image
from xai_engine.classifier.types import ModelInput
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import anchors
from xai_engine.explain.compute.superpixels import hider
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

SEED = 5


class Rule(nn.Module):
    """A rule over which superpixels are as they were in the image: `rule` of a bool (n, superpixels) gives bool (n,)."""

    def __init__(self, labels: np.ndarray, original: np.ndarray, rule: object) -> None:
        super().__init__()
        self.labels, self.original, self.rule = labels, torch.from_numpy(original), rule

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        same = (x[:, 0] == self.original).numpy()
        shown = np.stack([same[:, self.labels == i].mean(1) > 0.9 for i in range(self.labels.max() + 1)], 1)
        answer = self.rule(shown)  # type: ignore[operator]
        return torch.from_numpy(np.where(answer, 1.5, -1.5).astype(np.float32))[:, None]


def planted(rule: object) -> tuple[ModuleClassifier, ModelInput, np.ndarray]:
    rng = np.random.default_rng(0)
    item = input_of(rng.standard_normal((1, SIDE, SIDE)).astype(np.float32))
    method = registry.create("anchors", segments=12)
    blank = ModuleClassifier(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 1)), (1, SIDE, SIDE))
    with Session(blank, item, "pneumonia", Run(seed=SEED)) as session:
        labels = hider(method, session).labels  # type: ignore[arg-type]
    return ModuleClassifier(Rule(labels, item.array[0], rule), (1, SIDE, SIDE)), item, labels


def find(
    rule: object, target: str = "pneumonia", **params: float
) -> tuple[Explanation, set[int], np.ndarray]:
    model, item, labels = planted(rule)
    found = registry.create("anchors", segments=12, **params).explain(model, item, target, Run(seed=SEED))
    assert found.segments is not None
    assert np.array_equal(found.segments, labels)
    chosen = {int(i) for i in np.unique(labels[found.values > 0])}
    return found, chosen, labels


def test_a_rule_of_two_superpixels_is_found_exactly() -> None:
    found, chosen, labels = find(lambda shown: shown[:, 3] & shown[:, 8])
    assert chosen == {3, 8}
    assert found.converged
    assert found.extra["precision"] == 1.0
    assert found.extra["precision_low"] > 0.9
    assert found.extra["coverage"] == 0.25  # both are shown in a quarter of the images
    for index in (3, 8):  # without either, the other is shown in half of the images
        assert float(found.values[labels == index][0]) == pytest.approx(0.5, abs=0.15)
    assert "With these 2 superpixels of" in found.notes[0]
    assert "“pneumonia” stays in 100 %" in found.notes[0]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (lambda s: s[:, 5], [{5}]),
        (lambda s: s[:, 1] & s[:, 4] & s[:, 9], [{1, 4, 9}]),
        (lambda s: (s[:, 2] & s[:, 6]) | (s[:, 7] & s[:, 10]), [{2, 6}, {7, 10}]),
        (lambda s: s[:, [0, 3, 6]].sum(1) >= 2, [{0, 3}, {0, 6}, {3, 6}]),
    ],
)
def test_other_rules(rule: object, expected: list[set[int]]) -> None:
    found, chosen, _ = find(rule)
    assert chosen in expected
    assert found.converged
    assert found.extra["coverage"] == 0.5 ** len(chosen)


def test_an_answer_that_nothing_changes_needs_no_anchor() -> None:
    found, chosen, _ = find(lambda shown: np.ones(len(shown), bool))
    assert chosen == set()
    assert found.converged
    assert found.extra["coverage"] == 1.0
    assert "No anchor is needed" in found.notes[0]


def test_an_answer_against_the_target_has_an_anchor_too() -> None:
    found, chosen, _ = find(lambda shown: ~(shown[:, 3] & shown[:, 8]))
    assert chosen == {3, 8}
    assert "“not pneumonia”" in found.notes[0]


def test_a_rule_that_no_set_holds_is_said_so() -> None:
    found, _, _ = find(lambda shown: shown.sum(1) > 9, largest=2)
    assert not found.converged
    assert "No set of at most 2" in found.notes[1]


def test_the_budget_is_kept_and_the_best_so_far_is_given() -> None:
    found, _, _ = find(lambda shown: shown[:, :6].all(1), samples=200)
    assert found.forwards <= 200 + 1
    assert not found.converged
    assert found.extra["samples"] <= 200


def test_precision_holds_on_new_images() -> None:
    """Of a network: the anchor's precision on samples drawn anew lies in the interval."""
    model, item = classifier("resnet-in-place"), image(padding=0)
    method = registry.create("anchors", segments=12)
    found = method.explain(model, item, "pneumonia", Run(seed=SEED))
    with Session(model, item, "pneumonia", Run(seed=SEED)) as session:
        parts = hider(method, session)  # type: ignore[arg-type]
        rng = np.random.default_rng(99)
        shown = rng.random((1000, parts.count)) < 0.5
        shown[:, np.unique(parts.labels[found.values > 0])] = True
        whole = session.scores(session.x)[0] > 0
        precision = float(((session.scores(parts.images(shown)) > 0) == whole).mean())
    assert found.extra["precision_low"] - 0.05 <= precision <= found.extra["precision_high"] + 0.05


@pytest.mark.parametrize(("mean", "count"), [(0.0, 10), (0.3, 25), (0.9, 100), (1.0, 40)])
def test_bounds_solve_their_equation(mean: float, count: int) -> None:
    level = np.log(1 / 0.05)
    for upper in (False, True):
        found = anchors.bound(mean, count, level, upper)

        def miss(q: float) -> float:
            return count * anchors.kl(mean, q) - level

        side = (mean, 1 - 1e-13) if upper else (1e-13, mean)
        if side[1] - side[0] < 1e-9:
            assert found == pytest.approx(mean, abs=1e-9)
        else:
            assert found == pytest.approx(optimize.brentq(miss, *side), abs=1e-6)
    if mean == 1.0:  # closed form: count × ln(1 / q) = level
        assert anchors.bound(1.0, count, level, False) == pytest.approx(0.05 ** (1 / count), abs=1e-6)


def test_samples_that_fit_are_handed_down() -> None:
    model, item, _ = planted(lambda shown: shown[:, 3])
    method = registry.create("anchors", segments=12)
    with Session(model, item, "pneumonia", Run(seed=SEED)) as session:
        parts = hider(method, session)  # type: ignore[arg-type]
        samples = anchors._Samples(method, session, parts, True, 0.0)  # type: ignore[arg-type]
        samples.draw(frozenset(), 200)
        for index in (3, 4):
            samples.inherit(frozenset({index}), frozenset())
        hits, n = samples.counts(frozenset({3}))
        assert hits == n == sum(int(shown[:, 3].sum()) for shown, _ in samples.drawn[frozenset()])
        hits, n = samples.counts(frozenset({4}))
        assert hits / n == pytest.approx(0.5, abs=0.15)


def test_the_answer_is_the_one_at_the_operating_point() -> None:
    from dataclasses import replace

    from xai_engine.classifier.calibration import Platt
    from xai_engine.classifier.types import OperatingPoint

    model = classifier("lite")
    point = OperatingPoint("balanced", 0.3, (0.9, 0.8, 1.0), (0.9, 0.8, 1.0), "nobody")
    model.info = replace(model.info, operating_points=(point,))
    model.calibration = Platt(0.5, 1.0)
    expected = (np.log(0.3 / 0.7) - 1.0) / 0.5
    for target, sign in (("pneumonia", 1), ("normal", -1)):
        with Session(model, image(), target, Run()) as session:
            assert anchors.answer_boundary(session) == pytest.approx(sign * expected, abs=1e-6)
