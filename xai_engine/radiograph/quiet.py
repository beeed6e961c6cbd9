"""Keeps what decoding libraries print out of our output: their warnings and log lines may hold patient data."""

from __future__ import annotations

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator

_LOGGERS = ("pydicom", "pylibjpeg", "openjpeg", "rle", "libjpeg", "PIL", "tifffile")


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence the Python warnings and log records of the libraries that read files, then restore both."""
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


@contextlib.contextmanager
def quiet_c_library() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: libjpeg inside GDCM and OpenCV prints there and cannot be told not to."""
    try:
        saved = os.dup(2)
    except OSError:  # a windowed program may have no standard error at all
        yield
        return
    try:
        with open(os.devnull, "wb") as sink:
            os.dup2(sink.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
