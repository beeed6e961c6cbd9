"""Training in several processes: on several GPUs or machines, or several CPU processes, started by torchrun.

    torchrun --nproc-per-node 2 -m xai_engine train CONFIG

Each process takes its part of every batch, so that the sum over the processes is the batch that one process would have
seen: the same images, augmented the same way; the same divisors in the loss (`divisor`); the same batch statistics in
the norms (`synchronised`). torch's DistributedDataParallel adds the gradients up. What remains different is the order
of floating-point additions, and, with dropout or style mixing, the random draws.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from xai_engine.errors import RadiolucentError, UsageError

T = TypeVar("T")
WAIT = timedelta(hours=1)  # one process prepares the images while the others wait


class PeerLost(RadiolucentError):
    """Another process of the job is gone. Exit code 1."""


@dataclass
class Group:
    """The processes of one training; by default this one alone.

    rank: of this process among all; local: among those of this machine; world: how many there are.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    rank: int = 0
    local: int = 0
    world: int = 1
    store: Any = None

    @property
    def main(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    def barrier(self) -> None:
        if self.world > 1:
            self.gather(None)

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in the order of their ranks. Raises PeerLost."""
        if self.world == 1:
            return [value]
        out: list[Any] = [None] * self.world
        with self.guarded():
            dist.all_gather_object(out, value)
        return out

    def share(self, value: T) -> T:
        """The main process's value, in every process. Raises PeerLost."""
        if self.world == 1:
            return value
        box: list[Any] = [value]
        with self.guarded():
            dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def table(self, *values: float) -> list[list[float]]:
        """The numbers of all processes, one row each: a small exchange, made at every step. Raises PeerLost."""
        if self.world == 1:
            return [list(values)]
        mine = torch.tensor(values, dtype=torch.float64, device=self.device)
        rows = [torch.empty_like(mine) for _ in range(self.world)]
        with self.guarded():
            dist.all_gather(rows, mine)
        return [row.tolist() for row in rows]

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Turn what the engine raises when a process has died into PeerLost."""
        try:
            yield
        except RuntimeError as error:
            text = str(error).lower()
            signs = ("closed by peer", "connection", "gloo", "nccl", "socket", "broken pipe", "timed out")
            if self.world > 1 and (isinstance(error, dist.DistError) or any(s in text for s in signs)):
                raise PeerLost(
                    f"another of the {self.world} training processes is gone, so all stop; the last checkpoint "
                    "is kept, the same command goes on from it"
                ) from error
            raise

    def speaks(self) -> bool:
        """Whether this process is the first to report the end of the job: an error is told once, not once a process."""
        if self.store is None:
            return True
        with suppress(Exception):  # the store may have died with its process
            return (
                int(self.store.add(f"radiolucent/said/{os.environ.get('TORCHELASTIC_RESTART_COUNT')}", 1))
                == 1
            )
        return True


def asked_for() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


@contextmanager
def group(device: str = "cpu") -> Iterator[Group]:
    """The group that torchrun's environment describes, left in order at the end. device: "cpu" or "cuda".

    Raises UsageError where a machine has more processes than GPUs.
    """
    if not asked_for():
        yield Group(torch.device(device))
        return
    local = int(os.environ.get("LOCAL_RANK", "0"))
    where = torch.device(device)
    if device == "cuda":
        if local >= torch.cuda.device_count():
            raise UsageError(
                f"{local + 1} processes on a machine with {torch.cuda.device_count()} GPU(s); "
                "lower --nproc-per-node or use --device cpu"
            )
        where = torch.device("cuda", local)
        torch.cuda.set_device(where)
    try:
        store, rank, world = next(dist.rendezvous("env://", timeout=WAIT))
        dist.init_process_group(
            "nccl" if device == "cuda" else "gloo",
            store=dist.PrefixStore("radiolucent", store),
            rank=rank,
            world_size=world,
            timeout=WAIT,
        )
    except (RuntimeError, ValueError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise RadiolucentError(f"the training processes do not find each other ({reason})") from error
    try:
        yield Group(where, rank, local, world, store)
    finally:
        with suppress(Exception):
            dist.destroy_process_group()


def divisor(total: torch.Tensor, low: float = 0.0) -> torch.Tensor:
    """What a process divides its part of a sum by, so that the mean over the processes is sum / max(total, low).

    total: the process's own part of the divisor, without gradient. In one process: max(total, low).
    """
    if not dist.is_initialized():
        return total.clamp(min=low)
    everything = total.detach().clone()
    dist.all_reduce(everything)
    return everything.clamp(min=low) / dist.get_world_size()


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm over the images of all processes. torch's own SyncBatchNorm computes the same, but on GPUs only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        from torch.distributed.nn.functional import all_reduce

        values = x if x.dtype == torch.float64 else x.float()
        count = values.numel() // values.shape[1] * dist.get_world_size()
        mean = all_reduce(values.sum((0, 2, 3))) / count
        centred = values - mean[:, None, None]
        variance = all_reduce((centred * centred).sum((0, 2, 3))) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                assert self.num_batches_tracked is not None
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * count / max(1, count - 1), share)
        out = centred * torch.rsqrt(variance + self.eps)[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(x.dtype)


def synchronised(network: nn.Module, group: Group) -> nn.Module:
    """The network with batch norms that see the whole batch, whatever the number of processes. Weights are shared."""
    if group.world == 1:
        return network
    if group.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncedBatchNorm
    return network
