"""Manifests: every problem named with its line, no patient on two sides."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from xai_engine.train import manifest

RULES = [
    {
        "column": "label",
        "values": {"NORMAL": [0, 1, True], "PNEUMONIA": [1, 1, True], "MAYBE": [0.4, 0.5, False]},
    }
]


def _write(folder: Path, rows: list[dict[str, str]]) -> dict[str, object]:
    for row in rows:
        if not row["file"].startswith("absent"):
            (folder / row["file"]).write_bytes(b"x")
    with (folder / "m.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=["file", "label", "patient", "split", "boxes"])
        writer.writeheader()
        writer.writerows(rows)
    return {"manifest": "m.csv", "label_rules": RULES, "population": "p", "columns": {"boxes": "boxes"}}


def _row(
    number: int, label: str, patient: str, split: str, file: str = "", boxes: str = ""
) -> dict[str, str]:
    return {
        "file": file or f"{number}.png",
        "label": label,
        "patient": patient,
        "split": split,
        "boxes": boxes,
    }


def test_labels_weights_and_boxes_are_read(tmp_path: Path) -> None:
    source = _write(
        tmp_path,
        [
            _row(1, "NORMAL", "a", "train"),
            _row(2, "PNEUMONIA", "b", "val", boxes="[[1, 2, 3, 4]]"),
            _row(3, "MAYBE", "c", "test"),
        ],
    )
    samples = manifest.load(source, tmp_path)
    assert [(s.label, s.weight, s.sure, s.split) for s in samples] == [
        (0.0, 1.0, True, "train"),
        (1.0, 1.0, True, "val"),
        (0.4, 0.5, False, "test"),
    ]
    assert samples[1].boxes == ((1.0, 2.0, 3.0, 4.0),)


def test_a_leaking_patient_is_named(tmp_path: Path) -> None:
    source = _write(tmp_path, [_row(1, "NORMAL", "a", "train"), _row(2, "PNEUMONIA", "a", "test")])
    with pytest.raises(manifest.ManifestError, match="patient a is in more than one split"):
        manifest.load(source, tmp_path)


def test_every_bad_line_is_listed(tmp_path: Path) -> None:
    source = _write(
        tmp_path,
        [
            _row(1, "NORMAL", "a", "train"),
            _row(2, "WHAT", "b", "train"),
            _row(3, "PNEUMONIA", "c", "nowhere"),
            _row(4, "PNEUMONIA", "d", "train", file="absent.png"),
            _row(5, "PNEUMONIA", "", "train"),
        ],
    )
    with pytest.raises(manifest.ManifestError) as caught:
        manifest.load(source, tmp_path)
    assert [p.split(":")[0] for p in caught.value.problems] == ["line 3", "line 4", "line 5", "line 6"]
    assert caught.value.exit_code == 3


def test_one_class_only_is_an_error(tmp_path: Path) -> None:
    source = _write(tmp_path, [_row(1, "NORMAL", "a", "train"), _row(2, "NORMAL", "b", "train")])
    with pytest.raises(manifest.ManifestError, match="only one class"):
        manifest.load(source, tmp_path)


def test_folder_per_class(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("sick", "well"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            (tmp_path / "set" / split / name / f"{split}{name}.png").write_bytes(b"x")
    source = {"folder": "set", "labels": {"sick": 1, "well": 0}}
    found = {(s.split, s.label) for s in manifest.load(source, tmp_path)}
    assert found == {("train", 1.0), ("train", 0.0), ("test", 1.0), ("test", 0.0)}


def test_the_real_manifests_keep_patients_apart(shared_data: Path) -> None:
    from xai_engine.train.command import read_manifest

    samples = read_manifest("pneumonia-cxr", shared_data)
    # read_manifest raises on a leak; the counts are the data description's own
    by_split = {
        (p, s): sum(x.population == p and x.split == s for x in samples)
        for p in ("children", "adults")
        for s in ("train", "val", "test")
    }
    assert by_split == {
        ("children", "train"): 4204,
        ("children", "val"): 476,
        ("children", "test"): 624,
        ("adults", "train"): 441,
        ("adults", "val"): 62,
        ("adults", "test"): 197,
    }
