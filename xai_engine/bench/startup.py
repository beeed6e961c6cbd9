"""How long until the window is there, until the radiograph is in it, and what the window weighs.

The program is started as a user starts it. With RADIOLUCENT_PROBE=1 it prints `window-shown` after the window's
first paint and `image-visible` after the first paint with the image, then ends. The clock is this process's, from
before the start, so the interpreter and the imports are counted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from xai_engine.bench.figures import Figure, median, unmeasured
from xai_engine.bench.machine import peak_memory

WINDOW = ("window-shown", "Window shown after start", 1.5)
IMAGE = ("image-visible", "Sample visible after start", 2.5)
MEMORY = ("window-memory", "Window process, peak memory with the sample", 350.0)


@dataclass(frozen=True, slots=True)
class Start:
    """Seconds to each mark, and the peak memory in MB; None for what did not happen."""

    window: float | None
    image: float | None
    memory: float | None
    error: str


def command(image: Path) -> list[str]:
    """How this installation is started with an image."""
    if getattr(sys, "frozen", False):
        return [sys.executable, str(image)]
    return [sys.executable, "-m", "app", str(image)]


def start_once(image: Path, timeout: float = 60.0) -> Start:
    """Start the program, wait for its marks, end it."""
    environment = {**os.environ, "RADIOLUCENT_PROBE": "1"}
    environment.setdefault("QT_QPA_PLATFORM", "offscreen")
    marks: dict[str, float] = {}
    lines: list[str] = []
    began = time.perf_counter()
    process = subprocess.Popen(
        command(image), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment
    )

    def listen() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            word = line.split(" ", 1)[0].strip()
            if word in (WINDOW[0], IMAGE[0]):
                marks.setdefault(word, time.perf_counter() - began)
            else:
                lines.append(line.rstrip())

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    memory: float | None = None
    while process.poll() is None and time.perf_counter() - began < timeout:
        memory = peak_memory(process.pid) or memory
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
    process.wait()
    listener.join(2.0)
    error = (
        "" if IMAGE[0] in marks else (lines[-1] if lines else f"ended with exit code {process.returncode}")
    )
    return Start(marks.get(WINDOW[0]), marks.get(IMAGE[0]), memory, error)


def measure(image: Path, repeats: int) -> list[Figure]:
    """Three figures over `repeats` starts after one that warms the disk's cache."""
    starts = [start_once(image) for _ in range(repeats + 1)][1:]
    columns = (
        (WINDOW, "s", [s.window for s in starts]),
        (IMAGE, "s", [s.image for s in starts]),
        (MEMORY, "MB", [s.memory for s in starts]),
    )
    why = next((s.error for s in starts if s.error), "not available on this system")
    figures = []
    for (key, title, limit), unit, column in columns:
        values = tuple(v for v in column if v is not None)
        if len(values) < len(starts) or (unit == "MB" and any(s.error for s in starts)):
            figures.append(unmeasured(key, title, unit, why, limit))
        else:
            figures.append(Figure(key, title, median(values), unit, limit, samples=values))
    return figures
