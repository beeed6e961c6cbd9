"""Baselines are the same bits whatever the number of threads: reduced precision makes much of a last digit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from xai_engine.classifier.network import SmallNet
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.session import Session
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
