"""Which backend runs this network on this machine: asked for by name, or measured."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import fx, nn

from xai_engine.classifier.backends.base import Backend, Unavailable, clean_copy, fingerprint, written
from xai_engine.classifier.backends.compiled import OnnxRuntime, OpenVino
from xai_engine.errors import UsageError

TOLERANCE = 1e-4  # of 1 + |output|: largest difference to torch in fp32 on the probe
SMALL = 1e-3  # the same of the largest output
FASTER = 1.2  # times faster than torch, or the compiled copy is not worth its second truth
PROBE = 4  # images

_Shape = tuple[int, int, int]
_Kind = Callable[[nn.Module, fx.GraphModule | None, _Shape, int, bool], Backend]
# by name, in the order in which they are tried: an operation in place can make a network another one than its graph, so where that
# gives other scores the network itself is converted
KINDS: dict[str, tuple[_Kind, ...]] = {
    "openvino": (
        lambda network, graph, shape, threads, entrance: OpenVino(network, shape, threads, graph, entrance),
        lambda network, graph, shape, threads, entrance: OpenVino(network, shape, threads, None, entrance),
    ),
    "onnx": (lambda network, graph, shape, threads, entrance: OnnxRuntime(network, shape, threads),),
}
_Wanted = tuple[str, str, int]


@dataclass(slots=True)
class Choice:
    """backend: None for torch itself. why: a sentence. milliseconds: per image on the probe, by backend."""

    backend: Backend | None
    why: str
    milliseconds: dict[str, float] = field(default_factory=dict)


# by network: the fingerprint of its weights, and the choice made for each (backend wanted, precision, threads). One network
# is asked for in more than one precision (a check in fp32 beside bf16), and choosing again takes seconds.
_KEPT: WeakKeyDictionary[nn.Module, tuple[tuple[float, ...], dict[_Wanted, Choice]]] = WeakKeyDictionary()


def known(network: nn.Module, wanted: str, precision: str, threads: int) -> Choice | None:
    """The choice made before for this network with these weights."""
    weights, choices = _KEPT.get(network, ((), {}))
    return choices.get((wanted, precision, threads)) if weights == fingerprint(network) else None


def prepare(
    network: nn.Module,
    shape: _Shape,
    wanted: str,
    precision: str,
    threads: int,
    entrance: bool = True,
    tick: Callable[[], object] = lambda: None,
) -> Callable[[], Choice]:
    """Copy the network now and write it down; the returned function compiles, verifies and times, and may run in another thread.

    entrance: whether what the network is given is an image, or what another's first layers made of one. tick: called between
    what cannot be left to another thread.
    wanted: "openvino" or "onnx" by name (UsageError where it cannot be had), "auto" for the first that is installed, gives what
    torch gives and is clearly faster.
    """
    copied, weights = clean_copy(network), fingerprint(network)
    graph: fx.GraphModule | None = None
    with suppress(Unavailable):
        graph = written(network, tick)

    def work() -> Choice:
        choice = _choose(copied, graph, shape, wanted, precision, threads, entrance)
        of, choices = _KEPT.get(network, ((), {}))
        others = choices if of == weights else {}  # weights that changed: nothing of before holds
        _KEPT[network] = (weights, {**others, (wanted, precision, threads): choice})
        return choice

    return work


def _choose(
    network: nn.Module,
    graph: fx.GraphModule | None,
    shape: _Shape,
    wanted: str,
    precision: str,
    threads: int,
    entrance: bool,
) -> Choice:
    probe = torch.randn(PROBE, *shape, generator=torch.Generator().manual_seed(0))
    plain = network.to(memory_format=torch.channels_last)

    def torch_outputs() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            return plain(probe.contiguous(memory_format=torch.channels_last)).float()

    with torch.inference_mode():
        truth = plain(probe.clone()).float()  # a network may work on its input in place
    times: dict[str, float] = {}
    reasons: list[str] = []
    best: Backend | None = None
    for name, kinds in KINDS.items():
        if wanted not in ("auto", name):
            continue
        found, why = _verified(name, kinds, (network, graph, shape, threads, entrance), probe, truth)
        if found is None:
            reasons.append(why)
            continue
        backend = found
        if wanted == name:
            return Choice(backend, f"{name}, as asked for")
        reduced = precision if precision in backend.precisions else "fp32"
        times[name] = _milliseconds(lambda b=backend, p=reduced: b.outputs(probe, p))  # type: ignore[misc]
        best = backend
        break  # converting for the next costs seconds, and could change the winner from run to run
    if wanted != "auto":
        raise UsageError(f"backend {wanted}: {'; '.join(reasons)}")
    if best is None:
        return Choice(None, "; ".join(reasons) or "torch")
    times["torch"] = _milliseconds(torch_outputs)
    ratio = times["torch"] / times[best.name]
    if ratio < FASTER:
        return Choice(None, f"torch: {best.name} is not clearly faster here ({ratio:.1f} times)", times)
    return Choice(best, f"{best.name}: {ratio:.1f} times as fast as torch here", times)


def _verified(
    name: str, kinds: tuple[_Kind, ...], about: tuple[Any, ...], probe: torch.Tensor, truth: torch.Tensor
) -> tuple[Backend | None, str]:
    """The first that gives what torch gives; else why the last does not."""
    why = ""
    for kind in kinds:
        try:
            backend = kind(*about)
            found = backend.outputs(probe, "fp32")
        except Unavailable as error:
            why = str(error)
            continue
        except Exception as error:  # a compiled copy that fails is one we do not use
            why = f"{name} fails on this network ({type(error).__name__})"
            continue
        apart = (found - truth).abs()
        off = float((apart / (1.0 + truth.abs())).max())
        # small outputs, as probabilities near nought, are close to anything small
        if off <= TOLERANCE and float(apart.max()) <= SMALL * float(truth.abs().max()):
            return backend, ""
        why = f"{name} gives other scores than torch (by {off:.2g})"
    return None, why


def _milliseconds(work: Callable[[], torch.Tensor]) -> float:
    """The fastest of four calls after one uncounted, per image: what else the machine does only makes calls longer."""
    work()
    spent = []
    for _ in range(4):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return 1000.0 * min(spent) / PROBE
