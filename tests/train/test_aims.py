"""The table of what was aimed at follows the shipped card."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load() -> Any:
    spec = importlib.util.spec_from_file_location("make_aims", ROOT / "docs" / "make_aims.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_aims"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


make_aims = load()
CARD = """
| | adults | children |
| AUC | 0.900 (0.8–1.0) | 0.980 (0.9–1.0) |
| layer-cam | 0.1 | 0.500 |
| centre-prior | 0.1 | 0.450 |
"""


def test_the_page_is_that_of_the_card() -> None:
    page = make_aims.PAGE.read_text(encoding="utf-8")
    card = make_aims.CARD.read_text(encoding="utf-8")
    assert make_aims.page(page, card) == page, "run python docs/make_aims.py"


def test_what_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    aim = make_aims.Aim
    aims = (
        aim("a", "AUC", 1, 0.9),
        aim("b", "AUC", 2, 0.99),
        aim("c", "AUC", 2, 0.97, False),
        aim("d", "layer-cam", 2, 0.05, above="centre-prior"),
        aim("e", "layer-cam", 2, 0.06, above="centre-prior"),
    )
    monkeypatch.setattr(make_aims, "AIMS", aims)
    rows = make_aims.table(CARD).splitlines()[2:]
    assert ["missed" in row for row in rows] == [False, True, True, False, True]
    monkeypatch.setattr(make_aims, "AIMS", (aim("f", "none such", 1, 0.1),))
    with pytest.raises(ValueError, match="none such"):
        make_aims.table(CARD)
