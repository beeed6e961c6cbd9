"""The report's regions: measurements, shares of the maps, the other side of the chest, and what changing a region does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, Paragraph

from xai_engine.evidence import format as fmt
from xai_engine.evidence import layout, what_if
from xai_engine.evidence.case import CaseReview
from xai_engine.evidence.figures import Picture, around, frame, jpeg, shrink
from xai_engine.evidence.layout import Heading, Page, gap, grid, style
from xai_engine.evidence.record import region_ids
from xai_engine.evidence.typeset import paragraph
from xai_engine.explain.what_if import TITLES, WhatIf
from xai_engine.radiograph import display
from xai_engine.radiograph.regions import Region

Grey = npt.NDArray[np.uint8]
_MAPS_ABREAST = 4
_PICTURES = 12  # what-ifs that get a picture before and after; the table holds all


def regions(case: CaseReview, page: Page) -> list[Flowable]:
    if not case.regions:
        return []
    out: list[Flowable] = []
    if any(region.kind != "line" for region in case.regions):
        out += _areas(case, page)
    if any(region.kind == "line" for region in case.regions):
        out += _lines(case, page, first=not out)
    return out + _shares(case, page)


def _named(case: CaseReview) -> list[tuple[int, str, Region]]:
    """Number, id and figure of every region."""
    return list(zip(range(1, len(case.regions) + 1), region_ids(case.regions), case.regions, strict=True))


def _lines(case: CaseReview, page: Page, first: bool) -> list[Flowable]:
    """What was measured along lines. first: nothing about regions stands above."""
    rows = []
    for number, key, region in _named(case):
        if region.kind == "line":
            s = case.statistics.get(key)
            lengths = (s.length_mm, s.length_px) if s else (None, None)
            rows.append([_called(number, region), *map(fmt.tenths, lengths)])
    spacing = case.radiograph.spacing
    where = (
        fmt.SPACING_MEANING[spacing.source] if spacing else "the file states no pixel spacing: no millimetres"
    )
    heading = Heading("Lengths", "heading" if first else "subheading", "lengths", level=0 if first else 1)
    return [
        gap(8),
        CondPageBreak(30 * mm),
        heading,
        grid(["Line", "Length (mm)", "Length (pixels)"], rows, [42 * mm, 30 * mm, 30 * mm]),
        gap(3),
        paragraph(f"Length: {where}.", style("small"), page.width),
    ]


def _areas(case: CaseReview, page: Page) -> list[Flowable]:
    unit = case.radiograph.unit or "pixel value"
    rows = []
    for number, key, region in _named(case):
        if region.kind == "line":
            continue
        s = case.statistics.get(key)
        kind = f"{number}  {region.name} ({region.kind})" if region.name else f"{number}  {region.kind}"
        if s is None:
            rows.append([kind, *[fmt.NONE] * 7])
            continue
        values = (s.mean, s.sd, s.minimum, s.maximum, s.median)
        rows.append([kind, fmt.tenths(s.area_mm2), str(s.pixels), *map(fmt.number, values)])
    number_width = (page.width - 42 * mm) / 7
    spacing = case.radiograph.spacing
    where = fmt.SPACING_MEANING[spacing.source] if spacing else "the file states no pixel spacing: no areas"
    return [
        CondPageBreak(45 * mm),
        Heading("Regions", "heading", "regions"),
        grid(
            ["Region", "Area (mm²)", "Pixels", "Mean", "SD", "Min", "Max", "Median"],
            rows,
            [42 * mm, *[number_width] * 7],
        ),
        gap(3),
        paragraph(
            f"Mean to median in {unit}. Area: {where}. SD: of the sample (n − 1). "
            "A pixel belongs to a region when its centre lies inside; padding is left out.",
            style("small"),
            page.width,
        ),
    ]


def _shares(case: CaseReview, page: Page) -> list[Flowable]:
    """For each region and map the share of the map's positive and negative attribution inside."""
    measured = [case.statistics.get(key) for _, key, region in _named(case) if region.kind != "line"]
    names = [name for name in case.names() if any(name in s.maps for s in measured if s is not None)]
    titles = dict(zip(case.names(), (e.title or e.method for e in case.explanations), strict=True))
    out: list[Flowable] = []
    for start in range(0, len(names), _MAPS_ABREAST):
        part = names[start : start + _MAPS_ABREAST]
        rows = []
        for number, key, region in _named(case):
            if region.kind == "line":
                continue
            s = case.statistics.get(key)
            cells = [s.maps.get(name) if s else None for name in part]
            rows.append(
                [f"{number}  {region.name or region.kind}"]
                + [
                    f"{fmt.percent(c.share_positive)} / {fmt.percent(c.share_negative)}" if c else fmt.NONE
                    for c in cells
                ]
            )
        each = min(36 * mm, (page.width - 42 * mm) / len(part))
        out += [gap(5), grid(["Region", *(titles[n] for n in part)], rows, [42 * mm, *[each] * len(part)])]
    if not out:
        return []
    words = "Share of all positive / of all negative attribution in the image that lies inside the region."
    return [
        gap(8),
        CondPageBreak(30 * mm),
        Heading("Attribution inside the regions", "subheading", "shares", level=1),
        *out[1:],
        gap(3),
        Paragraph(words, style("small")),
    ]


