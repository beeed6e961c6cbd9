"""What the card says of the model itself: its record, its reaction beside random networks, the tally of real cases."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.assess import planted
from xai_engine.assess import findings, randomise, rates, rates_real, reaction, record, verdict
from xai_engine.assess.blocks import Blocks
from xai_engine.classifier import weights
from xai_engine.classifier.network import SmallNet
from xai_engine.classifier.types import OperatingPoint
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.runtime.run import Run


def net(seed: int = 0) -> ModuleClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return planted.classifier(SmallNet(1, 1, 4).eval())


def on_record(sensitivity: float, specificity: float) -> ModuleClassifier:
    classifier = net()
    point = OperatingPoint(
        "balanced", 0.5, (0.9, sensitivity, 1.0), (0.9, specificity, 1.0), "validation images: 50"
    )
    classifier.info = replace(classifier.info, operating_points=(point,))
    classifier.weights_on_record = weights.digest(classifier.network)
    return classifier


def test_digest_follows_values_not_memory() -> None:
    classifier = net()
    before = weights.digest(classifier.network)
    assert weights.digest(copy.deepcopy(classifier.network).to(memory_format=torch.channels_last)) == before
    assert weights.digest(net(1).network) != before
    with torch.no_grad():
        next(classifier.network.parameters()).view(-1)[0] += 1e-6
    assert weights.digest(classifier.network) != before


@pytest.mark.parametrize("how", ["redrawn", "shuffled"])
def test_replaced_weights_are_never_usable(how: randomise.How) -> None:
    """By construction: whatever the other findings say."""
    classifier = on_record(0.8, 0.8)
    assert [f.grade for f in record.of_record(classifier)] == ["good", "good"]
    for share in (0.1, 1.0):
        (found,) = record.of_record(randomise.randomised(classifier, share, 1, 0, how=how))
        assert (found.name, found.grade) == ("weights_on_record", "poor")
        best = [findings.finding(n, limit.good, "") for n, limit in verdict.LIMITS.items() if n != found.name]
        assert verdict.decide([*best, found])[0] == "do not use"


def test_discrimination_is_youden_at_the_lower_ends() -> None:
    _, found = record.of_record(on_record(0.8, 0.7))
    assert found.value == pytest.approx(0.5)
    _, none = record.of_record(on_record(0.6, 0.4))
    assert none.grade == "poor"
    assert "not known to tell" in none.sentence
    assert record.of_record(net()) == []


def test_reaction_is_the_spread_of_scores_by_hand() -> None:
    classifier = net()
    p = planted.chest(np.random.default_rng(3), True, False)
    sets = Blocks(p.input.valid).random_sets(6, np.random.default_rng(1))
    found = reaction.on_image(classifier, p.input, "pneumonia", sets, None, 2, Run(1), lambda: None)
    assert found is not None
    from scipy.ndimage import gaussian_filter

    blurred = gaussian_filter(p.image, 6.4, mode="reflect")
    blocks = Blocks(p.input.valid).expand(sets)
    hidden = torch.from_numpy(np.where(blocks, blurred, p.image).astype(np.float32))[:, None]
    with torch.no_grad():
        expected = [float(classifier.network(hidden)[:, 0].double().std(unbiased=False))]
    assert found.own == pytest.approx(expected, rel=0.1)  # the kernels end at different radii
    joined = found.joined(found)
    assert joined.size() == pytest.approx(found.own[0])
    exploded = reaction.Reactions((3.0, 4.0), ((99.0, 99.0), (1.0, 1.0)))
    assert exploded.size() == pytest.approx(math.sqrt(12.5))
    assert exploded.largest_copy() == 1.0
    assert findings.of_reaction(exploded).value == pytest.approx(math.sqrt(12.5))
    quiet = reaction.Reactions((0.2,), ((0.001,),))
    assert findings.of_reaction(quiet).grade == "poor"  # far over the copies, and still next to nothing


def test_shuffled_copies_hold_the_same_numbers() -> None:
    classifier = net()
    other = randomise.randomised(classifier, 1.0, 0, 0, how="shuffled").network
    for a, b in zip(classifier.network.parameters(), other.parameters(), strict=True):
        assert torch.equal(a.flatten().sort().values, b.flatten().sort().values)
    assert randomise.randomised(classifier, 1.0, 0, 0).network is not other


def test_tally_of_real_cases() -> None:
    def case(network: str, index: int, z: float, **extra: float) -> rates.Case:
        values = {"faithfulness": z, "score_reaction": 1.0, **extra}
        kept = {n: [v, verdict.grade(n, v), False] for n, v in values.items()}
        m = {"method": "lime", "verdict": "", "forwards": 1, "converged": True, "findings": kept}
        return {
            "network": network,
            "index": index,
            "population": "adults",
            "label": "normal",
            "refused": False,
            "maps": [m],
        }

    cases = [case("shipped", 0, 3.0), case("shipped", 1, 1.5), case("shipped", 2, 0.0)]
    cases += [case("shuffled", 0, 3.0, weights_on_record=0.0)]
    text = "\n".join(rates_real.block(cases, rates.decided))
    assert "| shipped | adults | normal | 3 | 0 / 0 / 0 | 0 / 0 / 0 | 0 / 0 / 0 | 1 / 1 / 1 |" in text
    assert "*use* 1 (33 %)" in text
    assert "*do not use* (a map may have several): `faithfulness` 1." in text
    assert "Shuffled weights: 1/1 maps *do not use*; 0/1 by the other measures alone." in text
