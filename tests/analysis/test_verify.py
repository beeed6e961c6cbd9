"""A result that can be made again: the recorded command, and `radiolucent verify`, which catches every change."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from xai_engine import cli
from xai_engine.analysis.verify import differences

REGIONS = {
    "schema": 1,
    "regions": [
        {"kind": "rectangle", "points": [[80, 40], [150, 100]], "name": "right"},
        {"kind": "ellipse", "points": [[90, 150], [160, 210]], "name": ""},
        {"kind": "line", "points": [[90, 50], [120, 200]], "name": "width"},
    ],
}
PARAMETERS = (
    "integrated-gradients.steps=8,lime.samples=40,lime.segments=20,lime-2.samples=50,"
    "consensus.members=grad-cam, saliency,consensus.smoothing=2.5"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, image_file: Path, tiny_model: Path) -> Path:
    place = tmp_path_factory.mktemp("verify")
    shutil.copy(image_file, place / "chest.dcm")
    (place / "roi.json").write_text(json.dumps(REGIONS))
    code = cli.main(
        [
            "analyze", str(place / "chest.dcm"), "--model", str(tiny_model), "--device", "cpu", "--precision", "fp32",
            "--methods", "integrated-gradients,lime,lime-2,consensus", "--param", PARAMETERS, "--seed", "3",
            "--roi", str(place / "roi.json"), "--what-if", "blur", "--report", "--out", str(place / "out"),
        ]
    )  # fmt: skip
    assert code == 0
    return place / "out" / "chest"


def without_effort(data: Any) -> Any:
    """The record without what differs from run to run: seconds, the moment, forwards of cards that were remembered."""
    if isinstance(data, dict):
        left_out = {"seconds", "created", "command", "options"} | (
            {"forwards"} if "verdict" in data else set()
        )
        return {key: without_effort(value) for key, value in data.items() if key not in left_out}
    return [without_effort(value) for value in data] if isinstance(data, list) else data


def test_the_recorded_command_repeats_the_analysis_bit_by_bit(folder: Path, tmp_path: Path) -> None:
    data = json.loads((folder / "analysis.json").read_text())
    assert (folder / "regions.json").is_file()
    assert [e["params"]["samples"] for e in data["explanations"][1:3]] == [40, 50]
    assert data["explanations"][3]["params"]["members"] == "grad-cam, saliency"
    assert all(
        e["reliability"]["preset"] == "quick" for e in data["explanations"]
    )  # every map carries a card
    program, *words = shlex.split(data["command"])
    assert program == "radiolucent"
    assert cli.main([*words, "--out", str(tmp_path)]) == 0
    again = json.loads((tmp_path / "chest" / "analysis.json").read_text())
    # asked for by name now, what had been chosen freely
    assert {data["environment"].pop("backend"), again["environment"].pop("backend")} <= {"auto", "openvino"}
    assert without_effort(again) == without_effort(data)
    assert again["command"].replace(str(tmp_path / "chest"), "") == data["command"].replace(str(folder), "")
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in (tmp_path / "chest").iterdir()}
    for name in names - {"analysis.json", "report.pdf"}:
        assert (tmp_path / "chest" / name).read_bytes() == (folder / name).read_bytes(), name


def flip_probability(folder: Path) -> str:
    return _change(folder, lambda data: data["prediction"], "probability", lambda v: v + 0.001)


def flip_card(folder: Path) -> str:
    return _change(
        folder,
        lambda data: data["explanations"][1]["reliability"]["findings"][0],
        "sentence",
        lambda v: v + "!",
    )


def flip_verdict(folder: Path) -> str:
    return _change(
        folder,
        lambda data: data["explanations"][0]["reliability"],
        "verdict",
        lambda v: "use" if v != "use" else "do not use",
    )


def flip_region(folder: Path) -> str:
    return _change(
        folder, lambda data: data["rois"][1]["maps"]["lime"], "share_positive", lambda v: v * 1.01 + 0.01
    )


def flip_mirror(folder: Path) -> str:
    return _change(folder, lambda data: data["rois"][0]["mirror"], "mean", lambda v: v + 1)


def flip_what_if(folder: Path) -> str:
    return _change(folder, lambda data: data["rois"][0]["what_if"]["after"], "logit", lambda v: v + 0.01)


def change_pixel(folder: Path) -> str:
    values = np.load(folder / "lime-2.npy")
    values[150, 120] += 0.001 * np.abs(values).max()
    np.save(folder / "lime-2.npy", values)
    return "lime-2.npy: 1 pixels differ"


def break_pixel(folder: Path) -> str:
    values = np.load(folder / "lime.npy")
    values[10, 10] = np.nan
    np.save(folder / "lime.npy", values)
    return "lime.npy: 1 pixels differ"


def change_overlay(folder: Path) -> str:
    picture = np.asarray(Image.open(folder / "consensus.png")).copy()
    picture[5, 5] ^= 1
    Image.fromarray(picture).save(folder / "consensus.png")
    return "consensus.png: 1 pixels differ"


def lose_map(folder: Path) -> str:
    (folder / "integrated-gradients.npy").unlink()
    return "no map can be read"


def _change(folder: Path, part: Callable[[Any], Any], key: str, change: Callable[[Any], Any]) -> str:
    path = folder / "analysis.json"
    data = json.loads(path.read_text())
    part(data)[key] = change(part(data)[key])
    path.write_text(json.dumps(data))
    return f".{key}: "


CHANGES = [
    flip_probability, flip_card, flip_verdict, flip_region, flip_mirror, flip_what_if, change_pixel, break_pixel,
    change_overlay, lose_map,
]  # fmt: skip


def test_an_untouched_folder_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: agrees within 1e-05\n"


def test_every_change_is_named_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All changes in one folder: one line each, and no other line but those that follow from them."""
    place = Path(shutil.copytree(folder, tmp_path / "chest"))
    wanted = [change(place) for change in CHANGES]
    assert cli.main(["verify", str(place)]) == 1
    lines = capsys.readouterr().out.splitlines()
    for part in wanted:
        assert sum(part in line for line in lines) == 1, (part, lines)
    follow = [line for line in lines if not any(part in line for part in wanted)]
    # the overlay of a changed map is not its picture any more
    assert all("pixels differ from the picture of lime" in line for line in follow), follow


