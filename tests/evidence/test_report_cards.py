"""Reliability cards, corrections, what-ifs and consensus spread as the report prints them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from tests.evidence import cases
from tests.evidence.pdf import flat, pictures, words
from xai_engine.assess import verdict
from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.evidence import format, report, sections, trust
from xai_engine.evidence import what_if as said
from xai_engine.evidence.case import CaseReview
from xai_engine.explain.what_if import Patch, Score, WhatIf
from xai_engine.radiograph import display, mirror


def fair(name: str) -> float:
    """Midway between good and poor, wherever the rule's limits are."""
    limit = verdict.LIMITS[name]
    return round((limit.good + limit.fair) / 2, 3)


FIGURES = {
    "use": {"faithfulness": 9.1, "score_reaction": 0.4, "road": 0.05, "sparsity": 0.52},
    "use with care": {"faithfulness": 9.1, "score_reaction": 0.4, "border_effect": fair("border_effect")},
    "do not use": {"faithfulness": -0.7, "score_reaction": 0.4, "text_effect": 0.91},
}


def card(wanted: str, partial: bool = False) -> ReliabilityCard:
    """A card whose verdict comes from the rule itself."""
    findings = tuple(
        Finding(name, value, "", f"What {name} means.", verdict.grade(name, value))
        for name, value in FIGURES[wanted].items()
    )
    found, reasons = verdict.decide(findings, partial=partial)
    assert found == wanted
    return ReliabilityCard(
        "m", "pneumonia", found, reasons, findings, "quick", 7, 1.5, 321, "fp32", partial, ("A caveat.",)
    )


@pytest.fixture(scope="module")
def assessed() -> CaseReview:
    case = cases.case((cases.radiograph(96, 84)), (*cases.METHODS, "occlusion"))
    wanted = dict(zip(case.names(), ("use with care", "do not use", "use"), strict=False))
    return replace(case, reliability={name: card(word).to_json() for name, word in wanted.items()})


def test_first_page_says_which_maps_may_be_used(assessed: CaseReview, tmp_path: Path) -> None:
    report.write(assessed, tmp_path / "r.pdf")
    with pymupdf.open(tmp_path / "r.pdf") as document:
        first = flat(document[0].get_text())
        whole = flat(" ".join(page.get_text() for page in document))
        area = document[0].rect
        lowest = max(
            y1 for *_, y1, _text, _b, _l, _w in document[0].get_text("words") if y1 < area.height - 45
        )
    for name, word in (
        ("Integrated Gradients", "use with care"),
        ("Grad-CAM", "do not use"),
        ("LIME", "use"),
        ("Occlusion", "not assessed"),
    ):
        assert f"{name} {word} " in first
    assert "LIME, reliability: use." in first  # the key map is the most trusted one
    assert sections.key_map(assessed) == (2, "lime")
    assert lowest > 0.75 * area.height  # no half-empty first page
    # every finding with its sentence, figure and limits, as the one place that words them does
    for word, figures in FIGURES.items():
        assert f"Reliability: {word}" in whole
        for name, value in figures.items():
            line = f"{trust.title(name)}: What {name} means. {format.exact(float(f'{value:.3g}'))}"
            assert line in whole
            assert trust.limit(name) in whole
    limit = verdict.LIMITS["faithfulness"]
    assert f"good from {limit.good:g}, poor below {limit.fair:g} · decides" in whole
    assert "Reliability: not assessed" in whole
    assert whole.count("A caveat.") == 3
    assert "Preset “quick”, seed 7, 321 forward passes, fp32." in whole


def test_verdicts_differ_without_colour(assessed: CaseReview, tmp_path: Path) -> None:
    """The badges' shapes on a grey print: any two differ in a fifth of the pixels they cover."""
    marks = {}
    for word in FIGURES:
        only = replace(assessed, reliability=dict.fromkeys(assessed.names(), card(word).to_json()))
        report.write(only, tmp_path / "r.pdf")
        with pymupdf.open(tmp_path / "r.pdf") as document:
            page = document[1]
            box = next(iter(page.search_for("Reliability:")))
            clip = pymupdf.Rect(box.x0 - 18, box.y0 - 2, box.x0 - 3, box.y1 + 3)
            pixmap = page.get_pixmap(clip=clip, dpi=200, colorspace=pymupdf.csGRAY)
            marks[word] = np.frombuffer(pixmap.samples, np.uint8).reshape(pixmap.h, pixmap.stride) < 160
    for one in marks:
        for other in marks:
            if one < other:
                h = min(marks[one].shape[0], marks[other].shape[0])
                w = min(marks[one].shape[1], marks[other].shape[1])
                a, b = marks[one][:h, :w], marks[other][:h, :w]
                assert (a ^ b).sum() > 0.2 * (a | b).sum()


