"""How far an explanation is, in forward passes; where cancellation is looked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from xai_engine.runtime.run import Run


class Interrupted(Exception):
    """The run was cancelled in the middle of a pass. Never leaves this package."""


class Progress:
    """Counts passes and reports them, stage by stage, to a run.

    partial: whether it was cancelled. forwards, backwards: passes of one image.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.forwards = 0
        self.backwards = 0
        self.partial = False
        self._planned = 1.0
        self._done = 0.0
        self._stage_done = 0.0
        self._from, self._to, self._limit = 0.0, 0.0, 1.0
        self._message = ""

    def count(self, forwards: int, backwards: int = 0) -> None:
        """For passes that were made."""
        self.forwards += forwards
        self.backwards += backwards
        self._done += forwards + 2 * backwards

    def tick(self) -> None:
        """Report and look for cancellation. Raises Interrupted."""
        if not self.run.step(self._reached(), self._message):
            self.partial = True
            raise Interrupted

    @contextmanager
    def stoppable(self) -> Iterator[None]:
        """Cancellation ends the block; what was accumulated in it is the partial result."""
        with suppress(Interrupted):
            yield

    def plan(self, work: float, message: str = "", share: float = 1.0) -> None:
        """Announce the next stage, in forward passes of one image (a backward pass counts as two).

        share: of the progress still to be made; less than 1 where more stages may follow, so that progress
        never goes back.
        """
        self._from = self._reached()
        self._to = self._from + (self._limit - self._from) * share
        self._stage_done, self._planned, self._message = self._done, max(work, 1.0), message
        self.tick()

    @contextmanager
    def part(self, share: float) -> Iterator[None]:
        """All stages planned in the block together have this share of the progress still to be made."""
        outer, reached = self._limit, self._reached()
        self._limit = reached + (outer - reached) * share
        try:
            yield
        finally:
            self._limit = outer

    def _reached(self) -> float:
        within = min((self._done - self._stage_done) / self._planned, 1.0)
        return self._from + (self._to - self._from) * within
