"""Output that appears whole or not at all.

Everything is built beside its destination, on the same file system, and moved into place by a rename. A
failure, Ctrl-C included, leaves an earlier good result as it was. A process that is killed cannot tidy up:
the next write to the same destination removes what it left, and puts back a result that was set aside at the
very moment of the kill.
"""

from __future__ import annotations

import errno
import os
import platform
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xai_engine.errors import OutputError

_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_HOST = re.sub(r"[^A-Za-z0-9]", "", platform.node())[:32] or "host"


@contextmanager
def folder(path: str | os.PathLike[str], *, marker: str | None = None) -> Iterator[Path]:
    """Yield an empty folder to fill; on a clean exit it becomes `path`, in place of an earlier one.

    marker: a file name that earlier results hold. A folder at `path` that is not empty and lacks it is
        somebody else's and is not replaced.
    Raises OutputError, with nothing left behind, when the folder cannot be written; any other exception of
    the block passes through, likewise with nothing left behind.
    """
    target = Path(os.path.realpath(path))
    with _as_output_error(target):
        if target.exists() and not target.is_dir():
            raise OutputError(f"{path}: is a file, not a folder; choose another output folder")
        made = _make_parents(target.parent)
    temporary, previous = _sibling(target, "partial"), _sibling(target, "previous")
    try:
        with _as_output_error(target):
            _tidy_up(target)
            if marker is not None and target.is_dir():
                names = {entry.name for entry in os.scandir(target)}
                if names and marker not in names:
                    raise OutputError(
                        f"{path}: holds files that Radiolucent did not write; choose another output folder"
                    )
            temporary.mkdir()
            yield temporary
            if target.is_dir():
                os.rename(target, previous)
            try:
                os.rename(temporary, target)
            except BaseException:
                if previous.is_dir():
                    os.rename(previous, target)
                raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        _remove_empty(made)
        raise
    shutil.rmtree(previous, ignore_errors=True)


@contextmanager
def file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a file to write; on a clean exit it becomes `path`, in place of an earlier one.

    The yielded name keeps the suffix, so libraries that choose a format by it work. Errors as in `folder`.
    """
    target = Path(os.path.realpath(path))
    with _as_output_error(target):
        if target.is_dir():
            raise OutputError(f"{path}: is a folder, not a file; choose another file name")
        made = _make_parents(target.parent)
    temporary = _sibling(target, "partial")
    try:
        with _as_output_error(target):
            _tidy_up(target)
            temporary.touch()
            yield temporary
            with open(temporary, "rb+") as handle:
                os.fsync(handle.fileno())  # delayed allocation may report a full disk only here
            os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        _remove_empty(made)
        raise


@contextmanager
def _as_output_error(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {_reason(error, target)}") from error


def _reason(error: OSError, target: Path) -> str:
    if error.errno in _FULL or (error.errno is None and _free_bytes(target) < 1 << 20):
        # numpy's tofile raises OSError without a number when the disk is full
        return "the disk is full; free some space or choose another folder"
    if error.errno in _FORBIDDEN:
        return "no permission; choose a folder that you may write to"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long; choose a shorter one"
    what = (error.strerror or str(error) or type(error).__name__).splitlines()[0]
    return f"{what.lower()}; choose another folder"


def _free_bytes(target: Path) -> int:
    place = target
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 1 << 40


def _make_parents(parent: Path) -> list[Path]:
    """Create missing parents; returns those created, innermost first, for a failure to take back."""
    missing = []
    place = parent
    while not place.exists():
        missing.append(place)
        place = place.parent
    parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for place in folders:
        with suppress(OSError):
            place.rmdir()


def _sibling(target: Path, role: str) -> Path:
    # Not tempfile: its 0700/0600 modes would survive the rename and lock colleagues out of the result.
    name = f".{target.stem[:60]}~{_HOST}~{os.getpid()}~{secrets.token_hex(4)}~{role}{target.suffix[:20]}"
    return target.parent / name


def _tidy_up(target: Path) -> None:
    """Remove what processes that were killed while writing `target` left behind."""
    pattern = re.compile(
        re.escape(f".{target.stem[:60]}~{_HOST}~")
        + r"(\d+)~[0-9a-f]{8}~(partial|previous)"
        + re.escape(target.suffix[:20])
    )
    for entry in list(os.scandir(target.parent)):
        match = pattern.fullmatch(entry.name)
        if match is None or _alive(int(match[1])):
            continue
        if match[2] == "previous" and not target.exists():
            os.rename(entry.path, target)
        elif entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            with suppress(OSError):
                os.unlink(entry.path)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return True
    if sys.platform == "win32":  # os.kill(pid, 0) would end the process there
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