def _called(number: int, region: Region) -> str:
    return f"{number}  {region.name or region.kind}"


def comparisons(case: CaseReview, page: Page, grey: Grey) -> list[Flowable]:
    """The mirror regions and the what-ifs, each with a table; what-ifs with pictures before and after."""
    named = _named(case)
    return [*_mirrors(case, page, named), *_what_ifs(case, page, grey, named)]


def _mirrors(case: CaseReview, page: Page, named: list[tuple[int, str, Region]]) -> list[Flowable]:
    known = [(n, key, region) for n, key, region in named if key in case.mirrors]
    if not known:
        return []
    rows = []
    for number, key, region in known:
        here, there = case.statistics.get(key), case.mirrors[key].statistics
        mean = here.mean if here else None
        gone = mean is None or there.mean is None
        difference = None if gone else mean - there.mean  # type: ignore[operator]
        cells = [fmt.number(v) for v in (mean, there.mean, difference, here.median if here else None)]
        rows.append([_called(number, region), *cells, fmt.number(there.median), str(there.pixels)])
    each = (page.width - 42 * mm) / 6
    line = case.mirrors[known[0][1]].line
    where = "the mid-line of the lungs" if line.source == "lungs" else "the middle of the picture"
    words = f"Mirrored at {where}. {line.note} Anatomy is symmetric only roughly (heart, diaphragm)."
    return [
        gap(8),
        CondPageBreak(30 * mm),
        Heading("The other side of the chest", "subheading", "mirrors", level=1),
        grid(
            ["Region", "Mean", "Mirror's mean", "Difference", "Median", "Mirror's median", "Mirror's pixels"],
            rows,
            [42 * mm, *[each] * 6],
        ),
        gap(3),
        paragraph(" ".join(words.split()), style("small"), page.width),
    ]


def _what_ifs(
    case: CaseReview, page: Page, grey: Grey, named: list[tuple[int, str, Region]]
) -> list[Flowable]:
    known = [(n, case.what_if[key], region) for n, key, region in named if key in case.what_if]
    if not known:
        return []
    rows = []
    for number, asked, region in known:
        spread = asked.reference_range
        reach = f"{fmt.probability(spread[0])} to {fmt.probability(spread[1])}" if spread else fmt.NONE
        stands_out = asked.stands_out
        out = "not known" if stands_out is None else "yes" if stands_out else "no"
        rows.append(
            [
                _called(number, region),
                TITLES[asked.fill],
                what_if.change(asked),
                fmt.logit(asked.change.logit),
                f"{reach} ({len(asked.reference)})",
                out,
            ]
        )
    widths = [36 * mm, 36 * mm, 28 * mm, 20 * mm, 0.0, 20 * mm]
    widths[4] = page.width - sum(widths)
    out_: list[Flowable] = [
        gap(8),
        CondPageBreak(40 * mm),
        Heading("What if a region looked otherwise", "subheading", "what-if", level=1),
        grid(
            ["Region", "Change", "Probability", "Logit", "Random regions (number)", "Stands out"],
            rows,
            widths,
            texts=2,
        ),
        gap(3),
        paragraph(
            "Nothing but the region is changed. Random regions: of the same shape, inside the lungs, changed the same "
            "way. A region stands out when none of at least ten of them moves the score as far. This tells what the "
            "model uses, not what the disease is.",
            style("small"),
            page.width,
        ),
        gap(6),
    ]
    for number, asked, region in known[:_PICTURES]:
        out_ += _before_after(case, page, grey, number, region, asked)
    return out_


def _before_after(
    case: CaseReview, page: Page, grey: Grey, number: int, region: Region, asked: WhatIf
) -> list[Flowable]:
    words = [f"{_called(number, region)}: {what_if.sentence(asked)}", *asked.notes]
    if asked.partial:
        words.append("Partial: stopped before all random regions were scored.")
    texts = [
        paragraph(text, style("note"), page.width if asked.patch is None else 0.5 * page.width, limit=500)
        for text in words
    ]
    if asked.patch is None:  # a result read back has no picture of the change
        return [*texts, gap(4)]
    changed = replace(case.radiograph, pixels=asked.patch.on(case.radiograph.pixels))
    after = display.picture(changed, case.voi, case.invert)
    rows, columns = around(region, case.radiograph.pixels.shape)
    size = frame(replace(changed, pixels=changed.pixels[rows, columns]), 0.22 * page.width, 42 * mm)
    pictures = [Picture(jpeg(shrink(p[rows, columns], size)), size, case.radiograph) for p in (grey, after)]
    half = 0.24 * page.width
    pair = layout.side_by_side(
        [pictures[0], Paragraph("before", style("small"))],
        [pictures[1], Paragraph("after", style("small"))],
        (half, half),
    )
    columns_ = (2 * half + 2 * mm, page.width - 2 * half - 2 * mm)
    return [KeepTogether([layout.side_by_side([pair], texts, columns_), gap(6)])]
