"""One generated table: every registered method on every kind of network keeps the contract, or refuses by name."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests.explain.networks import KINDS, SIDE, classifier, image
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Progress, Run

SMALL = {
    "samples": 40, "masks": 40, "steps": 8, "max_steps": 32, "segments": 9, "window": 8, "stride": 6, "channels": 6, "cells": 4,
    "baselines": 3, "members": "input-x-gradient, grad-cam, smooth-grad",
}  # fmt: skip
FEW = 24  # of anything else that a method counts
GUIDED = {"guided-backprop", "guided-grad-cam"}
ATTENTION = {"vit", "swin", "monai-vit"}
PROBABILITIES = {"softmax-head", "sigmoid-head"}
NO_RECTIFIER = {"efficientnet"} | PROBABILITIES | ATTENTION
REFUSED = {
    **dict.fromkeys(GUIDED, NO_RECTIFIER),
    "lrp": PROBABILITIES | ATTENTION,
    "deep-lift": ATTENTION,
    "deep-shap": ATTENTION,
    # a rectifier, a flattened map, attention or a probability lies between the layer and the head: no average of its cells
    "cam": {"densenet", "torchvision-densenet", "functional-relu", "reused-relu", "vgg", "shipped"} | PROBABILITIES | ATTENTION,
}  # fmt: skip
# The cells of the big network take long: these methods run on it in every test run, the others in the slow part.
QUICK_ON_SHIPPED = {"saliency", "grad-cam", "lrp", "lime", "occlusion"}


def may_refuse(name: str, kind: str) -> bool | None:
    """True: must refuse; False: must work; None: may do either, as long as a refusal names the layer.

    Methods that read attention weights work on transformers only, and which of these they can read is theirs to say.
    """
    if name in REFUSED:
        return kind in REFUSED[name]
    if registry.method_class(name).family == "attention":
        return None if kind in ATTENTION else True
    return False


def small(name: str, **more: Any) -> registry.Method:
    """The method with few samples. A method that nobody has listed here gets at most FEW of what it counts."""
    params: dict[str, Any] = {}
    for p in registry.method_class(name).parameters():
        if p.name in SMALL:
            few = SMALL[p.name]
            params[p.name] = few if isinstance(few, str) else max(few, int(p.low or 0))
        elif p.type == "int" and p.default > FEW:
            params[p.name] = max(FEW, int(p.low or 0))
    return registry.create(name, **(params | more))


class StopAfter:
    """A cancel token that is set after so many looks at it."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def is_set(self) -> bool:
        self.left -= 1
        return self.left < 0


def hooks(network: torch.nn.Module) -> int:
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def torch_settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"),
        torch.get_float32_matmul_precision(), torch.is_anomaly_enabled(), torch.backends.mkldnn.enabled,
        torch.nn.Module.__call__, torch.nn.Module.__getattr__,
    )  # fmt: skip


@contextmanager
def left_as_found(network: torch.nn.Module) -> Iterator[None]:
    """Asserts what the contract promises about the network and the global random state."""
    weights = {k: v.clone() for k, v in network.state_dict().items()}
    strides = {k: v.stride() for k, v in network.state_dict().items()}
    modes = [m.training for m in network.modules()]
    flags = [p.requires_grad for p in network.parameters()]
    grads = [p.grad for p in network.parameters()]
    state = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    modules = [id(m) for m in network.modules()]
    settings = torch_settings()
    yield
    assert torch_settings() == settings
    assert hooks(network) == 0
    assert [id(m) for m in network.modules()] == modules
    assert [m.training for m in network.modules()] == modes
    assert [p.requires_grad for p in network.parameters()] == flags
    assert all(a is b for a, b in zip((p.grad for p in network.parameters()), grads, strict=True))
    for key, value in network.state_dict().items():
        assert torch.equal(value, weights[key]), key
        assert value.stride() == strides[key], key
    assert torch.equal(torch.get_rng_state(), state[0])
    assert np.array_equal(np.random.get_state()[1], state[1])  # noqa: NPY002
    assert random.getstate() == state[2]


def unsettle(network: torch.nn.Module) -> None:
    """A state that a careless method would change: some modules training, some weights with gradients."""
    first = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    first.training = True
    first.weight.requires_grad_(True)
    first.weight.grad = torch.ones_like(first.weight)


TABLE = [
    pytest.param(name, kind, marks=[pytest.mark.slow] if kind == "shipped" and name not in QUICK_ON_SHIPPED else [])
    for name in registry.names()
    for kind in KINDS
]  # fmt: skip


