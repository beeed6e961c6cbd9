"""Fonts and text of the report: any name in, markup for reportlab's paragraphs out.

Every character is set in the first shipped font that has it (`resources/fonts/README.md`); one that none has
is printed as its code point, "[U+1F600]", so that nothing vanishes and no empty box stands for a letter.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from itertools import groupby
from xml.sax.saxutils import escape

from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.platypus import Paragraph

from xai_engine.evidence import bidi
from xai_engine.paths import resources_dir

TEXT, BOLD, MONO = "RadiolucentText", "RadiolucentBold", "RadiolucentMono"
_FILES = {
    TEXT: "DejaVuSans.ttf",
    BOLD: "DejaVuSans-Bold.ttf",
    MONO: "DejaVuSansMono.ttf",
    "RadiolucentHan": "DroidSansFallback.ttf",
    "RadiolucentHangul": "NanumSquareR.ttf",
    "RadiolucentThai": "NotoSansThai-Regular.ttf",
}
_FALLBACKS = (TEXT, "RadiolucentHan", "RadiolucentHangul", "RadiolucentThai")


@cache
def register() -> None:
    """Make the shipped fonts known to reportlab, once per process."""
    for name, file in _FILES.items():
        pdfmetrics.registerFont(TTFont(name, str(resources_dir() / "fonts" / file), shapable=False))
    pdfmetrics.registerFontFamily(TEXT, normal=TEXT, bold=BOLD, italic=TEXT, boldItalic=BOLD)


def clean(text: str, limit: int | None = None) -> str:
    """Text fit to print: composed (NFC), no control or format characters, line feeds kept, cut to `limit`."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n").replace("\u2029", "\n")
    out = []
    for char in unicodedata.normalize("NFC", text):
        kind = unicodedata.category(char)
        if kind == "Cs":
            out.append("\ufffd")
        elif char == "\n" or kind not in ("Cc", "Cf"):
            out.append(char)
        elif kind == "Cc":
            out.append(" ")
    cleaned = "".join(out)
    if limit is not None and len(cleaned) > limit:
        cleaned = cleaned[: limit - 1].rstrip() + "…"
    return cleaned


def runs(text: str, font: str = TEXT) -> list[tuple[str, str]]:
    """(font, characters) in order: the fonts that have the characters, codes for those that none has."""
    register()
    pieces: list[tuple[str, str]] = []
    for char in text:
        chosen = next((name for name in (font, *_FALLBACKS) if _has(name, char)), None)
        if chosen is None:
            pieces.extend((font, c) for c in f"[U+{ord(char):04X}]")
        else:
            pieces.append((chosen, char))
    return [
        (name, "".join(c for _, c in group)) for name, group in groupby(pieces, key=lambda piece: piece[0])
    ]


def markup(text: str, font: str = TEXT) -> str:
    """One line as paragraph markup; `<`, `>` and `&` stand for themselves. `text`: clean, in visual order."""
    return "".join(
        escape(part) if name == font else f'<font name="{name}">{escape(part)}</font>'
        for name, part in runs(text, font)
    )


def width(text: str, size: float, font: str = TEXT) -> float:
    """Width in points of one line in visual order."""
    return float(sum(pdfmetrics.stringWidth(part, name, size) for name, part in runs(text, font)))


def line(text: str, limit: int | None = None) -> str:
    """One line ready for drawing: clean, blanks for line feeds, letters shaped, visual order."""
    text = clean(text, limit).replace("\n", " ")
    return bidi.visual(bidi.shape(text)) if bidi.has_rtl(text) else text


def paragraph(
    text: str, style: ParagraphStyle, available: float, *, limit: int | None = None, justify_rtl: bool = False
) -> Paragraph:
    """Plain text as a paragraph of at most `available` points.

    Right-to-left text is broken into lines before it is reordered, as UAX #9 asks. justify_rtl: set
    paragraphs that begin with such text at the right edge. A per cent sign stays on the line of its number.
    """
    text = re.sub(r"(?<=\d) (?=%)", "\u00a0", clean(text, limit))
    font = style.fontName
    if not bidi.has_rtl(text):
        return Paragraph("<br/>".join(markup(part, font) for part in text.split("\n")), style)
    lines = []
    for part in text.split("\n"):
        rtl = bidi.is_rtl(part)
        shaped = _break(bidi.shape(part), style.fontSize, font, available)
        lines += [markup(bidi.visual(piece, rtl), font) for piece in shaped]
    if justify_rtl and bidi.is_rtl(text):
        style = ParagraphStyle(style.name + "-rtl", parent=style, alignment=TA_RIGHT)
    return Paragraph("<br/>".join(lines), style)


def _break(text: str, size: float, font: str, available: float) -> list[str]:
    """Logical-order lines that fit; words too long for a line are cut."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if width(longer, size, font) <= available:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for char in word:
            if lines[-1] and width(lines[-1] + char, size, font) > available:
                lines.append("")
            lines[-1] += char
    return lines


@cache
def _has(font: str, char: str) -> bool:
    # reportlab writes four-digit code points for searching, so planes above the first are left to the codes
    return ord(char) <= 0xFFFF and ord(char) in pdfmetrics.getFont(font).face.charToGlyph
