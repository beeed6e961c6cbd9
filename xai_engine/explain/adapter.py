"""Any torch network as a classifier, without a bundle: for scripts and for the tests over architectures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xai_engine.classifier.calibration import Platt
from xai_engine.classifier.predict import Classifier
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.classifier.types import ModelInfo, ModelInput
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.runtime.device import DevicePolicy


class ModuleClassifier(Classifier):
    """A network (n, channels, rows, columns) -> (n, outputs) with class names. One output needs two names.

    The network's modes and flags are set as `Classifier` sets them (eval, frozen). Images are given as
    arrays, see `input_of`.
    """

    def __init__(
        self,
        network: nn.Module,
        input_shape: tuple[int, int, int],
        classes: Sequence[str] = ("normal", "pneumonia"),
        default_layer: str = "",
        *,
        policy: DevicePolicy | None = None,
        batch_size: int = 32,
        map_scales: dict[str, float] | None = None,
    ) -> None:
        info = ModelInfo(
            name=type(network).__name__,
            version="0",
            sha256="",
            title=type(network).__name__,
            architecture=type(network).__name__,
            classes=tuple(classes),
            input_shape=input_shape,
            intended_use="",
            limitations=(),
            training_data=(),
            operating_points=(),
            metrics={},
            layers=tuple(n for n, m in network.named_modules() if isinstance(m, nn.Conv2d)),
            default_layer=default_layer,
            parameters=sum(p.numel() for p in network.parameters()),
            map_scales=map_scales or {},
        )
        policy = policy or DevicePolicy("cpu", "fp32", torch.get_num_threads())
        super().__init__(
            info=info,
            network=network,
            finder=None,
            gate_network=None,
            preprocessing=PreprocessSpec(size=input_shape[1]),
            calibration=Platt(1.0, 0.0),
            gate_limits={},
            policy=policy,
        )
        self.batch_size = batch_size


def input_of(array: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_] | None = None) -> ModelInput:
    """A network input (channels, rows, columns) whose grid is the source image itself."""
    shape = (int(array.shape[1]), int(array.shape[2]))
    inside = np.ones(shape, bool) if valid is None else valid
    transform = GridTransform(0.0, 0.0, 1.0, 1.0, shape, shape)
    return ModelInput(np.where(inside, array, 0).astype(np.float32), inside, transform, "")
