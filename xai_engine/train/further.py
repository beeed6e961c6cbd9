"""Further targets: findings that the data name beside the one to be learned, taught to the same features in training.

A linear layer on what the network's own last layer sees gives one logit per target; it is dropped after training, the
network stays as it is. With few images whose label is sure, what else is known of them steadies the features (multi-task
learning: Caruana 1997, Machine Learning 28; for radiographs Wang et al. 2017, CVPR).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.hooks import RemovableHandle

from xai_engine.errors import UsageError
from xai_engine.train.distributed import divisor
from xai_engine.train.sample import Sample

SEPARATOR = "|"  # between the words of a cell that holds several


def rules(source: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The key `targets` of a source of data: name -> `{"column": C, "word": W}` (a cell of words between "|" holds W or
    does not) or `{"column": C, "values": {cell: 0 … 1}}`. Raises UsageError for anything else."""
    given = source.get("targets", {})
    if not isinstance(given, Mapping):
        raise UsageError("targets must be an object: name -> rule")
    for name, rule in given.items():
        known = isinstance(rule, Mapping) and set(rule) in ({"column", "word"}, {"column", "values"})
        values = rule.get("values", {}) if known else None
        if not isinstance(values, Mapping) or not all(
            isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 1 for v in values.values()
        ):
            raise UsageError(
                f"target {name!r} needs `column`, and `word` or `values` with a number from 0 to 1 for each"
            )
    return {str(name): dict(rule) for name, rule in given.items()}


def read(row: Mapping[Any, Any], wanted: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """What a line says of each target; a target of which it says nothing (empty cell, value not listed) is left out."""
    out = {}
    for name, rule in wanted.items():
        cell = (row.get(rule["column"]) or "").strip()
        if "word" in rule and cell:
            out[name] = float(rule["word"] in (word.strip() for word in cell.split(SEPARATOR)))
        elif cell in rule.get("values", {}):
            out[name] = float(rule["values"][cell])
    return out


def names(samples: Iterable[Sample]) -> tuple[str, ...]:
    """The targets that any of the samples knows, in the order of the alphabet."""
    return tuple(sorted({name for sample in samples for name in sample.targets}))


def mute(wanted: Iterable[str], samples: Iterable[Sample]) -> list[str]:
    """Problems: targets that are the same in every training image, or in none; a word that is misspelt is one of these."""
    used = [sample.targets for sample in samples if sample.split == "train" and sample.weight > 0]
    found = {name: {targets[name] for targets in used if name in targets} for name in wanted}
    return [
        f"target {name!r} is {f'{min(values):g} in all training images that know it' if values else 'known in no training image'}"
        for name, values in found.items()
        if len(values) < 2
    ]


def row(targets: Mapping[str, float], wanted: Iterable[str]) -> torch.Tensor:
    """(n,) float32, one number per name, NaN where it is not known."""
    return torch.tensor([targets.get(name, math.nan) for name in wanted], dtype=torch.float32)


class Heads(nn.Module):
    """Logits of further targets from what the network's last linear layer sees.

    Between `watch` and `loss` of one forward pass it keeps that layer's input. Raises UsageError for a network without a
    linear layer.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        super().__init__()
        self.layer, last = last_linear(network)
        self.linear = nn.Linear(last.in_features, count, dtype=last.weight.dtype)
        self._seen: torch.Tensor | None = None

    def watch(self, network: nn.Module) -> RemovableHandle:
        """Keep what the layer sees from now on, until the handle is removed."""

        def keep(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            self._seen = inputs[0]

        return network.get_submodule(self.layer).register_forward_pre_hook(keep)

    def loss(self, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy, mean over what is known in the batch of all processes. targets: (n, count), NaN: unknown."""
        assert self._seen is not None, "the network has not run"
        seen, self._seen = self._seen, None
        logits = self.linear(seen.to(self.linear.weight.dtype))
        known = ~torch.isnan(targets)
        each = F.binary_cross_entropy_with_logits(logits, torch.nan_to_num(targets), reduction="none")
        return (each * known).sum() / divisor(known.sum().float(), low=1.0)


def last_linear(network: nn.Module) -> tuple[str, nn.Linear]:
    """The last linear layer and its name."""
    found = [(name, m) for name, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not found:
        raise UsageError(f"further targets need a linear last layer, which {type(network).__name__} has not")
    return found[-1]
