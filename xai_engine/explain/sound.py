"""Whether a network gives every image a score of its own: one that depends neither on chance nor on the images beside it.

Batch norm without running statistics, dropout that stays on, noise that is drawn in `forward`, a branch taken by the mean of
a batch, a counter: each makes another map of every batch size, or of every run, and no method could know. So an image is
scored by itself and in two other companies before the first map of a network, and whatever cannot be scored like this is
refused with the layer's name.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import torch
from torch import nn

from xai_engine.errors import RadiolucentError, UnsupportedModel
from xai_engine.explain.guard import modules, removed
from xai_engine.explain.progress import Interrupted

if TYPE_CHECKING:
    from xai_engine.explain.session import Session

APART = 0.01  # of how far scores of unlike images lie apart: more is no rounding
ROUNDING = 64  # units of the last digit, of the largest score
MOST = 256  # architectures remembered
_PLAIN = (bool, int, float, str, tuple, type(None))

_SOUND: WeakSet[nn.Module] = WeakSet()
# architectures: copies with other weights need no look of their own
_ALIKE: OrderedDict[Hashable, None] = OrderedDict()


def legible(session: Session) -> None:
    """Raises UnsupportedModel where nobody can look into the network, or stop it in the middle of a pass."""
    if session.network in _SOUND:
        return
    for name, module in session.network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise UnsupportedModel(
                f"layer {name or 'network'!r}: is compiled TorchScript, which cannot be looked into; use the network that it was "
                "made from"
            )


def check(session: Session) -> None:
    """Raises UnsupportedModel, naming a layer. Five images are scored, once per network; they are not counted."""
    network = session.network
    if network in _SOUND:
        return
    about = _architecture(session)
    if about not in _ALIKE:
        _look(session)
        _ALIKE[about] = None
        while len(_ALIKE) > MOST:
            _ALIKE.popitem(last=False)
    _SOUND.add(network)


def _architecture(session: Session) -> Hashable:
    """What a network is but for its weights: types of its modules and all that they are told."""
    found: list[Hashable] = [tuple(session.x.shape), session.x.device.type]
    for module in modules(session.network):
        told = [(key, value) for key, value in vars(module).items() if isinstance(value, _PLAIN)]
        found.append((type(module), tuple((k, v if _hashable(v) else repr(v)) for k, v in told)))
        found += [p.dtype for p in module._parameters.values() if p is not None]
    return tuple(found)


def _hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _look(session: Session) -> None:
    x = session.x
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x.device)
    other = 3.0 * noise + 2.0
    batches = [x, torch.cat([x, other]), torch.cat([x, -other])]
    try:
        alone, *beside = [_outputs(session, batch) for batch in batches]
    except torch.cuda.OutOfMemoryError:
        return  # whoever scores fewer at once may succeed
    together = torch.cat(beside)
    if not bool(torch.isfinite(alone).all()):
        return  # refused where it is used, with what it is used for
    together = together[torch.isfinite(together).all(1)]
    apart = max(float((found[:1] - alone).abs().nan_to_num(nan=float("inf")).max()) for found in beside)
    spread = float((together.amax(0) - together.amin(0)).max()) if len(together) else 0.0
    digit = max(
        (torch.finfo(p.dtype).eps for p in session.network.parameters() if p.is_floating_point()), default=0.0
    )
    digit = max(digit, torch.finfo(torch.float32).eps)
    if apart > APART * spread + ROUNDING * digit * float(alone.abs().max()):
        raise UnsupportedModel(f"layer {_first(session, batches)!r}: {_WHY}")


_WHY = (
    "what it gives for an image changes from pass to pass or with the images beside it (dropout that stays on? batch "
    "norm without running statistics?): no map of this network means anything"
)


def _outputs(session: Session, batch: torch.Tensor) -> torch.Tensor:
    """(n, outputs) float64. Raises UnsupportedModel where the network cannot be run, or gives something else."""
    at = ["network"]

    def noted(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            at[0] = name

        hook.is_look = True  # type: ignore[attr-defined]  # see guard.is_hooked
        return hook

    handles: list[Any] = []
    try:
        for name, module in session.network.named_modules():
            if name:
                handles.append(module.register_forward_pre_hook(noted(name)))
        with torch.no_grad():
            found = session.network(batch.clone(memory_format=torch.channels_last))
    except (RadiolucentError, Interrupted, torch.cuda.OutOfMemoryError):
        raise
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        what = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        shape = " x ".join(str(n) for n in batch.shape)
        raise UnsupportedModel(
            f"layer {at[0]!r}: cannot take images of {shape} float32 values ({what})"
        ) from error
    finally:
        removed(handles)
    if not isinstance(found, torch.Tensor) or found.ndim != 2 or len(found) != len(batch):
        what = f"{tuple(found.shape)}" if isinstance(found, torch.Tensor) else f"a {type(found).__name__}"
        raise UnsupportedModel(
            f"layer 'network' of {session.about}: gives {what} for {len(batch)} images instead of a row of scores for each; "
            "wrap it in one that does"
        )
    return found.double()


def _first(session: Session, batches: list[torch.Tensor]) -> str:
    """The first layer whose output for the first image differs between these batches."""
    found: list[dict[str, list[torch.Tensor]]] = []
    for batch in batches:
        seen: dict[str, list[torch.Tensor]] = {}

        def noted(
            name: str, seen: dict[str, list[torch.Tensor]] = seen, count: int = len(batch)
        ) -> Callable[..., None]:
            def hook(module: nn.Module, args: Any, output: Any) -> None:
                if isinstance(output, torch.Tensor) and output.ndim > 1 and len(output) == count:
                    seen.setdefault(name, []).append(output[0].double())

            return hook

        handles: list[Any] = []
        try:
            for name, module in session.network.named_modules():
                if name and next(module.children(), None) is None:
                    handles.append(module.register_forward_hook(noted(name)))
            _outputs(session, batch)
        finally:
            removed(handles)
        found.append(seen)
    alone, *beside = found
    for name, values in alone.items():
        for other in beside:
            for a, b in zip(values, other.get(name, []), strict=False):
                if a.shape == b.shape and float((a - b).abs().max()) > 0.1 * APART * float(a.abs().max()):
                    return name
    return "network"
