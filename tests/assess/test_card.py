"""Whole cards: planted truth, curves against brute force, the contract (seed, cancellation, network left alone)."""

from __future__ import annotations

import itertools
import json
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_filter
from torch import nn

from tests.assess import planted
from xai_engine.assess import areas, card, findings, perturbation, random_maps, randomise, rerun
from xai_engine.assess.imputation import impute
from xai_engine.assess.options import CardOptions, preset
from xai_engine.assess.pool import Pool, Request
from xai_engine.assess.types import ReliabilityCard
from xai_engine.classifier.types import ModelInput
from xai_engine.errors import UsageError
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

IG = registry.create("integrated-gradients", steps=16)
QUICK = preset("quick")


@cache
def patient(index: int, marker: bool = False) -> planted.Planted:
    return planted.chest(np.random.default_rng([41, index]), True, marker)


def explained(classifier: ModuleClassifier, p: planted.Planted, *names: str) -> list[Explanation]:
    methods = {
        "ig": IG,
        "occlusion": registry.create("occlusion", window=12, stride=4),
        "lime": registry.create("lime", samples=100, segments=30),
        "grad-cam": registry.create("grad-cam"),
    }
    return [methods[n].explain(classifier, p.input, "pneumonia", Run(3)) for n in names]


def cards(
    classifier: ModuleClassifier,
    p: planted.Planted,
    maps: list[Explanation],
    options: CardOptions | None = None,
    run: Run | None = None,
) -> tuple[ReliabilityCard, ...]:
    return card.assess(classifier, p.input, maps, p.lungs.astype(np.float32), options, run or Run(1))


def random_map(e: Explanation, stream: int) -> Explanation:
    """As smooth as the map, but drawn by chance."""
    values = random_maps.of_same_smoothness(
        e.values, np.ones(e.values.shape, bool), 1, np.random.default_rng([77, stream])
    )[0]
    return replace(e, values=values)


# ---- planted truth -----------------------------------------------------------------------------------------------


def test_faithful_map_of_a_sound_model_passes() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    found = [cards(sound, patient(i), explained(sound, patient(i), "ig"))[0] for i in range(4)]
    assert [c.verdict for c in found].count("do not use") == 0
    assert [c.verdict for c in found].count("use") >= 3
    assert all(c.finding("faithfulness").value > 3 for c in found)


def test_random_maps_of_a_sound_model_are_refused() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    (e,) = explained(sound, patient(0), "ig")
    assert cards(sound, patient(0), [random_map(e, 0)])[0].verdict == "do not use"
    many = cards(sound, patient(0), [random_map(e, 1 + i) for i in range(12)], QUICK)
    # one random map in ten reaches the limit by definition; four of twelve or more would be a chance of 3 %
    assert sum(c.verdict == "do not use" for c in many) >= 9
    # and they spread as the null says
    values = [c.finding("faithfulness").value for c in many]
    assert abs(np.mean(values)) < 1
    assert 0.4 < np.std(values) < 2


def test_smooth_maps_with_their_places_right_pass_and_mirrored_ones_are_said_to_point_away() -> None:
    """The random maps are fair to coarse maps: one of the smoothness of a class activation map passes where it is right."""
    sound = planted.classifier(planted.trained("lesion"))
    p = patient(0)
    (e,) = explained(sound, p, "occlusion")
    right = gaussian_filter(e.values, 4.0)
    found = cards(sound, p, [replace(e, values=v.astype(np.float32)) for v in (right, -right)], QUICK)
    assert found[0].finding("faithfulness").value >= 1.28
    assert found[0].verdict != "do not use"
    assert found[1].finding("faithfulness").value <= -1.28
    assert found[1].verdict == "do not use"
    assert any("points away" in reason for reason in found[1].reasons)


