"""Keeps what decoding libraries print out of our output: their warnings and log lines may hold patient data.

Both switches are the process's own, so threads that read at the same time share one: the first in throws it, the
last out restores it. Otherwise the restorations cross, and the process stays mute.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "rle", "libjpeg", "PIL", "tifffile")


class _Shared:
    """A context manager that any number of threads may be inside of; `switch` is entered once for all of them."""

    def __init__(self, switch: Callable[[], AbstractContextManager[None]]) -> None:
        self._switch = switch
        self._lock = threading.Lock()
        self._inside = 0
        self._entered: AbstractContextManager[None] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._entered = self._switch()
                self._entered.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0 and self._entered is not None:
                    self._entered.__exit__(None, None, None)
                    self._entered = None


@contextmanager
def _libraries() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def _file_descriptor_2() -> Iterator[None]:
    try:
        saved = os.dup(2)
    except OSError:  # a windowed program may have no standard error at all
        yield
        return
    try:
        with contextlib.suppress(OSError), open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)


#: Silence the Python warnings and log records of the libraries that read files.
quiet_libraries = _Shared(_libraries)
#: Send file descriptor 2 to nowhere: libjpeg inside GDCM and OpenCV prints there and cannot be told not to.
quiet_c_library = _Shared(_file_descriptor_2)
