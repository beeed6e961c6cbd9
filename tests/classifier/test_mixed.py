"""OpenVINO's reduced precision: the first layers keep fp32, and are what it costs least to keep."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from xai_engine.classifier.backends.compiled import DEEP, OpenVino
from xai_engine.classifier.backends.mixed import FIRST, mixed
from xai_engine.classifier.network import EfficientNetLite0

openvino = pytest.importorskip("openvino")
SHAPE = (1, 96, 96)


@pytest.fixture(scope="module")
def copy() -> tuple[nn.Module, OpenVino]:
    torch.manual_seed(0)
    network = EfficientNetLite0().eval()
    for module in network.modules():  # statistics that are not those of a fresh network
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.8, 1.6)
            module.bias.data.normal_(0.0, 0.2)
    return network, OpenVino(network, SHAPE, 2)


def types(model: object) -> list[str]:
    """Of the convolutions, in their order."""
    return [
        node.get_output_element_type(0).get_type_name()
        for node in model.get_ordered_ops()  # type: ignore[attr-defined]
        if node.get_type_name() in ("Convolution", "GroupConvolution")
    ]


def test_only_the_entrance_keeps_fp32(copy: tuple[nn.Module, OpenVino]) -> None:
    network, backend = copy
    sizes: list[float] = []
    handles = [
        m.register_forward_hook(
            lambda m, _, y: sizes.append(y[0].numel() * m.weight[0].numel())  # multiplications of this layer
        )
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]
    with torch.inference_mode():
        network(torch.zeros(1, *SHAPE))
    for handle in handles:
        handle.remove()
    first = int(np.flatnonzero(np.cumsum(sizes) > FIRST * sum(sizes))[0])
    assert first == 3  # stem, depthwise, project
    found = mixed(backend._model)
    assert types(found) == ["f32"] * first + ["bf16"] * (len(sizes) - first)
    assert found.get_output_element_type(0).get_type_name() == "f32"  # type: ignore[union-attr]
    assert set(types(backend._model)) == {"f32"}  # the model itself is as it was


def test_it_is_nearer_to_fp32_than_all_in_bf16(copy: tuple[nn.Module, OpenVino]) -> None:
    network, backend = copy
    x = torch.randn(24, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = network(x).numpy()
    if "BF16" not in backend._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        pytest.skip("this processor has no bf16")
    compiled = backend._core.compile_model(backend._model, "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    plain = np.asarray(compiled(x.numpy())[0])
    spread = lambda y: float((y - exact).std())  # noqa: E731 - a difference that all have moves no map
    assert 0 < spread(backend.outputs(x, "bf16").numpy()) < 0.8 * spread(plain)
    assert np.allclose(backend.outputs(x, "fp32").numpy(), exact, atol=1e-4)


def test_a_network_that_cannot_be_divided_is_left_whole() -> None:
    network = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)
    ).eval()
    one = OpenVino(network, SHAPE, 1)
    assert mixed(one._model) is None
    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        assert np.allclose(one.outputs(x, "bf16").numpy(), network(x).numpy(), atol=0.05)


def test_weights_are_rounded_to_the_nearest(copy: tuple[nn.Module, OpenVino]) -> None:
    """Against torch's own rounding: OpenVINO, left to convert them, cuts off, and all weights become smaller."""
    before = {node.get_friendly_name(): node for node in copy[1]._model.get_ordered_ops()}
    checked = 0
    for node in mixed(copy[1]._model).get_ordered_ops():  # type: ignore[union-attr]
        if node.get_type_name() not in ("Convolution", "GroupConvolution"):
            continue
        convert = node.input_value(1).get_node()
        if convert.get_type_name() != "Convert":  # an fp32 layer, its weights as they are
            continue
        found = np.array(convert.input_value(0).get_node().data)
        weight = np.array(before[node.get_friendly_name()].input_value(1).get_node().data)
        assert np.array_equal(found, torch.from_numpy(weight).bfloat16().float().numpy())
        assert not np.array_equal(found, weight)
        checked += 1
    assert checked == 49 - 3


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_batches_under_way_together_give_what_they_give_alone(
    copy: tuple[nn.Module, OpenVino], precision: str
) -> None:
    backend = copy[1]
    batches = [torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(n)) for n in (4, 1, 3, 2, 5)]
    alone = [backend.outputs(b, precision) for b in batches]
    waiting, found = [], []
    for batch in batches:
        waiting.append(backend.start(batch, precision))
        if len(waiting) == DEEP:
            found.append(waiting.pop(0)())
    found += [w() for w in waiting]
    for one, other in zip(alone, found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("left", [1, 2, 3])
def test_what_nobody_waits_for_spoils_nothing(copy: tuple[nn.Module, OpenVino], left: int) -> None:
    backend = copy[1]
    x = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(1))
    expected = backend.outputs(x, "fp32")
    for n in range(left):
        backend.start(torch.full((4, *SHAPE), float(n)), "fp32")
    for _ in range(3):
        assert torch.equal(backend.outputs(x, "fp32"), expected)
