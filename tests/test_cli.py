"""The command line: exit codes, one-line errors, the public contract of `analysis.json`, whole folders or none."""

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

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.analysis.conftest import flat_file, image_file, tiny_model  # noqa: F401
from xai_engine.cli import VERBS, main

ROOT = Path(__file__).resolve().parent.parent


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


def test_contract_of_analysis_json(call: Call, chest: Path) -> None:
    roi = {"schema": 1, "regions": [{"kind": "rectangle", "points": [[20, 30], [80, 90]], "name": "left"}]}
    (call.folder / "roi.json").write_text(json.dumps(roi))
    code = call.analyze(
        chest,
        *("--methods", "grad-cam,integrated-gradients", "--seed", "11", "--roi", "roi.json", "--report"),
        *("--out", "results"),
    )
    assert (code, call.err) == (0, "")
    folder = call.folder / "results" / "chest"
    data = json.loads((folder / "analysis.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert data["schema"] == 1
    keys = {
        "image": "path sha256 rows columns modality photometric pixel_spacing_mm spacing_source",
        "model": "name version sha256",
        "prediction": "label probability logit threshold uncertainty readable refusal",
        "environment": "engine torch device precision threads",
    }
    for section, names in keys.items():
        assert set(names.split()) <= set(data[section])
    names = (
        "method params target unit seed map overlay seconds forwards partial completeness_error reliability"
    )
    for entry in data["explanations"]:
        assert set(names.split()) <= set(entry)
        assert (entry["seed"], entry["target"], entry["partial"]) == (11, "pneumonia", False)
        values = np.load(folder / entry["map"])
        assert (values.dtype, values.shape) == (np.float32, (300, 260))
        assert Image.open(folder / entry["overlay"]).size == (260, 300)
    assert [e["method"] for e in data["explanations"]] == ["grad-cam", "integrated-gradients"]
    header = pydicom.dcmread(chest)
    assert (data["image"]["rows"], data["image"]["columns"]) == (header.Rows, header.Columns)
    assert data["image"]["photometric"] == header.PhotometricInterpretation
    assert data["image"]["sha256"] == __import__("hashlib").sha256(chest.read_bytes()).hexdigest()
    assert 0 <= data["prediction"]["probability"] <= 1
    assert data["prediction"]["readable"] is True
    assert data["rois"][0]["mean"] == pytest.approx(header.pixel_array[20:80, 30:90].mean())
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF-")
    expected = {"analysis.json", "regions.json", "report.pdf"} | {
        f"{m}.{k}" for m in ("grad-cam", "integrated-gradients") for k in ("npy", "png")
    }
    assert {p.name for p in folder.iterdir()} == expected
    assert "probability" in call.out


def test_report_again_from_the_folder(call: Call, chest: Path) -> None:
    assert call.analyze(chest, "--methods", "grad-cam") == 0
    folder = call.folder / "radiolucent-out" / "chest"
    assert call("report", folder, "--model", call.model) == 0
    assert (folder / "report.pdf").read_bytes().startswith(b"%PDF-")
    chest.unlink()
    assert call("report", folder, "--model", call.model) == 3
    call.one_line("chest.dcm")
    assert call("report", call.folder) == 2
    call.one_line("analysis.json")


def test_several_images(call: Call, chest: Path, flat_file: Path) -> None:  # noqa: F811
    (call.folder / "more").mkdir()
    shutil.copy(chest, call.folder / "more" / "chest.dcm")
    (call.folder / "bad.dcm").write_text("no image")
    shutil.copy(flat_file, call.folder / "flat.png")
    code = call.analyze(
        "chest.dcm", "bad.dcm", "missing.dcm", "flat.png", "more", "--methods", "none", "--out", "r"
    )
    assert code == 3
    assert sorted(p.name for p in (call.folder / "r").iterdir()) == ["chest", "chest-2", "flat"]
    one = json.loads((call.folder / "r" / "chest" / "analysis.json").read_text())
    two = json.loads((call.folder / "r" / "chest-2" / "analysis.json").read_text())
    assert one["prediction"]["probability"] == two["prediction"]["probability"]
    assert one["explanations"] == []
    flat = json.loads((call.folder / "r" / "flat" / "analysis.json").read_text())
    assert flat["prediction"]["readable"] is False
    lines = call.err.splitlines()
    errors = [line for line in lines if line.startswith("radiolucent: ")]
    assert len(errors) == 3
    for name, line in zip(("bad.dcm", "missing.dcm", "flat.png"), sorted(errors, key=_order), strict=True):
        assert name in line
    progress = [line for line in lines if line.startswith("[")]
    assert [line.split("]")[0] for line in progress] == [f"[{i}/5" for i in range(1, 6)]
    assert len(lines) == 8


def test_a_file_that_crashes_its_decoder(call: Call, chest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xai_engine.commands.inputs.READ", "tests.runtime.jobs:read_or_crash")
    for name in ("a-hostile.dcm", "b.dcm", "c-hostile.dcm", "d.dcm"):
        shutil.copy(chest, call.folder / name)
    chest.unlink()
    assert call.analyze(call.folder, "--methods", "none", "--out", call.folder / "out") == 3
    assert sorted(p.name for p in (call.folder / "out").iterdir()) == ["b", "d"]
    errors = [line for line in call.err.splitlines() if line.startswith("radiolucent")]
    assert [name in line for name, line in zip(("a-hostile", "c-hostile"), errors, strict=True)] == [
        True,
        True,
    ]
    assert all("crashes its decoder" in line for line in errors)


def _order(line: str) -> int:
    return next(i for i, n in enumerate(("bad", "missing", "flat")) if n in line)


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


def test_unknown_target(call: Call, chest: Path) -> None:
    assert call.analyze(chest, "--target", "fracture") == 2
    call.one_line("fracture", "normal, pneumonia")
    assert call.analyze(chest, "--target", "normal", "--methods", "grad-cam") == 0
    folder = call.folder / "radiolucent-out" / "chest"
    assert json.loads((folder / "analysis.json").read_text())["explanations"][0]["target"] == "normal"


def test_bad_images(call: Call, chest: Path) -> None:
    truncated = call.folder / "truncated.dcm"
    truncated.write_bytes(chest.read_bytes()[:3000])
    text = call.folder / "text.dcm"
    text.write_text("Dear colleague")
    empty = call.folder / "empty.png"
    empty.touch()
    (call.folder / "folder").mkdir()
    for bad in (truncated, text, empty, call.folder / "none.dcm"):
        assert call.analyze(bad, "--methods", "none") == 3
        call.one_line(bad.name)
    assert call.analyze("folder") == 2
    call.one_line("no images in this folder")
    assert not (call.folder / "radiolucent-out").exists()


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


def test_output_that_cannot_be_written(call: Call, chest: Path) -> None:
    (call.folder / "out").write_text("a file")
    assert call.analyze(chest, "--methods", "none", "--out", "out") == 1
    call.one_line("out", "choose")
    assert (call.folder / "out").read_text() == "a file"
    (call.folder / "chest").mkdir()
    (call.folder / "chest" / "precious").write_text("x")
    assert call.analyze(chest, "--methods", "none", "--out", ".") == 1
    call.one_line("chest", "did not write")
    assert (call.folder / "chest" / "precious").read_text() == "x"


def test_parameters_from_the_command_line(call: Call, chest: Path) -> None:
    words = [
        "--methods",
        "lime,integrated-gradients",
        "--param",
        "lime.samples=100,integrated-gradients.steps=8",
    ]
    assert call.analyze(chest, *words) == 0, call.err
    folder = call.folder / "radiolucent-out" / "chest"
    data = json.loads((folder / "analysis.json").read_text())
    assert data["explanations"][0]["params"]["samples"] == 100
    assert data["explanations"][1]["params"]["steps"] == 8
    assert "--param lime.samples=100" in data["command"]


def test_methods_list(call: Call) -> None:
    assert call("methods", "--json") == 0
    described = {m["name"]: m for m in json.loads(call.out)}
    assert {"integrated-gradients", "grad-cam", "lime"} <= set(described)
    for method in described.values():
        for parameter in method["parameters"]:
            assert {"name", "type", "default", "unit", "low", "high", "choices", "meaning"} <= set(parameter)
    assert call("methods") == 0
    assert "samples = " in call.out


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


def run_process(*words: str | Path, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "xai_engine", *map(str, words)],
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
    words = [
        sys.executable,
        "-m",
        "xai_engine",
        "analyze",
        *names,
        "--model",
        str(call.model),
        "--methods",
        "none",
    ]
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
