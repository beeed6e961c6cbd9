"""Text of any script: hand-worked examples of UAX #9 and of Arabic joining, and nothing is ever lost."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.evidence import bidi, layout, typeset
from xai_engine.paths import resources_dir


@pytest.mark.parametrize(
    ("text", "forms"),
    [
        ("محمد", "ﻣﺤﻤﺪ"),  # initial, medial, medial, final
        ("علي", "ﻋﻠﻲ"),
        ("ورد", "ﻭﺭﺩ"),  # none of them joins the next
        ("سلام", "ﺳﻼﻡ"),  # lam-alef becomes one letter
        ("لا", "ﻻ"),
        ("مُحمد", "ﻣُﺤﻤﺪ"),  # a mark does not break the joint
        ("پژمان", "ﭘﮋﻣﺎﻥ"),  # Persian letters
        ("ب", "ﺏ"),
        ("Anna ב", "Anna ב"),
    ],
)
def test_arabic_joins(text: str, forms: str) -> None:
    assert bidi.shape(text) == forms


@pytest.mark.parametrize(
    ("logical", "visual"),
    [
        # upper case of UAX #9's examples as Hebrew letters
        ("car אבג", "car גבא"),
        ("אבג car", "car גבא"),
        ("אבג 123", "123 גבא"),
        ("he said אבג 123.", "he said 123 גבא."),
        ("אבג (12/05)", "(12/05) גבא"),
        ("אב, גד", "דג ,בא"),
        ("no rtl (at) all", "no rtl (at) all"),
        ("אב\u05b0ג", "גב\u05b0א"),
        ("", ""),
    ],
)
def test_visual_order(logical: str, visual: str) -> None:
    assert bidi.visual(logical) == visual


@given(st.text(alphabet=st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=60))
def test_visual_order_only_moves_and_mirrors(text: str) -> None:
    plain = str.maketrans("()[]{}<>«»‹›", "(([[{{<<««‹‹")
    assert sorted(bidi.visual(text).translate(plain)) == sorted(text.translate(plain))


@given(st.text(alphabet="abcdefg 123.,()", max_size=40))
def test_left_to_right_text_stays(text: str) -> None:
    assert bidi.visual(text) == text


@given(st.text(max_size=80))
def test_every_character_is_set_or_named(text: str) -> None:
    cleaned = typeset.clean(text)
    assert not [c for c in cleaned if unicodedata.category(c) in ("Cc", "Cf", "Cs") and c != "\n"]
    runs = typeset.runs(cleaned)
    spelled = "".join(
        c if any(typeset._has(name, c) for name in typeset._FALLBACKS) else f"[U+{ord(c):04X}]"
        for c in cleaned
    )
    assert "".join(part for _, part in runs) == spelled
    assert all(typeset._has(name, char) for name, part in runs for char in part)


@pytest.mark.parametrize(
    ("text", "fonts"),
    [
        ("Łódź Ñandú Þór", {"RadiolucentText"}),
        ("Γιώργος Жукова", {"RadiolucentText"}),
        ("山田太郎 ひらがな", {"RadiolucentHan", "RadiolucentText"}),
        ("김철수뷁", {"RadiolucentHangul"}),
        ("สมชาย", {"RadiolucentThai"}),
        (bidi.shape("محمد"), {"RadiolucentText"}),
    ],
)
def test_scripts_have_a_font(text: str, fonts: set[str]) -> None:
    runs = typeset.runs(text)
    assert {name for name, _ in runs} == fonts
    assert "".join(part for _, part in runs) == text


def test_decomposed_names_are_composed() -> None:
    assert typeset.clean("Jose\u0301") == "José"
    assert typeset.clean("\u1112\u1161\u11ab") == "한"


def test_bidi_overrides_cannot_turn_text_around() -> None:
    assert typeset.line("abc\u202edef\u2066") == "abcdef"


@given(st.text(alphabet="<>&\"'/abp b{}%;#x1", max_size=60))
def test_markup_is_escaped(text: str) -> None:
    """Whatever the text, the paragraph shows that text."""
    paragraph = typeset.paragraph(text, layout.style("body"), 400)
    shown = paragraph.getPlainText(identify=0)
    assert " ".join(shown.split()) == " ".join(text.split())


def test_long_words_wrap() -> None:
    for text in ("x" * 300, "山" * 300, "ש" * 300, "김" * 300):
        paragraph = typeset.paragraph(text, layout.style("value"), 100)
        width, height = paragraph.wrap(100, 10_000)
        assert width <= 100
        assert height > 10 * 10
        assert max(paragraph.getActualLineWidths0()) <= 100.5


def test_fonts_ship_with_their_licences_and_stay_small() -> None:
    folder = resources_dir() / "fonts"
    fonts = list(folder.glob("*.ttf"))
    assert {font.name for font in fonts} == set(typeset._FILES.values())
    assert sum(font.stat().st_size for font in fonts) < 6_000_000
    for licence in ("DejaVu", "DroidSansFallback", "NanumSquare", "NotoSansThai"):
        assert (folder / f"LICENCE-{licence}.txt").stat().st_size > 1000


@given(
    st.lists(st.lists(st.text("ab ", max_size=30), min_size=3, max_size=3), min_size=1, max_size=5),
    st.floats(60, 600),
)
def test_columns_hold_their_longest_words_where_the_page_does(rows: list[list[str]], width: float) -> None:
    found = layout.column_widths(rows, width, 8, 6)
    columns = list(zip(*rows, strict=True))
    longest = [
        6 + max(typeset.width(word, 8) for cell in column for word in cell.split(" ")) for column in columns
    ]
    whole = [6 + max(typeset.width(cell, 8) for cell in column) for column in columns]
    assert sum(found) <= width + 1e-6
    if sum(whole) <= width:
        assert found == whole
    elif sum(longest) <= width:
        assert all(a <= b + 1e-6 <= c + 2e-6 for a, b, c in zip(longest, found, whole, strict=True))
        assert sum(found) == pytest.approx(width)


@pytest.mark.parametrize("available", range(60, 200, 7))
def test_no_line_begins_with_a_per_cent_sign(available: int) -> None:
    """At every width: the number goes with its sign; no character is lost."""
    text = "Cannot rule out: normal, pneumonia (error rate 10 %), so 3.5 % of 100 % or 7 %."
    paragraph = typeset.paragraph(text, layout.style("body"), available)
    paragraph.wrap(available, 1000)
    lines = [" ".join(words) for _, words in paragraph.blPara.lines]
    assert len(lines) > 1
    assert not any(line.lstrip().startswith("%") for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