def test_other_image_other_model(
    folder: Path, tiny_model: Path, flat_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.helpers.tiny_bundle import make_bundle

    assert cli.main(["verify", str(folder), "--image", str(flat_file)]) == 1
    assert "is another one" in capsys.readouterr().out
    other = make_bundle(tmp_path / "other", seed=6)
    assert cli.main(["verify", str(folder), "--model", str(other)]) == 1
    assert "is another one" in capsys.readouterr().out
    (tmp_path / "text.dcm").write_text("no image")
    assert cli.main(["verify", str(folder), "--image", str(tmp_path / "text.dcm")]) == 3
    assert cli.main(["verify", str(folder), "--model", str(tmp_path / "none")]) == 4
    assert cli.main(["verify", str(tmp_path)]) == 2
    assert cli.main(["verify", str(folder), "--tolerance", "2"]) == 2
    assert capsys.readouterr().err.count("\n") == 4


def test_refused_images_verify_too(
    flat_file: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "analyze",
        str(flat_file),
        "--model",
        str(tiny_model),
        "--methods",
        "grad-cam",
        "--out",
        str(tmp_path),
    ]
    assert cli.main(words) == 3
    assert cli.main(["verify", str(tmp_path / "flat")]) == 0
    path = tmp_path / "flat" / "analysis.json"
    data = json.loads(path.read_text())
    data["prediction"]["readable"] = True
    path.write_text(json.dumps(data))
    assert cli.main(["verify", str(tmp_path / "flat")]) == 1
    assert "prediction.readable: True recorded, False computed" in capsys.readouterr().out


def test_a_record_without_a_part_is_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Path(shutil.copytree(folder, tmp_path / "chest"))
    data = json.loads((place / "analysis.json").read_text())
    del data["explanations"][0]["params"]
    (place / "analysis.json").write_text(json.dumps(data))
    assert cli.main(["verify", str(place)]) == 2
    assert "is incomplete" in capsys.readouterr().err


@given(st.floats(-1e6, 1e6), st.floats(-1e-3, 1e-3))
def test_tolerance_is_relative(value: float, change: float) -> None:
    other = value * (1 + change)
    told = list(differences({"a": [value]}, {"a": [other]}, 1e-5))
    bound = 1e-5 * max(abs(value), abs(other))
    if abs(value - other) < 0.99 * max(bound, 1e-7):
        assert told == []
    if abs(value - other) > 1.01 * max(bound, 1e-7):
        assert len(told) == 1
        assert told[0].startswith("a[0]: ")
