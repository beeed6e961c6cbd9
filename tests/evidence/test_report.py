"""The PDF as its readers meet it: text, numbers, pictures, fonts, pages. Read back with MuPDF and poppler."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pymupdf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import REPOSITORY
from tests.evidence import cases
from xai_engine.errors import OutputError, UsageError
from xai_engine.evidence import figures, record, report
from xai_engine.evidence import format as fmt
from xai_engine.evidence.case import CaseReview
from xai_engine.radiograph import colour, display, regions
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import PixelSpacing, Radiograph, StudyInfo

MM = 72 / 25.4


def flat(text: str) -> str:
    return " ".join(text.split())


def words(path: Path) -> str:
    with pymupdf.open(path) as document:
        return flat(" ".join(page.get_text() for page in document))


def squeezed(text: str) -> str:
    """Without blanks: long values wrap anywhere."""
    return "".join(text.split())


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> tuple[CaseReview, Path]:
    case = cases.case()
    path = tmp_path_factory.mktemp("report") / "report.pdf"
    report.write(case, path)
    return case, path


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
        row = [fmt.area(roi["area_mm2"]), str(roi["pixels"])]
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


NAMES = {
    "latin": "Łukasiewicz^Żaneta",
    "greek": "Παπαδοπούλου^Ελένη",
    "cyrillic": "Иванов^Пётр",
    "japanese": "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "korean": "Hong^Gildong=洪^吉洞=홍^길동",
    "thai": "สมชาย^ใจดี",
}


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


@pytest.mark.skipif(shutil.which("pdffonts") is None, reason="poppler-utils is not installed")
def test_every_font_is_embedded(tmp_path: Path) -> None:
    study = StudyInfo(patient_name=" ".join(NAMES.values()), patient_id="محمد כהן")
    report.write(cases.case(cases.radiograph(64, 64, study=study)), tmp_path / "r.pdf")
    lines = subprocess.run(["pdffonts", tmp_path / "r.pdf"], capture_output=True, text=True, check=True)
    table = [line.split() for line in lines.stdout.splitlines()[2:]]
    assert len(table) == 6
    for line in table:
        assert line[1] == "TrueType"
        assert line[-5:-2] == ["yes", "yes", "yes"], line  # embedded, subset, searchable


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


def pictures(path: Path) -> list[np.ndarray]:
    """Embedded pictures in the order of the pages."""
    out, seen = [], set()
    with pymupdf.open(path) as document:
        for page in document:
            for image in page.get_images():
                if image[0] not in seen:
                    seen.add(image[0])
                    out.append(np.array(Image.open(io.BytesIO(document.extract_image(image[0])["image"]))))
    return out


def test_pictures_show_what_the_window_shows(short: tuple[CaseReview, Path]) -> None:
    """Small enough to be embedded pixel by pixel: equal to colour.blend up to JPEG's rounding."""
    case, path = short
    grey = display.picture(case.radiograph, case.voi)
    found = pictures(path)
    assert len(found) == 4
    expected = [grey]
    for name, e in zip(case.names(), case.explanations, strict=True):
        expected.append(colour.blend(grey, e.in_source(), case.style(name), e.full_scale))
    for shown, wanted in zip(found, expected, strict=True):
        assert shown.shape == wanted.shape
        difference = np.abs(shown.astype(int) - wanted.astype(int))
        assert difference.mean() < 1.0
        assert difference.max() <= 12
    assert not np.array_equal(found[1], found[3])


@pytest.mark.parametrize("segments", [False, True])
def test_maps_are_reduced_as_their_area_mean(segments: bool) -> None:
    r = cases.radiograph(1500, 1300)
    e = cases.explanation(r)
    if segments:
        labels = np.arange(56 * 56, dtype=np.int32).reshape(56, 56)
        e = replace(e, segments=labels)
    target = figures.frame(r, 200, 200)
    assert target.rows < 600
    wanted = figures.shrink(e.in_source(), target)
    found = figures.map_on_page(e, target)
    assert found.shape == wanted.shape == (target.rows, target.columns)
    difference = np.abs(found - wanted) / e.full_scale
    assert difference.mean() < 0.003
    assert np.quantile(difference, 0.99) < 0.05
    fine = replace(
        e,
        values=np.random.default_rng(0).normal(size=(1500, 1300)).astype(np.float32),
        transform=GridTransform(0, 0, 1, 1, (1500, 1300), (1500, 1300)),
        segments=None,
    )
    np.testing.assert_allclose(
        figures.map_on_page(fine, target), figures.shrink(fine.values, target), atol=1e-6
    )


def test_inverted_reading_is_shown_inverted(tmp_path: Path) -> None:
    case = replace(cases.case(methods=(), shown=()), invert=True)
    report.write(case, tmp_path / "r.pdf")
    grey = 255 - display.picture(case.radiograph, case.voi).astype(int)
    assert np.abs(pictures(tmp_path / "r.pdf")[0] - grey).max() <= 8
    assert "Shown inverted." in words(tmp_path / "r.pdf")


