"""State of a run on disk: written to a temporary file and renamed, so that a kill leaves the last good one."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

NAME = "checkpoint.pt"


def save(folder: Path, epoch: int, network: nn.Module, optimiser: Any, schedule: Any, **extra: Any) -> None:
    """Everything that the next epoch depends on, random state included."""
    state = {
        "epoch": epoch,
        "network": network.state_dict(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "torch_rng": torch.get_rng_state(),
        **extra,
    }
    temporary = folder / (NAME + ".tmp")
    torch.save(state, temporary)
    os.replace(temporary, folder / NAME)


def resume(folder: Path, network: nn.Module, optimiser: Any, schedule: Any) -> int:
    """Load the last checkpoint if there is one. Returns the number of finished epochs."""
    state = peek(folder)
    if state is None:
        return 0
    network.load_state_dict(state["network"])
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["torch_rng"])
    return int(state["epoch"])


def peek(folder: Path) -> dict[str, Any] | None:
    path = folder / NAME
    # a run's own file, written by this program; bundles never hold pickles
    return torch.load(path, map_location="cpu", weights_only=True) if path.exists() else None


def log(folder: Path, row: dict[str, float]) -> None:
    """One line of the learning curve (CSV). A repeated epoch replaces its line."""
    path = folder / "log.csv"
    rows: list[dict[str, Any]] = []
    if path.exists():
        with path.open(newline="") as stream:
            rows = [r for r in csv.DictReader(stream) if int(r["epoch"]) < row["epoch"]]
    rows.append({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()})
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row))
        writer.writeheader()
        writer.writerows(rows)
    os.replace(temporary, path)


def export(path: Path, network: nn.Module) -> None:
    """Weights as safetensors (fp32, contiguous)."""
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary)
    os.replace(temporary, path)


def load_weights(path: Path, network: nn.Module) -> None:
    network.load_state_dict(load_file(path))
