"""The far side of a Worker: what runs in the spawned process. Light, so that a worker is up at once."""

from __future__ import annotations

import importlib
import os
import queue
import signal
import sys
import threading
import traceback
import warnings
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from typing import Any

from xai_engine.errors import RadiolucentError
from xai_engine.runtime.run import Progress, Run
from xai_engine.runtime.shared_arrays import NOTHING, Channel

REMEMBERED = 4  # values passed as Once that the process keeps, least recently used out first


@dataclass(frozen=True, slots=True, eq=False)
class Once:
    """An argument that crosses to a worker once: later jobs with the same key get the object that is already
    there.

    The value must not be changed by jobs. A worker that was restarted is sent it again.
    """

    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Known:
    """In place of a Once whose value the process has."""

    key: str


class Flag:
    """Cancellation of one job, read from shared memory: the number of the job that shall stop."""

    def __init__(self, cell: Any, job: int) -> None:
        self._cell = cell
        self._job = job

    def is_set(self) -> bool:
        return bool(self._cell.value == self._job)


def main(pipe: connection.Connection, cell: Any, niceness: int) -> None:
    """Run jobs until the parent says so or is gone."""
    _settle_in(niceness)
    channel = Channel(pipe)
    channel.send(("ready", 0))
    jobs: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(channel, jobs), daemon=True).start()
    remembered: OrderedDict[str, Any] = OrderedDict()
    while True:
        message = jobs.get()
        if message is None:
            channel.close()
            return
        number, function, args, kwargs = message
        try:
            _work(channel, cell, remembered, number, function, args, kwargs)
        except OSError:
            os._exit(0)  # the parent is gone
        del message, args, kwargs  # else their memory would stay until the next job


def _settle_in(niceness: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in the terminal is the parent's to handle
    warnings.simplefilter("ignore")  # pydicom's quote values of the file
    if not os.environ.get("RADIOLUCENT_WORKER_OUTPUT"):
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (1, 2):  # decoders print what they find in a file
                os.dup2(nothing, stream)
            os.close(nothing)
    with suppress(OSError, AttributeError):
        if sys.platform == "win32":
            import ctypes

            kernel = ctypes.windll.kernel32
            kernel.SetPriorityClass(kernel.GetCurrentProcess(), 0x4000)  # BELOW_NORMAL_PRIORITY_CLASS
        else:
            os.nice(niceness)
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as score:
        score.write("500")  # when memory runs out, the worker goes and the window stays


def _receive(channel: Channel, jobs: queue.SimpleQueue[Any]) -> None:
    """Fill the queue; end the process at once when the parent is gone, whatever the main thread is doing."""
    parent = parent_process()
    sources: list[Any] = [channel.connection] + ([parent.sentinel] if parent is not None else [])
    while True:
        ready = connection.wait(sources)
        if channel.connection not in ready:
            os._exit(0)
        try:
            message = channel.receive()
        except (EOFError, OSError):
            os._exit(0)
        except BaseException as error:
            _send_failure(channel, 0, "the job's arguments", error)
            continue
        if message is NOTHING:
            continue
        jobs.put(message)
        if message is None:
            return


def _work(
    channel: Channel,
    cell: Any,
    remembered: OrderedDict[str, Any],
    number: int,
    function: str,
    args: Any,
    kwargs: Any,
) -> None:
    def report(progress: Progress) -> None:
        channel.send(("progress", number, progress))

    def publish(value: Any) -> None:
        channel.send(("partial", number, value))

    channel.send(("begun", number))
    try:
        args = [_recall(value, remembered) for value in args]
        kwargs = {key: _recall(value, remembered) for key, value in kwargs.items()}
        module, _, name = function.partition(":")
        run = Run(cancel=Flag(cell, number), report=report, publish=publish)
        value = getattr(importlib.import_module(module), name)(*args, run=run, **kwargs)
    except BaseException as error:
        _send_failure(channel, number, function, error)
        return
    try:
        channel.send(("done", number, value))
    except OSError:
        raise
    except BaseException as error:
        _send_failure(channel, number, function, error)


def _recall(value: Any, remembered: OrderedDict[str, Any]) -> Any:
    if isinstance(value, Once):
        remembered[value.key] = value.value
        remember(remembered, value.key)
        return value.value
    if isinstance(value, Known):
        remember(remembered, value.key)
        return remembered[value.key]
    return value


def remember(remembered: OrderedDict[str, Any], key: str) -> None:
    """Move `key` to the fresh end and drop the oldest. Both sides do so in the same order, so they agree."""
    remembered.move_to_end(key)
    while len(remembered) > REMEMBERED:
        remembered.popitem(last=False)


def _send_failure(channel: Channel, number: int, function: str, error: BaseException) -> None:
    detail = "".join(traceback.format_exception(error))
    if is_out_of_memory(error):
        channel.send(("out of memory", number, detail))
        os._exit(
            1
        )  # what a half-done job holds, a GPU's memory above all, is only sure to come back this way
    if isinstance(error, RadiolucentError):
        kind, text = type(error).__name__, str(error)
    else:
        # The text of an unforeseen error may quote the file, so only its type and place are shown.
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {os.path.basename(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""
        name = function.rpartition(":")[2]
        kind, text = (
            "RadiolucentError",
            f"{name}: unexpected {type(error).__name__}{place}; please report this",
        )
    channel.send(("failed", number, (kind, text, detail)))


def is_out_of_memory(error: BaseException) -> bool:
    """True for MemoryError and for what torch raises on CPU and GPU when memory runs out."""
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "_ArrayMemoryError"):
        return True
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )
