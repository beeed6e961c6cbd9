"""What the report shows as pictures: the same as the window, in true proportions, regions where they were drawn."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pymupdf
import pytest

from tests.evidence import cases
from tests.evidence.pdf import MM, pictures, words
from xai_engine.evidence import figures, layout, report, sections
from xai_engine.evidence.case import CaseReview
from xai_engine.radiograph import colour, display
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import PixelSpacing, Radiograph


def test_pictures_show_what_the_window_shows(short: tuple[CaseReview, Path]) -> None:
    """Small enough to be embedded pixel by pixel: equal to colour.blend up to JPEG's rounding."""
    case, path = short
    grey = display.picture(case.radiograph, case.voi)
    found = pictures(path)
    assert len(found) == 4  # the key map of page 1 is the picture of its own page
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
        assert len(boxes) == 3
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


def test_without_room_on_the_first_page_the_radiograph_is_large_on_the_next(tmp_path: Path) -> None:
    r = cases.radiograph(400, 400)
    case = cases.case(r, methods=("grad-cam",), shown=())
    paper = layout.page("A4")
    grey = np.zeros((400, 400), np.uint8)

    def height(room: float) -> float:
        (together,) = sections.radiograph(case, paper, grey, room * MM)
        return layout.height_of(together._content, paper.width)

    assert height(100) <= 100 * MM
    assert height(100) < height(200)
    assert height(60) == height(200)


@pytest.mark.parametrize("full_scale", [0.012, 0.015, 0.02, 0.034, 0.5, 1.5, 12.5, 150.0, 9e-6])
@pytest.mark.parametrize("millimetres", [20, 38, 66, 120])
def test_labels_of_a_colour_bar_do_not_touch(full_scale: float, millimetres: int) -> None:
    """Found at ±0.015, where seven ticks fit on average and the ends, moved inwards, ran into their neighbours."""
    style = colour.LayerStyle("blue-orange", 0.6, 0.0)
    bar = figures.ColourBar(style, full_scale, "logit per pixel", millimetres * MM)
    labels = bar.labels()
    assert len(labels) >= 2
    assert labels[0][1][0] >= 0
    assert labels[-1][1][1] <= millimetres * MM + 1e-6
    for (_, (_, end), _), (_, (begin, _), _) in pairwise(labels):
        assert end + 2 < begin
