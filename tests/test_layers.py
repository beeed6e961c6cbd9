"""Imports go one way, the engine needs no Qt, and what should load light loads light."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
HEAVY = (
    "torch",
    "torchvision",
    "monai",
    "captum",
    "skimage",
    "scipy",
    "cv2",
    "reportlab",
    "PySide6",
    "matplotlib",
)

# A finder that answers as if a distribution were not installed: stands in for a machine without it.
BLOCK = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}} (blocked by a test)", name=name)
sys.meta_path.insert(0, Absent())
"""


def python(code: str, *arguments: str) -> str:
    """Standard output of a fresh interpreter, run outside the checkout's folder."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def loaded_by(statement: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps([n for n in {HEAVY!r} if n in sys.modules]))"
    return set(json.loads(python(code).splitlines()[-1]))


def test_import_contracts() -> None:
    pytest.importorskip("importlinter", reason="import-linter is not installed (pip install -e .[dev])")
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import xai_engine", set()),
        ("import xai_engine.errors, xai_engine.paths", set()),
        ("import xai_engine.cli", set()),
        ("import xai_engine.radiograph, xai_engine.radiograph.types, xai_engine.radiograph.geometry", set()),
        ("import xai_engine.classifier.types, xai_engine.explain.types", set()),
        ("import xai_engine.runtime.run, xai_engine.runtime.worker", set()),
        ("from xai_engine.explain import registry; registry.describe()", set()),
        ("from xai_engine.analysis import tasks", set()),
        ("from xai_engine.radiograph import read, display, regions, colour", {"scipy", "cv2", "skimage"}),
    ],
)
def test_what_an_import_loads(statement: str, allowed: set[str]) -> None:
    assert loaded_by(statement) <= allowed


def test_the_window_loads_no_torch() -> None:
    everything = (
        "import importlib, os, pkgutil\n"
        "os.environ['QT_QPA_PLATFORM'] = 'offscreen'\n"
        "import app\n"
        "for m in pkgutil.walk_packages(app.__path__, 'app.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)"
    )
    assert not loaded_by(everything) & {"torch", "torchvision", "monai", "captum", "matplotlib"}


def test_main_job_without_qt_and_what_the_frozen_folder_leaves_out(tmp_path: Path) -> None:
    """Sample to PDF where there is no Qt, no torchvision (none fits the CPU build of torch), no plots, no peers."""
    absent = {"PySide6", "shiboken6", "torchvision", "matplotlib", "captum", "lime", "sklearn", "pandas"}
    code = BLOCK.format(blocked=absent) + (
        "from xai_engine.cli import main\n"
        "from xai_engine.paths import resources_dir\n"
        "sample = resources_dir() / 'samples' / 'synthetic-consolidation.dcm'\n"
        "small = ['--param', 'integrated-gradients.steps=8', '--param', 'lime.samples=50']\n"
        "raise SystemExit(main(['analyze', str(sample), *small, '--report', '--out', sys.argv[1]]))"
    )
    python(code, str(tmp_path))
    folder = tmp_path / "synthetic-consolidation"
    found = json.loads((folder / "analysis.json").read_text())
    assert {e["method"] for e in found["explanations"]} == {"grad-cam", "integrated-gradients", "lime"}
    assert found["prediction"]["label"] == "pneumonia"
    assert (folder / "report.pdf").read_bytes()[:5] == b"%PDF-"
