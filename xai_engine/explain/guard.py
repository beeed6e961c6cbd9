"""A network left as it was found: modes, frozen weights, hooks, random state; and what its modules are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

_NO_WORK = (nn.Identity, nn.Dropout, nn.Flatten, nn.BatchNorm2d, nn.ReLU, nn.Hardtanh)


@contextmanager
def as_found(network: nn.Module) -> Iterator[list[nn.Module]]:
    """Eval mode and frozen weights inside; modes, `requires_grad` and `.grad` as before at the end. Gives the modules."""
    found = modules(network)
    modes = [(module, module.training) for module in found]
    parameters = {id(p): p for module in found for p in module._parameters.values() if p is not None}
    flags = [(p, p.requires_grad, p.grad) for p in parameters.values()]
    try:
        if any(training for _, training in modes):
            network.eval()
        for p, wanted, _ in flags:
            if wanted:
                p.requires_grad_(False)
        yield found
    finally:
        # only what differs: a module's attributes are slow to set, and this runs around every explanation
        for module, training in modes:
            if module.training is not training:
                module.training = training
        for p, wanted, gradient in flags:
            if p.requires_grad is not wanted:
                p.requires_grad_(wanted)
            if p.grad is not gradient:
                p.grad = gradient


def removed(handles: list[RemovableHandle]) -> None:
    for handle in handles:
        handle.remove()


def modules(network: nn.Module) -> list[nn.Module]:
    """`network.modules()`, each once, without its generators within generators: several of these in every explanation
    took as long as a tenth of a forward pass."""
    found: dict[int, nn.Module] = {}
    waiting = [network]
    while waiting:
        module = waiting.pop()
        if id(module) not in found:
            found[id(module)] = module
            if module._modules:
                waiting += [m for m in module._modules.values() if m is not None]
    return list(found.values())


def is_work(module: nn.Module) -> bool:
    """Whether hooks look for cancellation here: at modules without parts, but for those that take no time of their own."""
    if module._modules and any(m is not None for m in module._modules.values()):
        return False
    return not isinstance(module, _NO_WORK)


def is_hooked(module: nn.Module) -> bool:
    """Whether somebody else than a session, whose hooks only look for cancellation, looks into this one or may change what it
    puts out.
    """
    if module._forward_hooks:
        return True
    return any(not getattr(hook, "is_look", False) for hook in module._forward_pre_hooks.values())


def any_hooked(found: list[nn.Module]) -> bool:
    """`is_hooked` of any; asked before every pass, so those without hooks, nearly all, cost one look each."""
    return any(is_hooked(m) for m in found if m._forward_hooks or m._forward_pre_hooks)


def lies_over(module: nn.Module, output: torch.Tensor, image: torch.Tensor) -> bool:
    """Whether (n, channels, rows, columns) is a coarser grid over the image: four axes, about the same proportions.

    Proportions tell it from (n, rows, columns, channels), the layout of Swin's blocks. Where both readings
    fit, a module
    that holds parts working on the last axis is taken as the latter.
    """

    def fits(rows: int, columns: int) -> bool:
        return abs(rows * image.shape[3] / image.shape[2] - columns) <= max(1.5, 0.15 * columns)

    if output.ndim != 4 or min(output.shape) < 1 or not fits(output.shape[2], output.shape[3]):
        return False
    last_axis = any(type(m).__name__ in ("Linear", "LayerNorm", "Permute") for m in module.modules())
    return not (last_axis and fits(output.shape[1], output.shape[2]))


def own_torch_rng(device: torch.device) -> AbstractContextManager[None]:
    """A network that draws numbers draws from a copy of the global generator's state."""
    devices = [device] if device.type == "cuda" else []
    return torch.random.fork_rng(devices=devices)
