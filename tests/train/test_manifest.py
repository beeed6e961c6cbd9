"""Manifests: every problem named with its line, no patient on two sides."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.errors import UsageError
from xai_engine.train import audit, manifest, sources
from xai_engine.train.sample import ManifestError, Sample

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
    with pytest.raises(ManifestError, match="patient a is in more than one split"):
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
    with pytest.raises(ManifestError) as caught:
        manifest.load(source, tmp_path)
    assert [p.split(":")[0] for p in caught.value.problems] == ["line 3", "line 4", "line 5", "line 6"]
    assert caught.value.exit_code == 3


def test_a_line_that_is_no_csv_does_not_hide_the_problems_of_the_others(tmp_path: Path) -> None:
    source = _write(
        tmp_path,
        [
            _row(1, "WHAT", "a", "train"),
            _row(2, "NORMAL", "b", "train"),
            _row(3, "NORMAL", "c", "train"),
            _row(4, "NORMAL", "d", "train"),
        ],
    )
    table = tmp_path / "m.csv"
    table.write_text(table.read_text().replace("3.png", '"3.png'))
    with pytest.raises(ManifestError) as caught:
        manifest.load(source, tmp_path)
    assert caught.value.problems[0].startswith("line 2: label 'WHAT'")
    assert "line 4: a quotation mark is never closed; no line after it was read" in caught.value.problems


def test_an_empty_table_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ManifestError, match=r"1 problem: is empty; the first line must name the co"):
        manifest.load({"manifest": "empty.csv"}, tmp_path)


def test_one_class_only_is_an_error(tmp_path: Path) -> None:
    source = _write(tmp_path, [_row(1, "NORMAL", "a", "train"), _row(2, "NORMAL", "b", "train")])
    with pytest.raises(ManifestError, match="only one class"):
        manifest.load(source, tmp_path)


def test_folder_per_class(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("sick", "well"):
            (tmp_path / "set" / split / name).mkdir(parents=True)
            (tmp_path / "set" / split / name / f"{split}{name}.png").write_bytes(b"x")
    source = {"folder": "set", "labels": {"sick": 1, "well": 0}}
    found = {(s.split, s.label) for s in manifest.load(source, tmp_path)}
    assert found == {("train", 1.0), ("train", 0.0), ("test", 1.0), ("test", 0.0)}


def _picture(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 255, (64, 64)).astype(np.uint8))


def _set(folder: Path, count: int = 12, name: str = "set") -> dict[str, object]:
    for k in range(count):
        _picture(folder / name / ("PNEUMONIA" if k % 3 == 0 else "NORMAL") / f"p{k}.png", k)
    return {"folder": name}


def test_a_folder_without_splits_is_dealt_out_by_patient(tmp_path: Path) -> None:
    samples = manifest.load_all([_set(tmp_path, 30)], tmp_path)
    counts: dict[tuple[str, float], int] = defaultdict(int)
    for sample in samples:
        counts[(sample.split, sample.label)] += 1
    # 15 % of 10 and of 20 patients, rounded, to each of val and test
    assert dict(counts) == {
        ("train", 0.0): 14, ("val", 0.0): 3, ("test", 0.0): 3,
        ("train", 1.0): 6, ("val", 1.0): 2, ("test", 1.0): 2,
    }  # fmt: skip


@given(
    st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=80),
    st.integers(0, 99),
    st.randoms(use_true_random=False),
)
def test_dealing_out_keeps_patients_whole_and_knows_no_order(
    images: list[tuple[int, bool]], seed: int, rng: random.Random
) -> None:
    samples = [
        Sample(Path(f"{k}.png"), float(sick), 1.0, True, f"p{patient}", "", "all", 1.0)
        for k, (patient, sick) in enumerate(images)
    ]
    dealt = sources.deal(samples, {"val": 0.2, "test": 0.2}, seed)
    assert manifest.leaks(dealt) == []
    assert [replace(s, split="") for s in dealt] == samples
    shuffled = list(samples)
    rng.shuffle(shuffled)
    sides = {s.path: s.split for s in sources.deal(shuffled, {"val": 0.2, "test": 0.2}, seed)}
    assert sides == {s.path: s.split for s in dealt}
    sick = {f"p{p}" for p, s in images if s}
    for group in (sick, {f"p{p}" for p, _ in images} - sick):
        if len(group) > 2:  # a class of three patients is on every side
            assert {s.split for s in dealt if s.patient in group} == {"train", "val", "test"}


def test_a_missing_split_is_taken_from_train_alone(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for k in range(10):
            _picture(tmp_path / "set" / split / ("NORMAL" if k % 2 else "PNEUMONIA") / f"{split}{k}.png", k + 50 * (split == "test"))  # fmt: skip
    with pytest.raises(ManifestError, match="no image is in split 'val'"):
        manifest.load_all([{"folder": "set"}], tmp_path)
    samples = manifest.load_all([{"folder": "set", "split": {"val": 0.2}}], tmp_path)
    assert sum(s.split == "test" for s in samples) == 10
    val = [s for s in samples if s.split == "val"]
    assert len(val) == 2
    assert all(s.path.parent.parent.name == "train" for s in val)


@pytest.mark.parametrize(
    ("rule", "patients"),
    [
        ("folder", {"ann", "bob", "NORMAL/x_3_b"}),
        ("file", {"PNEUMONIA/ann/x_1_a.png", "PNEUMONIA/bob/x_2_a.png", "NORMAL/x_3_b.png"}),
        (r"x_(\d+)", {"1", "2", "3"}),
        (r"_[ab]", {"_a", "_b"}),
    ],
)
def test_who_is_on_a_picture(tmp_path: Path, rule: str, patients: set[str]) -> None:
    for k, name in enumerate(("PNEUMONIA/ann/x_1_a", "PNEUMONIA/bob/x_2_a", "NORMAL/x_3_b")):
        _picture(tmp_path / "set" / f"{name}.png", k)
    samples = manifest.load({"folder": "set", "patient": rule, "split": "train"}, tmp_path)
    assert {s.patient for s in samples} == patients


def test_bad_folders_are_described(tmp_path: Path) -> None:
    _set(tmp_path)
    _picture(tmp_path / "set" / "OTHER" / "a.png", 90)
    _picture(tmp_path / "set" / "OTHER" / "b.png", 91)
    _picture(tmp_path / "set" / "loose.png", 92)
    (tmp_path / "set" / ".DS_Store").write_bytes(b"x")
    with pytest.raises(ManifestError) as caught:
        manifest.load({"folder": "set", "patient": "p(.+)"}, tmp_path)
    assert caught.value.problems == (
        "loose.png: lies in no class folder (0, 1, NORMAL, PNEUMONIA, normal, pneumonia)",
        "class folder 'OTHER' is not among ['0', '1', 'NORMAL', 'PNEUMONIA', 'normal', 'pneumonia'] (2 images)",
    )
    for source, problem in (({"folder": "gone"}, "does not exist"), ({"folder": "set", "patient": "q(.)"}, "does not fit")):  # fmt: skip
        with pytest.raises(ManifestError, match=problem):
            manifest.load(source, tmp_path)
    for source in ({"folder": "set", "lables": {}}, {}, {"folder": "set", "split": {"val": 1.0}}, {"folder": "set", "labels": {"a": 2}}, {"folder": "set", "patient": "("}):  # fmt: skip
        with pytest.raises(UsageError):
            manifest.load(source, tmp_path)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1.png,NORMAL,a,train,0,5,", "width 0 and height 5 are not sizes"),
        ("1.png,NORMAL,a,train,inf,5,", "not sizes"),
        ("1.png,NORMAL,a,train,x,5,", "not two numbers"),
        ("1.png,NORMAL,a,train,5,,", "not two numbers"),
        ('1.png,NORMAL,a,train,,,"[[1,2,3]]"', "the boxes are no list"),
        ('1.png,NORMAL,a,train,,,"[[1,2,NaN,4]]"', "the boxes are no list"),
        ("1.png,NORMAL,a,train,,,[[1", "the boxes are no list"),
        ("1.png,NORMAL,a,train,,,,,", "more fields than the header"),
        (",NORMAL,a,train,,,", "column 'file' is empty"),
        ("1.png,NORMAL,a", "split '' is not one of"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, problem: str) -> None:
    _picture(tmp_path / "1.png", 1)
    _picture(tmp_path / "2.png", 2)
    text = f"file,label,patient,split,width,height,boxes\n2.png,PNEUMONIA,b,train,,,\n{line}\n"
    (tmp_path / "m.csv").write_text(text)
    source = {"manifest": "m.csv", "columns": {n: n for n in ("width", "height", "boxes")}}
    with pytest.raises(ManifestError) as caught:
        manifest.load(source, tmp_path)
    (said,) = caught.value.problems
    assert said.startswith("line 3: ")
    assert problem in said


def test_missing_columns_are_named_once(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("file,truth\n1.png,NORMAL\n2.png,NORMAL\n")
    with pytest.raises(ManifestError) as caught:
        manifest.load({"manifest": "m.csv"}, tmp_path)
    assert [p[:26] for p in caught.value.problems] == [
        "column 'patient' is missin",
        "column 'label' (the label)",
    ]
    _picture(tmp_path / "1.png", 1)
    _picture(tmp_path / "2.png", 2)
    (tmp_path / "m.csv").write_text("file,truth\n1.png,ill\n2.png,well\n")
    source = {"manifest": "m.csv", "patient": "file", "columns": {"label": "truth"}, "labels": {"ill": 1, "well": 0}}  # fmt: skip
    samples = manifest.load({**source, "split": "test"}, tmp_path)
    assert [(s.label, s.patient, s.split, s.place) for s in samples] == [
        (1.0, "1.png", "test", "line 2"),
        (0.0, "2.png", "test", "line 3"),
    ]


def test_copies_of_one_image(tmp_path: Path) -> None:
    """A repeat of one patient on one side is harmless; another side, patient or class is not."""
    for name in "abcde":
        _picture(tmp_path / f"{name}.png", 1)
    _picture(tmp_path / "f.png", 2)
    same = (tmp_path / "a.png").read_bytes()
    (tmp_path / "g.png").write_bytes(same[:-1] + b"x")  # as long, another content

    def sample(name: str, patient: str, split: str, label: float) -> Sample:
        return Sample(tmp_path / f"{name}.png", label, 1.0, True, patient, split, "all", 1.0, place=f"line {name}")  # fmt: skip

    harmless = [sample("a", "p", "train", 0), sample("b", "p", "train", 0), sample("f", "q", "val", 1), sample("g", "r", "val", 1)]  # fmt: skip
    assert audit.copies(harmless) == []
    for other, what in (
        (sample("c", "p", "val", 0), "but in val instead of train"),
        (sample("d", "x", "train", 0), "but of patient x instead of p"),
        (sample("e", "p", "train", 1), "but with the other label"),
    ):
        (problem,) = audit.copies([harmless[0], other])
        assert problem == f"{other.place}: {other.path.name} is the same image as a.png (line a), {what}"


def test_unreadable_images_are_all_found_while_they_are_prepared(tmp_path: Path) -> None:
    """Across the parts in which images are prepared, with their lines; nothing is left behind."""
    pytest.importorskip("torch")
    from xai_engine.classifier.lungs import LungFinder
    from xai_engine.classifier.network import build
    from xai_engine.classifier.preprocess import PreprocessSpec
    from xai_engine.runtime.run import Run
    from xai_engine.train import crops, lungs

    _set(tmp_path, 12)
    samples = manifest.load({"folder": "set"}, tmp_path) * 40  # 480 images: two parts
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nxx")
    for k in (3, 400):
        samples[k] = replace(samples[k], path=broken, place=f"line {k}")
    with pytest.raises(ManifestError) as caught:
        crops.build(
            samples, LungFinder(build(lungs.NETWORK)), PreprocessSpec(size=32), tmp_path, tmp_path, Run()
        )
    assert [p.split(":")[0] for p in caught.value.problems] == ["line 3", "line 400"]
    assert not list(tmp_path.glob("crops-*"))


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


def test_a_table_as_a_spreadsheet_saves_it(tmp_path: Path) -> None:
    """Semicolons or tabs between the columns are read; another encoding than UTF-8 is said in plain words."""
    _picture(tmp_path / "1.png", 1)
    _picture(tmp_path / "2.png", 2)
    text = "file,label,patient\n1.png,NORMAL,a\n2.png,PNEUMONIA,b\n"
    for separator in ";\t":
        (tmp_path / "m.csv").write_text(text.replace(",", separator), encoding="utf-8-sig")
        samples = manifest.load({"manifest": "m.csv", "split": "test"}, tmp_path)
        assert [(s.label, s.patient) for s in samples] == [(0.0, "a"), (1.0, "b")]
    (tmp_path / "m.csv").write_bytes(text.replace("patient", "größe").encode("cp1252"))
    with pytest.raises(ManifestError, match="is not in UTF-8; save it as CSV UTF-8"):
        manifest.load({"manifest": "m.csv"}, tmp_path)
    with pytest.raises(ManifestError, match="the file does not exist"):
        manifest.load({"manifest": "gone.csv"}, tmp_path)
