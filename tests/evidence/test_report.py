"""The PDF as its readers meet it: text, numbers, pictures, fonts, pages. Read back with MuPDF and poppler."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.evidence import cases
from tests.evidence.pdf import MM, NAMES, flat, squeezed, words
from xai_engine.errors import UsageError
from xai_engine.evidence import format as fmt
from xai_engine.evidence import layout, record, report, typeset
from xai_engine.evidence.case import CaseReview
from xai_engine.radiograph import regions
from xai_engine.radiograph.types import StudyInfo


def test_every_number_is_that_of_the_record(short: tuple[CaseReview, Path]) -> None:
    """The report writes what `format` makes of analysis.json, nothing else."""
    case, path = short
    text, data = words(path), record.to_json(case, record.file_names(case))
    p = data["prediction"]
    wanted = [
        fmt.probability(p["probability"]) + " calibrated probability",
        f"threshold of {fmt.probability(p['threshold'])}",
        f"± {fmt.probability(p['uncertainty'])}",
        f"Logit {fmt.logit(p['logit'])}",
        f"sensitivity {fmt.interval(p['operating_point']['sensitivity'])}",
        f"specificity {fmt.interval(p['operating_point']['specificity'])}",
        p["operating_point"]["population"],
        data["image"]["sha256"],
        data["model"]["sha256"],
        data["environment"]["torch"],
        f"{data['image']['columns']} × {data['image']['rows']} pixels",
        "1.43 × 1.43 mm (row × column), at the detector",
        "window centre 1800, width 3600",
    ]
    for entry in data["explanations"]:
        wanted += [f"± {fmt.exact(entry['full_scale'])} {entry['unit']}", fmt.duration(entry["seconds"])]
        wanted += [
            f"{key.replace('_', ' ')} {fmt.parameter(value)}" for key, value in entry["params"].items()
        ]
        wanted.append(f"{entry['forwards']} forward")
        if entry["completeness_error"] is not None:
            wanted.append(fmt.percent(entry["completeness_error"]))
    for roi in data["rois"]:
        row = [fmt.tenths(roi["area_mm2"]), str(roi["pixels"])]
        row += [fmt.number(roi[key]) for key in ("mean", "sd", "minimum", "maximum", "median")]
        wanted.append(" ".join(row))
        wanted += [
            f"{fmt.percent(inside['share_positive'])} / {fmt.percent(inside['share_negative'])}"
            for inside in roi["maps"].values()
        ]
    for sentence in (*case.prediction.model.limitations, *case.prediction.model.training_data):
        wanted.append(sentence)
    missing = [phrase for phrase in wanted if squeezed(phrase) not in squeezed(text)]
    assert not missing
    assert squeezed(data["command"]) in squeezed(text)


def test_lengths_stand_in_a_table_of_their_own(tmp_path: Path) -> None:
    r = cases.radiograph()
    line = regions.Region("line", np.array([[10.0, 20.0], [40.0, 60.0]]), "Cardiac width", "c")
    assert r.spacing is not None
    mm = np.hypot(30 * r.spacing.row_mm, 40 * r.spacing.column_mm)
    for shown, areas in (((*cases.figures(r), line), True), ((line,), False)):
        case = cases.case(r, ("lime",), shown=shown)
        report.write(case, tmp_path / f"{areas}.pdf")
        text = words(tmp_path / f"{areas}.pdf")
        assert ("Area (mm²)" in text) == areas
        assert ("Attribution inside the regions" in text) == areas
        assert squeezed(f"{len(shown)} Cardiac width {fmt.tenths(mm)} {fmt.tenths(50.0)}") in squeezed(text)
        entry = record.to_json(case, record.file_names(case))["rois"][-1]
        assert (entry["kind"], entry["length_mm"], entry["length_px"]) == ("line", pytest.approx(mm), 50.0)
        assert (entry["pixels"], entry["area_mm2"], entry["mean"]) == (0, None, None)


def test_study_reader_and_legal_lines(short: tuple[CaseReview, Path]) -> None:
    _, path = short
    text = words(path)
    for phrase in (
        "Muster, Erika, Dr", "PID-0042", "2026-03-14 10:15:00", "1980-02-29", "Klinikum Musterstadt",
        "The file holds 2 frames; the first is shown.", "Opacity in the right lower zone", "Dr Ada Example",
        "100 mm at the detector", "right lower zone", "2026-11-22 21:52 UTC",
    ):  # fmt: skip
        assert phrase in text, phrase
    with pymupdf.open(path) as document:
        count = document.page_count
        for number, page in enumerate(document, 1):
            content = flat(page.get_text())
            assert "Research use only. Not a medical device." in content
            assert f"Page {number} of {count}" in content


def test_page_sizes(tmp_path: Path) -> None:
    case = cases.case(cases.radiograph(64, 64), methods=("grad-cam",))
    for name, size in (("A4", (210 * MM, 297 * MM)), ("letter", (8.5 * 72, 11 * 72))):
        report.write(case, tmp_path / "r.pdf", name)
        with pymupdf.open(tmp_path / "r.pdf") as document:
            assert all(
                (page.rect.width, page.rect.height) == pytest.approx(size, abs=0.1) for page in document
            )
    with pytest.raises(UsageError, match="A4 or Letter"):
        report.write(case, tmp_path / "x.pdf", "A3")
    assert not (tmp_path / "x.pdf").exists()


@pytest.mark.parametrize("script", list(NAMES))
def test_unicode_names_are_searchable(tmp_path: Path, script: str) -> None:
    study = StudyInfo(patient_name=NAMES[script])
    case = cases.case(cases.radiograph(32, 32, study=study), methods=(), shown=(), impression=NAMES[script])
    report.write(case, tmp_path / "r.pdf")
    assert squeezed(fmt.person_name(NAMES[script])) in squeezed(words(tmp_path / "r.pdf"))


def test_right_to_left_names_are_drawn_in_visual_order(tmp_path: Path) -> None:
    case = cases.case(
        cases.radiograph(32, 32, study=StudyInfo(patient_name="כהן^דוד", patient_id="محمد")),
        methods=(),
        shown=(),
    )
    report.write(case, tmp_path / "r.pdf")
    with pymupdf.open(tmp_path / "r.pdf") as document:
        characters = [
            (c["origin"][1], c["origin"][0], c["c"])
            for block in document[0].get_text("rawdict")["blocks"]
            for line in block.get("lines", [])
            for span in line["spans"]
            for c in span["chars"]
            if "\u0590" <= c["c"] <= "\u05ff"
        ]
    assert "".join(c for _, _, c in sorted(characters)) == "דודןהכ"


def test_markup_in_names_is_shown_not_obeyed(tmp_path: Path) -> None:
    evil = '<script>alert(1)</script><b>x</b>&amp;<img src="file:///etc/passwd"/><br/>&#x41; </para>'
    study = StudyInfo(patient_name=evil, patient_id=evil, study_description=evil, institution=evil)
    shown = tuple(replace(region, name=evil[:40]) for region in cases.figures(cases.radiograph()))
    model = replace(cases.MODEL, title=evil, limitations=(evil,), intended_use=evil)
    case = cases.case(
        cases.radiograph(study=study, path=Path("/x") / evil.replace("/", "_"), notices=(evil,)),
        shown=shown,
        impression=evil,
        reader=evil,
        prediction=cases.prediction(model=model),
    )
    explanation = replace(case.explanations[0], notes=(evil,), params={"<b>": evil}, title=evil, unit="<i>")
    report.write(replace(case, explanations=(explanation, *case.explanations[1:])), tmp_path / "r.pdf")
    text = squeezed(words(tmp_path / "r.pdf"))
    assert text.count(squeezed(evil)) >= 9


def test_refusal_states_no_probability(tmp_path: Path) -> None:
    refused = cases.prediction(
        readable=False, refusal="This is a lateral view; the model reads frontal ones."
    )
    case = cases.case(methods=(), shown=(), prediction=refused)
    report.write(case, tmp_path / "r.pdf")
    text = words(tmp_path / "r.pdf")
    assert "Not judged" in text
    assert "This is a lateral view; the model reads frontal ones." in text
    for number in (fmt.probability(refused.probability), fmt.logit(refused.logit), "± 0.021"):
        assert number not in text


def test_a_score_within_its_uncertainty_is_called_undecided(tmp_path: Path) -> None:
    sentence = "take the call as undecided"
    for probability, expected in ((0.42, True), (0.39, False)):
        near = cases.prediction(probability=probability, uncertainty=0.01)
        report.write(cases.case(methods=(), shown=(), prediction=near), tmp_path / "r.pdf")
        assert (sentence in words(tmp_path / "r.pdf")) is expected


def test_partial_and_unconverged_maps_say_so(tmp_path: Path) -> None:
    case = cases.case(methods=("integrated-gradients",))
    weak = replace(case.explanations[0], partial=True, converged=False, notes=("Fell back to fp32.",))
    report.write(replace(case, explanations=(weak,)), tmp_path / "r.pdf")
    text = words(tmp_path / "r.pdf")
    for phrase in ("Partial: the computation was stopped", "Not converged:", "Fell back to fp32."):
        assert phrase in text


def test_twelve_maps_and_many_regions_paginate(tmp_path: Path) -> None:
    methods = tuple(f"method-{n}" for n in range(12))
    r = cases.radiograph(3000, 3000)
    one = cases.figures(r)[0]
    shown = tuple(replace(one, name=f"zone {n} " + "long name " * 8, id=str(n)) for n in range(60))
    case = cases.case(r, methods, shown=())
    maps = {name: case.explanations[0].in_source() for name in case.names()}
    measured = regions.measure(r, one, maps)
    statistics = {region.id: measured for region in shown}
    case = replace(case, regions=shown, statistics=statistics)
    report.write(case, tmp_path / "r.pdf")
    text = words(tmp_path / "r.pdf")
    for n in range(12):
        assert f"Method {n}" in text
    for n in range(60):
        assert f"{n + 1} zone {n} " in text
    assert (tmp_path / "r.pdf").stat().st_size < 3_000_000
    with pymupdf.open(tmp_path / "r.pdf") as document:
        for page in document:
            for x0, y0, x1, y1, *_ in page.get_text("words"):
                assert 18 * MM - 1 <= x0 <= x1 <= page.rect.width - 18 * MM + 1
                assert 0 < y0 <= y1 < page.rect.height


def test_overlong_values_neither_fail_nor_run_off_the_page(tmp_path: Path) -> None:
    long, word = "many words " * 500, "x" * 5000
    study = StudyInfo(**{name: long for name in StudyInfo.__dataclass_fields__ if name != "synthetic"})
    case = cases.case(cases.radiograph(64, 64, study=study, notices=(long, word)), methods=("grad-cam",))
    e = replace(
        case.explanations[0], notes=(long,) * 8, params={"a" * 50: word, "b": long}, extra={"k" * 99: 1.0},
        title=long, target=word, unit=long,
    )  # fmt: skip
    model = replace(cases.MODEL, limitations=(long,) * 30, training_data=(word,), intended_use=long)
    case = replace(
        case,
        explanations=(e,),
        impression=long + word + "\n\n" + long,
        reader=long,
        prediction=cases.prediction(model=model),
        reliability={"grad-cam": {word: long, "k": long}},
        environment={**case.environment, word: long},
    )
    report.write(case, tmp_path / "r.pdf", "Letter")
    with pymupdf.open(tmp_path / "r.pdf") as document:
        for page in document:
            for x0, _, x1, _, *_ in page.get_text("words"):
                assert 18 * MM - 1 <= x0 <= x1 <= page.rect.width - 18 * MM + 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=200), st.text(max_size=400))
def test_any_name_gives_a_report(tmp_path: Path, name: str, impression: str) -> None:
    r = cases.radiograph(8, 8, study=StudyInfo(patient_name=name, patient_id=impression))
    case = cases.case(r, (), shown=(), impression=impression, reader=name)
    report.write(case, tmp_path / "r.pdf")
    with pymupdf.open(tmp_path / "r.pdf") as document:
        assert document.page_count >= 1


def test_text_is_selectable_in_reading_order(short: tuple[CaseReview, Path]) -> None:
    text = words(short[1])
    order = ["Finding of the classifier", "Radiograph", "Explanation maps", "Regions", "Reader", "Provenance"]
    places = [re.search(rf"\b{title}\b", text[text.index("Finding") :]).start() for title in order]  # type: ignore[union-attr]
    assert places == sorted(places)


def test_synthetic_images_and_missing_uncertainty_are_stated(tmp_path: Path) -> None:
    r = cases.radiograph(32, 32, study=StudyInfo(synthetic=True))
    unsure = cases.prediction(uncertainty=float("nan"))
    report.write(cases.case(r, (), shown=(), prediction=unsure), tmp_path / "r.pdf")
    text = words(tmp_path / "r.pdf")
    assert "Synthetic image: computed, not taken. No patient." in text
    assert "Uncertainty ± –" in text


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_no_page_begins_or_ends_with_a_single_row_of_a_table(count: int) -> None:
    typeset.register()
    made = layout.grid(("Name", "Value"), [(f"row {n}", "1") for n in range(count)], (200.0, 80.0))
    whole = made.wrap(280.0, 1e5)[1]
    for height in range(10, int(whole) + 1, 3):
        pieces = made.split(280.0, height)
        if len(pieces) == 2:
            for piece in pieces:
                assert len(piece._cellvalues) - 1 >= 2  # the head is in both
        else:
            assert not pieces or whole <= height  # all of it on the next page, or here
