"""Tiny networks, one of each kind that explanations meet, with seeded random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from xai_engine.classifier.types import ModelInput
from xai_engine.explain.adapter import ModuleClassifier, input_of

SIDE = 32


class FunctionalRelu(nn.Module):
    """Rectifiers are functions, one of them in place."""

    def __init__(self, channels: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        x = F.relu(self.second(x), inplace=True)
        return self.head(x.mean((2, 3)))


class ReusedRelu(nn.Module):
    """One rectifier module for all places, under a name that does not say so."""

    def __init__(self, channels: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 8, 3, stride=2, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.act(self.second(self.act(self.first(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class Block(nn.Module):
    """ResNet's basic block with rectifiers in place."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.down = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.down(x)
        return self.relu(y)


class SmallResNet(nn.Module):
    def __init__(self, channels: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.layer1 = Block(6, 8, 1)
        self.layer2 = Block(8, 12, 2)
        self.head = nn.Linear(12, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))


class Spoilt(nn.Module):
    """The rectifier works in place, so that what is added to it is rectified, too: its graph does not say so."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.relu, self.head = nn.Conv2d(1, 4, 3), nn.ReLU(inplace=True), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.stem(x)
        z = self.relu(y)
        return self.head((z + y).mean((2, 3)))


class SmallVgg(nn.Module):
    """Max pooling and a head of two layers on the flattened map."""

    def __init__(self, channels: int = 1, outputs: int = 2) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 6, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Linear(8 * (SIDE // 4) ** 2, 16), nn.ReLU(True), nn.Dropout(), nn.Linear(16, outputs)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(torch.flatten(self.features(x), 1))


class SoftmaxHead(nn.Module):
    """Gives probabilities instead of logits."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.body = FunctionalRelu(channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.body(x), 1)


def _densenet() -> nn.Module:
    from monai.networks.nets import DenseNet

    return DenseNet(2, 1, 1, init_features=8, growth_rate=4, block_config=(2, 2), bn_size=2)


def _torchvision_densenet() -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(growth_rate=4, block_config=(2, 2), num_init_features=8, bn_size=2, num_classes=2)


def _efficientnet() -> nn.Module:
    """torchvision's own blocks (SiLU, squeeze and excitation, stochastic depth), few of them."""
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    blocks = [MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0), MBConvConfig(4, 3, 2, 8, 12, 2, 1.0, 1.0)]
    return EfficientNet(blocks, dropout=0.2, num_classes=2)


def _lite() -> nn.Module:
    from xai_engine.classifier.network import SmallNet

    return SmallNet(1, 1, 6)


def _vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=SIDE, patch_size=8, num_layers=2, num_heads=2, hidden_dim=24, mlp_dim=32, num_classes=2
    )


class MonaiVit(nn.Module):
    """MONAI's vision transformer, which hands its hidden states over beside the logits; they are dropped."""

    def __init__(self) -> None:
        super().__init__()
        from monai.networks.nets import ViT

        self.body = ViT(
            1, (SIDE, SIDE), (8, 8), hidden_size=24, mlp_dim=32, num_layers=2, num_heads=2, spatial_dims=2,
            classification=True, num_classes=2, post_activation="",
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)[0]


class SigmoidHead(nn.Module):
    """Gives one probability instead of a logit."""

    def __init__(self) -> None:
        super().__init__()
        self.body = SmallResNet(1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.body(x))


def _shipped() -> nn.Module:
    """The shipped network with its trained weights: the only large one here, its maps are what users see."""
    from xai_engine.classifier import bundle
    from xai_engine.runtime.device import DevicePolicy

    return bundle.load(bundle.find(None), DevicePolicy("cpu", "fp32", torch.get_num_threads())).network


def _swin() -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([4, 4], 12, depths=[1, 1], num_heads=[2, 2], window_size=[4, 4], num_classes=2)


@dataclass(frozen=True)
class Kind:
    make: Callable[[], nn.Module]
    layer: str
    channels: int = 1
    classes: tuple[str, ...] = ("normal", "pneumonia")


KINDS: dict[str, Kind] = {
    "densenet": Kind(_densenet, "features.norm5"),
    "torchvision-densenet": Kind(_torchvision_densenet, "features", 3),
    "resnet-in-place": Kind(SmallResNet, "layer2"),
    "resnet-three-channels": Kind(lambda: SmallResNet(3, 2), "layer2", 3),
    "functional-relu": Kind(FunctionalRelu, "second"),
    "reused-relu": Kind(ReusedRelu, "second"),
    "vgg": Kind(SmallVgg, "features.3"),
    "efficientnet": Kind(_efficientnet, "features.3", 3),
    "lite": Kind(_lite, "stages.3"),
    "softmax-head": Kind(SoftmaxHead, "body.second", 1, ("clear", "bacterial", "viral")),
    "vit": Kind(_vit, "conv_proj", 3),
    "swin": Kind(_swin, "features.0.0", 3),
    "monai-vit": Kind(MonaiVit, "body.patch_embedding.patch_embeddings"),
    "sigmoid-head": Kind(SigmoidHead, "body.layer2"),
    "shipped": Kind(_shipped, "stages.4"),
}


def network(kind: str, seed: int = 3) -> nn.Module:
    """Random but lively: batch norm statistics that are not trivial, logits that differ between images."""
    state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        net = KINDS[kind].make().eval()
        if kind == "shipped":
            return net
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.3, 1.0)
                nn.init.uniform_(module.weight, 0.7, 1.5)
                nn.init.uniform_(module.bias, -0.2, 0.3)
            elif isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight, a=1.0)
        last = [m for m in net.modules() if isinstance(m, nn.Linear)][-1]
        nn.init.zeros_(last.bias)
        with torch.no_grad():  # logits of the size that trained networks have
            x = torch.from_numpy(image(KINDS[kind].channels).array[None].copy())
            logits = net.body(x) if kind in ("softmax-head", "sigmoid-head") else net(x)
            last.weight /= logits.abs().max()
    finally:
        torch.set_rng_state(state)
    return net


def classifier(kind: str, seed: int = 3, batch_size: int = 32) -> ModuleClassifier:
    about = KINDS[kind]
    return ModuleClassifier(
        network(kind, seed), (about.channels, SIDE, SIDE), about.classes, about.layer, batch_size=batch_size
    )


def image(channels: int = 1, seed: int = 0, side: int = SIDE, padding: int = 4) -> ModelInput:
    """A smooth random image with a bright disc and `padding` columns at the right that are not valid."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:side, :side]
    disc = ((rows - side * 0.4) ** 2 + (columns - side * 0.35) ** 2 < (side / 6) ** 2).astype(float)
    waves = sum(
        np.sin(rows * rng.uniform(0.1, 0.6) + columns * rng.uniform(0.1, 0.6) + rng.uniform(0, 6))
        for _ in range(4)
    )
    plane = 0.4 * waves + 1.5 * disc + 0.1 * rng.standard_normal((side, side))
    valid = np.ones((side, side), bool)
    if padding:
        valid[:, -padding:] = False
    plane = (plane - plane[valid].mean()) / plane[valid].std()
    stack = np.stack([plane * (1 + 0.1 * k) for k in range(channels)])
    return input_of(stack.astype(np.float32), valid)