@pytest.mark.parametrize(
    ("rows", "columns", "spacing"),
    [
        (1800, 1500, PixelSpacing(0.2, 0.2, "detector")),
        (900, 900, PixelSpacing(0.4, 0.1, "calibrated")),
        (30, 2000, None),
        (2000, 30, None),
        (1, 1, None),
    ],
)
def test_pictures_keep_their_proportions(
    tmp_path: Path, rows: int, columns: int, spacing: PixelSpacing | None
) -> None:
    case = cases.case(cases.radiograph(rows, columns, spacing=spacing), methods=("grad-cam",), shown=())
    report.write(case, tmp_path / "r.pdf")
    ratio = (rows * spacing.row_mm) / (columns * spacing.column_mm) if spacing else rows / columns
    with pymupdf.open(tmp_path / "r.pdf") as document:
        boxes = [(page, info) for page in document for info in page.get_image_info()]
        assert len(boxes) == 2
        for page, info in boxes:
            x0, y0, x1, y1 = info["bbox"]
            assert 18 * MM - 0.1 <= x0 < x1 <= page.rect.width - 18 * MM + 0.1
            assert 0 < y0 < y1 < page.rect.height - 15 * MM
            assert (y1 - y0) / (x1 - x0) == pytest.approx(ratio, rel=0.03)
            assert info["width"] <= max(1, (x1 - x0) / 72 * 200 + 1)
            assert info["width"] <= columns


def test_regions_lie_where_they_were_drawn(short: tuple[CaseReview, Path]) -> None:
    """Bounding boxes of the drawn outlines against the regions' own coordinates."""
    case, path = short
    r = case.radiograph
    with pymupdf.open(path) as document:
        page = document[0]
        x0, y0, x1, y1 = page.get_image_info()[0]["bbox"]
        drawn = [item["rect"] for item in page.get_drawings() if item["color"] and item["color"][2] < 0.1]
        drawn = [rect for rect in drawn if rect.width > 20 and rect.height > 20]
    low, high = case.regions[0].points
    wanted = [
        x0 + low[1] / r.columns * (x1 - x0), y0 + low[0] / r.rows * (y1 - y0),
        x0 + high[1] / r.columns * (x1 - x0), y0 + high[0] / r.rows * (y1 - y0),
    ]  # fmt: skip
    assert any(np.allclose(tuple(rect), wanted, atol=1.2) for rect in drawn)


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


def test_metadata_and_bookmarks_hold_no_patient(short: tuple[CaseReview, Path]) -> None:
    _, path = short
    with pymupdf.open(path) as document:
        metadata, outline = document.metadata, document.get_toc()
    assert metadata["title"] == "Chest radiograph: pneumonia analysis"
    assert metadata["creationDate"].startswith("D:20261122215207")
    told = " ".join([*map(str, metadata.values()), *(entry[1] for entry in outline)])
    for secret in ("Muster", "Erika", "PID-0042", "A-77"):
        assert secret not in told
    titles = [entry[1] for entry in outline]
    assert titles[:4] == [
        "Finding of the classifier",
        "Radiograph",
        "Explanation maps",
        "Integrated Gradients",
    ]
    assert titles[-1] == "Provenance"
    assert all(entry[2] >= 1 for entry in outline)


SCRIPT = """
import sys
from tests.evidence import cases
from xai_engine.evidence import report
report.write(cases.case(), sys.argv[1])
loaded = [name for name in ("torch", "monai", "PySide6") if name in sys.modules]
sys.exit(f"loads {loaded}" if loaded else 0)
"""


def run(path: Path, seed: str, **options: Any) -> subprocess.CompletedProcess[str]:
    import os

    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path)], env=environment, capture_output=True, text=True, **options
    )


def test_the_same_case_gives_the_same_bytes_and_needs_no_torch(
    tmp_path: Path, short: tuple[CaseReview, Path]
) -> None:
    result = run(tmp_path / "again.pdf", "4711")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "again.pdf").read_bytes() == short[1].read_bytes()


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    result = run(tmp_path / "r.pdf", "0", preexec_fn=limit)
    assert "OutputError" in result.stderr
    assert "the disk is full" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_place_is_named_and_an_old_report_survives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = cases.case(methods=(), shown=())
    with pytest.raises(OutputError, match="folder"):
        report.write(case, tmp_path)
    target = tmp_path / "r.pdf"
    target.write_bytes(b"old")
    monkeypatch.setattr(display, "picture", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write(case, target)
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["r.pdf"]


def test_monochrome1_is_undone_once(tmp_path: Path) -> None:
    """A negative stored as MONOCHROME1 looks as the positive does."""
    positive = cases.radiograph(48, 40)
    values = (3600 - positive.pixels.astype(np.int32)).clip(0).astype(np.uint16)
    negative: Radiograph = replace(positive, pixels=values, photometric="MONOCHROME1")
    shown = []
    for r in (positive, negative):
        report.write(cases.case(r, (), shown=()), tmp_path / "r.pdf")
        shown.append(pictures(tmp_path / "r.pdf")[0].astype(int))
    assert np.abs(shown[0] - shown[1]).max() <= 10


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
