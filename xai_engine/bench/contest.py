"""Ours and the peers in turns, so that what else the machine does meets all of them; one that fails does not stop the rest."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from xai_engine.bench.figures import median

Say = Callable[[str], None]


@dataclass(slots=True)
class Entrant:
    """name; work: what is timed; warm: one uncounted call first; most: rounds that it takes part in (peers take minutes).

    samples: seconds of each round; result: of the last; error: one line, where it failed.
    """

    name: str
    work: Callable[[], Any]
    warm: bool = True
    most: int = 1000
    samples: list[float] = field(default_factory=list)
    result: Any = None
    error: str = ""

    @property
    def seconds(self) -> float | None:
        return None if self.error or not self.samples else median(self.samples)


def contest(
    entrants: Sequence[Entrant],
    rounds: int,
    say: Say = lambda _: None,
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Fill the entrants. Whatever one raises but KeyboardInterrupt is its own result."""
    for number in range(-1, rounds):
        for entrant in entrants:
            if entrant.error or number >= entrant.most or (number < 0 and not entrant.warm):
                continue
            say(entrant.name if number >= 0 else f"{entrant.name} (first call, not counted)")
            began = clock()
            try:
                entrant.result = entrant.work()
            except Exception as error:  # a peer that crashes is a finding
                text = (str(error) or "no reason given").strip().splitlines()[0]
                entrant.error = f"failed: {type(error).__name__}: {text[:160]}"
                continue
            if number >= 0:
                entrant.samples.append(clock() - began)
