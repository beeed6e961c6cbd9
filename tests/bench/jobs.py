"""Functions that bench's tests run in the spawned process."""

from __future__ import annotations

import time
from dataclasses import dataclass

from xai_engine.runtime.run import Run


@dataclass
class Map:
    partial: bool


def partial(late: float, *, run: Run) -> Map:
    """Listens, but answers `late` seconds after it heard."""
    while run.step(0.5):
        time.sleep(0.005)
    time.sleep(late)
    return Map(True)


def deaf(seconds: float, *, run: Run) -> None:
    time.sleep(seconds)
