"""How much work lies between two looks for cancellation, and what happens when memory runs out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, classifier, image
from xai_engine.classifier.backends import base, choose
from xai_engine.errors import ModelError
from xai_engine.explain import registry
from xai_engine.explain import session as limits
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.explain.guard import is_work
from xai_engine.explain.session import Session
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run

LONG: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"steps": 64, "max_steps": 64},
    "lime": {"samples": 300, "segments": 12},
    "kernel-shap": {"samples": 300, "segments": 16},
    "rise": {"masks": 300},
    "occlusion": {"window": 6, "stride": 3},
    "score-cam": {},
    "ablation-cam": {},
    "smooth-grad": {},
    "gradient-shap": {},
}


class Clock:
    """A clock that only work moves: operations of every leaf module, in units of base.UNIT. As a cancel token it asks
    to stop after `limit` units and notes the longest stretch between two looks.
    """

    def __init__(self, limit: float = float("inf")) -> None:
        self.now, self.last, self.longest, self.limit = 0.0, 0.0, 0.0, limit

    def is_set(self) -> bool:
        self.longest = max(self.longest, self.now - self.last)
        self.last = self.now
        return self.now >= self.limit


class Heavy(nn.Module):
    """A network whose passes move the clock: cost of one image in UNITs, all in one module, so that hooks within a pass do
    not help: the batch alone must be small enough.
    """

    def __init__(self, clock: Clock, cost: float) -> None:
        super().__init__()
        self.clock, self.cost = clock, cost
        self.conv = nn.Conv2d(1, 24, 3, stride=4, padding=1)
        self.head = nn.Linear(24, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = torch.relu(self.conv(x))
        self.clock.now += self.cost * len(x)
        return self.head(features.mean((2, 3)))


def heavy(monkeypatch: pytest.MonkeyPatch, cost: float, limit: float = float("inf")) -> tuple[Any, Clock]:
    clock = Clock(limit)
    monkeypatch.setattr(base, "operations", lambda *_: cost * base.UNIT)
    return ModuleClassifier(Heavy(clock, cost), (1, SIDE, SIDE), default_layer="conv"), clock


@pytest.mark.parametrize("name", LONG)
@pytest.mark.parametrize("cost", [0.02, 0.24, 0.9])
def test_work_between_two_looks_is_bounded(name: str, cost: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward passes: at most one unit. Gradients: passes of at most two units, whose backward pass hooks divide."""
    model, clock = heavy(monkeypatch, cost)
    registry.create(name, **LONG[name]).explain(model, image(), "pneumonia", Run(cancel=clock))
    allowed = 2.0 if name in ("integrated-gradients", "smooth-grad", "gradient-shap") else 1.0
    assert clock.now > 0
    assert clock.longest <= allowed + 1e-9


