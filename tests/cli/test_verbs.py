"""The other verbs, exit codes, one-line errors, help."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.cli.conftest import Call
from xai_engine.cli import VERBS


@pytest.mark.parametrize(
    ("words", "code", "parts"),
    [
        (["analyze"], 2, ["IMAGE", "--help"]),
        (["analyze", "c.dcm", "--methods", "tea-leaves"], 2, ["tea-leaves", "grad-cam", "lime"]),
        (["analyze", "c.dcm", "--methods", ","], 2, ["names no method"]),
        (["analyze", "c.dcm", "--seed", "-1"], 2, ["--seed"]),
        (["analyze", "c.dcm", "--seed", "x"], 2, ["--seed"]),
        (["analyze", "c.dcm", "--device", "tpu"], 2, ["tpu"]),
        (["analyze", "c.dcm", "--nonsense"], 2, ["--nonsense"]),
        (["analyze", "c.dcm", "--param", "lime.samples"], 2, ["lime.samples=2000"]),
        (["analyze", "c.dcm", "--param", "lime.samples=many"], 2, ["whole number"]),
        (["analyze", "c.dcm", "--param", "lime.colour=1"], 2, ["colour", "samples"]),
        (["analyze", "c.dcm", "--param", "rise.masks=1"], 2, ["not among"]),
        (["analyze", "c.dcm", "--roi", "none.json"], 2, ["none.json"]),
        (["analyze", "c.dcm", "--model", "no-such-model"], 4, ["no-such-model"]),
        (["models", "show", "no-such-model"], 4, ["no-such-model"]),
        (["export", "c.dcm", "--picture", "x.jpg"], 2, [".png"]),
        (["export", "c.dcm", "--picture", "x.png"], 3, ["c.dcm"]),
        (["train", "no-such-config"], 2, ["no-such-config"]),
        (["frobnicate"], 2, ["frobnicate", "--help"]),
        (["nothing.dcm"], 2, ["nothing.dcm"]),
    ],
)
def test_errors_are_one_line_with_the_right_code(
    call: Call, words: list[str], code: int, parts: list[str]
) -> None:
    assert call(*words) == code
    call.one_line(*parts)
    assert list(call.folder.iterdir()) == []


def test_models_missing_altered(call: Call, chest: Path) -> None:
    altered = call.folder / "altered"
    shutil.copytree(call.model, altered)
    weights = altered / "models" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for words in (["analyze", chest, "--model", altered], ["models", "verify", altered]):
        assert call(*words) == 4
        call.one_line("model.safetensors")
    assert call("models", "verify", call.model) == 0
    assert "unaltered" in call.out
    assert call("models", "list", call.model, "--json") == 0
    assert json.loads(call.out)[0]["name"] == "tiny"
    assert call("models", "show", call.model) == 0
    assert "Tiny" in call.out


def test_methods_list(call: Call) -> None:
    assert call("methods", "--json") == 0
    described = {m["name"]: m for m in json.loads(call.out)}
    assert {"integrated-gradients", "grad-cam", "lime"} <= set(described)
    for method in described.values():
        for parameter in method["parameters"]:
            assert {"name", "type", "default", "unit", "low", "high", "choices", "meaning"} <= set(parameter)
    assert described["lime"]["presets"] == ["standard", "audit"]
    assert described["saliency"]["presets"] == []
    assert call("methods", "--presets", "--json") == 0
    presets = {p["name"]: p for p in json.loads(call.out)}
    assert list(presets) == ["quick", "standard", "audit"]
    lime = presets["standard"]["methods"][2]
    defaults = {p["name"]: p["default"] for p in described["lime"]["parameters"]}
    assert lime == {"name": "lime", "parameters": defaults}
    assert call("methods") == 0
    assert "samples = " in call.out
    assert "  quick: grad-cam" in call.out


def test_export(call: Call, chest: Path) -> None:
    assert call("export", chest, "--picture", "p.png", "--window", "full") == 0
    pixels = pydicom.dcmread(chest).pixel_array.astype(float)
    expected = (pixels - pixels.min()) / (pixels.max() - pixels.min()) * 255
    picture = np.asarray(Image.open(call.folder / "p.png"))
    assert picture.dtype == np.uint8
    assert np.abs(picture - expected).max() <= 1.0
    assert call("export", chest, "--picture", "q.png", "--window", "7") == 2
    call.one_line("chest.dcm", "7")
    assert not (call.folder / "q.png").exists()


def test_help_of_every_verb(call: Call) -> None:
    assert call("--help") == 0
    for verb in VERBS:
        assert f"  {verb} " in call.out
    for verb in VERBS:
        assert call(verb, "--help") == 0
        assert f"radiolucent {verb}" in call.out
    assert call("--version") == 0


def test_debug_shows_a_traceback(call: Call) -> None:
    assert call("analyze", "c.dcm", "--methods", "tea-leaves", "--debug") == 2
    assert "Traceback" in call.err
    assert call.err.splitlines()[-1].startswith("radiolucent: ")


def test_unforeseen_errors_are_one_line_too(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from xai_engine.commands import methods

    def broken(args: Any) -> int:
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr(methods, "run", broken)
    assert call("methods") == 1
    call.one_line("ZeroDivisionError", "--debug")
    assert "Jane" not in call.err


def test_without_a_display(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform != "linux":
        pytest.skip("Linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    assert call() == 1
    call.one_line("no display", "radiolucent analyze")


@pytest.mark.parametrize(
    ("library", "package"),
    [
        ("libEGL.so.1", "libegl1"),
        ("libxkbcommon.so.0", "libxkbcommon0"),
        ("libdbus-1.so.3", "libdbus-1-3"),
        ("libglib-2.0.so.0", "libglib2.0-0"),
    ],
)
def test_a_missing_system_library_is_named_with_its_package(
    call: Call, monkeypatch: pytest.MonkeyPatch, library: str, package: str
) -> None:
    def no_window(name: str) -> Any:
        raise ImportError(f"{library}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr("xai_engine.cli.import_module", no_window)
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    assert call() == 1
    call.one_line(library, f"apt-get install {package})")


def test_selftest_reports_every_check(call: Call) -> None:
    code = call("selftest", "--json", "result.json", "--model", call.model)
    result = json.loads((call.folder / "result.json").read_text())
    checks = {check["name"]: check for check in result["checks"]}
    assert list(checks) == [
        "versions", "resources", "decoders", "model", "verdicts", "report", "workers", "window",
    ]  # fmt: skip
    for name in ("versions", "decoders", "model", "workers"):
        assert checks[name]["ok"] is True, checks[name]
    assert code == (0 if result["ok"] else 1)
    assert call.err == ""
    assert call("selftest", "--model", call.folder / "none") == 1
    assert "FAILED model" in call.out
