"""One way of writing numbers: against closed forms, and always back to the number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xai_engine.evidence import format as fmt
from xai_engine.radiograph.types import PixelSpacing, VoiLut, Window

SUPERSCRIPT = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def back(text: str) -> float:
    """The number that a person reads."""
    mantissa, _, power = text.replace("−", "-").partition("×10")
    return float(mantissa) * 10.0 ** int(power.translate(SUPERSCRIPT) or "0")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (-0.0, "0"), (1234.0, "1234"), (1234.56, "1235"), (0.0123456, "0.01235"), (-3.14159, "−3.142"),
        (9.9996, "10.00"), (1.2345e-5, "1.234×10⁻⁵"), (-6.02214e23, "−6.022×10²³"), (None, "–"), (math.nan, "–"),
        (math.inf, "–"), (0.1, "0.1000"), (99999.6, "100000"),
    ],
)  # fmt: skip
def test_number(value: float | None, text: str) -> None:
    assert fmt.number(value) == text


@example(5e-324)
@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e200, max_value=1e200))
def test_number_says_the_number(value: float) -> None:
    assert back(fmt.number(value)) == pytest.approx(value, rel=5.1e-4, abs=1e-300)
    assert back(fmt.exact(value)) == pytest.approx(value, rel=5.1e-6, abs=1e-300)


@given(st.floats(0, 1))
def test_probability_never_claims_certainty(value: float) -> None:
    text = fmt.probability(value)
    if text[0] in "<>":
        assert 0 < value < 0.0005 or 0.9995 <= value < 1
    else:
        assert float(text) == pytest.approx(value, abs=0.0005000001)
        assert (float(text) in (0.0, 1.0)) == (value in (0.0, 1.0))


def test_numpy_scalars() -> None:
    assert fmt.number(np.float32(2.5)) == "2.500"
    assert fmt.probability(np.float64(0.5)) == "0.500"
    assert fmt.parameter(np.int64(7)) == "7"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2.314, "+2.31"), (-2.314, "−2.31"), (0.001, "0.00"), (-0.001, "0.00"), (None, "–")],
)
def test_logit(value: float | None, text: str) -> None:
    assert fmt.logit(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.43219, "43.2 %"), (0.0, "0.0 %"), (-1e-9, "0.0 %"), (None, "–"), (1.0, "100.0 %")]
)
def test_percent(value: float | None, text: str) -> None:
    assert fmt.percent(value) == text


def test_interval() -> None:
    assert fmt.interval((0.934, 0.901, 0.957)) == "0.93 (95 % interval 0.90–0.96)"


@pytest.mark.parametrize(
    ("dicom", "text"),
    [
        # the examples of DICOM PS3.5 6.2.1.1
        ("Adams^John Robert Quincy^^Rev.^B.A. M.Div.", "Adams, John Robert Quincy, Rev., B.A. M.Div."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou · 山田 太郎 · やまだ たろう"),
        ("Hong^Gildong=洪^吉洞=홍^길동", "Hong, Gildong · 洪 吉洞 · 홍 길동"),
        ("Doe^Jane", "Doe, Jane"), ("^Jane", "Jane"), ("Doe", "Doe"), ("", ""), ("Muster, Erika", "Muster, Erika"),
        ("=山田^太郎", "山田 太郎"), ("a^b^c^d^e^f", "a, b c, d, e"),
    ],
)  # fmt: skip
def test_person_name(dicom: str, text: str) -> None:
    assert fmt.person_name(dicom) == text
    assert fmt.person_name(text) == text


def test_dates_and_times() -> None:
    assert fmt.date("20260314") == "2026-03-14"
    assert fmt.date("1993.08.22") == "1993-08-22"
    assert fmt.date("spring") == "spring"
    assert fmt.time("101500.123") == "10:15:00"
    assert fmt.time("1015") == "10:15"
    assert fmt.age("045Y") == "45 years"
    assert fmt.age("001M") == "1 month"
    assert fmt.moment("2026-11-22T21:52:07Z") == "2026-11-22 21:52 UTC"
    assert fmt.moment("2026-11-22T21:52:07+02:00") == "2026-11-22 21:52 +0200"
    assert fmt.moment("today") == "today"


def test_spacing_says_where_it_comes_from() -> None:
    assert fmt.spacing(PixelSpacing(0.143, 0.2, "detector")).startswith(
        "0.143 × 0.2 mm (row × column), at the"
    )
    assert "calibrated" in fmt.spacing(PixelSpacing(0.1, 0.1, "calibrated"))
    assert "not stated" in fmt.spacing(None)


def test_voi() -> None:
    assert (
        fmt.voi(Window(40.5, 400, "SIGMOID", "lung"), "1")
        == "window centre 40.5, width 400, SIGMOID, “lung”, no. 2 of the file"
    )
    lut = VoiLut(-100, np.zeros(256, np.uint16), 12)
    assert fmt.voi(lut, "0") == "VOI LUT of 256 entries from −100, 12 bit, no. 1 of the file"
    assert fmt.voi(Window(1, 2), "full").endswith("full range")


def test_parameters() -> None:
    assert fmt.parameter(True) == "yes"
    assert fmt.parameter([1, 2.5, "a"]) == "1, 2.5, a"
    assert fmt.parameter({"a": None}) == "a –"
    assert fmt.parameter(0.1) == "0.1"
    assert fmt.parameter(-1e-7) == "−1×10⁻⁷"
    assert fmt.label("auc_children_test") == "AUC children test"


def test_a_difference_of_areas_has_a_true_minus() -> None:
    assert [fmt.tenths(v) for v in (-0.24, 1380.84, 0.0, None)] == ["−0.2", "1380.8", "0.0", fmt.NONE]
    assert fmt.tenths(-0.04) == "0.0"
