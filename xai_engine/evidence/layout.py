"""Grid, styles and small building blocks of the report's pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from reportlab.lib.pagesizes import A4, LETTER
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, Paragraph, Spacer, Table, TableStyle

from xai_engine.errors import UsageError
from xai_engine.evidence.figures import ACCENT, ALERT, ALERT_WASH, HAIR, INK, SOFT, WASH
from xai_engine.evidence.typeset import BOLD, MONO, TEXT, paragraph, register
from xai_engine.evidence.typeset import width as width_of

PAGES: dict[str, tuple[float, float]] = {"A4": A4, "Letter": LETTER}
MARGIN, TOP, BOTTOM = 18 * mm, 19 * mm, 19 * mm
CELL_LIMIT = 400  # characters of one table cell: a row must fit on a page
NAME_LIMIT = 120
_FONT = ("FONTNAME", (0, 0), (-1, -1), TEXT)  # else an unembedded Helvetica comes in
TIGHT = (
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("LEFTPADDING", (0, 0), (-1, -1), 0),
    ("RIGHTPADDING", (0, 0), (-1, -1), 6),
    ("TOPPADDING", (0, 0), (-1, -1), 1.6),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 1.6),
    _FONT,
)
"""Style of tables of words: text stands at the left edge, lines close together."""


def together(rows: int) -> list[tuple[Any, ...]]:
    """Commands for a table of so many rows, its head among them: no page begins or ends with a single one of them."""
    if rows < 4:
        return [("NOSPLIT", (0, 0), (-1, -1))]
    return [("NOSPLIT", (0, 0), (-1, 2)), ("NOSPLIT", (0, rows - 2), (-1, rows - 1))]


@dataclass(frozen=True, slots=True)
class Page:
    """A paper size; `width` and `height` of the text area in points."""

    name: str

    @property
    def size(self) -> tuple[float, float]:
        return PAGES[self.name]

    @property
    def width(self) -> float:
        return self.size[0] - 2 * MARGIN

    @property
    def height(self) -> float:
        return self.size[1] - TOP - BOTTOM


def page(name: str) -> Page:
    """The page of that name, any case. UsageError for another paper."""
    for known in PAGES:
        if known.lower() == name.lower():
            return Page(known)
    raise UsageError(f"no page size '{name}'; choose {' or '.join(PAGES)}")


@cache
def style(name: str) -> ParagraphStyle:
    """title, heading, subheading, body, small, label, value, mono, big, alert, cell, number, head."""
    register()
    base = ParagraphStyle(
        "body", fontName=TEXT, fontSize=8.5, leading=12, textColor=INK, splitLongWords=1, bulletFontName=TEXT
    )
    changes: dict[str, dict[str, Any]] = {
        "body": {},
        "title": {"fontName": BOLD, "fontSize": 16, "leading": 20, "textColor": ACCENT},
        "heading": {
            "fontName": BOLD,
            "fontSize": 10.5,
            "leading": 13,
            "textColor": ACCENT,
            "spaceBefore": 13,
            "spaceAfter": 5,
            "keepWithNext": 1,
        },
        "subheading": {"fontName": BOLD, "fontSize": 9, "leading": 12, "spaceAfter": 3, "keepWithNext": 1},
        "small": {"fontSize": 7, "leading": 9.6, "textColor": SOFT},
        "note": {"fontSize": 7.5, "leading": 10.5, "spaceAfter": 2},
        "label": {"fontSize": 7, "leading": 10.5, "textColor": SOFT},
        "value": {"fontSize": 8, "leading": 10.5},
        "mono": {"fontName": MONO, "fontSize": 7.2, "leading": 10},
        "big": {"fontName": BOLD, "fontSize": 14, "leading": 18},
        "alert": {"fontSize": 8, "leading": 11, "textColor": ALERT},
        "cell": {"fontSize": 7.5, "leading": 9.5},
        "number": {"fontSize": 7.5, "leading": 9.5, "alignment": 2},
        "head": {"fontSize": 7, "leading": 9, "textColor": SOFT},
        "headnumber": {"fontSize": 7, "leading": 9, "textColor": SOFT, "alignment": 2},
    }
    return ParagraphStyle(name, parent=base, **changes[name])


class Heading(Paragraph):
    """A heading that is also a bookmark of the PDF. `mark`: unique in the document."""

    def __init__(self, text: str, kind: str, mark: str, level: int = 0) -> None:
        from xai_engine.evidence.typeset import clean, line, markup

        super().__init__(markup(line(text, NAME_LIMIT), BOLD), style(kind))
        self.outline = (clean(text, NAME_LIMIT), mark, level)

    def draw(self) -> None:
        text, mark, level = self.outline
        self.canv.bookmarkHorizontal(mark, 0, self.height + 6)
        self.canv.addOutlineEntry(text, mark, level, closed=False)
        super().draw()


def facts(
    rows: Sequence[tuple[str, str]],
    width: float,
    *,
    columns: int = 1,
    label: float = 27 * mm,
    mono: bool = False,
    limit: int = CELL_LIMIT,
) -> Table:
    """Label and value pairs in `columns` columns, read down each row; pairs without a value are left out."""
    kept = [(name, text) for name, text in rows if text.strip()]
    each = width / columns
    value = style("mono" if mono else "value")
    lower = value.fontSize - style("label").fontSize
    cells: list[list[Any]] = []
    for start in range(0, len(kept), columns):
        row: list[Any] = []
        for name, text in kept[start : start + columns]:
            row += [
                paragraph(name, style("label"), label, limit=60),
                paragraph(text, value, each - label - 8, limit=limit),
            ]
        cells.append(row + [""] * (2 * columns - len(row)))
    if not cells:
        cells = [[""] * (2 * columns)]
    return Table(
        cells,
        colWidths=[label, each - label] * columns,
        style=TableStyle(
            [
                *TIGHT,
                ("LINEBELOW", (0, 0), (-1, -1), 0.25, HAIR),
                # labels are smaller than values: set both on one baseline
                *[("TOPPADDING", (2 * i, 0), (2 * i, -1), 1.6 + lower) for i in range(columns)],
            ]
        ),
        hAlign="LEFT",
    )


def grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[float], *, texts: int = 1
) -> Table:
    """A table of numbers whose first `texts` columns are text; the head repeats on every page."""

    def cell(text: str, column: int, kinds: tuple[str, str]) -> Paragraph:
        kind = style(kinds[0] if column < texts else kinds[1])
        return paragraph(text, kind, widths[column] - 7, limit=NAME_LIMIT)

    cells = [[cell(text, i, ("head", "headnumber")) for i, text in enumerate(head)]]
    cells += [[cell(text, i, ("cell", "number")) for i, text in enumerate(row)] for row in rows]
    return Table(
        cells,
        colWidths=list(widths),
        repeatRows=1,
        style=TableStyle(
            [
                ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
                ("VALIGN", (0, 1), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 3.5),
                ("RIGHTPADDING", (0, 0), (-1, -1), 3.5),
                ("TOPPADDING", (0, 0), (-1, -1), 2.2),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 2.2),
                ("LINEBELOW", (0, 0), (-1, 0), 0.7, ACCENT),
                ("LINEBELOW", (0, 1), (-1, -1), 0.25, HAIR),
                *together(len(cells)),
                _FONT,
            ]
        ),
        hAlign="LEFT",
    )


def column_widths(rows: Sequence[Sequence[str]], width: float, size: float, padding: float) -> list[float]:
    """Widths (points) of a table's columns that fill at most `width`: no word is broken where all longest words fit side by side.

    Each column gets its longest word, then what is left is shared by what each still lacks to its longest cell (the automatic
    layout of CSS 2.2, 17.5.2.2). rows: cells in visual order, set at `size` points; padding: both sides of a cell together.
    """
    columns = list(zip(*rows, strict=True))
    least = [
        max(width_of(word, size) for cell in column for word in cell.split(" ")) + padding
        for column in columns
    ]
    most = [max(width_of(cell, size) for cell in column) + padding for column in columns]
    if sum(most) <= width:
        return most
    if sum(least) >= width:
        return [width * one / sum(least) for one in least]
    spare, lacking = width - sum(least), [b - a for a, b in zip(least, most, strict=True)]
    return [a + spare * more / sum(lacking) for a, more in zip(least, lacking, strict=True)]


def box(content: Sequence[Flowable], width: float, *, alert: bool = False) -> Table:
    """Content on a tinted ground with a bar at its left; each flowable is a row, so long content splits."""
    return Table(
        [[item] for item in content],
        colWidths=[width],
        style=TableStyle(
            [
                ("BACKGROUND", (0, 0), (-1, -1), ALERT_WASH if alert else WASH),
                ("LINEBEFORE", (0, 0), (0, -1), 2, ALERT if alert else ACCENT),
                ("LEFTPADDING", (0, 0), (-1, -1), 8),
                ("RIGHTPADDING", (0, 0), (-1, -1), 8),
                ("TOPPADDING", (0, 0), (-1, -1), 3.5),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 3.5),
                _FONT,
            ]
        ),
        hAlign="LEFT",
    )


def side_by_side(left: Sequence[Flowable], right: Sequence[Flowable], widths: tuple[float, float]) -> Table:
    """Two columns, tops aligned; must fit on one page."""
    return Table(
        [[list(left), list(right)]],
        colWidths=list(widths),
        style=TableStyle(
            [
                ("VALIGN", (0, 0), (-1, -1), "TOP"),
                ("LEFTPADDING", (0, 0), (-1, -1), 0),
                ("RIGHTPADDING", (0, 0), (0, -1), 6),
                ("RIGHTPADDING", (1, 0), (1, -1), 0),
                ("TOPPADDING", (0, 0), (-1, -1), 0),
                ("BOTTOMPADDING", (0, 0), (-1, -1), 0),
                _FONT,
            ]
        ),
        hAlign="LEFT",
    )


def height_of(content: Sequence[Flowable], width: float) -> float:
    """Points that flowables take one below the other, with the space between them."""
    total = after = 0.0
    for item in content:
        before = item.getSpaceBefore() if total else 0.0
        total += max(before, after) + item.wrap(width, 1e5)[1]
        after = item.getSpaceAfter()
    return total + after


def gap(points: float) -> Spacer:
    return Spacer(1, points)


def bullets(items: Sequence[str], width: float, *, limit: int | None = None) -> list[Flowable]:
    from xai_engine.evidence.typeset import clean

    hanging = ParagraphStyle("bullet", parent=style("note"), leftIndent=9, firstLineIndent=-9, spaceAfter=1.5)
    return [paragraph("•  " + clean(item, limit), hanging, width - 9) for item in items if item.strip()]
