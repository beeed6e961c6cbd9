"""Output that appears whole or not at all, with faults injected at every step."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from xai_engine.errors import OutputError
from xai_engine.runtime import atomic

ROOT = Path(__file__).parents[2]
LINUX_ROOT = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0,
    reason="mounts a small disk, changes user: needs root on Linux",
)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_folder_appears_whole_and_replaces_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "b" / "result"
    with atomic.folder(target) as work:
        (work / "one").write_text("1")
        assert not target.exists()
    with atomic.folder(target) as work:
        (work / "two").write_text("2")
        assert listing(target) == {"one": b"1"}
    assert listing(tmp_path) == {"a/b/result/two": b"2"}
    assert os.listdir(target.parent) == ["result"]


def test_results_have_the_modes_that_the_umask_gives(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.txt").touch()
    with atomic.folder(tmp_path / "f"), atomic.file(tmp_path / "f.txt"):
        pass
    assert (tmp_path / "f").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert (tmp_path / "f.txt").stat().st_mode == (tmp_path / "plain.txt").stat().st_mode


@pytest.mark.parametrize("fault", [ValueError("x"), KeyboardInterrupt(), SystemExit(3)])
def test_a_failure_leaves_the_earlier_result_and_nothing_else(tmp_path: Path, fault: BaseException) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").write_text("old")
    (tmp_path / "old.txt").write_text("old")
    before = listing(tmp_path)

    def fill_folder(target: Path) -> None:
        with atomic.folder(target) as work:
            (work / "new").write_text("new")
            raise fault

    def fill_file(target: Path) -> None:
        with atomic.file(target) as work:
            work.write_text("new")
            raise fault

    for name in ("result", "deep/new/result"):
        with pytest.raises(type(fault)):
            fill_folder(tmp_path / name)
    for name in ("old.txt", "deep/new/file.txt"):
        with pytest.raises(type(fault)):
            fill_file(tmp_path / name)
    assert listing(tmp_path) == before
    assert sorted(os.listdir(tmp_path)) == ["old.txt", "result"]


def test_a_failing_swap_puts_the_earlier_result_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "result"
    target.mkdir()
    (target / "old").write_text("old")
    rename, calls = os.rename, []

    def second_fails(source: Path, destination: Path) -> None:
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", second_fails)
    with pytest.raises(OutputError, match="input/output error"), atomic.folder(target) as work:
        (work / "new").write_text("new")
    assert listing(tmp_path) == {"result/old": b"old"}


def test_somebody_elses_folder_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "scan"
    target.mkdir()
    with atomic.folder(target, marker="analysis.json") as work:  # empty: nothing to lose
        (work / "analysis.json").write_text("{}")
    with atomic.folder(target, marker="analysis.json") as work:
        (work / "analysis.json").write_text("{2}")
    (target / "analysis.json").rename(target / "original.dcm")
    with pytest.raises(OutputError, match="did not write"), atomic.folder(target, marker="analysis.json"):
        raise AssertionError("must not come this far")
    assert listing(tmp_path) == {"scan/original.dcm": b"{2}"}


def test_wrong_kind_of_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()

    def use(manager: Callable[[Path], AbstractContextManager[Path]], target: Path) -> None:
        with manager(target):
            pass

    for manager, target in (
        (atomic.folder, tmp_path / "file"),
        (atomic.file, tmp_path / "folder"),
        (atomic.folder, tmp_path / "file" / "below"),
        (atomic.file, tmp_path / "file" / "below"),
        (atomic.file, tmp_path / ("x" * 300)),
    ):
        with pytest.raises(OutputError) as caught:
            use(manager, target)
        assert "\n" not in str(caught.value)
        assert "choose" in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_no_space_from_any_write(tmp_path: Path, number: int) -> None:
    def fill() -> None:
        with atomic.folder(tmp_path / "r") as work:
            (work / "part").write_text("x")
            raise OSError(number, os.strerror(number))

    with pytest.raises(OutputError, match="disk is full; free some space"):
        fill()
    assert os.listdir(tmp_path) == []


def test_file_keeps_its_suffix_and_symlinks_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_text("old")
    (tmp_path / "link.png").symlink_to("real.png")
    with atomic.file(tmp_path / "link.png") as work:
        assert work.suffix == ".png"
        work.write_text("new")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_text() == "new"


def run_and_kill(tmp_path: Path, body: str) -> None:
    code = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from xai_engine.runtime import atomic
        base = Path(sys.argv[1])
        def die(*_): os.kill(os.getpid(), signal.SIGKILL)
        """
    ) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_what_a_killed_process_left_is_tidied_up_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").write_text("old")
    body = """
        with atomic.file(base / "f.txt") as part, atomic.folder(base / "result") as work:
            (work / "new").write_text("new")
            die()
        """
    run_and_kill(tmp_path, body)
    assert listing(tmp_path / "result") == {"old": b"old"}
    assert len(os.listdir(tmp_path)) == 3
    with atomic.folder(tmp_path / "result") as work, atomic.file(tmp_path / "f.txt"):
        (work / "new").write_text("new")
    assert sorted(os.listdir(tmp_path)) == ["f.txt", "result"]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_result_set_aside_by_a_killed_process_comes_back(tmp_path: Path) -> None:
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").write_text("old")
    body = """
        rename = os.rename
        def once(a, b):
            rename(a, b)
            die()
        os.rename = once
        with atomic.folder(base / "result"):
            pass
        """
    run_and_kill(tmp_path, body)
    assert not (tmp_path / "result").exists()
    with pytest.raises(ZeroDivisionError), atomic.folder(tmp_path / "result"):
        1 / 0  # noqa: B018
    assert listing(tmp_path) == {"result/old": b"old"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this container may not mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@LINUX_ROOT
def test_a_full_disk(small_disk: Path) -> None:
    target = small_disk / "result"
    with atomic.folder(target) as work:
        (work / "old").write_text("old")
    with pytest.raises(OutputError, match="disk is full"), atomic.folder(target) as work:
        np.save(work / "map.npy", np.zeros(1 << 20, np.float32))
    with pytest.raises(OutputError, match="disk is full"), atomic.file(small_disk / "big") as part:
        part.write_bytes(bytes(1 << 20))
    assert listing(small_disk) == {"result/old": b"old"}
    assert os.listdir(small_disk) == ["result"]


@LINUX_ROOT
def test_a_folder_without_permission(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import sys
        from xai_engine.errors import OutputError
        from xai_engine.runtime import atomic
        import os
        os.seteuid(65534)
        for manager in (atomic.folder, atomic.file):
            try:
                with manager(sys.argv[1] + "/result"):
                    pass
            except OutputError as error:
                print(error)
        """
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("no permission; choose a folder that you may write to") == 2