def test_a_map_of_one_sign_is_told_apart_where_the_finding_is_absent() -> None:
    """What a ReLU keeps cannot explain a score that speaks against the finding; the card says so, and what to use."""
    sound = planted.classifier(planted.trained("lesion"))
    said = {}
    for lesion in (False, True):
        p = planted.chest(np.random.default_rng(5), lesion, False)
        (e,) = explained(sound, p, "ig")
        wrong = -gaussian_filter(e.values, 3.0)
        (found,) = cards(sound, p, [replace(e, values=(wrong - wrong.min()).astype(np.float32))], QUICK)
        assert found.verdict == "do not use"
        said[lesion] = found.finding("faithfulness").sentence
    assert "speaks against the finding" in said[False]
    assert "both signs" in said[False]
    assert "speaks against" not in said[True]


@pytest.mark.parametrize("name", ["ig", "occlusion", "lime"])
def test_shortcut_model_is_flagged_whatever_the_map(name: str) -> None:
    shortcut = planted.classifier(planted.trained("marker"))
    p = patient(1, marker=True)
    (found,) = cards(shortcut, p, explained(shortcut, p, name))
    assert found.verdict == "do not use"
    assert found.finding("text_effect").value > 1.35
    assert found.finding("lungs_enrichment").value < 1
    assert any("markers" in reason for reason in found.reasons)


def test_shortcut_is_flagged_where_lungs_are_unknown() -> None:
    shortcut = planted.classifier(planted.trained("marker"))
    p = patient(2, marker=True)
    (found,) = card.assess(shortcut, p.input, explained(shortcut, p, "ig"), None, QUICK, Run(1))
    assert found.verdict == "do not use"
    assert found.finding("lungs_share") is None
    assert any("lungs" in note for note in found.notes)


@pytest.mark.parametrize("how", ["reset", "shuffled"])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_model_with_random_weights_is_flagged(how: str, seed: int) -> None:
    network = planted.trained("lesion")
    if how == "reset":
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = planted.SmallNet(1, 1, 8).eval()
    else:
        other = ModuleClassifier(planted.SmallNet(1, 1, 8), (1, 64, 64))
        other.network.load_state_dict(network.state_dict())
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for p in other.network.parameters():
                p.copy_(p.flatten()[torch.randperm(p.numel(), generator=generator)].view_as(p))
        network = other.network
    classifier = planted.classifier(network)
    (found,) = cards(classifier, patient(0), explained(classifier, patient(0), "ig"))
    assert found.verdict == "do not use"
    assert found.finding("reaction_over_random").value < 1.6


def test_empty_map() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    (e,) = explained(sound, patient(0), "grad-cam")
    (found,) = cards(sound, patient(0), [replace(e, values=np.full((64, 64), 2.0, np.float32))], QUICK)
    assert found.verdict == "do not use"
    assert "empty" in found.reasons[0]


def test_map_that_ignores_the_weights_is_flagged() -> None:
    """An edge map passes for an explanation until the weights are random."""
    sound = planted.classifier(planted.trained("lesion"))
    (e,) = explained(sound, patient(0), "grad-cam")

    class Edges:
        name = "edges"

        @staticmethod
        def values() -> dict[str, object]:
            return {}

        @staticmethod
        def explain(classifier: object, model_input: ModelInput, target: str, run: Run) -> Explanation:
            found = np.abs(np.gradient(model_input.array[0])[0]).astype(np.float32)
            return replace(e, values=found, partial=False)

    edges = Edges.explain(sound, patient(0).input, "pneumonia", Run())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rerun, "recipe", lambda *_: rerun.Recipe(Edges(), ""))  # type: ignore[arg-type]
        (found,) = cards(sound, patient(0), [edges])
    assert found.finding("randomisation").value == pytest.approx(1.0)
    assert found.verdict == "do not use"


# ---- numbers -----------------------------------------------------------------------------------------------------