def test_making_images_counts_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blur IG blurs three times per step, on the processor: between two looks lies one blur, not a batch of them."""
    from xai_engine.explain.compute import path

    model, clock = heavy(monkeypatch, 0.02)
    blurred, blurs = path.blurred, []

    def slow(*about: Any) -> torch.Tensor:
        blurs.append(about)
        clock.now += 0.5
        return blurred(*about)

    monkeypatch.setattr(path, "blurred", slow)
    method = registry.create("blur-ig", steps=16, max_steps=16)
    method.explain(model, image(), "pneumonia", Run(cancel=clock))
    assert len(blurs) > 40
    assert clock.longest <= 0.5 + 2 * 16 * 0.02 + 1e-9


@pytest.mark.parametrize("name", LONG)
def test_stops_within_a_unit_of_being_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, clock = heavy(monkeypatch, 0.24, limit=1.5)
    found = registry.create(name, **LONG[name]).explain(model, image(), "pneumonia", Run(cancel=clock))
    assert found.partial
    assert clock.now <= 1.5 + 2.0 + 1e-9
    assert "partial" in found.notes[-1]


def test_the_unit_is_counted_not_timed() -> None:
    """The same batch for the same network, whatever the machine does; a convolution by hand."""
    network = nn.Sequential(nn.Conv2d(2, 5, 3, padding=1, bias=False))
    assert base.operations(network, (2, 10, 12)) == 2 * 2 * 5 * 9 * 10 * 12
    assert base.unit_size(base.UNIT / 4.1, 32) == 4
    assert base.unit_size(base.UNIT / 40.0, 32) == 32
    assert base.unit_size(base.UNIT / 40.0, 7) == 7
    assert base.unit_size(3 * base.UNIT, 32) == 1
    assert base.unit_size(0.0, 32) == 32
    assert base.unit_size(float("nan"), 32) == 4


def test_the_shipped_model_is_scored_in_small_batches() -> None:
    from xai_engine.classifier import bundle

    model = bundle.load(bundle.find(None), DevicePolicy("cpu", "fp32", torch.get_num_threads()))
    cost = base.operations(model.network, model.info.input_shape)
    assert base.unit_size(cost, model.batch_size) * cost <= base.UNIT
    # twice the multiplications of EfficientNet-lite0, 407 million at 224 x 224 x 3 (Tan & Le; TensorFlow's lite page)
    assert cost == pytest.approx(2 * 0.4e9, rel=0.1)


# ---- memory -----------------------------------------------------------------------------------------------------------


class Small(nn.Module):
    """Raises what a full GPU raises, for more than `most` images, until it is moved to the processor."""

    def __init__(self, most: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.most, self.moved = most, False
        self.conv = nn.Conv2d(1, 4, 3, stride=2, padding=1)
        self.head = nn.Linear(4, 1)

    def to(self, *args: Any, **kwargs: Any) -> Small:
        self.moved = self.moved or args == ("cpu",)
        return super().to(*args, **kwargs)  # type: ignore[no-any-return]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if len(x) > self.most and not self.moved:
            raise torch.cuda.OutOfMemoryError("fake")
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


def crowded(most: int) -> ModuleClassifier:
    network = Small(most)
    model = ModuleClassifier(network, (1, SIDE, SIDE), default_layer="conv")
    network.moved = False  # the constructor places the network
    return model


@pytest.mark.parametrize("name", ["lime", "rise", "integrated-gradients"])
@pytest.mark.parametrize(
    ("most", "says"), [(5, "images at a time|gradients at a time"), (0, "on the processor")]
)
def test_out_of_memory_halves_then_moves_and_says_so(name: str, most: int, says: str) -> None:
    import re

    roomy, item = crowded(1000), image()
    expected = registry.create(name).explain(roomy, item, "pneumonia", Run(seed=3))
    model = crowded(most)
    found = registry.create(name).explain(model, item, "pneumonia", Run(seed=3))
    assert np.abs(found.values - expected.values).max() <= 1e-6 * max(1, np.abs(expected.values).max())
    assert any(re.search(says, note) for note in found.notes)
    assert not any(re.search(says, note) for note in expected.notes)
    again = registry.create(name).explain(model, item, "pneumonia", Run(seed=3))
    assert not model.notices or not any("processor" in note for note in again.notes)  # said once


def test_no_memory_anywhere_is_one_plain_error() -> None:
    class Full(Small):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.cuda.OutOfMemoryError("fake")

    model = ModuleClassifier(Full(0), (1, SIDE, SIDE), default_layer="conv")
    with pytest.raises(ModelError, match="does not fit into memory"):
        registry.create("lime").explain(model, image(), "pneumonia", Run())


# ---- backends ---------------------------------------------------------------------------------------------------------


def asked(kind: str, backend: str, precision: str = "fp32") -> ModuleClassifier:
    from tests.explain.networks import KINDS, network

    about = KINDS[kind]
    policy = DevicePolicy("cpu", precision, torch.get_num_threads(), backend)  # type: ignore[arg-type]
    return ModuleClassifier(
        network(kind), (about.channels, SIDE, SIDE), about.classes, about.layer, policy=policy
    )


@pytest.mark.parametrize(("backend", "needs"), [("openvino", ("openvino",)), ("onnx", ("onnxruntime", "onnx", "onnxscript"))])  # fmt: skip
@pytest.mark.parametrize("kind", ["densenet", "resnet-in-place", "lite"])
def test_a_compiled_backend_gives_torch_s_map(kind: str, backend: str, needs: tuple[str, ...]) -> None:
    for module in needs:
        pytest.importorskip(module, reason=f"{module} is not installed (extra {needs[0]})")
    about = {"samples": 240, "segments": 12, "replacement": "mean"}
    method = registry.create("lime", **about)
    expected = method.explain(classifier(kind), image(), "pneumonia", Run(seed=3))
    model = asked(kind, backend)
    found = method.explain(model, image(), "pneumonia", Run(seed=3))
    assert (found.backend, expected.backend) == (backend, "torch")
    assert np.abs(found.values - expected.values).max() < 1e-5
    again = method.explain(model, image(), "pneumonia", Run(seed=3))
    assert np.array_equal(found.values, again.values)
    with Session(model, image(), "pneumonia", Run()) as session:
        session.compile()
        batch = torch.randn(7, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
        at_once = session.scores(batch)
        one_by_one = np.concatenate([session.scores(b[None]) for b in batch])
        assert np.abs(at_once - one_by_one).max() < 1e-6


def test_a_compiled_copy_never_serves_changed_weights_or_watched_layers() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")
    model = asked("lite", "openvino")
    batch = torch.randn(3, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def both() -> tuple[np.ndarray, np.ndarray]:
        with Session(model, image(), "pneumonia", Run()) as session:
            session.compile()
            return session.scores(batch), model.scores(batch, "pneumonia", "fp32").double().numpy()

    first, _ = both()
    with torch.no_grad():
        model.network.fc.bias.add_(1.0)  # type: ignore[union-attr,operator]
    second, truth = both()
    assert np.allclose(second, truth, atol=1e-5)
    assert np.allclose(second, first + 1.0, atol=1e-5)
    with Session(model, image(), "pneumonia", Run()) as session:
        session.compile()
        seen: list[int] = []
        handle = model.network.fc.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[union-attr]
        session.scores(batch)
        handle.remove()
    assert seen


def test_auto_prefers_torch_where_nothing_is_installed_or_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier("lite").network
    shape = (1, SIDE, SIDE)

    class Wrong(base.AtOnce):
        name, precisions = "openvino", ("fp32",)

        def __init__(self, *_: Any) -> None: ...

        def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
            return torch.full((len(batch), 1), 0.5)

    class Missing(Wrong):
        def __init__(self, *_: Any) -> None:
            raise base.Unavailable("not installed")

    for kind, why in ((Wrong, "other scores"), (Missing, "not installed")):
        monkeypatch.setattr(choose, "KINDS", {"openvino": (kind,)})
        found = choose.prepare(network, shape, "auto", "fp32", 1)()
        assert found.backend is None
        assert why in found.why
        with pytest.raises(Exception, match=why):
            choose.prepare(network, shape, "openvino", "fp32", 1)()


def test_a_choice_is_kept_for_each_precision_until_a_weight_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = classifier("lite").network
    shape, made = (1, SIDE, SIDE), []

    class Counted(base.AtOnce):
        name, precisions = "openvino", ("fp32", "bf16")

        def __init__(self, copied: torch.nn.Module, *_: Any) -> None:
            self.network = copied
            made.append(1)

        def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
            with torch.inference_mode():
                return self.network(batch)

    monkeypatch.setattr(choose, "KINDS", {"openvino": (Counted,)})
    for precision in ("fp32", "bf16"):
        choose.prepare(network, shape, "openvino", precision, 1)()
    kept = [choose.known(network, "openvino", precision, 1) for precision in ("fp32", "bf16")]
    assert None not in kept
    assert len(made) == 2
    with torch.no_grad():
        next(network.parameters()).add_(0.5)
    assert choose.known(network, "openvino", "fp32", 1) is None
    choose.prepare(network, shape, "openvino", "fp32", 1)()
    assert choose.known(network, "openvino", "fp32", 1) is not None
    assert choose.known(network, "openvino", "bf16", 1) is None


def test_methods_that_look_into_the_network_run_in_torch_whatever_the_policy() -> None:
    pytest.importorskip("openvino", reason="openvino is not installed (extra openvino)")
    for name in ("grad-cam", "ablation-cam", "integrated-gradients"):
        method = registry.create(name)
        expected = method.explain(classifier("lite"), image(), "pneumonia", Run()).values
        assert np.array_equal(
            method.explain(asked("lite", "openvino"), image(), "pneumonia", Run()).values, expected
        )


def test_a_foreign_hook_is_seen_on_every_module_whether_or_not_a_session_looks_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(limits, "LOOKS", 4)
    model = classifier("densenet")
    with Session(model, image(), "pneumonia", Run()) as session:
        own = [m for m in model.network.modules() if m._forward_pre_hooks]
        assert 0 < len(own) < sum(is_work(m) for m in model.network.modules())  # it looks at some only
        assert not session.is_tapped()
        for module in model.network.modules():
            handle = module.register_forward_pre_hook(lambda m, args: None)
            assert session.is_tapped()
            handle.remove()
        assert not session.is_tapped()
