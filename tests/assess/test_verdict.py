"""The rule, by its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.assess import verdict
from xai_engine.assess.options import PRESETS, CardOptions, preset
from xai_engine.assess.types import Finding
from xai_engine.errors import UsageError

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
GOOD = [
    Finding("faithfulness", 5.0, "", "faithful.", "good"),
    Finding("score_reaction", 1.0, "", "reacts.", "good"),
]


def test_grades_at_their_limits() -> None:
    assert [verdict.grade("faithfulness", v) for v in (2.0, 1.99, 1.28, 1.27)] == [
        "good",
        "fair",
        "fair",
        "poor",
    ]
    assert [verdict.grade("text_effect", v) for v in (1.0, 1.01, 1.35, 1.36)] == [
        "good",
        "fair",
        "fair",
        "poor",
    ]
    assert verdict.grade("sparsity", 0.5) == "info"
    assert verdict.grade("faithfulness", None) == verdict.grade("faithfulness", float("nan")) == "info"


def test_rule() -> None:
    assert verdict.decide(GOOD) == ("use", ("faithful.",))
    road = Finding("road", -1.0, "", "road.", "poor")
    assert verdict.decide([*GOOD, road]) == ("use with care", ("road.",))
    assert verdict.decide([*GOOD, Finding("road", 0.01, "", "road.", "fair")])[0] == "use"
    assert verdict.decide([*GOOD, Finding("seed_stability", 0.6, "", "seed.", "fair")]) == (
        "use with care",
        ("seed.",),
    )
    random = Finding("randomisation", 0.9, "", "random.", "poor")
    assert verdict.decide([*GOOD, road, random]) == ("do not use", ("random.",))
    assert verdict.decide(GOOD, caveats=["partial map."]) == ("use with care", ("partial map.",))
    assert verdict.decide(GOOD, partial=True)[0] == "use with care"
    assert verdict.decide([])[0] == verdict.decide(GOOD[:1])[0] == "use with care"


GRADES = st.sampled_from(["good", "fair", "poor", "info"])
FINDINGS = st.lists(st.tuples(st.sampled_from([*verdict.LIMITS, "sparsity"]), GRADES), max_size=8)


@given(FINDINGS, st.booleans())
def test_more_bad_news_never_helps(pairs: list[tuple[str, str]], partial: bool) -> None:
    rank = {"use": 0, "use with care": 1, "do not use": 2}
    found = [*GOOD, *(Finding(n, 0.0, "", f"{n}.", g) for n, g in pairs)]  # type: ignore[arg-type]
    decision, reasons = verdict.decide(found, partial=partial)
    assert reasons
    for index in range(len(pairs)):
        fewer = found[: 2 + index] + found[3 + index :]
        if pairs[index][1] in ("fair", "poor"):
            assert rank[verdict.decide(fewer, partial=partial)[0]] <= rank[decision]


def test_every_limit_stands_in_the_document() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", DOCUMENT.read_text(encoding="utf-8"), re.M))
    assert set(verdict.LIMITS) <= set(rows)
    for name, limit in verdict.LIMITS.items():
        cells = [c.strip() for c in rows[name].split("|")]
        sign = "≥" if limit.higher else "≤"
        assert cells[-3:] == [
            f"{sign} {limit.good:g}",
            f"{sign} {limit.fair:g}",
            "yes" if limit.decisive else "no",
        ], name


def test_presets() -> None:
    assert all(name == options.preset and options.random_maps >= 20 for name, options in PRESETS.items())
    with pytest.raises(UsageError, match="quick, standard, audit"):
        preset("thorough")
    with pytest.raises(UsageError, match="random_maps = 5"):
        CardOptions(random_maps=5)
    with pytest.raises(UsageError, match="road"):
        CardOptions(road=(1.5,))
