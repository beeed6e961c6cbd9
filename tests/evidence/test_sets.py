"""Prediction sets in words, in the module and in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.evidence import cases
from tests.evidence.pdf import squeezed, words
from xai_engine.classifier.types import ConformalLimits
from xai_engine.evidence import report, sets

LIMITS = ConformalLimits(0.1, (0.68, 0.83), "validation images: 21 adults, 476 children")
MODEL = replace(
    cases.MODEL,
    conformal=LIMITS,
    metrics={
        "adults_auc": "0.816",
        "children_coverage": "0.965 (0.947–0.977)",
        "adults_coverage": "0.926 (0.839–0.968)",
    },
)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        (("normal", "pneumonia"), "Cannot rule out: normal, pneumonia (error rate 10 %)"),
        (("pneumonia",), "Cannot rule out: pneumonia (error rate 10 %)"),
        (
            (),
            "Fits none of normal, pneumonia (error rate 10 %): the score lies where neither class was usual",
        ),
        (None, ""),
    ],
)
def test_line(members: tuple[str, ...] | None, text: str) -> None:
    assert sets.line(cases.prediction(model=MODEL, prediction_set=members)) == text


def test_nothing_is_said_without_limits_or_of_a_refused_image() -> None:
    both = ("normal", "pneumonia")
    assert sets.line(cases.prediction(model=replace(MODEL, conformal=None), prediction_set=both)) == ""
    assert sets.line(cases.prediction(model=MODEL, prediction_set=both, readable=False, refusal="x")) == ""
    assert sets.meaning(replace(MODEL, conformal=None)) == ""


def test_meaning_tells_the_promise_its_source_and_what_was_measured() -> None:
    text = sets.meaning(MODEL)
    assert "at most about 10 of 100" in text
    assert "21 adults, 476 children" in text
    assert text.endswith("adults 0.926 (0.839–0.968), children 0.965 (0.947–0.977).")
    assert "0.816" not in text
    assert "not stated" in sets.meaning(replace(MODEL, metrics={}))


def test_report_shows_the_set_where_the_probability_stands(tmp_path: Path) -> None:
    prediction = cases.prediction(model=MODEL, prediction_set=("normal", "pneumonia"))
    case = cases.case(cases.radiograph(64, 64), methods=(), shown=(), prediction=prediction)
    report.write(case, tmp_path / "r.pdf")
    text = squeezed(words(tmp_path / "r.pdf"))
    assert squeezed("Cannot rule out: normal, pneumonia (error rate 10 %)") in text
    assert squeezed(sets.meaning(MODEL)) in text
    refused = replace(prediction, readable=False, refusal="not a chest", prediction_set=None)
    report.write(replace(case, prediction=refused), tmp_path / "n.pdf")
    assert "Cannotruleout" not in squeezed(words(tmp_path / "n.pdf"))
