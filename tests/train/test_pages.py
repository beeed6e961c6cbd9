"""`evaluate` from a manifest to pages, on made images and the tiny bundle."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.tiny_bundle import make_bundle
from xai_engine.cli import main
from xai_engine.train import evaluate, finish, pages


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(2)
    with (tmp_path / "cases.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "patient", "split"])
        for k in range(24):
            array = rng.integers(0, 120, (96, 80)) + np.arange(96)[:, None] + (k % 2) * 20
            Image.fromarray(array.astype(np.uint8)).save(tmp_path / f"i{k}.png")
            writer.writerow([f"i{k}.png", k % 2, f"p{k}", "test" if k < 12 else "val"])
    make_bundle(tmp_path / "tiny")
    return tmp_path


def test_whole_evaluation_of_a_manifest_with_a_broken_image(study, capsys):
    (study / "i3.png").write_bytes(b"not an image")
    out = study / "out"
    code = main(["evaluate", str(study / "tiny"), str(study / "cases.csv"), "--out", str(out)])
    assert code == 3
    assert "i3.png" in capsys.readouterr().err
    result = json.loads((out / "evaluation.json").read_text())
    assert len(result["rows"]) == 11
    none = result["robustness"]["cases"][0]
    assert none["change"] == "none"
    assert none["mean_abs_change"] == 0
    assert none["auc"][0] == pytest.approx(result["populations"]["cases"]["auc"][0])
    # the changed image is what was read; the weakest blur is a quarter of a pixel on images this small
    cases = result["robustness"]["cases"][1:]
    moved = [r["mean_abs_change"] for r in cases if (r["change"], r["strength"]) != ("blur", 0.002)]
    assert min(moved) > 0
    assert len(set(moved)) == len(moved)
    assert result["conformal"]["populations"]["cases"]["images"] == 11
    text = (out / "evaluation.html").read_text()
    assert "http" not in text.replace("http-equiv", "")
    assert (out / "evaluation.pdf").read_bytes().startswith(b"%PDF")
    assert {"roc.png", "reliability.png", "decision.png", "confusion.png"} <= {p.name for p in out.iterdir()}


def test_a_table_with_age_sex_and_boxes_gives_subgroups_and_localisation(study):
    """Ages as people write them; what is no age is unknown, not a crash after all the work."""
    with (study / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    odd = ["063Y", "unknown", "18M", "nan", "70.5", ""]
    for k, row in enumerate(rows):
        row["age"] = odd[k % 6] if k >= 12 else ("7", "60")[k // 2 % 2]  # the test split is the first twelve
        row["sex"] = "F" if k < 10 else "M"
        row["boxes"] = "[[10, 10, 30, 40]]" if k % 2 else ""
        row["split"] = "test"
    with (study / "more.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    assert main(["evaluate", str(study / "tiny"), str(study / "more.csv"), "--out", str(study / "o")]) == 0
    result = json.loads((study / "o" / "evaluation.json").read_text())
    entry = result["populations"]["more"]
    assert {name: entry["subgroups"][name]["images"] for name in entry["subgroups"]} == {
        "sex=F": 10,
        "sex=M": 14,
    }
    assert 0 < result["localisation"]["grad-cam"]["auprc_pooled"] < 1


def test_ages_in_bands():
    expected = {
        "0": "<18", "17.9": "<18", "18": "18-39", "39": "18-39", "40": "40-64", "65": "65+", "413": "65+",
        "063Y": "40-64", "18M": "<18", "006W": "<18", " 20 ": "18-39", "": "", "nan": "", "-3": "", "abc": "",
    }  # fmt: skip
    assert {text: evaluate.age_band(text) for text in expected} == expected


def test_quick_leaves_the_slow_parts_out(study):
    args = ["evaluate", str(study / "tiny"), str(study / "cases.csv"), "--out", str(study / "q"), "--quick"]
    assert main(args) == 0
    assert "robustness" not in json.loads((study / "q" / "evaluation.json").read_text())


def test_a_bundle_states_auc_and_coverage_by_population():
    result = {
        "populations": {"adults": {"auc": [0.8161, 0.685, 0.9]}},
        "conformal": {"populations": {"adults": {"coverage": [0.92647, 0.8391, 0.9682]}}},
    }
    assert finish.summary(result) == {
        "adults_auc": "0.816 (0.685–0.900)",
        "adults_coverage": "0.926 (0.839–0.968)",
    }
    assert finish.summary({"populations": {}}) == {}


def test_names_are_escaped():
    result = {
        "model": {"name": "<b>", "version": "1", "sha256": "0"},
        "split": "test",
        "populations": {},
        "rows": [],
        "unreadable": ["<script>alert(1)</script>"],
    }
    text = pages.page(result, {})
    assert "<script>" not in text
    assert "<b>" not in text
    assert "&lt;script&gt;" in text


def test_no_word_is_broken_in_a_narrow_column(tmp_path):
    pymupdf = pytest.importorskip("pymupdf")
    auprc = {"images": 34, "hit_rate_non_empty": 0.5, "auprc_pooled": 0.25, "threshold": 0.05}
    result = {
        "model": {"name": "m", "version": "1", "sha256": "0"},
        "split": "test",
        "populations": {},
        "rows": [],
        "unreadable": [],
        "localisation": {"integrated-gradients": auprc, "grad-cam-plus-plus": auprc},
        "shortcuts": {
            "children_under_five": {
                "images": 624, "verdict": "flagged", "certain": False, "auc": [0.989, 0.982, 0.994],
                "auc_lungs_only": [0.987, 0.979, 0.992], "fall": [0.003, -0.001, 0.006],
                "auc_outside_only": [0.753, 0.715, 0.789],
            }
        },
    }  # fmt: skip
    pages.pdf(result, {}, tmp_path / "e.pdf")
    with pymupdf.open(tmp_path / "e.pdf") as document:
        printed = {word[4] for page in document for word in page.get_text("words")}
    cells = {cell for _, _, rows in pages.tables(result) for row in rows for cell in row}
    assert {word for cell in cells for word in cell.replace("\u00a0", " ").split()} <= printed
    lines = [line for page in pymupdf.open(tmp_path / "e.pdf") for line in page.get_text().splitlines()]
    assert any("0.753" in line and "(0.715–0.789)" in line for line in lines)  # an interval stays whole


def test_gap_between_best_and_worst():
    groups = {
        "sex=F": {"auc": [0.9, 0, 1]},
        "sex=M": {"auc": [0.7, 0, 1]},
        "sex=unknown": {"auc": [0.1, 0, 1]},
        "view=PA": {"auc": [0.8, 0, 1]},
    }
    found = evaluate.gaps(groups)
    assert list(found) == ["sex"]
    assert (found["sex"]["best"], found["sex"]["worst"]) == ("F", "M")
    assert found["sex"]["gap"] == pytest.approx(0.2)


def test_every_heading_stands_with_its_table(tmp_path, study):
    """On the page where its first row is; and a table without rows is not there at all."""
    pymupdf = pytest.importorskip("pymupdf")
    out = study / "out"
    assert main(["evaluate", str(study / "tiny"), str(study / "cases.csv"), "--out", str(out)]) == 0
    result = json.loads((out / "evaluation.json").read_text())
    tables = pages.tables(result)
    assert {title for title, *_ in tables} >= {"Figures", "Conformal prediction sets"}
    assert all(len(rows) > 1 for *_, rows in tables)
    with pymupdf.open(out / "evaluation.pdf") as document:
        lines = [page.get_text().splitlines() for page in document]
    for title, _, rows in tables:
        (at,) = [n for n, page in enumerate(lines) if title in page]
        rest = " ".join(lines[at][lines[at].index(title) :]).replace("\u00a0", " ")
        assert " ".join(rows[1][0].split()[:2]) in rest, title
