"""Baselines are the same bits whatever the number of threads: reduced precision makes much of a last digit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.explain.networks import image
from xai_engine.classifier import bundle
from xai_engine.classifier.network import SmallNet
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.session import Session
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run


@pytest.mark.parametrize("kind", ["black", "white", "mean", "blurred", "zero"])
def test_baselines_do_not_depend_on_the_number_of_threads(kind: str) -> None:
    values = np.random.default_rng(0).normal(size=(1, 224, 224)).astype(np.float32)
    model = ModuleClassifier(SmallNet(1, 1, 6).eval(), (1, 224, 224))
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            with Session(model, input_of(values), "pneumonia", Run()) as session:
                found.append(baseline(session, kind, 12.0))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_a_mask_found_by_descent_does_not_depend_on_the_number_of_threads() -> None:
    """Scores of one and of two threads differ in the last digit; after 150 steps of Adam the masks differed by nine tenths."""
    found = []
    before = torch.get_num_threads()
    method = registry.create("meaningful-perturbation", iterations=20)
    try:
        for threads in (1, 2):
            policy = DevicePolicy("cpu", "fp32", threads)
            model = bundle.load(bundle.find(None), policy)
            item = image(model.info.input_shape[0], side=model.info.input_shape[1], padding=20)
            torch.set_num_threads(threads)
            found.append(method.explain(model, item, "pneumonia", Run(3)).values)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert found[0].std() > 0.01
    assert np.array_equal(*found)