class Additive(nn.Module):
    """score = Σ weight · pixel."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0] * self.weight).sum((1, 2))[:, None]


def test_curves_and_infidelity_of_an_additive_model() -> None:
    rng = np.random.default_rng(8)
    weight, image = rng.normal(size=(2, 12, 12)).astype(np.float32)
    valid = np.ones((12, 12), bool)
    valid[:, :2] = False
    model_input = input_of(image[None], valid)
    classifier = ModuleClassifier(Additive(weight), (1, 12, 12), batch_size=5)
    with Session(classifier, model_input, "pneumonia", Run()) as session:
        scene, pool = perturbation.Scene(session, valid), Pool()
        ends = perturbation.plan_ends(scene, pool)
        blurred = scene.blurred[0, 0].numpy()
        truth = np.where(valid, weight * (image - blurred), 0.0)
        sums = scene.blocks.sums(truth)
        order = scene.blocks.order(sums / scene.blocks.sizes, rng)
        curves = perturbation.plan_curves(scene, pool, ends, order[None], 6)
        removals = perturbation.plan_removals(scene, pool, ends, 40, rng)
        road = perturbation.plan_road(scene, pool, session, order, (0.2, 0.5), [0])
        pool.run(session, "")
    # deletion by hand: the score falls by the sums of the blocks taken
    shares = curves.shares
    taken = np.concatenate([[0.0], np.cumsum(sums[order])])
    deletion = ends.image - taken[np.round(shares * scene.blocks.count).astype(int)]
    insertion = ends.blurred + taken[np.round(shares * scene.blocks.count).astype(int)]
    assert curves.deletion()[0] == pytest.approx(np.trapezoid(deletion, shares), abs=1e-4)
    assert curves.insertion()[0] == pytest.approx(np.trapezoid(insertion, shares), abs=1e-4)
    assert removals.infidelity(sums[None])[0] == pytest.approx(0.0, abs=1e-6)
    assert removals.infidelity(-sums[None])[0] == 1.0
    assert removals.foretelling(sums[None], scene.blocks.sizes)[0] == pytest.approx(1.0, abs=1e-6)
    assert road.value() > 0


def test_effects_of_areas_on_an_additive_model() -> None:
    """By hand: the smallest change over the ways to take an area away, in standard deviations over random hidden sets."""
    rng = np.random.default_rng(9)
    weight, image = rng.normal(size=(2, 24, 24))
    image = np.cumsum(image, 1) / 5
    valid = np.ones((24, 24), bool)
    lungs, border, text = (np.zeros_like(valid) for _ in range(3))
    lungs[6:18, 4:20], border[:, [0, 23]], border[[0, 23]], text[2:4, 8:12] = True, True, True, True
    found = areas.Areas(valid, lungs, border, text)
    classifier = ModuleClassifier(Additive(weight), (1, 24, 24), batch_size=5)
    with Session(classifier, input_of(image[None].astype(np.float32), valid), "pneumonia", Run()) as session:
        scene, pool = perturbation.Scene(session, valid), Pool()
        ends = perturbation.plan_ends(scene, pool)
        removals = perturbation.plan_removals(scene, pool, ends, 60, rng)
        effects = perturbation.plan_areas(scene, pool, ends, found)
        pool.run(session, "")
        x, blurred = (v[0, 0].double().numpy() for v in (scene.x, scene.blurred))

    def fall(where: np.ndarray, other: np.ndarray | float) -> float:
        return float((weight * (x - other))[where].sum())

    def solved(where: np.ndarray) -> np.ndarray:
        return np.asarray(impute(scene.x[0].numpy(), where, valid)[0], float)

    outside = ~lungs
    far = 1.0 - np.clip(convolve(lungs.astype(float), np.ones((3, 3)), mode="constant"), 0.0, 1.0)
    soft = gaussian_filter(far, 0.5, mode="mirror", truncate=6.0)
    ways = {
        "text": [fall(text, solved(text))],
        "border": [fall(border, blurred), fall(border, x.mean()), fall(border, solved(border))],
        "outside": [fall(outside, blurred), fall(outside, x.mean()), fall(outside, x[outside].mean()),
                    float((weight * soft * (x - blurred)).sum())],
    }  # fmt: skip
    hidden = removals.sets @ scene.blocks.sums(weight * (x - blurred))
    got = {f.name: f for f in findings.of_model(removals, effects)}
    for name, each in ways.items():
        expected = min(each, key=abs) / float(hidden.std())
        assert got[f"{name}_effect"].value == pytest.approx(abs(expected), rel=2e-2), name
    assert got["score_reaction"].value == pytest.approx(float(hidden.std()), rel=1e-4)


@pytest.mark.parametrize(("name", "limit"), [("text", 1.0), ("border", 1.5), ("outside", 1.75)])
def test_an_area_that_stands_out_says_what_to_do(name: str, limit: float) -> None:
    ends, removed = Request(3, None), Request(400, None)  # type: ignore[arg-type]
    ends.scores[:] = 0.0
    removed.scores[:] = np.tile([-1.0, 1.0], 200)  # a standard deviation of one
    sentences = []
    for ratio in (0.9 * limit, 1.1 * limit):
        taken = Request(2, None)  # type: ignore[arg-type]
        taken.scores[:] = [-ratio, -0.3]
        removals = perturbation.Removals(np.zeros((400, 1), bool), perturbation.Ends(ends), removed)
        effects = perturbation.AreaEffects((name, "lungs"), perturbation.Ends(ends), taken)
        got = {f.name: f for f in findings.of_model(removals, effects)}[f"{name}_effect"]
        assert got.value == pytest.approx(ratio)
        sentences.append((got.grade, "instead of the lungs" in got.sentence))
    assert sentences == [("good", False), ("fair", True)]


# ---- stability and randomisation ---------------------------------------------------------------------------------


def test_stochastic_method_is_told_from_a_fixed_one() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    ig, lime = cards(sound, patient(0), explained(sound, patient(0), "ig", "lime"))
    assert ig.finding("seed_stability").value == 1.0
    assert "no chance" in ig.finding("seed_stability").sentence
    assert 0 < lime.finding("seed_stability").value < 1
    # two maps were asked for; the jury is filled up to three others
    assert "the 3 other maps" in lime.finding("agreement").sentence
    (alone,) = cards(sound, patient(0), explained(sound, patient(0), "ig"), replace(QUICK, companions=0))
    assert alone.finding("agreement") is None
    pair = cards(sound, patient(0), explained(sound, patient(0), "ig", "lime"), replace(QUICK, companions=0))
    assert pair[0].finding("agreement").grade == "info"  # one other map is no jury
    assert pair[0].finding("agreement").value == pytest.approx(pair[1].finding("agreement").value, abs=1e-12)


def test_recipe_keeps_within_its_cost() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    (lime,) = explained(sound, patient(0), "lime")
    assert rerun.recipe(lime, 1000).reduced == ""
    cheaper = rerun.recipe(lime, 40)
    assert cheaper.method.values()["samples"] < 50
    assert "instead of 100" in cheaper.reduced
    assert rerun.recipe(replace(lime, method="unheard-of"), 1000) is None


def test_shift_is_undone() -> None:
    p = patient(0)
    moved = rerun.shifted(p.input, 3, -2)
    assert np.array_equal(moved.array[0, 3:, :-2], p.image[:-3, 2:])
    back, known = rerun.moved_back(moved.array[0], 3, -2)
    assert np.array_equal(back[known], p.image[known])
    assert known.sum() == 61 * 62


def test_randomised_copies_start_at_the_output_and_spare_the_original() -> None:
    network = planted.trained("lesion")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    sound = planted.classifier(network)
    count = len(randomise.layers(network))
    head = randomise.randomised(sound, 1 / count, 5, 0)
    changed = {k for k, v in head.network.state_dict().items() if not torch.equal(v, before[k])}
    assert "fc.weight" in changed
    assert not any(k.startswith("stages") for k in changed)
    full = randomise.randomised(sound, 1.0, 5, 0)
    for (name, old), new in zip(network.named_parameters(), full.network.parameters(), strict=True):
        if old.ndim > 1:
            assert abs(np.corrcoef(old.detach().flatten(), new.detach().flatten())[0, 1]) < 0.3, name
            assert new.square().mean().sqrt() == pytest.approx(float(old.square().mean().sqrt()), rel=0.3)
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert randomise.randomised(sound, 1.0, 5, 0).network is full.network  # kept per model
    assert randomise.randomised(sound, 1.0, 6, 0).network is not full.network


# ---- contract ----------------------------------------------------------------------------------------------------


def test_one_seed_one_card_and_nothing_left_behind() -> None:
    network = planted.trained("lesion")
    maps = explained(planted.classifier(network), patient(0), "ig", "lime")
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = cards(planted.classifier(network), patient(0), maps)
    second = cards(planted.classifier(network), patient(0), maps)
    strip = lambda found: [replace(c, seconds=0.0) for c in found]  # noqa: E731
    assert strip(first) == strip(second)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], legacy)  # noqa: NPY002
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks or m.training for m in network.modules())
    other_batch = cards(planted.classifier(network, batch_size=7), patient(0), maps, QUICK)
    whole_batch = cards(planted.classifier(network), patient(0), maps, QUICK)
    for a, b in zip(other_batch, whole_batch, strict=True):
        assert [f.name for f in a.findings] == [f.name for f in b.findings]
        assert [f.value for f in a.findings] == pytest.approx(
            [f.value for f in b.findings], rel=1e-3, abs=1e-4
        )


class After:
    """A token that is set once it has been asked `count` times."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, 0

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > self.count


