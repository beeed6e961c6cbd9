"""Reliability cards on paper: a badge that survives grey printing, the card of a map, the summary of all maps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from reportlab.lib.colors import HexColor, white
from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, Paragraph, Table, TableStyle

from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.evidence import trust, typeset
from xai_engine.evidence.case import CaseReview
from xai_engine.evidence.figures import ACCENT, HAIR, INK, SOFT, draw_text
from xai_engine.evidence.layout import TIGHT, Heading, Page, gap, style, together
from xai_engine.evidence.typeset import paragraph

_TONES = {
    "use": HexColor("#1d6b43"),
    "use with care": HexColor("#8a5a00"),
    "do not use": HexColor("#a11d1d"),
    trust.NOT_ASSESSED: SOFT,
}
_GRADE_SHAPES = {"good": "use", "fair": "use with care", "poor": "do not use", "info": ""}
SUMMARY_ROWS = 10  # maps in the summary of page 1; further ones follow with the maps


class Badge(Flowable):
    """A verdict as shape and word: tick in a disc, triangle, crossed square, dashed ring. None relies on colour."""

    def __init__(self, verdict: str, text: str = "", size: float = 9.0) -> None:
        super().__init__()
        self.verdict, self.text, self.size = verdict, text, size
        self.height = size + 3
        self.width = self.height + 4 + typeset.width(text, size, typeset.BOLD)

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        canvas = self.canv
        canvas.saveState()
        _mark(canvas, self.verdict, self.height)
        canvas.setFillColor(INK)
        draw_text(canvas, self.height + 4, 0.32 * self.size, self.text, self.size, typeset.BOLD)
        canvas.restoreState()


def _mark(c: Any, verdict: str, side: float) -> None:
    tone = _TONES.get(verdict, SOFT)
    c.setFillColor(tone)
    c.setStrokeColor(tone)
    _SHAPES.get(verdict, _ring)(c, side)


def _disc(c: Any, side: float) -> None:
    half = side / 2
    c.circle(half, half, half - 0.3, stroke=0, fill=1)
    _line(c, side, [(0.27, 0.5), (0.44, 0.32), (0.75, 0.68)])


def _triangle(c: Any, side: float) -> None:
    path = c.beginPath()
    path.moveTo(0.5 * side, 0.98 * side)
    path.lineTo(0.02 * side, 0.06 * side)
    path.lineTo(0.98 * side, 0.06 * side)
    path.close()
    c.drawPath(path, stroke=0, fill=1)
    _line(c, side, [(0.5, 0.68), (0.5, 0.36)])
    _line(c, side, [(0.5, 0.2), (0.5, 0.19)])


def _square(c: Any, side: float) -> None:
    c.rect(0.04 * side, 0.04 * side, 0.92 * side, 0.92 * side, stroke=0, fill=1)
    _line(c, side, [(0.27, 0.27), (0.73, 0.73)])
    _line(c, side, [(0.27, 0.73), (0.73, 0.27)])


def _ring(c: Any, side: float) -> None:
    c.setLineWidth(0.8)
    c.setDash(1.6, 1.2)
    c.circle(side / 2, side / 2, side / 2 - 0.6, stroke=1, fill=0)
    c.setDash()


def _line(c: Any, side: float, points: Sequence[tuple[float, float]]) -> None:
    c.setStrokeColor(white)
    c.setLineWidth(0.13 * side)
    c.setLineCap(1)
    for (x0, y0), (x1, y1) in pairwise(points):
        c.line(x0 * side, y0 * side, x1 * side, y1 * side)


_SHAPES = {"use": _disc, "use with care": _triangle, "do not use": _square}


def summary(case: CaseReview, page: Page) -> list[Flowable]:
    """Which of these maps may be used: one line each, for the first page."""
    if not case.explanations:
        return []
    heading = Heading("Which of these maps may be used", "heading", "trust")
    names = case.names()
    titles = [e.title or e.method for e in case.explanations]
    rows = []
    for name, called in list(zip(names, titles, strict=True))[:SUMMARY_ROWS]:
        found = trust.card(case.reliability.get(name, {}))
        twice = titles.count(called) > 1
        why = found.reasons[0] if found and found.reasons else ""
        if found is None:
            why = "It is not known how far this map can be trusted."
        rows.append((f"{called} ({name})" if twice else called, found, why))
    left, middle = 40 * mm, 43 * mm
    cells: list[list[Any]] = [[Paragraph(text, style("head")) for text in ("Map", "Verdict", "Why")]]
    for called, found, why in rows:
        cells.append(
            [
                paragraph(called, style("cell"), left - 7, limit=80),
                Badge(found.verdict if found else trust.NOT_ASSESSED, trust.word(found), 7.5),
                paragraph(
                    why, style("cell"), page.width - left - middle - 7, limit=260 if len(rows) <= 5 else 120
                ),
            ]
        )
    out: list[Flowable] = [heading, _table(cells, [left, middle, page.width - left - middle])]
    more = len(names) - len(rows)
    if more > 0:
        counts = _counts([trust.card(case.reliability.get(name, {})) for name in names[len(rows) :]])
        out += [gap(2), Paragraph(f"{more} further maps on their own pages: {counts}.", style("small"))]
    return out


def card(case: CaseReview, page: Page, name: str) -> list[Flowable]:
    """The card of one map: badge, reasons, one sentence per finding, figures with their limits. May be split."""
    found = trust.card(case.reliability.get(name, {}))
    if found is None:
        return [Badge(trust.NOT_ASSESSED, "Reliability: not assessed")]
    head: list[Flowable] = [
        CondPageBreak(40 * mm),
        Badge(found.verdict, f"Reliability: {trust.word(found)}"),
        gap(3),
    ]
    shown = trust.ordered(found)
    said = {f.sentence for f in shown}
    texts = [r for r in found.reasons if r not in said]  # the others stand in the table, gravest first
    texts += list(found.notes)
    if found.partial:
        texts.insert(0, "The assessment was stopped: findings are missing.")
    head += [paragraph(text, style("note"), page.width, limit=400) for text in texts]
    effort = (
        f"Preset “{found.preset}”, seed {found.seed}, {found.forwards} forward passes, {found.precision}. "
        "“Decides”: poor alone means “do not use”. The rule and every measure: docs/reliability.md."
    )
    out = [*head, paragraph(effort, style("small"), page.width, limit=400), gap(2)]
    graded, others = [f for f in shown if f.grade != "info"], [f for f in shown if f.grade == "info"]
    return out + [part(of, page) for part, of in ((_findings, graded), (_others, others)) if of]


def _others(shown: Sequence[Finding], page: Page) -> Table:
    """Findings without limits, two abreast: they inform and decide nothing."""
    half = 0.5 * page.width
    words = [f"{trust.title(f.name)}: {f.sentence} {trust.value(f)}." for f in shown]
    texts = [paragraph(text, style("small"), half - 6, limit=400) for text in words]
    cells: list[list[Any]] = [[Paragraph("Without limits", style("head")), ""]]
    cells += [[*texts[i : i + 2], *[""] * (2 - len(texts[i : i + 2]))] for i in range(0, len(texts), 2)]
    return _table(cells, [half, half])


def _findings(shown: Sequence[Finding], page: Page) -> Table:
    widths = [17 * mm, 0.0, 27 * mm, 35 * mm]
    widths[1] = page.width - sum(widths)
    heads = ("Grade", "Finding", "Figure", "Limits")
    cells: list[list[Any]] = [[Paragraph(text, style("head")) for text in heads]]
    for f in shown:
        grade = _Grade(_GRADE_SHAPES[f.grade], trust.GRADES[f.grade])
        words = paragraph(f"{trust.title(f.name)}: {f.sentence}", style("cell"), widths[1] - 7, limit=400)
        number = paragraph(trust.value(f), style("cell"), widths[2] - 7, limit=90)
        limits = paragraph(trust.limit(f.name) or "none", style("label"), widths[3] - 7, limit=90)
        cells.append([grade, words, number, limits])
    return _table(cells, widths)


class _Grade(Badge):
    """A grade in a table's cell: the shapes of the verdicts, small, in plain weight."""

    def __init__(self, verdict: str, text: str) -> None:
        super().__init__(verdict, text, 7.0)

    def draw(self) -> None:
        canvas = self.canv
        canvas.saveState()
        if self.verdict:
            _mark(canvas, self.verdict, self.height - 2)
        canvas.setFillColor(INK if self.verdict else SOFT)
        draw_text(canvas, self.height + 2, 1.6, self.text, self.size)
        canvas.restoreState()


def _table(cells: list[list[Any]], widths: Sequence[float]) -> Table:
    return Table(
        cells,
        colWidths=list(widths),
        repeatRows=1,
        style=TableStyle(
            [
                *TIGHT,
                ("LINEBELOW", (0, 0), (-1, 0), 0.7, ACCENT),
                ("LINEBELOW", (0, 1), (-1, -1), 0.25, HAIR),
                *together(len(cells)),
            ]
        ),
        hAlign="LEFT",
    )


def _counts(found: Sequence[ReliabilityCard | None]) -> str:
    """ "2 “use”, 1 “not assessed”", in the order of first appearance."""
    words = [trust.word(card_) for card_ in found]
    return ", ".join(f"{words.count(w)} “{w}”" for w in dict.fromkeys(words))
