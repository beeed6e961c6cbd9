"""The mean of several fine-tuned copies of one network: as cheap to run as one of them, often steadier on other images.

Model soups (Wortsman et al. 2022, ICML): copies that start from the same weights stay in one basin, so their mean is a
network too. Each copy has its own seed, and may have settings of its own. The mean is taken where its validation loss
is no higher than that of the network it began with.
"""

from __future__ import annotations

import copy
import csv
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xai_engine.runtime import atomic

# what a copy may have of its own; the rest is the recipe's
OWN = ("lr", "weight_decay", "dense_weight", "images_per_epoch", "augment", "synthetic", "style_mixing")
NAME = "soup.csv"


def problems(value: Any) -> list[str]:
    """What is wrong with the key `soup` of a configuration; none where it is left out."""
    if value is None:
        return []
    if not isinstance(value, Mapping) or set(value) != {"size", "epochs", "copies"}:
        return ["soup must be an object with `size`, `epochs` and `copies`"]
    found = [
        f"soup.{key} must be a whole number above 0, is {value[key]!r}"
        for key in ("size", "epochs")
        if isinstance(value[key], bool) or not isinstance(value[key], int) or value[key] <= 0
    ]
    copies = value["copies"]
    if not isinstance(copies, list) or len(copies) < 2 or not all(isinstance(c, Mapping) for c in copies):
        return [*found, "soup.copies must be a list of at least two objects"]
    unknown = sorted({key for c in copies for key in c} - set(OWN))
    return found + [f"unknown key 'soup.copies.{key}' (use {', '.join(OWN)})" for key in unknown]


def recipes(config: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The configuration of each copy: the recipe's with the copy's settings, its own seed, no early stopping."""
    soup = config["soup"]
    stages = [{"size": soup["size"], "epochs": soup["epochs"]}]
    return [
        {**config, "soup": None, "seed": int(config["seed"]) + 1 + k, "stages": stages, "patience": 0, **own}
        for k, own in enumerate(soup["copies"])
    ]


def epochs(config: Mapping[str, Any]) -> int:
    """Epochs of all copies together; 0 without a soup."""
    soup = config["soup"]
    return int(soup["epochs"]) * len(soup["copies"]) if soup else 0


def mean(networks: Sequence[nn.Module]) -> nn.Module:
    """A network whose weights and running statistics are the means of theirs (double precision in between)."""
    out = copy.deepcopy(networks[0])
    states = [network.state_dict() for network in networks]
    with torch.no_grad():
        for name, value in out.state_dict().items():
            if value.dtype.is_floating_point:
                value.copy_(torch.stack([s[name].double() for s in states]).mean(0))
    return out


def write_table(rows: Mapping[str, Mapping[str, float]], taken: str, out: Path) -> None:
    """`soup.csv` in `out`: figures on validation of the start, each copy and the mean. Raises OutputError."""
    with atomic.file(out / NAME) as path, path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=["network", *rows["start"], "taken"])
        writer.writeheader()
        for name, row in rows.items():
            figures = {key: float(f"{value:.6g}") for key, value in row.items()}
            writer.writerow({"network": name, **figures, "taken": int(name == taken)})


def bake(
    start: nn.Module,
    config: Mapping[str, Any],
    out: Path,
    fine_tune: Callable[[Mapping[str, Any], nn.Module, Path, int], nn.Module],
    figures: Callable[[nn.Module], Mapping[str, float]],
    write: bool = True,
) -> nn.Module:
    """Fine-tune the copies, each in a folder of its own under `out`, and return the mean or `start`.

    fine_tune: (configuration, first network, folder, number) -> network. figures: of a network on validation.
    write: leave the table in `out` (the main process).
    """
    copies = [
        fine_tune(recipe, copy.deepcopy(start), out / f"copy-{k + 1}", k)
        for k, recipe in enumerate(recipes(config))
    ]
    mixed = mean(copies)
    rows = {"start": figures(start)} | {f"copy {k + 1}": figures(c) for k, c in enumerate(copies)}
    rows["soup"] = figures(mixed)
    taken = "soup" if rows["soup"]["val_loss"] <= rows["start"]["val_loss"] else "start"
    if write:
        write_table(rows, taken, out)
    return mixed if taken == "soup" else start
