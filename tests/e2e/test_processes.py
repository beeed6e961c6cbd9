"""Long jobs, cancelled jobs, processes that die, and the end of the window."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from app.engine import Task
from tests.e2e.driver import PATIENCE_S, Driver
from xai_engine.runtime.run import Progress

LONG = {"samples": 20_000}
"""The most that LIME allows: minutes with the shipped model."""


def start_long(driver: Driver) -> Task:
    """A LIME run that has made progress."""
    prediction = driver.window.case.prediction
    assert prediction is not None
    if not prediction.readable:
        pytest.skip(f"the model in use refuses the sample: {prediction.refusal}")
    made: list[Progress] = []
    task = driver.window.reading.explain("lime", "LIME", LONG, None, 0)
    assert task is not None
    task.progressed.connect(made.append)
    ended: list[bool] = []
    task.ended.connect(lambda: ended.append(True))
    driver.until(lambda: ended or any(0 < p.fraction < 1 for p in made), "progress of LIME")
    assert not ended, driver.window.messages.texts
    driver.until(lambda: driver.window.jobs.isVisible(), "the job in the status bar")
    return task


def test_cancel(driver: Driver, consolidation: Path) -> None:
    driver.open(consolidation)
    window, case = driver.window, driver.window.case
    pid = window.engine.engine.pid
    start_long(driver)
    assert "LIME" in window.jobs.title.text()
    window.jobs.cancel.click()
    driver.wait_idle()
    driver.until(lambda: not window.jobs.isVisible(), "the bar to go")
    for layer in case.layers:  # none, or what there was so far
        assert layer.explanation.partial
        assert np.isfinite(layer.explanation.values).all()
    if case.layers:
        assert any("partial" in text for text in window.messages.texts)
    task = window.reading.explain("grad-cam", "Grad-CAM", {}, None, 0)
    assert task is not None
    driver.until(lambda: any(layer.explanation.method == "grad-cam" for layer in case.layers), "the next map")
    driver.wait_idle()
    assert window.engine.engine.pid == pid  # the job listened; nobody had to be killed


def test_the_standard_maps_are_three_jobs(driver: Driver, consolidation: Path) -> None:
    driver.open(consolidation)
    driver.wait_idle()
    if not driver.window.commands.actions["standard"].isEnabled():
        pytest.skip("the model in use refuses the sample")
    driver.do("standard")
    assert [task.title for task in driver.window.jobs.tasks] == ["Integrated Gradients", "Grad-CAM", "LIME"]
    for task in list(driver.window.jobs.tasks):
        task.cancel()
    driver.wait_idle()
    driver.until(lambda: not driver.window.jobs.isVisible(), "the bar to go")


def test_the_model_process_is_killed(driver: Driver, consolidation: Path, normal: Path) -> None:
    driver.open(consolidation)
    window = driver.window
    start_long(driver)
    pid = window.engine.engine.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    driver.until(
        lambda: any("LIME" in text and "Lost" in text for text in window.messages.texts), "what was lost"
    )
    assert driver.image.path == consolidation
    assert window.case.prediction is not None  # kept
    driver.open(normal)
    driver.wait_idle()
    assert window.engine.engine.pid not in (None, pid)


def test_the_reader_process_is_killed_while_idle(driver: Driver, consolidation: Path, normal: Path) -> None:
    driver.open(consolidation)
    window = driver.window
    driver.wait_idle()
    pid = window.engine.reader.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    driver.open(normal)
    assert window.engine.reader.pid not in (None, pid)
    assert not any("Lost" in text for text in window.messages.texts)  # nothing was


CLOSE_WITH_A_JOB = """
import json, sys, time
from pathlib import Path

def main():
    import psutil
    from PySide6.QtWidgets import QApplication
    from app.engine import Engine
    from app.main_window import MainWindow
    from app.settings import SettingsStore
    from app.theme import Theme

    app = QApplication([])
    store = SettingsStore(Path(sys.argv[2]))
    window = MainWindow(store, Theme(app), Engine())
    window.files.interactive = False
    window.show()
    window.open([Path(sys.argv[1])])
    def until(condition):
        end = time.monotonic() + float(sys.argv[3])
        while not condition() and time.monotonic() < end:
            app.processEvents()
            time.sleep(0.01)
        assert condition(), window.messages.texts
    until(lambda: window.case.prediction is not None)
    made = []
    task = window.reading.explain("lime", "LIME", {"samples": 20000}, None, 0)
    readable = window.case.prediction.readable
    if readable:
        task.progressed.connect(made.append)
        until(lambda: any(0 < p.fraction < 1 for p in made))
    before = time.monotonic()
    window.close()
    seconds = time.monotonic() - before
    def ours():
        return [p.name() for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE
                and "resource_tracker" not in " ".join(p.cmdline())]
    print(json.dumps({
        "heavy": [name for name in ("torch", "monai", "captum") if name in sys.modules],
        "seconds": seconds, "readable": readable, "fraction": made[-1].fraction if made else None, "left": ours(),
        "visible": window.isVisible(),
    }))

if __name__ == "__main__":
    main()
"""


def test_closing_with_a_running_job(consolidation: Path, model: str | None, tmp_path: Path) -> None:
    """In a process of its own: the job is not waited for, no process stays, and torch never came near the window."""
    script = tmp_path / "close.py"
    script.write_text(CLOSE_WITH_A_JOB)
    result = run([str(script), str(consolidation), str(tmp_path / "settings.json"), str(PATIENCE_S)], model)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["heavy"] == []
    assert said["left"] == []
    assert not said["visible"]
    if said["readable"]:
        assert said["fraction"] < 0.9  # it was cut off, not finished
    assert json.loads((tmp_path / "settings.json").read_text())["geometry"]


def test_the_probe_of_the_bench(consolidation: Path, model: str | None, tmp_path: Path) -> None:
    result = run(
        ["-m", "app", str(consolidation)], model, RADIOLUCENT_PROBE="1", RADIOLUCENT_CONFIG=str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    said = [line.split()[0] for line in result.stderr.splitlines() if line.startswith(("window-", "image-"))]
    assert said == ["window-shown", "image-visible"]


def run(arguments: list[str], model: str | None, **environment: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[2]
    variables = {**os.environ, "PYTHONPATH": str(root), **environment}
    if model:
        variables["RADIOLUCENT_MODEL"] = model
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=root,
        env=variables,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
    )
