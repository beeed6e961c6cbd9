"""Sending objects with large arrays between processes: pickle protocol 5, the arrays out of band in one
shared block.

The receiver's arrays lie directly in that block (no copy) and the block goes when the last of them does. No
block has a name that could be left behind: on Linux and macOS its file descriptor travels over the pipe's
socket; on Windows the kernel drops a named mapping when the last process lets go.
`multiprocessing.shared_memory` is not used because its tracker unlinks or warns about blocks that outlive
their creator, and because its blocks survive a killed process.
"""

from __future__ import annotations

import mmap
import os
import pickle
import secrets
import socket
import sys
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

_NAMED = sys.platform == "win32"  # blocks travel by name, and the receiver says when it has opened one
_ALIGN = 64  # a cache line, and enough for every SIMD load


@dataclass(frozen=True, slots=True)
class _Header:
    """Layout of a message. spans: (offset, length, read-only) of each buffer in the block."""

    body: bytes
    size: int
    spans: tuple[tuple[int, int, bool], ...]
    tag: str  # name of the mapping on Windows


NOTHING = object()


class Channel:
    """One end of a two-way pipe. `send` may be called from any thread, `receive` from one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._held: dict[str, mmap.mmap] = {}

    def send(self, message: object) -> None:
        """Raises pickle.PicklingError, TypeError or AttributeError for what cannot be pickled, with nothing
        sent; OSError when the other end is gone or no memory block can be had."""
        buffers: list[pickle.PickleBuffer] = []
        body = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        views = [buffer.raw() for buffer in buffers]
        spans, offset = [], 0
        for view in views:
            spans.append((offset, view.nbytes, view.readonly))
            offset += -(-view.nbytes // _ALIGN) * _ALIGN
        tag = f"radiolucent-{os.getpid()}-{secrets.token_hex(8)}" if _NAMED and offset else ""
        descriptor, block = _create(offset, tag) if offset else (-1, None)
        try:
            if block is not None:
                for (start, length, _), view in zip(spans, views, strict=True):
                    block[start : start + length] = view
            header = pickle.dumps(_Header(body, offset, tuple(spans), tag))
            with self._lock:
                if tag and block is not None:
                    self._held[tag] = block  # until the other end has opened it
                self._connection.send_bytes(header)
                if descriptor >= 0:
                    _send_descriptor(self._connection, descriptor)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def receive(self) -> Any:
        """The next message, or NOTHING when what came was for the channel itself.

        Raises EOFError or OSError when the other end is gone.
        """
        header = pickle.loads(self._connection.recv_bytes())
        if isinstance(header, str):
            with self._lock:
                self._held.pop(header, None)
            return NOTHING
        buffers: list[memoryview] = []
        if header.size:
            view = memoryview(self._open(header))
            for start, length, readonly in header.spans:
                part = view[start : start + length]
                buffers.append(part.toreadonly() if readonly else part)
        else:
            buffers = [memoryview(b"" if readonly else bytearray()) for _, _, readonly in header.spans]
        return pickle.loads(header.body, buffers=buffers)

    def poll(self, timeout: float = 0.0) -> bool:
        return self._connection.poll(timeout)

    @property
    def connection(self) -> Connection:
        return self._connection

    def close(self) -> None:
        with self._lock:
            self._held.clear()
            self._connection.close()

    def _open(self, header: _Header) -> mmap.mmap:
        if header.tag:
            block = _named(header.size, header.tag)
            with self._lock:
                self._connection.send_bytes(pickle.dumps(header.tag))
            return block
        descriptor = _receive_descriptor(self._connection)
        try:
            return _map(descriptor, header.size)
        finally:
            os.close(descriptor)


def _create(size: int, tag: str) -> tuple[int, mmap.mmap]:
    if tag:
        return -1, _named(size, tag)
    descriptor = -1
    if hasattr(os, "memfd_create"):
        try:
            descriptor = os.memfd_create("radiolucent", os.MFD_CLOEXEC)
        except OSError:
            descriptor = -1
    if descriptor < 0:
        with tempfile.TemporaryFile() as unnamed:
            descriptor = os.dup(unnamed.fileno())
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)  # a lack of memory is an error here, not a SIGBUS later
        else:
            os.ftruncate(descriptor, size)
        return descriptor, _map(descriptor, size)
    except BaseException:
        os.close(descriptor)
        raise


def _named(size: int, tag: str) -> mmap.mmap:
    if sys.platform == "win32":
        return mmap.mmap(-1, size, tag)
    raise OSError("named blocks are for Windows only")


def _map(descriptor: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(descriptor, size, trackfd=False)  # else each live block would hold a descriptor
    return mmap.mmap(descriptor, size)


def _send_descriptor(connection: Connection, descriptor: int) -> None:
    with socket.socket(fileno=os.dup(connection.fileno())) as channel:
        channel.setblocking(True)
        socket.send_fds(channel, [b"."], [descriptor])


def _receive_descriptor(connection: Connection) -> int:
    with socket.socket(fileno=os.dup(connection.fileno())) as channel:
        channel.setblocking(True)
        data, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if not data:
        raise EOFError
    if len(descriptors) != 1:
        raise OSError("a memory block got lost between two processes (too many open files?)")
    return descriptors[0]
