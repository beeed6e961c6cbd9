"""Functions that worker tests run in the spawned process."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from xai_engine.errors import ModelError
from xai_engine.runtime.run import Run


def echo(value: Any, *, run: Run) -> Any:
    return value


def double(array: np.ndarray, *, run: Run) -> dict[str, Any]:
    return {"double": array * 2, "owns": array.flags.owndata, "writeable": array.flags.writeable}


def count(steps: int, *, run: Run, seconds: float = 0.02) -> dict[str, Any]:
    """Listens to cancellation; hands over what it has."""
    for i in range(steps):
        time.sleep(seconds)
        run.partial(i)
        if not run.step((i + 1) / steps, f"step {i + 1}"):
            return {"steps": i + 1, "partial": True}
    return {"steps": steps, "partial": False}


def stop_or_raise(*, run: Run) -> None:
    while True:
        run.check(0.5, "working")
        time.sleep(0.01)


def deaf(started: str, *, run: Run) -> None:
    Path(started).touch()
    time.sleep(600)


def hold(started: str, go_on: str, *, run: Run) -> None:
    """Until the second file is there."""
    Path(started).touch()
    while not Path(go_on).exists():
        time.sleep(0.01)


def fail(*, run: Run) -> None:
    raise ModelError("bundle.json: altered; download it again")


def fail_oddly(*, run: Run) -> None:
    raise ValueError("Doe^Jane 1950")


def die(number: int, *, run: Run) -> None:
    os.kill(os.getpid(), number)
    time.sleep(60)


def segfault(*, run: Run) -> None:
    import ctypes

    ctypes.string_at(0)


def eat_memory(*, run: Run) -> None:
    raise MemoryError


def leave(*, run: Run) -> None:
    os._exit(7)


def pid(*, run: Run) -> int:
    return os.getpid()


def sigint_is_ignored(*, run: Run) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def niceness(*, run: Run) -> int:
    return os.nice(0)


def unpicklable(*, run: Run) -> Any:
    return lambda: None


def identity(value: Any, *, run: Run) -> int:
    return id(value)


def say(text: str, *, run: Run) -> None:
    print(text, flush=True)
    os.write(2, text.encode())


def sum_and_count_blocks(value: Any, *, run: Run) -> int:
    return sum("memfd:radiolucent" in line for line in Path("/proc/self/maps").read_text().splitlines())


def read_or_crash(path: str, *, run: Run) -> Any:
    """Stands for a decoder that a hostile file crashes."""
    from xai_engine.analysis.tasks import read_file

    if "hostile" in path:
        segfault(run=run)
    return read_file(path, run=run)
