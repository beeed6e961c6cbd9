"""`analyze`: the public contract of `analysis.json`, whole folders or none, bad images among good ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pymupdf
import pytest
from PIL import Image

from tests.cli.conftest import Call


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


def test_a_method_that_the_network_gives_nothing_is_left_out_and_named(call: Call, chest: Path) -> None:
    code = call.analyze(chest, "--methods", "attention-rollout,grad-cam", "--report", "--out", "some")
    assert code == 0
    (line,) = call.err.splitlines()
    assert line.startswith("radiolucent: skipped attention-rollout: ")
    assert "no self-attention" in line
    folder = call.folder / "some" / "chest"
    data = json.loads((folder / "analysis.json").read_text())
    assert [e["method"] for e in data["explanations"]] == ["grad-cam"]
    ((name, reason),) = [(e["method"], e["reason"]) for e in data["skipped"]]
    assert (name, line) == ("attention-rollout", f"radiolucent: skipped {name}: {reason}")
    with pymupdf.open(folder / "report.pdf") as report:
        text = " ".join("".join(page.get_text() for page in report).split())
    assert f"{name} was asked for and left out" in text
    assert call("verify", folder, "--model", call.model) == 0
    assert call("report", folder, "--model", call.model) == 0  # from the record alone
    with pymupdf.open(folder / "report.pdf") as report:
        assert f"{name} was asked for" in " ".join("".join(p.get_text() for p in report).split())
    # alone it is what was asked for, and that cannot be had
    assert call.analyze(chest, "--methods", "attention-rollout", "--out", "none") == 4
    call.one_line("no self-attention")
    assert not (call.folder / "none" / "chest").exists()


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


def test_several_images(call: Call, chest: Path, flat_file: Path) -> None:
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


def _order(line: str) -> int:
    return next(i for i, n in enumerate(("bad", "missing", "flat")) if n in line)


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


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("model",), 0),
        (("image", "sha256"), None),
        (("image", "voi", "preset"), {}),
        (("prediction", "operating_point", "specificity"), []),
        (("explanations", 0, "unit"), 1e308),
        (("explanations", 0, "full_scale"), 0),
    ],
)
def test_a_record_that_was_changed_is_told_in_one_line(
    call: Call, chest: Path, place: tuple[str | int, ...], value: object, tmp_path: Path
) -> None:
    assert call.analyze(chest, "--methods", "grad-cam", "--cards", "none", "--out", "out") == 0
    file = call.folder / "out" / "chest" / "analysis.json"
    record = json.loads(file.read_text(encoding="utf-8"))
    inner = record
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    file.write_text(json.dumps(record), encoding="utf-8")
    assert call("report", file.parent, "--model", call.model) in (2, 4)
    assert call.err.count("\n") == 1
    assert "unexpected" not in call.err
    assert not (file.parent / "report.pdf").exists()
