"""State of a run on disk: whole or not at all, so that a kill or a full disk leaves the last good one."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from xai_engine.errors import OutputError
from xai_engine.runtime import atomic

NAME = "checkpoint.pt"
LOG = "log.csv"
ATTRIBUTION = "attribution"  # key of a weights file's metadata


def save(folder: Path, epoch: int, network: nn.Module, optimiser: Any, schedule: Any, **extra: Any) -> None:
    """Everything that the next epoch depends on, random state included. Raises OutputError; the last one stays."""
    write(
        folder,
        {
            "epoch": epoch,
            "network": network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "torch_rng": torch.get_rng_state(),
            **extra,
        },
    )


def write(folder: Path, state: dict[str, Any]) -> None:
    """Replace the checkpoint. Raises OutputError, saying that the last one is kept."""
    buffer = io.BytesIO()  # torch's own writer reports a full disk as a RuntimeError without a reason
    torch.save(state, buffer)
    try:
        with atomic.file(folder / NAME) as path:
            path.write_bytes(buffer.getbuffer())
    except OutputError as error:
        kept = "; the last checkpoint is kept, the same command goes on from it"
        raise OutputError(f"{error}{kept if (folder / NAME).exists() else ''}") from error


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
    """One line of the learning curve (CSV). A repeated epoch replaces its line. Raises OutputError."""
    rows: list[dict[str, Any]] = [r for r in read_log(folder) if int(r["epoch"]) < row["epoch"]]
    rows.append({k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in row.items()})
    with atomic.file(folder / LOG) as path, path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(row), restval="", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)


def read_log(folder: Path) -> list[dict[str, str]]:
    """The lines of the learning curve so far, oldest first; none without a log."""
    path = folder / LOG
    if not path.exists():
        return []
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def export(path: Path, network: nn.Module, attribution: Sequence[str] = ()) -> None:
    """Weights as safetensors (fp32, contiguous), with whom their data must be attributed to. Raises OutputError."""
    state = {k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}
    told = {ATTRIBUTION: json.dumps(list(attribution))} if attribution else None
    with atomic.file(path) as temporary:
        save_file(state, temporary, told)


def load_weights(path: Path, network: nn.Module) -> None:
    network.load_state_dict(load_file(path))


def attribution_of(path: Path) -> tuple[str, ...]:
    """Whom the data behind weights must be attributed to beside the sources of every training; see `export`."""
    with safe_open(path, "pt") as weights:
        return tuple(json.loads((weights.metadata() or {}).get(ATTRIBUTION, "[]")))
