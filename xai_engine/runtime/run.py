"""What every long computation is handed: a way to report, to be stopped, and its random numbers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from xai_engine.errors import Cancelled


class CancelToken(Protocol):
    """Anything with `is_set()`: threading.Event, multiprocessing.Event, a byte in shared memory."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a job. `fraction` in [0, 1]; `remaining_s` is None until it can be estimated."""

    fraction: float
    message: str
    elapsed_s: float
    remaining_s: float | None


@dataclass
class Run:
    """Progress, cancellation and randomness of one job.

    Long loops call `step()` at least four times a second; it reports and says whether to go on.
    """

    seed: int = 0
    cancel: CancelToken = field(default_factory=threading.Event)
    report: Callable[[Progress], None] | None = None
    min_interval_s: float = 0.1
    publish: Callable[[Any], None] | None = None
    _start: float = field(default_factory=time.monotonic, init=False)
    _last: float = field(default=0.0, init=False)

    @property
    def cancelled(self) -> bool:
        return self.cancel.is_set()

    def step(self, fraction: float, message: str = "") -> bool:
        """Report progress (throttled). Returns False when the job has been asked to stop."""
        now = time.monotonic()
        if self.report is not None and (now - self._last >= self.min_interval_s or fraction >= 1.0):
            self._last = now
            elapsed = now - self._start
            remaining = elapsed * (1.0 - fraction) / fraction if fraction > 0.02 and elapsed > 0.2 else None
            self.report(Progress(min(max(fraction, 0.0), 1.0), message, elapsed, remaining))
        return not self.cancelled

    def check(self, fraction: float, message: str = "") -> None:
        """As `step`, but raises `Cancelled`: for jobs that have nothing partial to hand over."""
        if not self.step(fraction, message):
            raise Cancelled("cancelled")

    def partial(self, value: Any) -> None:
        """Hand over what there is so far, to be shown while the job goes on. Not throttled."""
        if self.publish is not None:
            self.publish(value)

    def rng(self, *stream: int) -> np.random.Generator:
        """Independent, reproducible generator; `stream` separates the uses within one job."""
        return np.random.default_rng([self.seed, *stream])

    def part(self, start: float, stop: float, prefix: str = "") -> Run:
        """A child whose 0…1 maps to `start`…`stop` of this run (same seed and cancellation)."""
        outer = self

        def forward(p: Progress) -> None:
            outer.step(start + (stop - start) * p.fraction, f"{prefix}{p.message}" if prefix else p.message)

        return Run(self.seed, self.cancel, forward, self.min_interval_s, self.publish)
