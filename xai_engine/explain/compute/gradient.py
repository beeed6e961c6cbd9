"""Gradients at the image or near it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.path import completeness_error
from xai_engine.explain.methods.gradient import GuidedBackprop, InputXGradient, Saliency, SmoothGrad, VarGrad
from xai_engine.explain.session import Attribution, Session


def saliency(method: Saliency, session: Session) -> Attribution:
    session.plan(3, "gradient")
    _, gradient = session.gradients(session.x)
    gradient = torch.where(session.valid, gradient, 0.0)[0]
    values = gradient.abs().amax(0) if method.magnitude else gradient.sum(0)
    return Attribution(values.cpu().numpy())


def input_x_gradient(method: InputXGradient, session: Session) -> Attribution:
    session.plan(4, "gradient")
    base = baseline(session, method.baseline, method.blur)
    scores, gradient = session.gradients(session.x)
    values = ((session.x - base).double() * gradient.double())[0].sum(0).cpu().numpy()
    change = float(scores[0]) - float(session.scores(base)[0])
    return Attribution(values, completeness_error(float(values.sum()), change), extra={"change": change})


def smooth_grad(method: SmoothGrad, session: Session) -> Attribution:
    change: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
        "signed": lambda g: g,
        "absolute": torch.abs,
        "squared": torch.square,
    }
    total, _, done = _noisy(session, method.samples, method.noise, change[method.average])
    values = (total / max(done, 1)).sum(0)
    return Attribution(values.cpu().numpy(), extra={"samples": float(done)})


def var_grad(method: VarGrad, session: Session) -> Attribution:
    """Unbiased variance over the samples, summed over the channels."""
    total, squares, done = _noisy(session, method.samples, method.noise, lambda g: g)
    values = (squares - total**2 / max(done, 1)).clamp_min(0.0) / max(done - 1, 1)
    return Attribution(values.sum(0).cpu().numpy(), extra={"samples": float(done)})


def _noisy(
    session: Session, samples: int, noise: float, change: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Sums over noisy copies of the changed gradient and of its square, (channels, rows, columns) float64;
    copies done.
    """
    x, valid = session.x, session.valid
    inside = x[..., valid] if bool(valid.any()) else x.flatten(2)
    sigma = float(inside.max() - inside.min()) * noise
    total = torch.zeros_like(x[0], dtype=torch.float64)
    squares = torch.zeros_like(total)
    done = 0
    session.plan(3 * samples, "noisy copies")
    with session.stoppable():
        session.quicken(samples)
        size = session.gradients_at_once
        for first in range(0, samples, size):
            count = min(size, samples - first)
            drawn = np.concatenate(
                [
                    session.run.rng(20, first + i).standard_normal(x.shape, dtype=np.float32)
                    for i in range(count)
                ]
            )
            batch = torch.where(valid, x + sigma * torch.from_numpy(drawn).to(x.device), x)
            _, gradients = session.gradients(batch)
            for gradient in torch.where(valid, gradients, 0.0).double():
                value = change(gradient)
                total += value
                squares += value**2
            done += count
    return total, squares, done


# ---- guided backpropagation ----------------------------------------------------------------------------------------


class _Guided(torch.autograd.Function):
    """min(relu(x), top) whose backward pass keeps positive gradients at active units only."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, top: float) -> torch.Tensor:
        ctx.save_for_backward((x > 0) & (x < top))
        return x.clamp(0.0, top)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        (active,) = ctx.saved_tensors
        return gradients[0].clamp_min(0.0) * active, None


_RELU = {F.relu, F.relu_, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_}
_IN_PLACE = {F.relu_, torch.relu_, torch.Tensor.relu_}
_OTHER = {
    F.silu: "SiLU", F.gelu: "GELU", F.sigmoid: "sigmoid", torch.sigmoid: "sigmoid", torch.Tensor.sigmoid: "sigmoid",
    F.tanh: "tanh", torch.tanh: "tanh", torch.Tensor.tanh: "tanh", F.elu: "ELU", F.selu: "SELU", F.celu: "CELU",
    F.leaky_relu: "leaky ReLU", F.prelu: "PReLU", torch.prelu: "PReLU", F.softplus: "softplus", F.mish: "Mish",
    F.hardswish: "hard swish", F.hardsigmoid: "hard sigmoid", F.rrelu: "RReLU", F.glu: "GLU",
    F.softmax: "softmax", torch.softmax: "softmax", torch.Tensor.softmax: "softmax", F.scaled_dot_product_attention: "attention",
}  # fmt: skip


class _GuidedMode(TorchFunctionMode):
    """Catches rectifiers wherever they are called: modules, reused modules, functions, methods, in place or not."""

    def __init__(self, where: Callable[[], str]) -> None:
        super().__init__()
        self.where = where
        self.found = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _OTHER:
            raise UnsupportedModel(
                f"layer {self.where()!r}: {_OTHER[func]} is no rectifier; guided backpropagation is "
                f"defined for ReLU only"
            )
        top = float("inf")
        if func in _RELU:
            x = args[0] if args else kwargs["input"]
            in_place = func in _IN_PLACE or bool(kwargs.get("inplace", args[1] if len(args) > 1 else False))
        elif func in (F.relu6, F.hardtanh, F.hardtanh_):
            x, in_place, top = self._bounded(func, args, kwargs)
        else:
            return func(*args, **kwargs)
        self.found += 1
        if in_place:
            return x.copy_(_Guided.apply(x.clone(), top))
        return _Guided.apply(x, top)

    def _bounded(self, func: Any, args: Any, kwargs: Any) -> tuple[torch.Tensor, bool, float]:
        x = args[0] if args else kwargs["input"]
        if func is F.relu6:
            return x, bool(kwargs.get("inplace", args[1] if len(args) > 1 else False)), 6.0
        low = kwargs.get("min_val", args[1] if len(args) > 1 else -1.0)
        high = kwargs.get("max_val", args[2] if len(args) > 2 else 1.0)
        if low != 0.0:
            raise UnsupportedModel(
                f"layer {self.where()!r}: hardtanh from {low} is no rectifier; guided backpropagation is "
                f"defined for ReLU only"
            )
        in_place = func is F.hardtanh_ or bool(kwargs.get("inplace", args[3] if len(args) > 3 else False))
        return x, in_place, float(high)


@contextmanager
def _current_layer(network: nn.Module) -> Iterator[Callable[[], str]]:
    """A function that tells the name of the module that runs."""
    running = ["network"]
    handles = []
    for name, module in network.named_modules():
        if name:
            handles.append(module.register_forward_pre_hook(lambda m, a, n=name: running.append(n)))
            handles.append(module.register_forward_hook(lambda m, a, o: running.pop() and None))
    try:
        yield lambda: running[-1]
    finally:
        for handle in handles:
            handle.remove()


def guided_gradient(session: Session) -> torch.Tensor:
    """(channels, rows, columns). Raises UnsupportedModel for a network with other activations than
    rectifiers, or none.
    """
    with _current_layer(session.network) as where, _GuidedMode(where) as mode:
        _, gradient = session.gradients(session.x)
    if not mode.found:
        raise UnsupportedModel(
            f"{session.classifier.info.architecture}: no ReLU found; guided backpropagation would be the "
            f"plain gradient"
        )
    return torch.where(session.valid, gradient, 0.0)[0]


def guided_backprop(method: GuidedBackprop, session: Session) -> Attribution:
    session.plan(3, "guided gradient")
    return Attribution(guided_gradient(session).sum(0).cpu().numpy())
