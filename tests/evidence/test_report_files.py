"""The PDF as a file: same bytes for the same case, whole or not at all, fonts embedded, no patient in its metadata."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pymupdf
import pytest

from tests.conftest import REPOSITORY
from tests.evidence import cases
from tests.evidence.pdf import NAMES
from xai_engine.errors import OutputError
from xai_engine.evidence import report
from xai_engine.evidence.case import CaseReview
from xai_engine.radiograph import display
from xai_engine.radiograph.types import StudyInfo

SCRIPT = """
import sys
from tests.evidence import cases
from xai_engine.evidence import report
report.write(cases.case(), sys.argv[1])
loaded = [name for name in ("torch", "monai", "PySide6") if name in sys.modules]
sys.exit(f"loads {loaded}" if loaded else 0)
"""


def run(path: Path, seed: str, **options: Any) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], env=environment, capture_output=True, text=True, **options
    )


def test_the_same_case_gives_the_same_bytes_and_needs_no_torch(
    tmp_path: Path, short: tuple[CaseReview, Path]
) -> None:
    result = run(tmp_path / "again.pdf", "4711")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.pdf").read_bytes() == short[1].read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = run(tmp_path / "r.pdf", "0", preexec_fn=limit)
    assert "OutputError" in result.stderr
    assert "the disk is full" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_named_and_an_old_report_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases.case(methods=(), shown=())
    with pytest.raises(OutputError, match="folder"):
        report.write(case, tmp_path)
    target = tmp_path / "r.pdf"
    target.write_bytes(b"old")
    monkeypatch.setattr(display, "picture", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(case, target)
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.pdf"]


def test_metadata_and_bookmarks_hold_no_patient(short: tuple[CaseReview, Path]) -> None:
    _, path = short
    with pymupdf.open(path) as document:
        metadata, outline = document.metadata, document.get_toc()
    assert metadata["title"] == "Chest radiograph: pneumonia analysis"
    assert metadata["creationDate"].startswith("D:20261122215207")
    told = " ".join([*map(str, metadata.values()), *(entry[1] for entry in outline)])
    for secret in ("Muster", "Erika", "PID-0042", "A-77"):
        assert secret not in told
    titles = [entry[1] for entry in outline]
    assert titles[:5] == [
        "Finding of the classifier",
        "Which of these maps may be used",
        "Radiograph and key map",
        "Explanation maps",
        "Integrated Gradients",
    ]
    assert titles[-1] == "Provenance"
    assert all(entry[2] >= 1 for entry in outline)


@pytest.mark.skipif(shutil.which("pdffonts") is None, reason="poppler-utils is not installed")
def test_every_font_is_embedded(tmp_path: Path) -> None:
    study = StudyInfo(patient_name=" ".join(NAMES.values()), patient_id="محمد כהן")
    report.write(cases.case(cases.radiograph(64, 64, study=study)), tmp_path / "r.pdf")
    lines = subprocess.run(["pdffonts", tmp_path / "r.pdf"], capture_output=True, text=True, check=True)
    table = [line.split() for line in lines.stdout.splitlines()[2:]]
    assert len(table) == 6
    for line in table:
        assert line[1] == "TrueType"
        assert line[-5:-2] == ["yes", "yes", "yes"], line  # embedded, subset, searchable
