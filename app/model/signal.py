"""A signal for models that know no Qt."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from types import MethodType
from typing import Any


class Signal:
    """Calls every connected function with what is emitted, in the order of connection, in the caller's thread.

    Bound methods are held weakly: a view that is gone is not kept alive by the model, and hears nothing more.
    """

    def __init__(self) -> None:
        self._slots: list[Callable[[], Callable[..., Any] | None]] = []

    def connect(self, slot: Callable[..., Any]) -> Callable[..., Any]:
        """Call `slot` at every emit. Returns it, so that this may serve as a decorator."""
        if isinstance(slot, MethodType):
            self._slots.append(weakref.WeakMethod(slot))
        else:
            self._slots.append(lambda: slot)
        return slot

    def disconnect(self, slot: Callable[..., Any]) -> None:
        """Forget `slot`; nothing happens where it is not connected."""
        self._slots = [held for held in self._slots if held() not in (slot, None)]

    def emit(self, *values: Any) -> None:
        """Slots that connect or leave meanwhile count from the next emit, except that who has left is not called."""
        for held in tuple(self._slots):
            slot = held()
            if slot is not None and held in self._slots:
                slot(*values)
        self._slots = [held for held in self._slots if held() is not None]

    def __len__(self) -> int:
        return sum(held() is not None for held in self._slots)
