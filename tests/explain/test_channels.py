"""The strongest channels of a layer: contributions against silencing each channel, maps against the activations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.explain.networks import SIDE, FunctionalRelu
from xai_engine.errors import Cancelled, UsageError
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute.channels import strongest_channels
from xai_engine.runtime.run import Run


@pytest.fixture(scope="module")
def network() -> FunctionalRelu:
    torch.manual_seed(3)
    return FunctionalRelu().eval()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (1, SIDE, SIDE)).astype(np.float32)


def test_contributions_are_what_silencing_the_channel_takes_away(
    network: FunctionalRelu, image: np.ndarray
) -> None:
    """`second` feeds rectifier, mean and linear head: the contribution of channel k is w_k times the mean of its positive
    part, exactly."""
    classifier = ModuleClassifier(network, (1, SIDE, SIDE), ("no", "yes"), "second")
    valid = np.ones((SIDE, SIDE), bool)
    found = strongest_channels(classifier, input_of(image, valid), "yes", "second", 8, Run())
    with torch.no_grad():
        inner = torch.relu(network.first(torch.from_numpy(image)[None]))
        active = torch.relu(network.second(inner))[0]
        expected = (network.head.weight[0] * active.mean((1, 2))).numpy()
    got = {int(each.extra["channel"]): each.extra["contribution"] for each in found}
    np.testing.assert_allclose([got[k] for k in range(8)], expected, rtol=1e-4, atol=1e-6)
    sizes = [abs(each.extra["contribution"]) for each in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(each.extra["share"] for each in found) == pytest.approx(1.0)
    for each in found:
        assert each.values.shape == (SIDE, SIDE)
        assert np.abs(each.values).max() <= each.full_scale * (1 + 1e-6)
        assert each.method not in registry.names()
    assert len({each.method for each in found}) == 8


def test_fewer_are_the_first_of_more_and_nothing_is_left_behind(
    network: FunctionalRelu, image: np.ndarray
) -> None:
    classifier = ModuleClassifier(network, (1, SIDE, SIDE), ("no", "yes"), "second")
    given = input_of(image, np.ones((SIDE, SIDE), bool))
    three = strongest_channels(classifier, given, "yes", "", 3, Run())
    all_of_them = strongest_channels(classifier, given, "yes", "second", 8, Run())
    assert [e.extra for e in three] == [e.extra for e in all_of_them[:3]]
    assert not any(module._forward_hooks for module in network.modules())


def test_wrong_counts_layers_and_a_stop(network: FunctionalRelu, image: np.ndarray) -> None:
    classifier = ModuleClassifier(network, (1, SIDE, SIDE), ("no", "yes"), "second")
    given = input_of(image, np.ones((SIDE, SIDE), bool))
    for count in (0, 65):
        with pytest.raises(UsageError, match="1 to 64"):
            strongest_channels(classifier, given, "yes", "", count, Run())
    with pytest.raises(UsageError, match="third"):
        strongest_channels(classifier, given, "yes", "third", 3, Run())
    stopped = Run()
    stopped.cancel.set()  # type: ignore[attr-defined]
    with pytest.raises(Cancelled):
        strongest_channels(classifier, given, "yes", "", 3, stopped)