def test_cancelled_cards_are_partial_and_never_say_use() -> None:
    network = planted.trained("lesion")
    sound = planted.classifier(network)
    maps = explained(sound, patient(0), "ig")
    cards(sound, patient(0), maps)  # what is measured once per model is remembered from here on
    whole = After(10**9)
    (full,) = cards(sound, patient(0), maps, run=Run(1, cancel=whole))  # type: ignore[arg-type]
    assert not full.partial
    assert full.verdict == "use"
    found: list[ReliabilityCard] = []
    for share in (0.0, 0.01, 0.2, 0.5, 0.8, 0.97):
        token = After(int(share * whole.asked))
        found += cards(sound, patient(0), maps, run=Run(1, cancel=token))  # type: ignore[arg-type]
        assert token.asked - token.count < 40  # it stops soon after
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())
    for c in found:
        assert c.partial
        assert c.verdict != "use"
        assert c.finding("lungs_share") is not None  # what needs no passes is there
        # what there is equals the whole card's
        assert all(f == full.finding(f.name) for f in c.findings)
    assert len(found[0].findings) < len(found[-1].findings) < len(full.findings)


def test_progress_never_goes_back() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    seen: list[float] = []
    run = Run(1, threading.Event(), lambda p: seen.append(p.fraction), 0.0)
    cards(sound, patient(0), explained(sound, patient(0), "ig", "lime"), run=run)
    assert seen[-1] == 1.0
    assert all(b >= a - 1e-9 for a, b in itertools.pairwise(seen))


