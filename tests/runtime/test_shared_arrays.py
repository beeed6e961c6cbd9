"""Messages with arrays over a pipe: any object comes back equal, by descriptor and by name."""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import threading
import weakref
from multiprocessing import Pipe
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xai_engine.runtime import shared_arrays
from xai_engine.runtime.shared_arrays import NOTHING, Channel


@pytest.fixture(params=["descriptor", "name"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Both ends of a channel; "name" plays Windows with a registry in place of the kernel's names."""
    if request.param == "name":
        known: weakref.WeakValueDictionary[str, mmap.mmap] = weakref.WeakValueDictionary()

        def named(size: int, tag: str) -> mmap.mmap:
            block = known.get(tag)
            if block is None:
                block = known[tag] = mmap.mmap(-1, size)
            return block

        monkeypatch.setattr(shared_arrays, "_NAMED", True)
        monkeypatch.setattr(shared_arrays, "_named", named)
    elif os.name == "nt":
        pytest.skip("POSIX")
    a, b = (Channel(end) for end in Pipe())
    yield a, b
    a.close()
    b.close()


def exchange(a: Channel, b: Channel, value: Any) -> Any:
    sender = threading.Thread(target=a.send, args=(value,))
    sender.start()
    found = b.receive()
    sender.join()
    return found


def test_arrays_of_every_kind(pair: tuple[Channel, Channel]) -> None:
    a, b = pair
    array = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    frozen = array.copy()
    frozen.flags.writeable = False
    sent = [
        array,
        frozen,
        array[::-1],
        np.asfortranarray(array),
        np.zeros(0),
        np.float32(3),
        {"x": (array, array)},
    ]
    found = exchange(a, b, sent)
    for one, two in zip(sent[:6], found[:6], strict=True):
        assert np.array_equal(one, two)
    assert found[6]["x"][0] is found[6]["x"][1] is found[0]
    assert [found[0].flags.writeable, found[1].flags.writeable] == [True, False]
    assert found[0].ctypes.data % 64 == 0


def test_the_sender_keeps_a_named_block_until_it_is_opened(pair: tuple[Channel, Channel]) -> None:
    a, b = pair
    a.send(np.arange(1000))
    gc.collect()
    assert np.array_equal(b.receive(), np.arange(1000))
    if shared_arrays._NAMED:
        assert len(a._held) == 1
        assert a.receive() is NOTHING
    assert a._held == {}


def test_what_cannot_be_pickled_sends_nothing(pair: tuple[Channel, Channel]) -> None:
    a, b = pair
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        a.send([np.ones(10), lambda: None])
    assert not b.poll()
    assert exchange(a, b, 5) == 5


def test_the_other_end_is_gone(pair: tuple[Channel, Channel]) -> None:
    a, b = pair
    b.close()
    with pytest.raises((EOFError, OSError)):
        a.receive()
    with pytest.raises(OSError):
        a.send(np.ones(10))


@pytest.mark.skipif(os.name == "nt", reason="POSIX")
@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        hnp.arrays(
            st.sampled_from([np.uint8, np.uint16, np.float32, np.complex128, np.dtype("U3"), np.bool_]),
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=7),
        ),
        max_size=5,
    )
)
def test_any_arrays(arrays: list[np.ndarray]) -> None:
    a, b = (Channel(end) for end in Pipe())
    found = exchange(a, b, arrays)
    assert len(found) == len(arrays)
    for one, two in zip(arrays, found, strict=True):
        assert (one.dtype, one.shape) == (two.dtype, two.shape)
        np.testing.assert_array_equal(one, two)
    a.close()
    b.close()
