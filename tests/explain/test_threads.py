"""Baselines and maps are the same bits whatever the number of threads: much is made of a last digit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.explain.networks import image
from xai_engine.classifier import bundle
from xai_engine.classifier.network import SmallNet
from xai_engine.classifier.predict import Classifier
from xai_engine.classifier.types import ModelInput
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.session import Session
from xai_engine.radiograph import read
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run

SAMPLE = Path(__file__).parents[2] / "resources/samples/synthetic-consolidation.dcm"


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


# a sum over one pass, which is to cost no more than that pass: it has torch's threads
PLAIN_SUM = {"grad-cam"}
# hundreds of passes through the whole network: OpenVINO gives an image one thread, torch shares it among its threads
MANY_PASSES = {
    "lime",
    "kernel-shap",
    "rise",
    "occlusion",
    "score-cam",
    "anchors",
    "gradient-shap",
    "smooth-grad",
    "var-grad",
}
FEWER = {
    "meaningful-perturbation": {"iterations": 5}, "lime": {"samples": 60}, "kernel-shap": {"samples": 60},
    "rise": {"masks": 60}, "consensus": {"members": "grad-cam, lrp, input-x-gradient"}, "score-cam": {"channels": 8}, "guided-ig": {"steps": 20}, "deep-shap": {"baselines": 3},
}  # fmt: skip


@pytest.fixture(scope="module")
def shipped() -> list[tuple[int, Classifier, ModelInput]]:
    """The shipped model with one, two and three threads, and the sample study as it sees it."""
    out = []
    for threads in (1, 2, 3):
        model = bundle.load(bundle.find(None), DevicePolicy("cpu", "fp32", threads))
        out.append((threads, model, model.prepare(read.read(SAMPLE))))
    return out


@pytest.mark.parametrize("name", sorted(set(registry.names()) - {"attention-rollout", "attention-relevance"}))
def test_maps_do_not_depend_on_the_number_of_threads(
    name: str, shipped: list[tuple[int, Classifier, ModelInput]]
) -> None:
    """To the bit where few passes are made, to 1e-6 of the largest value elsewhere, 5e-6 where torch makes hundreds of them."""
    method = registry.create(name, **FEWER.get(name, {}))  # type: ignore[arg-type]
    found = []
    before = torch.get_num_threads()
    try:
        for threads, model, item in shipped:
            torch.set_num_threads(threads)
            found.append(method.explain(model, item, "pneumonia", Run(3)))
    finally:
        torch.set_num_threads(before)
    largest = float(np.abs(found[0].values).max())
    assert largest > 0
    apart = max(float(np.abs(other.values - found[0].values).max()) for other in found[1:]) / largest
    alike = 0.0 if name not in PLAIN_SUM | MANY_PASSES else 1e-6
    if name in MANY_PASSES and found[0].backend == "torch":
        alike = 5e-6
    assert apart <= alike
