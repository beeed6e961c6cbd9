"""Measures of the card against their definition, computed here in another way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from torch import nn

from xai_engine.assess import areas, findings, perturbation, repeats, rerun
from xai_engine.assess.blocks import Blocks
from xai_engine.assess.findings import AGREEMENT
from xai_engine.assess.imputation import NOISE
from xai_engine.assess.options import preset
from xai_engine.assess.pool import Pool
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run


class Additive(nn.Module):
    """score = Σ weight · pixel."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] * self.weight).sum((1, 2))[:, None]


def additive(side: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, ModuleClassifier]:
    """(weight, image, valid, classifier)."""
    rng = np.random.default_rng(seed)
    weight, image = rng.normal(size=(2, side, side))
    image = np.cumsum(np.cumsum(image, 0), 1) / side
    valid = np.ones((side, side), bool)
    valid[:, :2] = False
    return weight, image, valid, ModuleClassifier(Additive(weight), (1, side, side), batch_size=8)


def maps(
    values: list[np.ndarray], classifier: ModuleClassifier, image: np.ndarray, valid: np.ndarray
) -> list[Explanation]:
    item = input_of(image[None].astype(np.float32), valid)
    one = registry.create("saliency").explain(classifier, item, "pneumonia", Run())
    return [replace(one, values=v.astype(np.float32)) for v in values]


def test_noise_changes_a_map_as_much_as_its_definition_says() -> None:
    """Input x gradient of a sum of weighted pixels is weight · pixel, so noise changes it by weight · noise."""
    weight, image, valid, classifier = additive(24, 3)
    item = input_of(image[None].astype(np.float32), valid)
    method = registry.create("input-x-gradient", baseline="zero")
    explanation = method.explain(classifier, item, "pneumonia", Run(5))
    assert np.allclose(explanation.values[valid], (weight * image)[valid], atol=1e-4)
    options = replace(preset("standard"), seeds=0, noises=4, shifts=0, stages=0)
    scene = repeats.Scene(classifier, item, "pneumonia", options, Run(7), lambda: None)
    got = {f.name: f for f in repeats.measure(explanation, scene).findings}
    rng = Run(7).rng(repeats._PERTURB)
    sizes, ranks, likeness = [], [], []
    for _ in range(4):
        changed = rerun.noisy(item, rng).array[0].astype(float)
        width = 2 * np.abs(changed - item.array[0]).max() / np.ptp(image[valid])
        assert 0 < width < 0.1  # too small to see
        before, after = (weight * image)[valid], (weight * changed)[valid]
        sizes.append(np.linalg.norm(after - before) / np.linalg.norm(before))
        ranks.append(spearmanr(before, after).statistic)
        likeness.append(max(ranks[-1], pearsonr(before, after).statistic))
    assert got["max_sensitivity"].value == pytest.approx(max(sizes), rel=1e-4)
    assert got["perturbation_stability"].value == pytest.approx(np.mean(likeness), abs=1e-4)
    assert got["perturbation_spearman"].value == pytest.approx(np.mean(ranks), abs=1e-3)
    assert min(sizes) < max(sizes)


def test_agreement_is_the_median_rank_correlation_of_block_means() -> None:
    _, image, valid, classifier = additive(40, 4)
    rng = np.random.default_rng(6)
    base = np.cumsum(rng.normal(size=(40, 40)), 1)
    others = [base + spread * np.cumsum(rng.normal(size=(40, 40)), 1) for spread in (0.3, 1.0, 3.0, 10.0)]
    one, *rest = maps([base, *others], classifier, image, valid)
    got = {f.name: f for f in findings.of_agreement(one, rest, valid)}
    blocks = Blocks(valid, AGREEMENT)
    members = blocks.expand(np.eye(blocks.count, dtype=bool))
    assert (members.sum(0) == valid).all()

    def means(values: np.ndarray) -> np.ndarray:
        return np.array([values[where].mean() for where in members])

    ranks = [spearmanr(means(one.values), means(other.values)).statistic for other in rest]
    assert got["agreement"].value == pytest.approx(np.median(ranks), abs=1e-6)
    assert (got["agreement"].lower, got["agreement"].upper) == pytest.approx(
        (min(ranks), max(ranks)), abs=1e-6
    )
    assert np.ptp(ranks) > 0.3


def test_shares_of_areas_are_sums_of_magnitudes() -> None:
    _, image, valid, classifier = additive(30, 5)
    values = np.random.default_rng(1).normal(size=(30, 30))
    text, border, lungs = (np.zeros((30, 30), bool) for _ in range(3))
    text[2:5, 20:28], border[[0, -1]], lungs[8:22, 5:25] = True, True, True
    (e,) = maps([values], classifier, image, valid)
    got = {f.name: f for f in findings.of_map(e, areas.Areas(valid, lungs, border, text))}
    total = sum(abs(float(v)) for v in e.values.ravel())
    for name, where in (("text", text), ("border", border), ("lungs", lungs), ("padding", ~valid)):
        part = sum(abs(float(e.values[r, c])) for r, c in np.argwhere(where)) / total
        assert got[f"{name}_share"].value == pytest.approx(part, rel=1e-6), name
    assert "letters" in got["text_share"].sentence
    none = {f.name: f for f in findings.of_map(e, areas.Areas(valid, lungs, border, np.zeros_like(text)))}
    assert none["text_share"].value == 0.0
    assert "No letters" in none["text_share"].sentence


def test_road_by_solving_its_equations_densely() -> None:
    """Rong et al. 2022: hidden pixels are weighted means of their neighbours, all at once, with a little noise; the score of the image without its
    lowest blocks less that without its highest, halved, mean over the shares."""
    side = 14
    weight, image, valid, classifier = additive(side, 6)
    shares, noise = (0.2, 0.5), [11, 3]
    with Session(classifier, input_of(image[None].astype(np.float32), valid), "pneumonia", Run()) as session:
        scene, pool = perturbation.Scene(session, valid), Pool()
        perturbation.plan_ends(scene, pool)
        order = np.random.default_rng(2).permutation(scene.blocks.count)
        road = perturbation.plan_road(scene, pool, session, order, shares, noise)
        pool.run(session, "")
        x = scene.x[0, 0].double().numpy()
        members = scene.blocks.expand(np.eye(scene.blocks.count, dtype=bool))

    def score(hidden: np.ndarray, step: int) -> float:
        places = [tuple(p) for p in np.argwhere(hidden)]
        number = {p: i for i, p in enumerate(places)}
        a, b = np.zeros((len(places), len(places))), np.zeros(len(places))
        for (r, c), i in number.items():
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    at = (r + down, c + right)
                    if (
                        (down, right) == (0, 0)
                        or not (0 <= at[0] < side and 0 <= at[1] < side)
                        or not valid[at]
                    ):
                        continue
                    w = 1 / 12 if down and right else 1 / 6
                    a[i, i] += w
                    if at in number:
                        a[i, number[at]] -= w
                    else:
                        b[i] += w * x[at]
        filled = x.copy()
        draws = np.random.default_rng([*noise, step]).standard_normal(len(places))
        filled[hidden] = np.linalg.solve(a, b) + NOISE * x[valid].std() * draws
        return float((weight * filled).sum())

    gaps = []
    for step, share in enumerate(shares):
        count = round(share * len(order))
        highest, lowest = members[order[:count]].any(0), members[order[::-1][:count]].any(0)
        gaps.append((score(lowest, step) - score(highest, step)) / 2)
    assert abs(np.mean(gaps)) > 0.1
    assert road.value() == pytest.approx(np.mean(gaps), rel=1e-3, abs=1e-3)
