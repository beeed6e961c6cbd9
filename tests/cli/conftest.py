"""The command line in this process, in an empty folder, with a small model."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.analysis.conftest import flat_file, image_file, tiny_model  # noqa: F401
from xai_engine.cli import main


class Call:
    """Runs the command line in this process in an empty folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path, model: Path) -> None:
        self.capsys = capsys
        self.folder = folder
        self.model = model
        self.out = ""
        self.err = ""

    def __call__(self, *words: str | Path) -> int:
        self.capsys.readouterr()
        code = main([str(word) for word in words])
        self.out, self.err = self.capsys.readouterr()
        return code

    def analyze(self, *words: str | Path) -> int:
        return self("analyze", *words, "--model", self.model, "--device", "cpu", "--precision", "fp32")

    def one_line(self, *parts: str) -> None:
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("radiolucent: ")
        for part in parts:
            assert part in self.err


@pytest.fixture
def call(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    tiny_model: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Call:
    monkeypatch.chdir(tmp_path)
    return Call(capsys, tmp_path, tiny_model)


@pytest.fixture
def chest(call: Call, image_file: Path) -> Path:  # noqa: F811
    return Path(shutil.copy(image_file, call.folder / "chest.dcm"))
