"""Jobs in a process of their own: the caller never waits, never freezes, and outlives a crash in the job.

    worker = Worker("engine")
    job = worker.submit("xai_engine.analysis.tasks:predict", Once(r.sha256, r))
    job.add_listener(print)      # Progress, Partial, then exactly one of Done, Failed, Died

A worker runs one job at a time, in the order of submission. Qt-free: listeners are called on the worker's own
thread in the calling process, one after another; a window forwards them to its own thread.
"""

from __future__ import annotations

import atexit
import ctypes
import itertools
import multiprocessing
import os
import sys
import threading
import time
import weakref
from collections import OrderedDict, deque
from contextlib import suppress
from multiprocessing import connection
from typing import Any

from xai_engine import errors
from xai_engine.errors import Cancelled, RadiolucentError, WorkerDied
from xai_engine.runtime import worker_process
from xai_engine.runtime.job import Died, Done, Event, Failed, Job, Partial
from xai_engine.runtime.run import Progress
from xai_engine.runtime.shared_arrays import NOTHING, Channel
from xai_engine.runtime.worker_process import Known, Once

__all__ = ["Died", "Done", "Event", "Failed", "Job", "Once", "Partial", "Progress", "Worker"]

_TICK_S = 0.05


class Worker:
    """One spawned process and the queue of its jobs.

    The process starts with the first job. `grace_s`: how long a job that was cancelled may go on before its
    process is killed. A process that dies takes only its running job with it and is replaced.
    """

    def __init__(self, name: str, *, grace_s: float = 3.0, niceness: int = 5) -> None:
        self.name = name
        self.grace_s = grace_s
        self._niceness = niceness
        self._context = multiprocessing.get_context("spawn")
        self._cell = self._context.RawValue(ctypes.c_longlong, 0)
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self._queue: deque[Job] = deque()
        self._current: Job | None = None
        self._closing = False
        self._thread: threading.Thread | None = None
        self._process: Any = None
        self._channel: Channel | None = None
        self._ready = False
        self._sent: OrderedDict[str, None] = OrderedDict()
        self.starts = 0

    @property
    def pid(self) -> int | None:
        """Process id while there is a process."""
        process = self._process
        return process.pid if process is not None else None

    @property
    def busy(self) -> bool:
        with self._changed:
            return self._current is not None or bool(self._queue)

    def submit(self, function: str, /, *args: Any, **kwargs: Any) -> Job:
        """Queue `function` ("package.module:name"); the process calls it as `name(*args, run=Run, **kwargs)`.

        Arguments and result must pickle; wrap a large argument that recurs in `Once`.
        Raises RadiolucentError after `shutdown`.
        """
        with self._changed:
            if self._closing:
                raise RadiolucentError(f"{self.name}: is shut down")
            job = Job(next(self._numbers), function, args, kwargs, self._cancel)
            self._queue.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name=f"worker-{self.name}", daemon=True)
                self._thread.start()
                atexit.register(_shutdown_at_exit, weakref.ref(self))
            self._changed.notify_all()
        return job

    def hurry(self, job: Job) -> None:
        """Let a job that still waits be the next one. What runs goes on."""
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
                self._queue.appendleft(job)

    def shutdown(self, timeout: float = 5.0) -> None:
        """Cancel every job, end the process and the thread. May be called twice."""
        with self._changed:
            self._closing = True
            for job in [*self._queue, *([self._current] if self._current else [])]:
                job.cancel_requested = True
            if self._current is not None:
                self._cell.value = self._current.id
            self.grace_s = min(self.grace_s, 1.0)
            self._changed.notify_all()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()

    def _cancel(self, job: Job) -> None:
        with self._changed:
            if self._current is job:
                self._cell.value = job.id

    # Everything below runs on the worker's thread.

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._current = None
                while not self._queue and not self._closing:
                    self._changed.wait()
            self._drop_cancelled()
            with self._changed:
                if self._queue:
                    self._current = self._queue.popleft()
                elif self._closing:
                    break
                else:
                    continue
            self._perform(self._current)
        self._end_process()

    def _drop_cancelled(self) -> None:
        with self._changed:
            dropped = [job for job in self._queue if job.cancel_requested]
            for job in dropped:
                self._queue.remove(job)
        for job in dropped:
            job._tell(Failed(Cancelled("cancelled")))

    def _perform(self, job: Job) -> None:
        for attempt in range(2):  # a process that dies while idle is found out too late, the job is unharmed
            try:
                self._start()
                self._send(job)
            except (OSError, EOFError):
                self._discard()
                continue
            except Exception as error:  # cannot be pickled: nothing was sent
                text = f"{job.function}: its arguments cannot be sent ({type(error).__name__})"
                job._tell(Failed(RadiolucentError(text)))
                return
            if self._watch(job, may_retry=attempt == 0):
                return
        job._tell(
            Died(
                WorkerDied(
                    f"{self.name}: its process does not start; reinstall or see `radiolucent selftest`"
                )
            )
        )

    def _start(self) -> None:
        if self._process is not None and self._process.is_alive():
            return
        self._discard()
        here, there = self._context.Pipe(duplex=True)
        process = self._context.Process(
            target=worker_process.main,
            args=(there, self._cell, self._niceness),
            name=f"radiolucent-{self.name}",
            daemon=True,
        )
        _wait_for_clean_path()
        try:
            process.start()
        except BaseException:
            here.close()
            raise
        finally:
            there.close()
        self._process, self._channel, self._ready = process, Channel(here), False
        self.starts += 1

    def _send(self, job: Job) -> None:
        assert self._channel is not None
        assert job._call is not None
        args, kwargs = job._call
        before = self._sent.copy()
        positional = [self._pass(value) for value in args]
        named = {key: self._pass(value) for key, value in kwargs.items()}
        try:
            self._channel.send((job.id, job.function, positional, named))
        except BaseException:
            self._sent = before
            raise

    def _pass(self, value: Any) -> Any:
        if not isinstance(value, Once):
            return value
        known = value.key in self._sent
        self._sent[value.key] = None
        worker_process.remember(self._sent, value.key)
        return Known(value.key) if known else value

    def _watch(self, job: Job, may_retry: bool) -> bool:
        """Follow the job to its end. False when the process died before it began and it may be sent again."""
        process, channel = self._process, self._channel
        assert channel is not None
        deadline: float | None = None
        begun = False
        while True:
            ready = connection.wait([channel.connection, process.sentinel], _TICK_S)
            if channel.connection in ready:
                try:
                    message = channel.receive()
                    kind, number, value = ("", -1, None) if message is NOTHING else (*message, None)[:3]
                except (EOFError, OSError):
                    return self._bury(job, may_retry and not begun)
                except Exception as error:
                    job._tell(
                        Failed(
                            RadiolucentError(f"{job.function}: unreadable answer ({type(error).__name__})")
                        )
                    )
                    self._discard()
                    return True
                if kind == "ready":
                    self._ready = True
                elif kind == "begun":
                    begun = True
                elif number in (job.id, 0) and self._handle(job, kind, value):
                    return True
            elif process.sentinel in ready:
                return self._bury(job, may_retry and not begun)
            self._drop_cancelled()
            if job.cancel_requested:
                self._cell.value = job.id
                deadline = deadline or time.monotonic() + self.grace_s
                if time.monotonic() > deadline:
                    self._discard()
                    job._tell(Failed(Cancelled("cancelled")))
                    self._restart()
                    return True

    def _handle(self, job: Job, kind: str, value: Any) -> bool:
        """Pass one message on. True when the job has ended."""
        if kind == "progress":
            job._tell(value)
            return False
        if kind == "partial":
            job._tell(Partial(value))
            return False
        if kind == "out of memory":
            self._bury(job, False, "ran out of memory", value)
        elif kind == "failed":
            name, text, detail = value
            job._tell(Failed(_error(name, text), detail))
        else:
            job._tell(Done(value))
        return True

    def _bury(self, job: Job, may_retry: bool, reason: str = "", detail: str = "") -> bool:
        process, was_ready = self._process, self._ready
        process.join(2.0)
        if may_retry and not job.cancel_requested:
            self._discard()
            return False
        if not reason:
            code = process.exitcode
            if code is not None and code < 0:
                reason = f"was ended by signal {-code}" + (" (often: out of memory)" if code == -9 else "")
            else:
                reason = f"ended unexpectedly (exit code {code})"
        self._discard()
        task = job.function.rpartition(":")[2]
        text = f"{self.name}: the process {reason} during {task}; that job is lost, try it again"
        job._tell(Died(WorkerDied(text), detail))
        if was_ready:  # one that dies at its start would die again
            self._restart()
        return True

    def _restart(self) -> None:
        if not self._closing:
            with suppress(OSError):
                self._start()

    def _discard(self) -> None:
        """Kill what is left of the process and forget what it knew."""
        process, channel = self._process, self._channel
        self._process, self._channel, self._ready = None, None, False
        self._sent.clear()
        if channel is not None:
            channel.close()
        if process is not None:
            if process.is_alive():
                process.kill()
            process.join(5.0)
            with suppress(ValueError):
                process.close()

    def _end_process(self) -> None:
        if self._channel is not None and self._process is not None:
            with suppress(OSError):
                self._channel.send(None)
            self._process.join(1.0)
        self._discard()


def _wait_for_clean_path(timeout: float = 10.0) -> None:
    """OpenCV puts its own folder on sys.path while another thread imports it. A process that is spawned in that moment
    inherits the path and finds OpenCV's `typing` instead of Python's."""
    end = time.monotonic() + timeout
    while any(os.path.basename(entry) == "cv2" for entry in sys.path) and time.monotonic() < end:
        time.sleep(0.01)


def _error(name: str, text: str) -> RadiolucentError:
    kind = getattr(errors, name, RadiolucentError)
    return (
        kind(text)
        if isinstance(kind, type) and issubclass(kind, RadiolucentError)
        else RadiolucentError(text)
    )


def _shutdown_at_exit(reference: weakref.ref[Worker]) -> None:
    worker = reference()
    if worker is not None:
        worker.shutdown(timeout=3.0)
