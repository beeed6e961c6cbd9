"""Class activation mapping, for networks whose score is a weighted sum of the averages of a layer's maps."""

from __future__ import annotations

import torch

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.compute.activation import _grad_cam, _Layer, _replaced
from xai_engine.explain.methods.cam import Cam
from xai_engine.explain.session import Attribution, Session

TOLERANCE = 1e-3  # of the largest score among those compared: fp32, with room for thousands of summands


def cam(method: Cam, session: Session) -> Attribution:
    """Cell score = weights · features + bias; the mean over the cells is the score (Zhou 2016, equations 1 and 2).

    Weights: the gradient summed over the cells; bias: the score of an empty layer. Both are exact where what follows
    the layer is an average and an affine map. That is tested on this image, not assumed: the gradient must be the same
    in every cell, and the scores of the layer at zero, at half and mirrored must follow. Raises UnsupportedModel else.
    """
    layer = _Layer(method, session, share=0.7)
    a = layer.activation.float()
    session.plan(4, "testing that the score is an average")
    trials = torch.stack([a, torch.zeros_like(a), a / 2, a.flip(1, 2)])
    scores: list[float] = []
    for part in trials.split(session.batch_size):
        with _replaced(session, layer.name, [part]):
            scores += session.scores(session.x.expand(len(part), -1, -1, -1)).tolist()
    whole, bias, half, mirrored = scores
    cells = _grad_cam(layer) + bias
    spread = float((layer.gradient - layer.gradient.mean((1, 2), keepdim=True)).abs().max())
    size = max(abs(whole), abs(bias), float(cells.abs().mean()), 1e-6)
    wrong = max(abs(float(cells.mean()) - whole), abs((whole + bias) / 2 - half), abs(whole - mirrored))
    if wrong > TOLERANCE * size or spread > TOLERANCE * max(float(layer.gradient.abs().max()), 1e-12):
        raise UnsupportedModel(
            f"layer {layer.name!r}: the score is no weighted average of its cells; use grad-cam, or a layer right "
            "before global average pooling and a linear head"
        )
    return layer.result(cells, mean_of_cells=float(cells.mean()), bias=bias)