def test_partial_cards_say_so(assessed: CaseReview, tmp_path: Path) -> None:
    data = card("use with care", partial=True).to_json()
    report.write(replace(assessed, reliability={"lime": data}), tmp_path / "r.pdf")
    text = words(tmp_path / "r.pdf")
    assert "use with care (partial)" in text
    assert "The assessment was stopped" in text


def test_corrections_and_institution_stand_on_the_first_page(tmp_path: Path) -> None:
    r = replace(cases.radiograph(64, 64), corrections=("invert", "rotate-180"))
    report.write(cases.case(r, (), institution="Klinik <A> & B"), tmp_path / "r.pdf")
    with pymupdf.open(tmp_path / "r.pdf") as document:
        first = flat(document[0].get_text())
    assert "Read inverted and rotated by 180°: the file's picture was put right first." in first
    assert "Klinik <A> & B Chest radiograph: pneumonia analysis" in first


def test_default_layer_is_named(tmp_path: Path) -> None:
    r = cases.radiograph(64, 64)
    e = cases.explanation(r, "grad-cam", params={"layer": ""})
    report.write(replace(cases.case(r, (), shown=()), explanations=(e,)), tmp_path / "r.pdf")
    assert "Parameters: layer features.8." in words(tmp_path / "r.pdf")


def test_consensus_shows_its_spread(tmp_path: Path) -> None:
    r = cases.radiograph(96, 84)
    e = cases.explanation(r, "consensus")
    spread = np.linspace(0, 0.05, e.values.size, dtype=np.float32).reshape(e.values.shape)
    plain = replace(cases.case(r, (), shown=()), explanations=(e,))
    report.write(plain, tmp_path / "a.pdf")
    report.write(replace(plain, explanations=(replace(e, uncertainty=spread),)), tmp_path / "b.pdf")
    assert len(pictures(tmp_path / "b.pdf")) == len(pictures(tmp_path / "a.pdf")) + 1
    assert "Median over the image 0.025" in words(tmp_path / "b.pdf")


def test_what_if_and_mirror_are_told_and_shown(tmp_path: Path) -> None:
    case = cases.case(cases.radiograph(96, 84), ("grad-cam",))
    region = case.regions[0]
    values = np.full((20, 20), 3000, case.radiograph.pixels.dtype)
    patch = Patch(50, 20, values, np.ones((20, 20), bool))
    asked = WhatIf(
        region, "inpaint", {}, Score(1.2, 0.77), Score(-0.4, 0.4), None,
        tuple(Score(1.2 + 0.01 * n, 0.77) for n in range(12)), 1.0, patch, 7, 14, 0.1, False,
        case.radiograph.sha256, "m", "0.1", "cpu", "fp32", ("A note.",),
    )  # fmt: skip
    line = mirror.of_image(case.radiograph.pixels.shape)
    found = mirror.compare(case.radiograph, region, line)
    told = replace(case, what_if={"a": asked}, mirrors={"a": found})
    report.write(told, tmp_path / "r.pdf")
    text = words(tmp_path / "r.pdf")
    assert said.sentence(asked) in text
    assert said.change(asked) in text
    assert "A note." in text
    here, there = told.statistics["a"].mean, found.statistics.mean
    from xai_engine.evidence import format as fmt

    assert f"{fmt.number(here)} {fmt.number(there)} {fmt.number(here - there)}" in text
    before, after = pictures(tmp_path / "r.pdf")[-2:]
    changed = display.picture(replace(case.radiograph, pixels=patch.on(case.radiograph.pixels)), case.voi)
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).max() > 20
    assert abs(int(np.median(changed[52:68, 22:38])) - int(np.median(after[-30:, :]))) < 80
    without = replace(told, what_if={"a": replace(asked, patch=None)})  # as read back from a folder
    report.write(without, tmp_path / "r.pdf")
    assert said.sentence(asked) in words(tmp_path / "r.pdf")
