"""Weights in bf16: what is known of a layer's inputs, and errors that cancel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import norm
from torch import fx, nn

from xai_engine.classifier.backends import rounding
from xai_engine.classifier.backends.base import folded
from xai_engine.classifier.backends.mixed import mixed
from xai_engine.classifier.backends.writer import Writer


@given(
    mean=st.floats(-8.0, 8.0),
    sd=st.floats(0.05, 5.0),
    limits=st.sampled_from([(0.0, float("inf")), (0.0, 6.0), (-1.0, 1.0)]),
)
@settings(max_examples=40, deadline=None)
def test_moments_behind_a_rectifier(mean: float, sd: float, limits: tuple[float, float]) -> None:
    def moment(power: int) -> float:
        def weighed(z: float) -> float:
            return float(np.clip(mean + sd * z, *limits) ** power * norm.pdf(z))

        kinks = sorted((limit - mean) / sd for limit in limits if np.isfinite(limit))
        kinks = [k for k in kinks if -12.0 < k < 12.0]
        return float(integrate.quad(weighed, -12.0, 12.0, points=kinks or None, limit=200)[0])

    found = rounding.clamped(np.array([mean]), np.array([sd**2]), *limits)
    assert found[0][0] == pytest.approx(moment(1), abs=1e-7)
    assert found[1][0] == pytest.approx(moment(2) - moment(1) ** 2, abs=1e-6)


class Small(nn.Module):
    """A sum, a rectifier with and without an upper end, groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU6())
        self.wide = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1, groups=24), nn.BatchNorm2d(24), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(24, 24, 1, bias=False), nn.BatchNorm2d(24))
        self.last = nn.Conv2d(24, 8, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        return self.last(y + self.back(self.wide(y)))


@pytest.fixture(scope="module")
def trained() -> tuple[Small, torch.Tensor]:
    """A network whose batch normalisation has seen these images."""
    torch.manual_seed(3)
    network = Small()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all
            module.weight.data.uniform_(0.5, 2.0)
            module.bias.data.normal_(0.5, 1.0)
    images = torch.randn(64, 2, 24, 24)
    with torch.no_grad():
        network.train()(images)
    return network.eval(), images


def test_inputs_are_those_that_the_network_met(trained: tuple[Small, torch.Tensor]) -> None:
    network, images = trained
    met: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, x, name=name: met.update({name: x[0]}))
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    with torch.no_grad():
        network(images)
    for handle in handles:
        handle.remove()
    known = rounding.inputs(fx.symbolic_trace(network))
    assert set(known) == {"wide.0", "back.0", "last"}  # of the image nothing is known
    for name, (mean, variance) in known.items():
        true = met[name].double()
        spread = float(true.std())
        # nine taps of a channel that is hardly ever on are not normal; what is added up hangs together, which moves its variance
        assert np.quantile(np.abs(mean - true.mean((0, 2, 3)).numpy()), 0.9) < 0.05 * spread, name
        if name != "last":
            assert np.median(np.abs(variance - true.var((0, 2, 3)).numpy())) < 0.05 * spread**2, name


@given(st.integers(0, 10_000), st.sampled_from([1, 4, 32]))
@settings(max_examples=25, deadline=None)
def test_the_mean_of_what_a_layer_puts_out_stays(seed: int, groups: int) -> None:
    """Weights stay near, and what comes out on average is off by less than one weight's error, not by the sum of all."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    module = nn.Conv2d(32, 32, 3, groups=groups)
    mean, variance = rng.uniform(0.2, 3.0, 32), rng.uniform(0.1, 2.0, 32)
    weight, bias = rounding.rounded(module, (mean, variance))
    for values in (weight, bias):
        kept = torch.from_numpy(values)
        assert torch.equal(kept.bfloat16().float(), kept)
    exact, old = module.weight.detach().double().numpy(), module.bias.detach().double().numpy()

    def off(w: np.ndarray, b: np.ndarray) -> np.ndarray:
        each = mean.reshape(groups, -1)[np.arange(32) // (32 // groups)]
        return ((w - exact).sum((2, 3)) * each).sum(1) + b - old

    found = off(weight, bias)
    nearest = off(
        module.weight.detach().bfloat16().double().numpy(), module.bias.detach().bfloat16().double().numpy()
    )
    largest = float(np.abs(exact).max()) * 2.0**-8 * float(mean.max())  # of one weight, to the next number
    assert np.abs(found).max() <= largest
    # nine weights of one channel have less room than those of all channels
    assert np.sqrt((found**2).mean()) < (0.8 if groups == 32 else 0.3) * np.sqrt((nearest**2).mean())
    assert np.abs(weight - exact).max() <= 4 * 2.0**-8 * float(np.abs(exact).max())


def test_bf16_scores_are_nearer_to_fp32(trained: tuple[Small, torch.Tensor]) -> None:
    openvino = pytest.importorskip("openvino")
    network, images = trained
    graph = folded(network)
    model = Writer(graph, (2, 24, 24)).model()
    constants = rounding.constants(graph)
    assert {name.rsplit(".")[-1] for name in constants} == {"weight", "bias"}

    def means(found: object) -> np.ndarray:
        compiled = openvino.Core().compile_model(found, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return np.asarray(compiled([images.numpy()])[0], np.float64).mean((2, 3))

    exact = means(model)
    plain, better = means(mixed(model, 0.0)), means(mixed(model, 0.0, constants))
    assert np.abs(better - exact).mean() < 0.7 * np.abs(plain - exact).mean()
    with torch.inference_mode():
        assert np.allclose(exact, network(images).double().mean((2, 3)).numpy(), atol=1e-4)
