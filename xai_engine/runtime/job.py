"""A submitted computation and what is heard of it. See `worker`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from xai_engine.errors import RadiolucentError
from xai_engine.runtime.run import Progress

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """What a running job has so far."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Done:
    """The job's result. A job that was asked to stop may still end so, with a result marked partial."""

    value: Any


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """The job raised `error`, a Cancelled when it was stopped. `detail`: the traceback; keep it out of
    logs."""

    error: RadiolucentError
    detail: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Died(Failed):
    """The process ended under the job. `error` is a WorkerDied; jobs that wait go on in a new process."""


Event = Progress | Partial | Done | Failed


class Job:
    """One submitted computation. Methods may be called from any thread."""

    def __init__(
        self,
        number: int,
        function: str,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        stop: Callable[[Job], None],
    ) -> None:
        self.id = number
        self.function = function
        self._call: tuple[tuple[Any, ...], dict[str, Any]] | None = (args, kwargs)
        self._stop = stop
        self._lock = threading.RLock()
        self._finished = threading.Event()
        self._outcome: Done | Failed | None = None
        self._listeners: list[Callable[[Event], None]] = []
        self.cancel_requested = False

    @property
    def finished(self) -> bool:
        return self._finished.is_set()

    def cancel(self) -> None:
        """Ask the job to stop. Returns at once; the end comes as an event, as late as the worker's grace time
        when the job does not listen and its process has to be killed."""
        self.cancel_requested = True
        self._stop(self)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the value.

        Raises what the job raised, WorkerDied, Cancelled, or TimeoutError after `timeout` seconds.
        """
        if not self._finished.wait(timeout):
            raise TimeoutError(f"{self.function} has not finished within {timeout} s")
        if isinstance(self._outcome, Done):
            return self._outcome.value
        assert self._outcome is not None
        raise self._outcome.error

    def add_listener(self, listener: Callable[[Event], None]) -> None:
        """Call `listener` with every event from now on; at once, on this thread, when all is over."""
        with self._lock:
            if self._outcome is None:
                self._listeners.append(listener)
                return
        listener(self._outcome)

    def _tell(self, event: Event) -> None:
        with self._lock:
            listeners = list(self._listeners)
            if isinstance(event, (Done, Failed)):
                self._outcome = event
                self._listeners.clear()
                self._call = None
                self._finished.set()
        for listener in listeners:
            try:
                listener(event)
            except Exception:
                _log.exception("a listener of %s failed", self.function)
