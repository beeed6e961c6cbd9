"""The PDF report of a case: a function of the case alone, so that it can be made again byte by byte."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from reportlab.lib.units import mm
from reportlab.platypus import BaseDocTemplate, Flowable, PageTemplate, Paragraph
from reportlab.platypus import Frame as TextFrame

from xai_engine import __version__
from xai_engine.evidence import appendix, cards, layout, measured, sections, typeset
from xai_engine.evidence import format as fmt
from xai_engine.evidence.case import CaseReview
from xai_engine.evidence.figures import ACCENT, HAIR, SOFT, draw_text
from xai_engine.evidence.layout import BOTTOM, MARGIN, Page, gap, style
from xai_engine.evidence.sections import DISCLAIMER
from xai_engine.radiograph import display
from xai_engine.runtime import atomic

TITLE = "Chest radiograph: pneumonia analysis"
_TOTAL = "page-total"


def write(case: CaseReview, path: str | os.PathLike[str], page: str = "A4") -> None:
    """Write the report to `path`, whole or not at all.

    page: "A4" or "Letter". Raises UsageError for another paper, OutputError when the file cannot be written.
    The same case, engine and libraries give the same bytes.
    """
    paper = layout.page(page)
    typeset.register()
    with atomic.file(path) as temporary:
        document = _document(case, paper, str(temporary))
        document.build(_story(case, paper))


def _story(case: CaseReview, paper: Page) -> list[Flowable]:
    grey = display.picture(case.radiograph, case.voi, case.invert)
    first = [
        *_title(case, paper),
        *sections.study(case, paper),
        *sections.finding(case, paper),
        *cards.summary(case, paper),
    ]
    room = paper.height - layout.height_of(first, paper.width)
    return [
        *first,
        *sections.radiograph(case, paper, grey, room),
        *sections.maps(case, paper, grey),
        *measured.regions(case, paper),
        *measured.comparisons(case, paper, grey),
        *sections.reader(case, paper),
        *appendix.model_card(case, paper),
        *appendix.provenance(case, paper),
        _Total(),
    ]


def _title(case: CaseReview, paper: Page) -> list[Flowable]:
    about = f"Radiolucent {__version__} · {fmt.moment(case.created)}"
    whose = case.institution.strip()
    return [
        *([typeset.paragraph(whose, style("value"), paper.width, limit=160)] if whose else []),
        Paragraph(TITLE, style("title")),
        Paragraph(f"{about} · {DISCLAIMER}", style("small")),
        _Rule(paper.width),
        gap(6),
    ]


class _Rule(Flowable):
    def __init__(self, width: float) -> None:
        super().__init__()
        self.width, self.height = width, 5.0

    def draw(self) -> None:
        self.canv.setStrokeColor(ACCENT)
        self.canv.setLineWidth(1.2)
        self.canv.line(0, 0.6, self.width, 0.6)


class _Total(Flowable):
    """Ends the story: fills in the number of pages that every footer refers to."""

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return 0, 0

    def draw(self) -> None:
        canvas = self.canv
        canvas.saveState()
        total = canvas.getPageNumber()
        canvas.beginForm(_TOTAL, 0, -3, 40, 10)
        canvas.setFillColor(SOFT)
        draw_text(canvas, 0, 0, str(total), 7)
        canvas.endForm()
        canvas.restoreState()


def _document(case: CaseReview, paper: Page, path: str) -> BaseDocTemplate:
    document = BaseDocTemplate(
        path,
        pagesize=paper.size,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=layout.TOP,
        bottomMargin=BOTTOM,
        # metadata travels with the file and is read by search engines: no patient data in it
        title=TITLE,
        author="",
        subject=f"Image SHA-256 {case.radiograph.file_sha256[:16]}",
        creator=f"Radiolucent {__version__}",
        keywords=[],
        lang="en-GB",
        displayDocTitle=True,
        invariant=1,
        pageCompression=1,
        initialFontName=typeset.TEXT,
    )
    area = TextFrame(MARGIN, BOTTOM, paper.width, paper.height, 0, 0, 0, 0, id="text")
    document.addPageTemplates([PageTemplate(id="page", frames=[area], onPage=_decoration(case, paper))])
    return document


def _decoration(case: CaseReview, paper: Page) -> Callable[[Any, Any], None]:
    width, height = paper.size
    study = case.radiograph.study
    whose = " · ".join(
        part for part in (fmt.person_name(study.patient_name), study.patient_id) if part.strip()
    )
    whose = typeset.line(whose, 70)
    created = fmt.moment(case.created)

    def decorate(canvas: Any, _document: Any) -> None:
        number = canvas.getPageNumber()
        if number == 1:
            canvas._doc._timeStamp = _Stamp(case.created)
            canvas.showOutline()
        canvas.saveState()
        canvas.setStrokeColor(HAIR)
        canvas.setLineWidth(0.4)
        canvas.line(MARGIN, 14 * mm, width - MARGIN, 14 * mm)
        canvas.setFillColor(SOFT)
        draw_text(canvas, MARGIN, 10 * mm, DISCLAIMER, 7)
        draw_text(canvas, width - MARGIN - typeset.width(created, 7), 10 * mm, created, 7)
        text = f"Page {number} of "
        left = width / 2 - typeset.width(text, 7)
        draw_text(canvas, left, 10 * mm, text, 7)
        canvas.saveState()
        canvas.translate(left + typeset.width(text, 7), 10 * mm)
        canvas.doForm(_TOTAL)
        canvas.restoreState()
        if number > 1:
            top = height - 12 * mm
            size = 7 * min(1.0, 0.62 * paper.width / max(typeset.width(whose, 7), 1.0))
            draw_text(canvas, MARGIN, top, whose, size)
            draw_text(canvas, width - MARGIN - typeset.width(TITLE, 7), top, TITLE, 7)
            canvas.line(MARGIN, top - 4, width - MARGIN, top - 4)
        canvas.restoreState()

    return decorate


class _Stamp:
    """The case's date in the form in which reportlab keeps the present moment."""

    def __init__(self, created: str) -> None:
        try:
            moment = datetime.fromisoformat(created)
        except ValueError:
            moment = datetime(2000, 1, 1)
        moment = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
        self.t = moment.timestamp()
        self.lt = moment.timetuple()
        self.YMDhms = (moment.year, moment.month, moment.day, moment.hour, moment.minute, moment.second)
        self.dhh = self.dmm = 0
        self.tzname = "UTC"
