"""Memory figures agree with what the system itself says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xai_engine.bench import machine
from xai_engine.bench.startup import start_once


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_sees_a_block_come_and_go() -> None:
    import resource

    block = np.ones(25_000_000)
    assert block[-1] == 1.0
    del block
    mine = machine.peak_memory(os.getpid())
    assert mine == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6, rel=0.02)
    assert mine is not None
    assert mine > 200


def test_memory_of_a_process_that_is_gone_is_unknown() -> None:
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    assert machine.peak_memory(process.pid) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_total_memory_is_what_the_kernel_says() -> None:
    with open("/proc/meminfo") as lines:
        kib = next(int(line.split()[1]) for line in lines if line.startswith("MemTotal"))
    assert machine.total_memory() == pytest.approx(kib * 1024, rel=0.01)


def test_start_reports_the_marks_and_the_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the program: what the clock and the listener make of its output."""
    script = tmp_path / "program.py"
    script.write_text("import sys\nprint('window-shown', file=sys.stderr)\nsys.exit('broken: no image')\n")
    monkeypatch.setattr("xai_engine.bench.startup.command", lambda image: [sys.executable, str(script)])
    start = start_once(tmp_path / "x.dcm")
    assert start.window is not None
    assert start.image is None
    assert start.error == "broken: no image"
