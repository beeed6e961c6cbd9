"""Consensus against its members run alone, with scipy's ranks."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage, stats

from tests.explain.networks import classifier, image
from tests.explain.test_contract import StopAfter
from xai_engine.errors import UnsupportedModel, UsageError
from xai_engine.explain import registry
from xai_engine.explain.compute import consensus as compute
from xai_engine.runtime.run import Progress, Run

MEMBERS = ("lrp", "occlusion", "deep-lift", "saliency")


def test_is_the_mean_rank_of_its_members() -> None:
    model, item = classifier("densenet"), image()
    valid = item.valid
    mass = ndimage.gaussian_filter(valid.astype(np.float64), 3.0, mode="constant", truncate=4.0)
    planes = []
    for name in MEMBERS:
        params = {"magnitude": False} if name == "saliency" else {}
        alone = registry.create(name, **params).explain(model, item, "pneumonia", Run(seed=5)).values
        smooth = ndimage.gaussian_filter(alone * valid.astype(np.float64), 3.0, mode="constant", truncate=4.0)
        plane = (smooth / mass)[valid]
        planes.append(np.round(plane / np.abs(plane).max(), 6))
    expected = np.stack([np.sign(v) * stats.rankdata(np.abs(v)) / len(v) for v in planes])
    seen: list[Progress] = []
    run = Run(seed=5, report=seen.append, min_interval_s=0.0)
    found = registry.create("consensus", members=", ".join(MEMBERS), smoothing=3.0).explain(
        model, item, "pneumonia", run
    )
    assert np.allclose(
        found.values[valid], expected.mean(0), atol=2e-3
    )  # float32 maps may swap neighbours in rank
    assert found.uncertainty is not None
    assert np.allclose(found.uncertainty[valid], expected.std(0, ddof=1), atol=2e-3)
    assert not found.uncertainty.flags.writeable
    assert not found.values[~valid].any()
    # an even map (occlusion with a window as large as the image) correlates with nothing: 0, where scipy has nan
    pairs = [np.nan_to_num(stats.spearmanr(a, b).statistic) for a, b in combinations(planes, 2)]
    assert found.extra["agreement"] == pytest.approx(np.mean(pairs), abs=1e-3)
    assert found.extra["least_agreement"] == pytest.approx(min(pairs), abs=1e-3)
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert sum(0.25 < f < 0.75 for f in fractions) > 3  # the members share the progress


def test_a_cancelled_member_takes_no_part() -> None:
    model, item = classifier("lite"), image()
    consensus = registry.create("consensus", members="input-x-gradient, rise", smoothing=2.0)
    found = consensus.explain(model, item, "pneumonia", Run(cancel=StopAfter(150)))
    assert found.partial
    assert found.extra["members"] == 1.0
    assert np.abs(found.values).max() > 0.9
    assert found.uncertainty is not None
    assert not found.uncertainty.any()


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("lime", "at least two"),
        ("lime, lime", "different"),
        ("lime, consensus", "is one itself"),
        ("lime, var-grad", "nothing for or against"),
        ("lime, gradcam", "did you mean grad-cam"),
        ("", "unknown"),
    ],
)
def test_members_are_checked(members: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        registry.create("consensus", members=members)


def test_methods_that_do_not_agree_are_said_and_not_taken_for_too_few_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More steps would change nothing: both members are exact."""
    monkeypatch.setattr(compute, "POOR", 1.1)
    found = registry.create("consensus", members="input-x-gradient, lrp").explain(
        classifier("lite"), image(), "pneumonia", Run(seed=5)
    )
    assert found.converged
    assert found.notes == (
        f"The methods do not agree (mean rank correlation {found.extra['agreement']:.2f}): there is no consensus.",
    )


def test_a_member_that_cannot_explain_the_network_is_named() -> None:
    with pytest.raises(
        UnsupportedModel, match=r"is no rectifier.*; leave guided-backprop out of the consensus"
    ):
        registry.create("consensus", members="input-x-gradient, guided-backprop").explain(
            classifier("monai-vit"), image(), "pneumonia", Run()
        )
