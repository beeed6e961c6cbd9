"""Progress of a long command on standard error: a bar that is rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import TextIO

from xai_engine.runtime.run import Progress

EVERY_S = {True: 0.2, False: 10.0}  # terminal or not
BAR = 24


class Ticker:
    """Reports a Run. The time left is estimated from what this process has done, so a resumed run is not flattered."""

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = sys.stderr if stream is None else stream
        self.clock = clock
        self.terminal = self.stream.isatty()
        self.last = -1e9
        self.begin: tuple[float, float] | None = None
        self.open = False

    def __call__(self, progress: Progress) -> None:
        now = self.clock()
        if self.begin is None:
            self.begin = now, progress.fraction
        if now - self.last < EVERY_S[self.terminal] and progress.fraction < 1.0:
            return
        self.last = now
        words = filter(None, (progress.message, self._left(now, progress.fraction)))
        text = f"{progress.fraction:6.1%}  {', '.join(words)}"
        if self.terminal:
            filled = round(BAR * progress.fraction)
            width = shutil.get_terminal_size().columns - 1
            line = f"[{'#' * filled}{'-' * (BAR - filled)}] {text}"[:width]
            self.stream.write(f"\r{line:<{width}}")
            self.open = True
        else:
            self.stream.write(f"{text}\n")
        self.stream.flush()

    def close(self) -> None:
        """End the line of the bar, so that what follows has its own."""
        if self.open:
            self.stream.write("\n")
            self.stream.flush()
            self.open = False

    def _left(self, now: float, fraction: float) -> str:
        assert self.begin is not None
        gone, done = now - self.begin[0], fraction - self.begin[1]
        if gone < 2 or done <= 0.005:
            return ""
        seconds = gone * (1 - fraction) / done
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
