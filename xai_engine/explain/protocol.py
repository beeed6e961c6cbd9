"""What a method needs of a classifier: `classifier.predict.Classifier` has it, so has `adapter.ModuleClassifier`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch
    from torch import nn

    from xai_engine.classifier.types import ModelInfo, ModelInput


class Explainable(Protocol):
    """A network with named classes.

    device: "cpu" or "cuda"; precision: "fp32" or "bf16", the most that forward passes may be reduced to;
    batch_size: images of one forward pass without gradients.
    """

    info: ModelInfo
    network: nn.Module
    batch_size: int

    @property
    def device(self) -> str: ...

    @property
    def precision(self) -> str: ...

    def tensor(self, model_input: ModelInput) -> torch.Tensor:
        """(1, channels, rows, columns) float32 on the device."""
        ...

    def scores(self, batch: torch.Tensor, target: str, precision: str | None = None) -> torch.Tensor:
        """(n,) float32 without gradients, in `precision`, or in the classifier's own."""
        ...

    def differentiable_scores(self, batch: torch.Tensor, target: str) -> torch.Tensor:
        """(n,) float32 with a graph, fp32."""
        ...

    def target_index(self, target: str) -> int: ...

    def score_of(self, outputs: torch.Tensor, target: str) -> torch.Tensor:
        """(n, outputs of the head) -> (n,)."""
        ...

    def layer(self, name: str) -> nn.Module: ...
