"""Class activation maps against captum, pytorch-grad-cam, closed forms, and where the lesion is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.explain.networks import KINDS, SIDE, SmallResNet, classifier, image, network
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import alignment
from xai_engine.runtime.run import Run

CNNS = (
    "densenet",
    "torchvision-densenet",
    "resnet-in-place",
    "functional-relu",
    "vgg",
    "efficientnet",
    "lite",
)


def found(name: str, kind: str, target: str = "pneumonia", **params: Any) -> np.ndarray:
    params.setdefault("alignment", "cells")
    item = image(KINDS[kind].channels, padding=0)
    return registry.create(name, **params).explain(classifier(kind), item, target, Run()).values


class OneScore(nn.Module):
    """The score that is explained, as a network of one output, so that other packages explain the same thing."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net = network(kind)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.net(x)
        return z if z.shape[1] == 1 else z[:, 1:2] - z[:, 0:1]


def up(cells: np.ndarray) -> np.ndarray:
    return F.interpolate(torch.from_numpy(cells)[None, None].double(), (SIDE, SIDE), mode="bilinear")[
        0, 0
    ].numpy()


def activations(kind: str) -> tuple[np.ndarray, np.ndarray, OneScore]:
    """The layer's output and the score's gradient there, by a plain hook on a network without operations in
    place behind it.
    """
    net = OneScore(kind)
    kept = {}

    def hook(m: nn.Module, a: Any, out: torch.Tensor) -> torch.Tensor:
        kept["a"] = out
        return out * 1.0

    handle = net.net.get_submodule(KINDS[kind].layer).register_forward_hook(hook)
    x = torch.from_numpy(image(KINDS[kind].channels, padding=0).array[None].copy())
    score = net(x)
    handle.remove()
    gradient = torch.autograd.grad(score.sum(), kept["a"])[0]
    return kept["a"][0].detach().double().numpy(), gradient[0].double().numpy(), net


