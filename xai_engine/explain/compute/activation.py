"""Class activation maps. Every map is made on the layer's cells and laid over the image by `alignment`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.classifier.backends.base import Unavailable, written
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import layers
from xai_engine.explain.behind import BROKEN
from xai_engine.explain.compute import alignment, cuts
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.gradient import guided_gradient
from xai_engine.explain.compute.receptive import AGREEMENT
from xai_engine.explain.methods.activation import (
    AblationCam,
    Activations,
    EigenCam,
    GradCam,
    GradCamPlusPlus,
    GuidedGradCam,
    LayerCam,
    ScoreCam,
    _Cam,
)
from xai_engine.explain.session import Attribution, Session

ALIGNED_BY_CELL = (
    "Laid over the image cell by cell: what the cells see could not be followed through this network."
)


class _Layer:
    """Activations (channels, rows, columns) of a layer, the gradient of the score there, and the way to the image.

    threads: of torch, for its pass; one, or what is made of the activations makes much of a last digit.
    """

    def __init__(
        self,
        method: _Cam,
        session: Session,
        with_gradient: bool = True,
        share: float = 1.0,
        threads: Callable[[Session], AbstractContextManager[None]] = Session.one_thread,
    ) -> None:
        self.session = session
        self.name = layers.layer_name(session, method.layer)
        session.plan(3 if with_gradient else 1, "features", share)
        self.gradient = torch.empty(0)
        image = (int(session.x.shape[2]), int(session.x.shape[3]))
        with threads(session):
            trace = self._pass(method, with_gradient, image)
        layer = (self.activation.shape[1], self.activation.shape[2])
        lattice = trace.lattice(image, layer) if method.alignment == "receptive-field" else None
        if lattice is None and method.alignment == "receptive-field":
            session.notes.append(ALIGNED_BY_CELL)
        self.image = image
        self.shown = session.input.valid
        self.lattice = lattice or alignment.cells(image, layer)

    def _pass(self, method: _Cam, with_gradient: bool, image: tuple[int, int]) -> alignment.Trace:
        session = self.session
        with layers.tap(session, method.layer) as taken, alignment.traced(session.network, image) as trace:
            if with_gradient:
                with torch.enable_grad():
                    score = session.classifier.differentiable_scores(session.x.clone(), session.target)
                leaf = self._reached(taken)
                try:
                    (gradient,) = session.differentiate(score, [leaf])
                except UnsupportedModel as error:
                    raise UnsupportedModel(f"layer {self.name!r}: no gradient reaches it ({error})") from None
                self.gradient = gradient[0].double()
                session.count(1, 1)
            else:
                session.scores(session.x)
                leaf = self._reached(taken)
        self.activation = leaf.detach()[0].double()
        self.cells = self.activation.shape[1] * self.activation.shape[2]
        return trace

    def _reached(self, taken: list[torch.Tensor]) -> torch.Tensor:
        if not taken:
            raise UnsupportedModel(f"layer {self.name!r}: the network does not use it; choose another")
        return taken[0]

    def behind(self, whole: float) -> Callable[[torch.Tensor], npt.NDArray[np.float64]]:
        """Scores (n,) of activations (n, channels, rows, columns) of the layer. whole: that of its own.

        By what lies behind the layer alone, where that can be cut off and gives the score; else by whole passes whose layer is replaced.
        """
        session = self.session

        def replaced(values: torch.Tensor) -> npt.NDArray[np.float64]:
            with _replaced(session, self.name, [values]):
                return session.scores(session.x.expand(len(values), -1, -1, -1))

        rest = None
        if session.x.device.type == "cpu" and not session.is_tapped():
            with suppress(Unavailable):
                rest = cuts.behind_layer(written(session.network, session.tick), self.name)
        if rest is None:
            return replaced

        def short(values: torch.Tensor) -> npt.NDArray[np.float64]:
            session.tick()
            with torch.inference_mode():
                found = session.classifier.score_of(rest(values).float(), session.target)
            return session.taken(lambda: found)

        try:
            again = float(short(self.activation.float()[None])[0])
        except (*BROKEN, UnsupportedModel):
            return replaced
        return short if abs(again - whole) <= AGREEMENT * (1.0 + abs(whole)) else replaced

    def to_image(self, cam: torch.Tensor) -> npt.NDArray[np.float64]:
        return alignment.to_image(cam.cpu().numpy().astype(np.float64), self.image, self.lattice)

    def result(self, cam: torch.Tensor, **extra: float) -> Attribution:
        """The map of `cam`, 0 where the network was not shown the image: cells there answer to padding, and a colour on
        the letters beside the chest would say that the network had read them."""
        extra = {"cells_rows": float(cam.shape[0]), "cells_columns": float(cam.shape[1]), **extra}
        return Attribution(np.where(self.shown, self.to_image(cam), 0.0), extra=extra)

    def strongest(self, count: int) -> list[int]:
        """Channels by mean |activation|, ties in their own order."""
        strength = self.activation.abs().mean((1, 2)).cpu().numpy()
        return [int(i) for i in np.argsort(-strength, kind="stable")[:count]]


def _grad_cam(layer: _Layer) -> torch.Tensor:
    """Sum over channels of (gradient summed over the cells) x activation.

    Summed, not averaged over cells: with global average pooling behind the layer, a cell's value is then
    what its features
    alone give as a logit, and the mean over the cells is the logit less the head's bias, however many cells
    there are.
    """
    return torch.einsum("k,kij->ij", layer.gradient.sum((1, 2)), layer.activation)


def grad_cam(method: GradCam, session: Session) -> Attribution:
    layer = _Layer(method, session, threads=Session.all_threads)  # a plain sum: a last digit stays one
    cam = _grad_cam(layer)
    mean = float(cam.mean())
    return layer.result(cam.clamp_min(0.0) if method.relu else cam, mean_of_cells=mean)


def grad_cam_plus_plus(method: GradCamPlusPlus, session: Session) -> Attribution:
    """Equation 19 of the paper for a score without exponential: alpha = g² / (2 g² + sum(A) g³)."""
    layer = _Layer(method, session)
    g, a = layer.gradient, layer.activation
    below = 2 * g**2 + a.sum((1, 2), keepdim=True) * g**3
    alpha = torch.where(below.abs() > 1e-30, g**2 / torch.where(below == 0, 1.0, below), 0.0)
    weights = (alpha * g.clamp_min(0.0)).sum((1, 2))
    return layer.result(torch.einsum("k,kij->ij", weights, a).clamp_min(0.0))


def layer_cam(method: LayerCam, session: Session) -> Attribution:
    layer = _Layer(method, session)
    cam = (layer.gradient.clamp_min(0.0) * layer.activation).sum(0) * layer.cells
    return layer.result(cam.clamp_min(0.0))


def eigen_cam(method: EigenCam, session: Session) -> Attribution:
    """First principal component over the cells; its sign, which the decomposition leaves open, follows the
    activity.
    """
    layer = _Layer(method, session, with_gradient=False)
    rows = layer.activation.flatten(1).T.cpu().numpy()
    centred = rows - rows.mean(0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    projection = centred @ axes[0]
    if projection @ centred.sum(1) < 0:
        projection = -projection
    cam = torch.from_numpy(projection.reshape(layer.activation.shape[1:]))
    return layer.result(cam.clamp_min(0.0))


def score_cam(method: ScoreCam, session: Session) -> Attribution:
    """Weights: softmax over the channels of the score of the image seen through the channel's map scaled to
    [0, 1].
    """
    layer = _Layer(method, session, with_gradient=False, share=0.02)
    behind = baseline(session, method.background, 1.0)
    front = session.x - behind
    used, masks = [], []
    for index in layer.strongest(method.channels):
        a = layer.activation[index]
        low, high = float(a.min()), float(a.max())
        if high > low:  # a flat map hides nothing or everything
            used.append(index)
            masks.append((a - low) / (high - low))
    if not used:
        return layer.result(torch.zeros(layer.activation.shape[1:], dtype=torch.float64), channels=0.0)
    scores: list[float] = []

    def make(start: int, stop: int) -> torch.Tensor:
        seen = np.stack([layer.to_image(m) for m in masks[start:stop]])[:, None]
        return behind + front * torch.from_numpy(seen).to(session.x)

    session.plan(len(used), "looking through channels")
    with session.stoppable():
        for _, _, values in session.scored(len(used), make):
            scores += values.tolist()
    done = used[: len(scores)]
    weights = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
    cam = torch.einsum("k,kij->ij", weights, layer.activation[done].cpu())
    return layer.result(cam.clamp_min(0.0), channels=float(len(done)))


@contextmanager
def _replaced(session: Session, layer: str, values: list[torch.Tensor]) -> Iterator[None]:
    """The layer puts out `values[0]` (n, channels, rows, columns) instead of its own."""

    def hook(module: Any, args: Any, output: torch.Tensor) -> torch.Tensor:
        return values[0].to(output)

    handle = session.classifier.layer(layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def ablation_cam(method: AblationCam, session: Session) -> Attribution:
    """Weights: the score less the score with the channel at zero (the paper divides all by the score: same
    map, no unit).
    """
    layer = _Layer(method, session, with_gradient=False, share=0.02)
    order = layer.strongest(method.channels)
    own = layer.activation.float()
    drops: list[float] = []
    session.plan(len(order) + 1, "switching channels off")
    with session.stoppable(), session.one_thread():
        whole = float(session.scores(session.x)[0])
        score = layer.behind(whole)
        for start in range(0, len(order), session.batch_size):
            part = order[start : start + session.batch_size]
            changed = own.repeat(len(part), 1, 1, 1)
            for row, index in enumerate(part):
                changed[row, index] = 0.0
            drops += (whole - score(changed)).tolist()
    weights = torch.tensor(drops, dtype=torch.float64, device=layer.activation.device)
    cam = torch.einsum("k,kij->ij", weights, layer.activation[order[: len(drops)]])
    return layer.result(cam, channels=float(len(drops)))


def activations(method: Activations, session: Session) -> Attribution:
    """Sum over the strongest channels of contribution × |activation| / mean |activation|.

    A channel's contribution is gradient × activation summed over its cells (to first order what is lost without it), so that
    the mean over the cells is the contribution of the channels shown.
    """
    layer = _Layer(method, session)
    contributions = (layer.gradient * layer.activation).sum((1, 2))
    order = np.argsort(-contributions.abs().cpu().numpy(), kind="stable")
    chosen = [int(k) for k in order[: 1 if method.show == "strongest" else method.channels]]
    size = layer.activation[chosen].abs()
    share = size / size.mean((1, 2), keepdim=True).clamp_min(1e-30)
    cam = torch.einsum("k,kij->ij", contributions[chosen], share)
    whole = float(contributions.abs().sum())
    shown = float(contributions[chosen].sum())
    part = float(contributions[chosen].abs().sum()) / whole if whole > 0 else 0.0
    return layer.result(
        cam,
        channels=float(len(chosen)),
        contribution=shown,
        share_of_contributions=part,
        strongest=float(order[0]),
    )


def guided_grad_cam(method: GuidedGradCam, session: Session) -> Attribution:
    layer = _Layer(method, session, share=0.5)
    zone = layer.to_image(_grad_cam(layer).clamp_min(0.0))
    session.plan(3, "guided gradient")
    lines = guided_gradient(session).sum(0).double().cpu().numpy()
    return Attribution(zone * lines)
