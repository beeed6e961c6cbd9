"""The command: what it measures, what it writes, and what it says when something is missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from xai_engine.bench import command, methods, viewer
from xai_engine.bench.figures import Figure
from xai_engine.cli import main


def test_writes_what_it_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "measure", lambda: [Figure("k", "A drag", 12.5, "ms", 33.0)])
    page, record = tmp_path / "bench.md", tmp_path / "bench.json"
    code = main(["bench", "--only", "viewer", "--json", str(record), "--markdown", str(page)])
    assert code == 0
    assert "A drag" in capsys.readouterr().out
    assert "| A drag | 12.5 | ms | ≤ 33.0 met |" in page.read_text()
    found = json.loads(record.read_text())
    assert found["schema"] == 1
    assert found["figures"][0]["value"] == 12.5
    assert found["machine"]["torch"]


def test_another_image_is_explained_and_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Path] = []

    def measured(model: object, image: Path, *_: object) -> list[Figure]:
        seen.append(image)
        return [Figure("k", "LIME", 1.0, "s")]

    monkeypatch.setattr(methods, "measure_shipped", measured)
    page = tmp_path / "bench.md"
    words = ["bench", "--only", "methods", "--markdown", str(page)]
    assert main([*words, "--image", "/somewhere/DOE_JANE.dcm"]) == 0
    assert "--image RADIOGRAPH" in page.read_text()
    assert "DOE" not in page.read_text()
    assert main(words) == 0
    assert "--image" not in page.read_text()
    assert [p.name for p in seen] == ["DOE_JANE.dcm", "synthetic-consolidation.dcm"]


@pytest.mark.parametrize(
    ("words", "says"), [(["--only", "speed"], "speed"), (["--repeats", "0"], "at least 1")]
)
def test_wrong_usage_is_one_line(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1


def test_missing_peers_are_named_as_pip_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name: None if name != "monai" else object()
    )
    assert command.missing_peers() == ["captum", "lime", "grad-cam", "shap"]


def test_a_canvas_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewer, "CODE", "raise SystemExit('no platform plugin')")
    figures = viewer.measure()
    assert {f.key for f in figures} == {f"drag-{key}" for key in viewer.DRAGS}
    assert all(f.value is None and f.note == "no platform plugin" for f in figures)