def test_json_is_strict_and_comes_back() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    for found in cards(sound, patient(0), explained(sound, patient(0), "ig", "occlusion", "grad-cam"), QUICK):
        text = json.dumps(found.to_json(), allow_nan=False)
        assert ReliabilityCard.from_json(json.loads(text)) == found
        assert all(f.sentence.endswith(".") and len(f.sentence) < 220 for f in found.findings)
    with pytest.raises(UsageError, match="schema"):
        ReliabilityCard.from_json({**found.to_json(), "schema": 99})
    with pytest.raises(UsageError, match="incomplete"):
        ReliabilityCard.from_json({"schema": 1})


def test_maps_that_do_not_belong_are_refused() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    (e,) = explained(sound, patient(0), "grad-cam")
    with pytest.raises(UsageError, match="grad-cam: its map is 10 x 10"):
        cards(sound, patient(0), [replace(e, values=np.zeros((10, 10), np.float32))])
    with pytest.raises(UsageError, match="one target at a time"):
        cards(sound, patient(0), [e, replace(e, target="normal")])
    assert cards(sound, patient(0), []) == ()


def test_a_consensus_of_methods_that_do_not_agree_is_for_use_with_care() -> None:
    sound = planted.classifier(planted.trained("lesion"))
    (e,) = explained(sound, patient(0), "ig")
    (plain,) = cards(sound, patient(0), [e], QUICK)
    assert plain.verdict == "use"
    for agreement, verdict in ((0.1, "use with care"), (0.5, "use")):
        (found,) = cards(
            sound, patient(0), [replace(e, method="consensus", extra={"agreement": agreement})], QUICK
        )
        assert found.verdict == verdict
        assert ("The methods do not agree: there is no consensus." in found.reasons) == (agreement < 0.2)