@pytest.mark.parametrize("kind", CNNS)
def test_grad_cam_by_hand(kind: str) -> None:
    a, g, _ = activations(kind)
    expected = up(np.einsum("k,kij->ij", g.sum((1, 2)), a))
    assert np.allclose(found("grad-cam", kind), expected, atol=1e-5 * np.abs(expected).max())
    assert np.allclose(found("grad-cam", kind, "normal"), -expected, atol=1e-5 * np.abs(expected).max())
    clipped = up(np.maximum(np.einsum("k,kij->ij", g.sum((1, 2)), a), 0))
    assert np.allclose(found("grad-cam", kind, relu=True), clipped, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("kind", ["lite", "vgg", "efficientnet"])
def test_grad_cam_equals_captum(kind: str) -> None:
    captum = pytest.importorskip("captum.attr")
    net = OneScore(kind)
    x = torch.from_numpy(image(KINDS[kind].channels, padding=0).array[None].copy())
    layer = net.net.get_submodule(KINDS[kind].layer)
    if kind == "vgg":  # captum sees what the rectifier in place left behind: take the rectifier out of place
        net.net.features[4] = nn.ReLU()  # type: ignore[index,operator]
    cells = captum.LayerGradCam(net, layer).attribute(x, target=0)[0, 0].detach().numpy()
    expected = up(cells) * cells.size  # ours sums the gradient over the cells
    assert np.allclose(found("grad-cam", kind), expected, atol=1e-5 * np.abs(expected).max())


def test_grad_cam_is_not_inverted_as_monais() -> None:
    """MONAI's default normaliser turns the map upside down (Project-MONAI/tutorials#1796)."""
    visualize = pytest.importorskip("monai.visualize")
    net = OneScore("lite")
    nn.init.normal_(net.net.fc.weight, generator=torch.Generator().manual_seed(1))  # type: ignore[union-attr,arg-type]
    layer = "net." + KINDS["lite"].layer
    item = image(padding=0)
    x = torch.from_numpy(item.array[None].copy())
    default = visualize.GradCAM(net, layer)(x, class_idx=0)[0, 0]
    off = visualize.GradCAM(net, layer, postprocessing=lambda v: v)(x, class_idx=0)[0, 0].detach().numpy()
    model = ModuleClassifier(net, (1, SIDE, SIDE), default_layer=layer)
    method = registry.create("grad-cam", relu=True, alignment="cells")
    ours = method.explain(model, item, "pneumonia", Run()).values
    cells = 4
    assert off.max() > 0
    assert np.allclose(ours, off * cells, atol=1e-5 * np.abs(ours).max())
    assert np.corrcoef(np.asarray(default).ravel(), ours.ravel())[0, 1] < -0.99  # the defect itself


def test_cells_of_a_pooled_network_are_logits() -> None:
    """Behind global average pooling the cells' mean is the logit less the bias, and a cell is what its
    features alone give.
    """
    net = network("resnet-in-place")
    assert isinstance(net, SmallResNet)
    nn.init.constant_(net.head.bias, 0.7)
    item = image(padding=0)
    x = torch.from_numpy(item.array[None].copy())
    logit = float(net(x))
    features = net.layer2(net.layer1(net.stem(x)))
    cells = F.conv2d(features, net.head.weight[:, :, None, None])[0, 0].detach().numpy()
    model = ModuleClassifier(net, (1, SIDE, SIDE), default_layer="layer2")
    explanation = registry.create("grad-cam", alignment="cells").explain(model, item, "pneumonia", Run())
    assert explanation.extra["mean_of_cells"] == pytest.approx(logit - 0.7, abs=1e-5)
    assert float(explanation.values.mean()) == pytest.approx(logit - 0.7, abs=1e-4)
    assert np.allclose(explanation.values, up(cells), atol=1e-5 * np.abs(cells).max())


@pytest.mark.parametrize("kind", ["densenet", "resnet-in-place", "lite", "efficientnet"])
def test_family_equals_pytorch_grad_cam(kind: str) -> None:
    cam = pytest.importorskip("pytorch_grad_cam")
    targets = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    a, g, net = activations(kind)
    x = torch.from_numpy(image(KINDS[kind].channels, padding=0).array[None].copy())
    layer = net.net.get_submodule(KINDS[kind].layer)
    a32, g32 = a[None].astype(np.float32), g[None].astype(np.float32)
    cells = a[0].size
    for name, kind_of, factor in (
        ("grad-cam-plus-plus", cam.GradCAMPlusPlus, 1.0),
        ("layer-cam", cam.LayerCAM, float(cells)),
    ):
        with kind_of(net, [layer]) as theirs:
            raw = theirs.get_cam_image(x, layer, [targets.ClassifierOutputTarget(0)], a32, g32, False)[0]
        expected = up(np.maximum(raw, 0)) * factor
        ours = found(name, kind)
        # their epsilon of 1e-6 in Grad-CAM++ is not small beside g²
        assert (
            np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > (0.999 if name == "layer-cam" else 0.95)
            or np.abs(expected).max() < 1e-9
        ), name
        if name == "layer-cam":
            assert np.allclose(ours, expected, atol=1e-5 * np.abs(expected).max())
    raw = cam.EigenCAM(net, [layer]).get_cam_image(x, layer, [], a32, g32, False)[0]
    ours = found("eigen-cam", kind)  # the sign of a component is open: theirs is whatever the solver gives
    both = [np.abs(ours - up(np.maximum(sign * raw, 0))).max() for sign in (1, -1)]
    assert min(both) <= 1e-3 * np.abs(raw).max()


@pytest.mark.parametrize("kind", ["densenet", "functional-relu", "vgg"])
def test_grad_cam_plus_plus_by_hand(kind: str) -> None:
    a, g, _ = activations(kind)
    cam = np.zeros(a.shape[1:])
    for ak, gk in zip(a, g, strict=True):
        weight = 0.0
        for i in range(ak.shape[0]):
            for j in range(ak.shape[1]):
                below = 2 * gk[i, j] ** 2 + ak.sum() * gk[i, j] ** 3
                weight += (gk[i, j] ** 2 / below if below else 0.0) * max(gk[i, j], 0.0)
        cam += weight * ak
    expected = up(np.maximum(cam, 0))
    assert np.allclose(
        found("grad-cam-plus-plus", kind), expected, atol=1e-4 * max(np.abs(expected).max(), 1e-6)
    )


@pytest.mark.parametrize("kind", ["resnet-in-place", "lite"])
def test_ablation_cam_by_brute_force(kind: str) -> None:
    a, _, net = activations(kind)
    x = torch.from_numpy(image(padding=0).array[None].copy())
    layer = net.net.get_submodule(KINDS[kind].layer)
    whole = float(net(x))
    cam = np.zeros(a.shape[1:])
    for k in range(len(a)):

        def hook(m: nn.Module, args: Any, out: torch.Tensor, k: int = k) -> torch.Tensor:
            out = out.clone()
            out[:, k] = 0
            return out

        handle = layer.register_forward_hook(hook)
        cam += (whole - float(net(x))) * a[k]
        handle.remove()
    assert np.allclose(found("ablation-cam", kind), up(cam), atol=2e-5 * np.abs(cam).max() + 1e-5)


@pytest.mark.parametrize("kind", ["resnet-in-place", "lite"])
def test_score_cam_by_brute_force(kind: str) -> None:
    a, _, net = activations(kind)
    x = torch.from_numpy(image(padding=0).array[None].copy())
    scores, used = [], []
    for ak in a:
        if ak.max() > ak.min():
            mask = torch.from_numpy(up((ak - ak.min()) / (ak.max() - ak.min())))[None, None].float()
            scores.append(float(net(x * mask)))
            used.append(ak)
    weights = np.exp(np.array(scores) - max(scores))
    weights /= weights.sum()
    expected = up(np.maximum(np.einsum("k,kij->ij", weights, np.array(used)), 0))
    assert np.allclose(
        found("score-cam", kind, background="zero"), expected, atol=1e-4 * np.abs(expected).max()
    )


# ---- where the map lies --------------------------------------------------------------------------------------------


class Detector(nn.Module):
    """Bright spots found through five strided convolutions with symmetric padding, as in EfficientNet or ResNet."""

    def __init__(self, kernel: int = 3, levels: int = 4) -> None:
        super().__init__()
        convs = []
        for _ in range(levels):
            conv = nn.Conv2d(1, 1, kernel, 2, kernel // 2, bias=False)
            one = torch.from_numpy(np.hanning(kernel + 2)[1:-1]).float()
            conv.weight = nn.Parameter((one[:, None] * one)[None, None] / one.sum() ** 2 * 4)
            convs += [conv, nn.ReLU(inplace=True)]
        self.features = nn.Sequential(*convs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x).mean((2, 3))


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("centre", [(41, 70), (64, 64), (80, 40)])
def test_map_lies_on_the_lesion(centre: tuple[int, int], kernel: int) -> None:
    """The centroid of the map is the lesion's, to a pixel; laid cell by cell it is off by half a cell (7.5
    pixels).
    """
    side = 128
    rows, columns = np.mgrid[:side, :side]
    spot = np.exp(-((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (2 * 8.0**2)).astype(np.float32)
    model = ModuleClassifier(Detector(kernel), (1, side, side), default_layer="features.6")
    off = {}
    for how in ("receptive-field", "cells"):
        values = (
            registry.create("grad-cam", alignment=how)
            .explain(model, input_of(spot[None]), "pneumonia", Run())
            .values
        )
        mass = np.maximum(values, 0)
        off[how] = np.array(
            [(mass * rows).sum() / mass.sum() - centre[0], (mass * columns).sum() / mass.sum() - centre[1]]
        )
    assert np.abs(off["receptive-field"]).max() < 1.0
    assert np.allclose(off["cells"], 7.5, atol=1.0)


@pytest.mark.parametrize(
    "kind", ["densenet", "torchvision-densenet", "resnet-in-place", "vgg", "efficientnet", "lite"]
)
def test_lattice_is_where_the_gradient_comes_from(kind: str) -> None:
    """The centre of the receptive field, measured: in a copy with equal positive weights, a cell's gradient
    is centred on it.
    """
    net = network(kind)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1.0 / module.weight[0].numel())
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            nn.init.ones_(module.weight)
            nn.init.ones_(module.bias)
    for parent in list(net.modules()):  # maximum pooling would send the gradient to the first of equal values
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(parent, name, nn.AvgPool2d(child.kernel_size, child.stride, child.padding))
    side = 128
    if kind == "vgg":
        net.classifier = nn.Sequential(nn.AdaptiveAvgPool1d(2))  # any size
    x = torch.ones(1, KINDS[kind].channels, side, side).requires_grad_()
    kept = {}
    layer = net.get_submodule(KINDS[kind].layer)
    handle = layer.register_forward_hook(lambda m, a, out: kept.update(a=out.clone()) or out.clone())
    with alignment.traced(net, (side, side)) as trace:
        net(x)
    handle.remove()
    a = kept["a"]
    lattice = trace.lattice((side, side), (a.shape[2], a.shape[3]))
    assert lattice is not None
    row, column = a.shape[2] // 2, a.shape[3] // 2 - 1
    (gradient,) = torch.autograd.grad(a[0, :, row, column].sum(), x)
    mass = gradient[0].sum(0).abs().double().numpy()
    rows, columns = np.mgrid[:side, :side]
    measured = ((mass * rows).sum() / mass.sum(), (mass * columns).sum() / mass.sum())
    predicted = (lattice.first[0] + lattice.step[0] * row, lattice.first[1] + lattice.step[1] * column)
    if kind == "efficientnet":  # squeeze and excitation look everywhere
        assert np.allclose(measured, predicted, atol=2.0)
    else:
        assert np.allclose(measured, predicted, atol=0.05)


def test_resampling_equals_torch() -> None:
    cells = np.random.default_rng(0).normal(size=(5, 7))
    ours = alignment.to_image(cells, (40, 49), alignment.cells((40, 49), (5, 7)))
    theirs = F.interpolate(
        torch.from_numpy(cells)[None, None], (40, 49), mode="bilinear", align_corners=False
    )[0, 0].numpy()
    assert np.allclose(ours, theirs, atol=1e-12)
    assert (
        alignment.to_image(np.array([[3.0]]), (4, 4), alignment.cells((4, 4), (1, 1))).tolist()
        == [[3.0] * 4] * 4
    )
