"""A layer's activation within a pass, as the methods that look into the network need it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.guard import lies_over

if TYPE_CHECKING:
    from xai_engine.explain.session import Session


def layer_name(session: Session, layer: str) -> str:
    """`layer`, or the model's default. Raises UnsupportedModel where there is none."""
    name = layer or session.classifier.info.default_layer
    if not name:
        raise UnsupportedModel(f"{session.about}: names no layer with a map over the image; choose one")
    return name


@contextmanager
def tap(session: Session, layer: str) -> Iterator[list[torch.Tensor]]:
    """Record the output of a layer as a leaf of the graph: the list holds it once a pass is done.

    The network goes on with a copy, so operations in place behind the layer do not change what is recorded, and
    nothing before the layer is kept for the backward pass.
    """
    name = layer_name(session, layer)
    taken: list[torch.Tensor] = []

    def hook(module: nn.Module, args: Any, output: Any) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or not lies_over(module, output, session.x):
            shape = tuple(output.shape) if isinstance(output, torch.Tensor) else type(output).__name__
            raise UnsupportedModel(
                f"layer {name!r}: its output is no map over the image ({shape}); choose another"
            )
        if taken:
            raise UnsupportedModel(f"layer {name!r}: used more than once in a pass; choose another")
        leaf = output.detach().float()
        if torch.is_grad_enabled():
            leaf.requires_grad_(True)
        taken.append(leaf)
        return leaf.clone()

    handle = session.classifier.layer(name).register_forward_hook(hook)
    try:
        yield taken
    finally:
        handle.remove()
