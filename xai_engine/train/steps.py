"""One step of training: loss, gradients, optimiser, running mean of the weights, in the chosen precision."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from xai_engine.errors import UsageError
from xai_engine.train.distributed import Group, synchronised
from xai_engine.train.further import Heads

EMA = 0.998  # running mean of the weights (Polyak averaging): calmer than the last step on small data
Batch = dict[str, torch.Tensor]
Loss = Callable[[nn.Module, Batch, float, bool], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Precision:
    """name: "fp32", "bf16" or "fp16"; scaled: gradients are scaled, so that small ones do not vanish in fp16."""

    name: str
    scaled: bool = False


def choose_precision(name: str, device: str) -> Precision:
    """The precision of the forward and backward passes; weights and optimiser stay in fp32.

    auto: bf16 where the processor or GPU computes in it, fp16 with scaled gradients on older GPUs, else fp32.
    Raises UsageError for fp16 on a CPU.
    """
    from xai_engine.runtime import device as devices

    if name == "auto":
        name = devices.choose(device, "auto").precision
        if name == "fp32" and device == "cuda":
            name = "fp16"
    if name == "fp16" and device != "cuda":
        raise UsageError("precision fp16 needs a GPU; use bf16, fp32 or auto")
    return Precision(name, scaled=name == "fp16")


class NotFinite(Exception):
    """Loss or gradient is not a number; here: in this process."""

    def __init__(self, here: bool) -> None:
        super().__init__()
        self.here = here


class Schedule:
    """Warm-up over 5 % of the steps, then a half cosine to 1 % of the rate."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, step: int) -> float:
        warm = max(1, self.steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


class _WithLoss(nn.Module):
    """Network and loss as one module, so that DistributedDataParallel sees the forward pass that is differentiated."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        dense_weight: float,
        precision: Precision,
        heads: Heads | None = None,
        heads_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.heads, self.heads_weight = heads, heads_weight
        self.loss, self.dense_weight, self.precision = loss, dense_weight, precision

    def forward(self, batch: Batch) -> torch.Tensor:
        if self.heads is None:
            return self._plain(batch)
        watching = self.heads.watch(self.network)
        try:
            loss = self._plain(batch)
        finally:
            watching.remove()
        return loss + self.heads_weight * self.heads.loss(batch["targets"])

    def _plain(self, batch: Batch) -> torch.Tensor:
        kind = batch["image"].device.type
        if kind == "cpu":
            return self.loss(self.network, batch, self.dense_weight, self.precision.name == "bf16")[0]
        dtype = torch.float16 if self.precision.name == "fp16" else torch.bfloat16
        with torch.autocast(kind, dtype, enabled=self.precision.name != "fp32"):
            return self.loss(self.network, batch, self.dense_weight, False)[0]


class Learner:
    """The network in training with all that changes from step to step; `state` and `restore` carry every bit of it."""

    def __init__(
        self,
        network: nn.Module,
        loss: Loss,
        config: Mapping[str, Any],
        steps: int,
        precision: Precision,
        group: Group,
        targets: int = 0,
    ) -> None:
        network = network.to(group.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(network)
        self.network = synchronised(network, group)
        self.group = group
        # beside the network, not in it: what comes out of training is the network as configured
        weight = float(config.get("targets_weight", 0.0))
        self.heads = Heads(self.network, targets).to(group.device) if targets and weight else None
        self.trained = nn.ModuleList([self.network, *([self.heads] if self.heads is not None else [])])
        self.optimiser = torch.optim.AdamW(
            parameter_groups(self.trained, float(config["weight_decay"])), lr=config["lr"]
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(self.optimiser, Schedule(steps))
        self.scaler = torch.amp.GradScaler(group.device.type, enabled=precision.scaled)
        self.model: nn.Module = _WithLoss(
            self.network, loss, float(config["dense_weight"]), precision, self.heads, weight
        )
        if group.world > 1:
            # asking for unused parameters keeps the buckets, and so the order of the additions, as they are at the
            # start: a run that is resumed gives the same bits as one that is not
            self.model = nn.parallel.DistributedDataParallel(
                self.model, broadcast_buffers=False, find_unused_parameters=True
            )

    def step(self, batch: Batch, done: int) -> float:
        """One step. done: steps taken before. Returns the loss of the whole batch.

        Raises NotFinite, in every process, before anything has changed; PeerLost.
        """
        batch = {name: value.to(self.group.device, non_blocking=True) for name, value in batch.items()}
        with self.group.guarded():
            loss = self.model(batch)
            value = float(loss.detach())
            self.optimiser.zero_grad(set_to_none=True)
            self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        norm = float(nn.utils.clip_grad_norm_(self.trained.parameters(), 2.0))
        # with scaled gradients an overflow is expected now and then: the scaler leaves the step out
        finite = math.isfinite(value) and (math.isfinite(norm) or self.scaler.is_enabled())
        rows = self.group.table(value, float(not finite))
        if any(row[1] for row in rows):
            raise NotFinite(here=not finite)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.schedule.step()
        follow(self.average, self.network, min(EMA, (1 + done) / (10 + done)))
        return sum(row[0] for row in rows) / len(rows)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on but the random state."""
        return {
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        } | ({"heads": self.heads.state_dict()} if self.heads is not None else {})

    def restore(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        if self.heads is not None:
            self.heads.load_state_dict(state["heads"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if state.get("scaler"):
            self.scaler.load_state_dict(state["scaler"])


def parameter_groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """No weight decay on norms and biases."""
    plain = [p for p in network.parameters() if p.ndim <= 1]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the running mean of weights and buffers towards the network's."""
    for a, b in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if a.dtype.is_floating_point:
            a.lerp_(b.detach(), 1 - decay)
        else:
            a.copy_(b)


def random_state(group: Group) -> list[dict[str, torch.Tensor]]:
    """State of torch's generators in every process, in the order of their ranks."""
    mine = {"cpu": torch.get_rng_state()}
    if group.device.type == "cuda":
        mine["cuda"] = torch.cuda.get_rng_state(group.device)
    return group.gather(mine)


def restore_random(states: list[dict[str, torch.Tensor]], group: Group) -> None:
    """Put back what `random_state` took. Another number of processes cannot go on bit by bit, and keeps its own draws."""
    if len(states) != group.world:
        return
    mine = states[group.rank]
    torch.set_rng_state(mine["cpu"])
    if group.device.type == "cuda" and "cuda" in mine:
        torch.cuda.set_rng_state(mine["cuda"], group.device)
