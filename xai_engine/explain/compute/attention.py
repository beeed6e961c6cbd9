"""Attention rollout and gradient-weighted relevance, for transformers whose tokens are patches of the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional as F

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.compute import alignment
from xai_engine.explain.methods.attention import AttentionRelevance, AttentionRollout
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.session import Attribution, Session

FloatArray = npt.NDArray[np.float64]
WINDOWED = ("ShiftedWindowAttention", "ShiftedWindowAttentionV2", "WindowAttention")
BLOCK = "SABlock"  # MONAI's


@contextmanager
def recorded(session: Session) -> Iterator[list[torch.Tensor]]:
    """Record the attention (1, heads, tokens, tokens) of every layer, in the order of the pass, as parts of the graph.

    torch's MultiheadAttention computes in a fused kernel that keeps no weights: its output is computed again, plainly, from
    its own parameters, and takes the place of the fused one. MONAI's block shows its weights to its dropout layer. Nothing
    of the network is changed but hooks, which go at the end. Raises UnsupportedModel, which names the layer.
    """
    taken: list[torch.Tensor] = []
    layers = attending(session.classifier)
    reached: set[str] = set()
    with ExitStack() as stack:
        for name, module in layers:
            if isinstance(module, nn.MultiheadAttention):

                def again(
                    module: nn.MultiheadAttention, args: Any, kwargs: Any, output: Any, name: str = name
                ) -> Any:
                    reached.add(name)
                    value, weights = _plain(name, module, args, kwargs)
                    taken.append(weights)
                    return (value, *output[1:])

                stack.callback(module.register_forward_hook(again, with_kwargs=True).remove)
            else:

                def keep(module: nn.Module, args: Any, output: torch.Tensor, name: str = name) -> None:
                    reached.add(name)
                    taken.append(output)

                stack.callback(module.drop_weights.register_forward_hook(keep).remove)  # type: ignore[union-attr]
        yield taken
    for name, _ in layers:
        if name not in reached and not session.partial:
            raise UnsupportedModel(
                f"layer {name!r}: its attention weights were not to be had (fused, or the layer is not used); "
                f"build the network without fused attention"
            )


def attending(classifier: Explainable) -> list[tuple[str, nn.Module]]:
    """The layers of self-attention, by name. Raises UnsupportedModel where there are none that can be multiplied through."""
    found: list[tuple[str, nn.Module]] = []
    for name, module in classifier.network.named_modules():
        kind = type(module).__name__
        if kind in WINDOWED:
            raise UnsupportedModel(
                f"layer {name!r}: {kind} attends within windows that move and merge; attention cannot be multiplied "
                f"through them, choose another method"
            )
        if isinstance(module, nn.MultiheadAttention) or (kind == BLOCK and hasattr(module, "drop_weights")):
            found.append((name, module))
    if not found:
        first = next(
            (n for n, m in classifier.network.named_modules() if n and not any(True for _ in m.children())),
            "",
        )
        last = classifier.info.default_layer or first
        raise UnsupportedModel(
            f"layer {last!r}: no self-attention here or anywhere in {classifier.info.architecture}; "
            f"attention methods need a transformer"
        )
    return found


def _plain(
    name: str, module: nn.MultiheadAttention, args: Any, kwargs: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What MultiheadAttention puts out (Vaswani et al. 2017, section 3.2) and its weights (n, heads, tokens, tokens)."""
    given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
    query, key, value = given["query"], given["key"], given["value"]
    masked = given.get("attn_mask") is not None or given.get("key_padding_mask") is not None
    if query is not key or key is not value or module.in_proj_weight is None or query.ndim != 3:
        raise UnsupportedModel(f"layer {name!r}: no plain self-attention; choose another method")
    if masked or module.bias_k is not None or module.add_zero_attn:
        raise UnsupportedModel(f"layer {name!r}: masked or extended attention; choose another method")
    x = query if module.batch_first else query.transpose(0, 1)
    n, tokens, width = x.shape
    heads = module.num_heads
    q, k, v = (
        part.view(n, tokens, heads, width // heads).transpose(1, 2)
        for part in F.linear(x, module.in_proj_weight, module.in_proj_bias).chunk(3, dim=-1)
    )
    weights = torch.softmax(q @ k.transpose(-2, -1) / (width // heads) ** 0.5, dim=-1)
    joined = (weights @ v).transpose(1, 2).reshape(n, tokens, width)
    out = F.linear(joined, module.out_proj.weight, module.out_proj.bias)
    return out if module.batch_first else out.transpose(0, 1), weights


def grid(tokens: int, image: tuple[int, int]) -> tuple[int, int, int] | None:
    """(tokens before the patches, rows, columns) of square patches over the image; None where nothing fits.

    One token before the patches is the class token.
    """
    for before in (1, 0):
        patches = tokens - before
        rows = round((patches * image[0] / image[1]) ** 0.5)
        if rows > 0 and patches > 0 and patches % rows == 0:
            columns = patches // rows
            if abs(image[0] / rows - image[1] / columns) < 1e-6 * image[0]:
                return before, rows, columns
    return None


def _read(session: Session, flow: FloatArray) -> FloatArray:
    """The patches' part (rows, columns) of what the answer is read from: the class token, else the mean of all tokens."""
    image = (int(session.x.shape[2]), int(session.x.shape[3]))
    found = grid(len(flow), image)
    if found is None:
        name = attending(session.classifier)[0][0]
        raise UnsupportedModel(
            f"layer {name!r}: its {len(flow)} tokens are no grid of square patches over {image[0]} × {image[1]} pixels"
        )
    before, rows, columns = found
    row = flow[0] if before else flow.mean(0)
    return row[before:].reshape(rows, columns)


def _result(session: Session, cells: FloatArray, layers: int) -> Attribution:
    image = (int(session.x.shape[2]), int(session.x.shape[3]))
    values = alignment.to_image(cells, image, alignment.cells(image, (cells.shape[0], cells.shape[1])))
    extra = {
        "patch_rows": float(cells.shape[0]),
        "patch_columns": float(cells.shape[1]),
        "layers": float(layers),
    }
    return Attribution(np.where(session.input.valid, values, 0.0), extra=extra)


def _weights(session: Session, with_gradient: bool) -> tuple[list[FloatArray], list[FloatArray]]:
    """Attention (heads, tokens, tokens) of every layer and the score's gradient by it, in order."""
    session.plan(3 if with_gradient else 1, "attention")
    with recorded(session) as taken, torch.enable_grad():
        # with a gradient asked for, torch leaves its fused encoder layers, in which hooks are not called
        score = session.classifier.differentiable_scores(
            session.x.clone().requires_grad_(True), session.target
        )
        gradients = session.differentiate(score, taken) if with_gradient else ()
    session.count(1, int(with_gradient))
    shapes = {tuple(a.shape[-2:]) for a in taken}
    if len(shapes) != 1:
        name = attending(session.classifier)[0][0]
        raise UnsupportedModel(
            f"layer {name!r}: the number of tokens changes behind it; choose another method"
        )
    return tuple([t.detach()[0].double().cpu().numpy() for t in each] for each in (taken, gradients))  # type: ignore[return-value]


def rollout(method: AttentionRollout, session: Session) -> Attribution:
    """Product over the layers of (attention + identity) / 2, equation 1 of the paper."""
    weights, _ = _weights(session, with_gradient=False)
    heads: dict[str, Callable[[FloatArray], FloatArray]] = {
        "mean": lambda a: a.mean(0),
        "max": lambda a: a.max(0),
        "min": lambda a: a.min(0),
    }
    flow = np.eye(weights[0].shape[-1])
    for layer in weights:
        mixed = heads[method.heads](layer) + np.eye(len(flow))
        flow = mixed / mixed.sum(1, keepdims=True) @ flow
    cells = _read(session, flow)
    return _result(session, cells * cells.size, len(weights))


def relevance(method: AttentionRelevance, session: Session) -> Attribution:
    """R = R + mean over heads of max(gradient × attention, 0) R, from R = 1: equations 5 and 6 of the paper."""
    weights, gradients = _weights(session, with_gradient=True)
    flow = np.eye(weights[0].shape[-1])
    for layer, gradient in zip(weights, gradients, strict=True):
        flow = flow + np.maximum(layer * gradient, 0.0).mean(0) @ flow
    if grid(len(flow), (int(session.x.shape[2]), int(session.x.shape[3]))) is not None:
        flow = flow - np.eye(len(flow))  # what a token is to itself at the start is no attention
    return _result(session, _read(session, flow), len(weights))
