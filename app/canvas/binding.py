"""Between the models' signals and Qt's objects."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from shiboken6 import isValid

from app.model.signal import Signal


def listen(signal: Signal, slot: Callable[..., Any]) -> None:
    """Connect a method of a QObject until the object is gone, in Python or in Qt, whichever comes first."""
    held = weakref.WeakMethod(cast(Any, slot))

    def call(*values: Any) -> None:
        method = held()
        if method is None or not isValid(method.__self__):
            signal.disconnect(call)
        else:
            method(*values)

    signal.connect(call)


@contextmanager
def no_collection() -> Iterator[None]:
    """No garbage collection while a painter is open: a Qt object destroyed in mid-paint is a crash."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
