"""The command line as users start it: a process with its own streams, names, signals and imports."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Call

ROOT = Path(__file__).resolve().parents[2]


def line(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "xai_engine", *map(str, words)]


def run_process(*words: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        line(*words),
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
        **kwargs,
    )


def test_as_a_process(call: Call, chest: Path) -> None:
    done = run_process("analyze", "chest.dcm", "--model", call.model, "--methods", "none", cwd=call.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("chest.dcm: ")
    done = run_process("analyze", "none.dcm", "--model", call.model, cwd=call.folder)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes")
def test_names_that_the_console_cannot_show(call: Call, chest: Path) -> None:
    names = ["Müller 胸部.dcm", os.fsdecode(b"M\xfcller.dcm")]
    for name in names:
        shutil.copy(chest, call.folder / name)
    words = line("analyze", *names, "--model", call.model, "--methods", "none")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        words, cwd=call.folder, env=environment, capture_output=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in names:
        record = call.folder / "radiolucent-out" / Path(name).stem / "analysis.json"
        assert json.loads(record.read_text(encoding="utf-8"))["prediction"]["readable"] is True


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_by_a_signal(call: Call, chest: Path, number: int) -> None:
    for i in range(200):
        os.link(chest, call.folder / f"copy{i}.dcm")
    out = call.folder / "out"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "xai_engine", "analyze", str(call.folder), "--model", str(call.model)),
            *("--methods", "smooth-grad", "--device", "cpu", "--precision", "fp32", "--out", str(out)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        # a shell that starts the tests in the background has told them to ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 100
    while not (out.is_dir() and [p for p in out.iterdir() if not p.name.startswith(".")]):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    lines = [line for line in err.splitlines() if not line.startswith("[")]
    assert lines == ["radiolucent: cancelled; nothing half-done was left"]
    names = [p.name for p in out.iterdir()]
    assert 0 < len(names) < 200
    for name in names:
        assert {p.name for p in (out / name).iterdir()} == {
            "analysis.json",
            "smooth-grad.npy",
            "smooth-grad.png",
        }


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["methods"], ["analyze", "--help"], ["models"]])
def test_light_verbs_load_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom xai_engine.cli import main\ncode = main(sys.argv[1:])\n"
        "heavy = {'torch', 'monai', 'PySide6', 'scipy', 'skimage', 'matplotlib', 'reportlab'} & set(sys.modules)\n"
        "raise SystemExit(','.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert done.stderr == "" or done.stderr.startswith("radiolucent: no model is installed")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX streams")
def test_streams_that_nobody_reads(call: Call, chest: Path) -> None:
    """`analyze … | head -1` ended after the first image, with exit code 0; a closed standard error ended it at once."""
    for name in ("second.dcm", "third.dcm"):
        shutil.copy(chest, call.folder / name)
    images = ("chest.dcm", "second.dcm", "none.dcm", "third.dcm")
    words = line("analyze", *images, "--model", call.model, "--methods", "none")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            ["sh", "-c", 'exec "$0" "$@" 2>&-', *words],
            cwd=call.folder, env=environment, stdout=writer, timeout=100, check=False,
        )  # fmt: skip
    finally:
        os.close(writer)
    assert done.returncode == 3
    written = sorted(folder.name for folder in (call.folder / "radiolucent-out").iterdir())
    assert written == ["chest", "second", "third"]


@pytest.mark.parametrize("name", ["\x1b]0;title\x07.dcm", "\u202egnp.dcm", "line\nline.dcm", "\x9b31m.dcm"])
def test_names_do_not_command_the_terminal(call: Call, name: str) -> None:
    assert call("export", name, "--picture", "out.png") == 3
    call.one_line("no such file")
    assert call.err.rstrip("\n").isprintable()
