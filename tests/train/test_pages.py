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
