"""The progress line on standard error."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from types import TracebackType

from xai_engine.cli import tell, visible
from xai_engine.runtime.run import Progress

EVERY = 10.0  # seconds between two lines about one image, where lines are not rewritten


class Line:
    """One line that is rewritten on a terminal, whole lines elsewhere.

    `total` images; on a terminal `update` shows the work on the current one. Elsewhere, as in a log, it prints a line after each `EVERY`
    seconds of it, and `step` one per image where there are several. clock: seconds.
    """

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.total = total
        self.done = 0
        self._terminal = sys.stderr.isatty()
        self._width = 0
        self._clock = clock
        self._said = clock()

    def update(self, progress: Progress) -> None:
        left = f", {progress.remaining_s:.0f} s left" if progress.remaining_s else ""
        text = f"[{self.done + 1}/{self.total}] {progress.fraction:4.0%} {progress.message}{left}"
        if self._terminal:
            self._rewrite(text)
        elif self._clock() - self._said >= EVERY:
            self._said = self._clock()
            tell(text, sys.stderr)

    def note(self, text: str) -> None:
        """Show what is going on, on a terminal only."""
        if self._terminal:
            self._rewrite(text)

    def step(self, name: str, outcome: str) -> None:
        """One more image is finished."""
        self.done += 1
        self._said = self._clock()
        if self._terminal:
            self._rewrite(f"[{self.done}/{self.total}] {name}: {outcome}")
        elif self.total > 1:
            tell(f"[{self.done}/{self.total}] {name}: {outcome}", sys.stderr)

    def clear(self) -> None:
        """Make room for another line."""
        if self._terminal and self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0

    def __enter__(self) -> Line:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.clear()

    def _rewrite(self, text: str) -> None:
        text = visible(text)[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)
