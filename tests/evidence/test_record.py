"""analysis.json against its schema (the jsonschema package), the design's key list, and itself read back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tests.evidence import cases
from xai_engine.errors import UsageError
from xai_engine.evidence import record
from xai_engine.radiograph import display, regions
from xai_engine.radiograph.types import PixelSpacing, Window

SCHEMA = json.loads((REPOSITORY / "docs" / "analysis.schema.json").read_text(encoding="utf-8"))

# copied from the public contract (design page, "The command line")
CONTRACT = {
    "image": "path sha256 rows columns modality photometric pixel_spacing_mm spacing_source",
    "model": "name version sha256",
    "prediction": "label probability logit threshold uncertainty readable refusal",
    "environment": "engine torch device precision threads",
}
EXPLANATION = (
    "method params target unit seed map overlay seconds forwards partial completeness_error reliability"
)


def strict(data: dict[str, Any]) -> dict[str, Any]:
    """Through text and back, refusing NaN."""
    return json.loads(record.dumps(data), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def variants() -> dict[str, Callable[[], Any]]:
    refused = cases.prediction(readable=False, refusal="A lateral view.", probability=float("nan"), label="")
    bare = cases.radiograph(40, 30, spacing=None, modality="", voi=())
    return {
        "full": cases.case,
        "predicted only": lambda: cases.case(methods=(), shown=()),
        "refused": lambda: cases.case(methods=(), prediction=refused),
        "no spacing": lambda: cases.case(bare),
        "same method twice": lambda: cases.case(methods=("lime", "grad-cam", "lime")),
        "no environment": lambda: cases.case(environment={}),
    }


@pytest.mark.parametrize("name", list(variants()))
def test_agrees_with_schema_and_contract(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    case = variants()[name]()
    data = strict(record.to_json(case, record.file_names(case)))
    jsonschema.validate(data, SCHEMA)
    assert data["schema"] == 1
    for part, keys in CONTRACT.items():
        assert set(keys.split()) <= set(data[part]), part
    for entry in data["explanations"]:
        assert set(EXPLANATION.split()) <= set(entry)
    assert isinstance(data["rois"], list)


def test_values() -> None:
    case = cases.case()
    data = strict(record.to_json(case, record.file_names(case)))
    assert data["prediction"]["probability"] == 0.873
    assert data["prediction"]["logit"] == 2.314
    assert data["image"]["pixel_spacing_mm"] == [1.43, 1.43]
    assert data["image"]["spacing_source"] == "detector"
    assert (data["image"]["rows"], data["image"]["columns"]) == (256, 224)
    assert data["explanations"][0]["completeness_error"] == 0.0042
    assert data["explanations"][1]["completeness_error"] is None
    assert data["explanations"][2]["map"] == "lime.npy"
    assert data["explanations"][2]["overlay"] == "lime.png"
    pixels = case.radiograph.pixels.astype(float)
    inside = regions.mask(case.regions[0], pixels.shape)  # type: ignore[arg-type]
    roi = data["rois"][0]
    assert roi["mean"] == pytest.approx(pixels[inside].mean())
    assert roi["sd"] == pytest.approx(np.std(pixels[inside], ddof=1))
    assert roi["area_mm2"] == pytest.approx(inside.sum() * 1.43 * 1.43)
    source = case.explanations[0].in_source()
    share = source[inside].clip(min=0).sum() / source.clip(min=0).sum()
    assert roi["maps"]["integrated-gradients"]["share_positive"] == pytest.approx(share, rel=1e-5)


def test_numbers_of_a_refused_image_are_not_stated() -> None:
    case = cases.case(methods=(), prediction=cases.prediction(readable=False, refusal="A lateral view."))
    prediction = record.to_json(case)["prediction"]
    assert [prediction[key] for key in ("label", "probability", "logit", "uncertainty")] == [None] * 4
    assert prediction["refusal"] == "A lateral view."


def test_no_patient_data_of_the_header() -> None:
    text = record.dumps(record.to_json(cases.case()))
    for secret in ("Muster", "Erika", "PID-0042", "19800229", "A-77", "Klinikum"):
        assert secret not in text


def test_numpy_and_nan_become_plain_json() -> None:
    params = {
        "a": np.float32(1.5), "b": np.int64(3), "c": np.bool_(True), "d": np.array([[1, 2]]), "e": float("nan"),
        "f": np.float64("-inf"), "g": {1: (2, {3})}, "h": Path("x"), "i": "\udcff山",
    }  # fmt: skip
    explanation = replace(
        cases.explanation(cases.radiograph()), params=params, completeness_error=float("nan")
    )
    case = replace(cases.case(), explanations=(explanation,))
    entry = strict(record.to_json(case))["explanations"][0]
    assert entry["params"] == {
        "a": 1.5, "b": 3, "c": True, "d": [[1, 2]], "e": None, "f": None, "g": {"1": [2, [3]]}, "h": "x", "i": "?山",
    }  # fmt: skip
    assert entry["completeness_error"] is None
    assert entry["map"] is None


def test_names_of_maps_are_unique() -> None:
    case = cases.case(methods=("lime", "grad-cam", "lime", "lime"))
    assert case.names() == ("lime", "grad-cam", "lime-2", "lime-3")
    assert [f.map for f in record.file_names(case).values()] == [f"{n}.npy" for n in case.names()]


def test_round_trip(tmp_path: Path) -> None:
    case = cases.case(cases.radiograph(33, 47, spacing=PixelSpacing(0.1, 0.2, "calibrated")))
    files = record.file_names(case)
    for name, explanation in zip(case.names(), case.explanations, strict=True):
        np.save(tmp_path / files[name].map, explanation.in_source())
    written = record.to_json(case, files)
    (tmp_path / record.FILE_NAME).write_text(record.dumps(written), encoding="utf-8")
    loaded = record.load(tmp_path)
    assert loaded.data == written
    np.testing.assert_array_equal(loaded.map(1), case.explanations[1].in_source())


BAD = (
    b"",
    b"{",
    b"[]",
    b'{"schema": 2}',
    b'{"schema": true}',
    b'{"schema": 1}',
    b"\xff",
    b'{"schema": NaN}',
    b"[" * 99_999,
)


@pytest.mark.parametrize("content", BAD, ids=lambda content: content[:16].decode("latin-1"))
def test_bad_records_are_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / record.FILE_NAME).write_bytes(content)
    with pytest.raises(UsageError, match=r"analysis\.json") as error:
        record.load(tmp_path)
    assert "\n" not in str(error.value)


def test_no_record(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        record.load(tmp_path)


@pytest.mark.parametrize("name", ["../secret.npy", "/etc/passwd", "..", "a/b.npy", None, ".x"])
def test_maps_outside_the_folder_are_not_opened(tmp_path: Path, name: str | None) -> None:
    data = record.to_json(cases.case())
    data["explanations"][0]["map"] = name
    with pytest.raises(UsageError, match="names no file of this folder"):
        record.Record(tmp_path, data).map(0)


def test_maps_that_are_no_maps(tmp_path: Path) -> None:
    case = cases.case()
    data = record.to_json(case, record.file_names(case))
    np.save(tmp_path / "integrated-gradients.npy", np.zeros((3, 3), np.float32))
    np.save(tmp_path / "grad-cam.npy", np.array({"a": 1}, dtype=object), allow_pickle=True)
    for index in (0, 1, 2):
        with pytest.raises(UsageError):
            record.Record(tmp_path, data).map(index)


def test_command_repeats_the_run() -> None:
    case = cases.case(options={"roi": "my regions.json", "model": "/models/a b"})
    lime, twice = (
        cases.explanation(case.radiograph, "lime"),
        {"samples": 300, "paired": False, "hide": "a, b"},
    )
    case = replace(case, explanations=(*case.explanations, replace(lime, params=twice)))
    assert shlex.split(record.command(case)) == [
        "radiolucent", "analyze", "/data/case one/image.dcm", "--model", "/models/a b",
        "--methods", "integrated-gradients,grad-cam,lime,lime-2", "--target", "pneumonia", "--seed", "7",
        "--device", "cpu", "--precision", "bf16", "--roi", "my regions.json", "--cards", "none", "--what-if", "none",
        "--param", "integrated-gradients.steps=64", "--param", "grad-cam.layer=features.8",
        "--param", "lime.segments=120", "--param", "lime-2.samples=300", "--report",
    ]  # fmt: skip
    assert record.untold(case) == []
    assert "--methods none" in record.command(cases.case(methods=(), shown=()))
    assert record.untold(cases.case()) == ["the regions, which were not saved to a file"]
    other = replace(case, explanations=(replace(lime, seed=9), replace(lime, partial=True, target="normal")))
    assert record.untold(other) == [
        "lime was run with seed 9",
        "lime-2 is of the target normal",
        "lime-2 was stopped before its end",
    ]


@pytest.mark.parametrize(
    ("asked", "used", "told"),
    [
        ("auto", ("torch", "openvino"), "openvino"),  # another run might time the two otherwise
        ("auto", ("torch", "torch"), ""),
        ("torch", ("torch", "torch"), "torch"),
        ("onnx", ("torch", "onnx"), "onnx"),
        ("auto", ("onnx", "openvino"), ""),
    ],
)
def test_command_names_the_backend_that_was_taken(asked: str, used: tuple[str, str], told: str) -> None:
    case = cases.case(methods=("integrated-gradients", "grad-cam"))
    maps = tuple(replace(e, backend=name) for e, name in zip(case.explanations, used, strict=True))
    case = replace(case, explanations=maps, environment={**case.environment, "backend": asked})
    words = shlex.split(record.command(case))
    assert ("--backend" in words) == bool(told)
    if told:
        assert words[words.index("--backend") + 1] == told


def test_a_window_of_the_readers_own_is_on_record() -> None:
    case = cases.case(cases.radiograph(64, 64), methods=("grad-cam",))
    own = Window(812.5, 333.25, "SIGMOID", "")
    told = record.to_json(replace(case, voi=own, voi_key="manual"))["image"]["voi"]
    assert (told["center"], told["width"], told["function"]) == (812.5, 333.25, "SIGMOID")
    again = json.loads(json.dumps(told))
    assert record.shown_window(case.radiograph, again) == (own, "manual")
    assert (
        record.shown_window(case.radiograph, {"preset": "manual", "inverted": False}) is None
    )  # older records
    chosen = record.to_json(replace(case, voi_key="full"))["image"]["voi"]
    assert "center" not in chosen
    assert record.shown_window(case.radiograph, chosen) == (display.select(case.radiograph, "full"), "full")
