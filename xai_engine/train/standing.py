"""Where a run stands: its stages, the batches that are still to come, the best epoch so far, whether it stops early."""

from __future__ import annotations

import math
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset

from xai_engine.train.distributed import Group

Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Stage:
    """Some epochs at one image size."""

    size: int
    epochs: int


def size_at(stages: list[Stage], epoch: int) -> int:
    for stage in stages:
        if epoch < stage.epochs:
            return stage.size
        epoch -= stage.epochs
    raise IndexError(epoch)


class Standing:
    """How far the run is, which epoch was best, and whether it has stopped early; part of the checkpoint.

    With `patience` the weights of the best epoch on validation are kept, and the run ends once that many epochs of the
    last stage brought nothing better; without it the weights of the last epoch are the result.
    """

    def __init__(self, state: Mapping[str, Any], config: Mapping[str, Any], stages: Sequence[Stage]) -> None:
        self.epoch, self.step = int(state["epoch"]), int(state.get("step", 0))
        self.total = float(state.get("total", 0.0))
        self.best: dict[str, Any] | None = state.get("best")
        self.stopped = bool(state.get("stopped", False))
        self.patience, self.monitor = int(config["patience"]), config["monitor"]
        self.last_stage = sum(s.epochs for s in stages[:-1])

    def begin(self, epoch: int) -> tuple[int, float]:
        """Steps already done in this epoch, and the sum of their losses."""
        return (self.step, self.total) if epoch == self.epoch else (0, 0.0)

    def end(self, epoch: int, row: Mapping[str, float], average: nn.Module) -> None:
        if not self.patience:
            return
        area = row["val_auc"] if math.isfinite(row["val_auc"]) else -math.inf
        score = [-row["val_loss"]] if self.monitor == "loss" else [area, -row["val_loss"]]
        if self.best is None or score > self.best["score"]:
            weights = {k: v.detach().cpu().clone() for k, v in average.state_dict().items()}
            self.best = {"epoch": epoch, "score": score, "weights": weights}
        self.stopped = epoch + 1 - max(self.best["epoch"] + 1, self.last_stage) >= self.patience

    def state(self) -> dict[str, Any]:
        return {"best": self.best, "stopped": self.stopped}


def loader(
    views: Dataset[Batch], first: int, count: int, batch_size: int, workers: int, group: Group
) -> DataLoader[Batch]:
    """This process's share of the epoch's batches from `first` on. A view depends on its place in the epoch alone."""
    share = batch_size // group.world
    mine = [
        place
        for step in range(first, count)
        for place in range(
            step * batch_size + group.rank * share, step * batch_size + (group.rank + 1) * share
        )
    ]
    return DataLoader(
        Subset(views, mine), share, num_workers=workers, drop_last=True, worker_init_fn=_undisturbed
    )


GRACE_S = 60  # that a worker outlives a request to end: the main process finishes its step meanwhile


def _undisturbed(_: int) -> None:
    """Ctrl-C, and SIGTERM from `timeout`, systemd or a cluster's scheduler, reach a whole process group; the main
    process alone decides what follows from it. A worker that is not ended in time ends by itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # not on Windows, where there is no such request
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE_S) and None)
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