@pytest.fixture
def threads(kind: str) -> Iterator[None]:
    """One thread for the shipped network: at this table's 32 pixels its last stages have a single cell, and PyTorch's own
    backward pass of those differs from run to run in the last bit with two threads (from 48 pixels on it does not)."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if kind == "shipped" else before)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("name", "kind"), TABLE)
@pytest.mark.usefixtures("threads")
def test_contract(name: str, kind: str) -> None:
    about = KINDS[kind]
    model = classifier(kind)
    unsettle(model.network)
    item = image(about.channels)
    target = about.classes[-1]
    method = small(name)
    seen: list[Progress] = []
    with left_as_found(model.network):
        refusal = None
        try:
            first = method.explain(model, item, target, Run(seed=7, report=seen.append, min_interval_s=0.0))
        except UnsupportedModel as error:
            refusal = error
    if refusal is not None:
        assert may_refuse(name, kind) is not False, refusal
        assert re.search(r"layer '.+'", str(refusal)), refusal
        return
    assert may_refuse(name, kind) is not True, "gave a map of a network that it cannot explain"
    check(first, item.valid.shape)
    assert not first.partial
    assert first.forwards > 0
    assert seen[-1].fraction == 1.0
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    if registry.method_class(name).family != "activation":
        assert not first.values[~item.valid].any()

    again = method.explain(model, item, target, Run(seed=7))
    assert np.array_equal(first.values, again.values)

    others = method.explain(classifier(kind, batch_size=3), item, target, Run(seed=7))
    assert np.abs(others.values - first.values).max() <= allowed(name, first)
    assert others.forwards == first.forwards

    for looks in (0, 25):
        with left_as_found(model.network):
            cut = method.explain(model, item, target, Run(seed=7, cancel=StopAfter(looks)))
        check(cut, item.valid.shape)
        if cut.partial:
            assert not cut.converged
            assert "partial" in cut.notes[-1]
        else:
            assert np.array_equal(cut.values, first.values)
        assert cut.partial or looks


def allowed(name: str, explanation: Explanation) -> float:
    """How far batch sizes may part: 1e-6, as scores in float32 do.

    Occlusion is the difference of two such scores, so twice that. Consensus is made of ranks: two pixels of a member that
    are equal but for rounding may change places, which moves each by one rank of all.
    """
    if name == "consensus":
        return 2.0 / int(np.count_nonzero(explanation.values))
    scale = max(1.0, float(np.abs(explanation.values).max()))
    return (2e-6 if name == "occlusion" else 1e-6) * scale


def check(explanation: Explanation, shape: tuple[int, ...]) -> None:
    assert explanation.values.shape == shape
    assert explanation.values.dtype == np.float32
    assert np.isfinite(explanation.values).all()
    assert not explanation.values.flags.writeable
    assert explanation.precision == "fp32"
    assert explanation.seed == 7
    assert explanation.full_scale > 0
    assert all(isinstance(v, (int, float)) and np.isfinite(v) for v in explanation.extra.values())


@pytest.mark.parametrize("name", registry.names())
def test_left_as_found_when_the_network_fails(name: str) -> None:
    model = classifier("resnet-in-place")
    unsettle(model.network)
    fails = {"after": 1}

    class Broken(RuntimeError):
        pass

    forward = model.network.layer2.forward  # type: ignore[union-attr]

    def failing(x: torch.Tensor) -> torch.Tensor:
        fails["after"] -= 1
        if fails["after"] < 0:
            raise Broken
        return forward(x)  # type: ignore[operator]

    model.network.layer2.forward = failing  # type: ignore[union-attr,assignment]
    for after in (0, 1):
        fails["after"] = after
        with left_as_found(model.network):
            try:
                small(name).explain(model, image(), "pneumonia", Run(seed=7))
            except (Broken, UnsupportedModel):  # attention methods refuse this network
                continue
            assert fails["after"] >= 0  # methods of one pass do not reach the failure


@pytest.mark.parametrize("name", registry.names())
def test_opposite_target_gives_the_opposite_map(name: str) -> None:
    """With one logit, what speaks for pneumonia speaks against normal. Holds for methods linear in the score."""
    if may_refuse(name, "lite") is True:
        pytest.skip("refuses this network, see the table")
    model = classifier("lite")
    maps = [
        small(name).explain(model, image(), target, Run(seed=7)).values for target in ("normal", "pneumonia")
    ]
    linear = {
        "integrated-gradients", "gradient-shap", "blur-ig", "input-x-gradient", "smooth-grad",
        "lrp", "deep-lift", "deep-shap", "grad-cam", "cam", "ablation-cam", "activations", "lime", "kernel-shap", "occlusion", "rise",
        "consensus",
    }  # fmt: skip
    if name in linear:
        assert np.allclose(maps[0], -maps[1], rtol=0, atol=1e-6 * np.abs(maps[1]).max())
    elif name in {
        "saliency",
        "var-grad",
        "eigen-cam",
        "anchors",
    }:  # an anchor holds the answer, whatever its name
        assert np.allclose(maps[0], maps[1], rtol=0, atol=1e-6 * np.abs(maps[1]).max())
    else:
        assert not np.allclose(maps[0], maps[1])


@pytest.mark.parametrize("name", registry.names())
def test_image_without_valid_pixels_or_contrast(name: str) -> None:
    """Nothing to explain is no reason to fail."""
    kind = next((k for k in ("functional-relu", "resnet-in-place") if may_refuse(name, k) is False), "vit")
    channels = KINDS[kind].channels
    model = classifier(kind)
    for valid in (np.zeros((SIDE, SIDE), bool), np.ones((SIDE, SIDE), bool)):
        from xai_engine.explain.adapter import input_of

        item = input_of(np.zeros((channels, SIDE, SIDE), np.float32), valid)
        check(small(name).explain(model, item, "pneumonia", Run(seed=7)), item.valid.shape)


def test_progress_and_cancellation_reach_into_a_pass() -> None:
    """A batch of a large network takes seconds: the hooks on its modules must look for cancellation within it."""
    model = classifier("densenet")
    token = StopAfter(12)  # the first looks are before the pass, DenseNet has more than 12 leaf modules
    done = small("rise").explain(model, image(), "pneumonia", Run(seed=7, cancel=token))
    assert done.partial
    assert done.forwards == 0
    backward = small("saliency").explain(model, image(), "pneumonia", Run(seed=7, cancel=StopAfter(22)))
    assert backward.partial
    assert backward.forwards == 0


def test_layers_that_are_no_maps_are_refused_by_name() -> None:
    swin = classifier("swin")  # 8 x 8 cells of 12 channels
    with pytest.raises(UnsupportedModel, match=r"layer 'features\.1'"):  # rows, columns, channels
        small("grad-cam", layer="features.1").explain(swin, image(3), "pneumonia", Run())
    vit = classifier("vit")
    with pytest.raises(UnsupportedModel, match=r"layer 'encoder\.ln'"):  # tokens
        small("grad-cam", layer="encoder.ln").explain(vit, image(3), "pneumonia", Run())
    reused = classifier("reused-relu")
    with pytest.raises(UnsupportedModel, match=r"layer 'act'.*more than once"):
        small("grad-cam", layer="act").explain(reused, image(), "pneumonia", Run())
    unused = classifier("functional-relu")
    unused.network.add_module("spare", torch.nn.Conv2d(1, 1, 1))
    with pytest.raises(UnsupportedModel, match=r"layer 'spare'.*does not use it"):
        small("layer-cam", layer="spare").explain(unused, image(), "pneumonia", Run())


def test_score_without_gradient_is_refused() -> None:
    class Cut(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (self.conv(x) > 0).float().mean((2, 3))

    from xai_engine.explain.adapter import ModuleClassifier

    model = ModuleClassifier(Cut(), (1, SIDE, SIDE), default_layer="conv")
    for name in ("saliency", "integrated-gradients"):
        with pytest.raises(UnsupportedModel, match="Cut"):
            small(name).explain(model, image(), "pneumonia", Run())
    with pytest.raises(UnsupportedModel, match="layer 'conv'"):
        small("grad-cam").explain(model, image(), "pneumonia", Run())


@pytest.mark.parametrize("name", registry.names())
def test_thread_count_does_not_matter(name: str) -> None:
    kind = "resnet-in-place" if may_refuse(name, "resnet-in-place") is False else "vit"
    about = KINDS[kind]
    before = torch.get_num_threads()
    maps = []
    try:
        for threads in (1, 2):
            model = classifier(kind)
            torch.set_num_threads(threads)
            found = small(name).explain(model, image(about.channels), about.classes[-1], Run(seed=7))
            maps.append(found.values)
    finally:
        torch.set_num_threads(before)
    assert np.abs(maps[0] - maps[1]).max() <= 1e-6 * max(1.0, float(np.abs(maps[0]).max()))
