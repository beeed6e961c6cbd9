"""Figures say what was measured: medians, ratios the right way round, limits, and pages without typed numbers."""

from __future__ import annotations

import itertools
import json
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.bench.figures import (
    Figure,
    Peer,
    as_json,
    as_markdown,
    as_text,
    median,
    number,
    timed,
    unmeasured,
)

SLOW = Peer("other", 12.0, {"Spearman": 0.98})


def test_lower_is_better_by_default() -> None:
    figure = Figure("k", "Job", 3.0, "s", limit=5.0, peers=(SLOW,))
    assert figure.met is True
    assert figure.ratio(SLOW) == 4.0


def test_rates_are_better_when_higher() -> None:
    figure = Figure("k", "Reading", 3.0, "MP/s", limit=5.0, higher_is_better=True)
    assert figure.met is False
    assert figure.ratio(Peer("other", 12.0)) == 0.25


def test_what_was_not_measured_has_no_verdict() -> None:
    figure = unmeasured("k", "Job", "s", "no display", limit=1.0)
    assert figure.met is None
    assert figure.ratio(SLOW) is None
    assert "no display" in as_text({}, [figure])


def test_timed_leaves_the_first_call_out() -> None:
    ticks = itertools.count(0, 2)
    calls: list[int] = []

    def work() -> int:
        calls.append(1)
        return len(calls)

    samples, result = timed(work, 3, lambda: float(next(ticks)))
    assert samples == (2.0, 2.0, 2.0)
    assert result == 4
    assert median([3.0, 1.0, 10.0]) == statistics.median([3.0, 1.0, 10.0])


@given(st.floats(min_value=1e-3, max_value=9e4))
def test_numbers_keep_three_digits(value: float) -> None:
    text = number(value)
    assert "e" not in text
    assert float(text) == pytest.approx(value, rel=0.0051)


def test_pages_hold_every_figure_and_peer() -> None:
    figures = [
        Figure("a", "First", 1.5, "s", 2.0, samples=(1.4, 1.5, 1.6), peers=(SLOW,)),
        Figure("b", "Second", 7.0, "MB"),
    ]
    page = as_markdown("radiolucent bench", {"processor": "X"}, figures)
    assert "| First | 1.50 | s | ≤ 2.00 met |" in page
    assert "| First | 1.50 | other | 12.0 | s | 8.00 |  | Spearman 0.980 |" in page
    assert "| Second | 7.00 | MB |" in page
    record = json.loads(json.dumps(as_json({"processor": "X"}, figures)))
    assert record["figures"][0]["peers"][0]["ratio"] == 8.0
    assert record["figures"][0]["samples"] == [1.4, 1.5, 1.6]
    assert record["figures"][1]["met"] is None
