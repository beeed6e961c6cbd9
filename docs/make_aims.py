"""Writes the table of docs/decisions/0014-aims.md from the shipped model's card: `python docs/make_aims.py`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CARD = ROOT / "models" / "pneumonia-cxr" / "docs" / "README.md"
PAGE = ROOT / "docs" / "decisions" / "0014-aims.md"
BEGIN, END = "<!-- begin: written by docs/make_aims.py -->", "<!-- end -->"
ADULTS, CHILDREN = 1, 2  # columns of the card's first table


@dataclass(frozen=True)
class Aim:
    """What a row of the card should be. column: of its cells, the label being 0; least: else it is the most that is allowed."""

    text: str
    row: str
    column: int
    limit: float
    least: bool = True
    above: str = ""  # a row whose value the limit is added to
    after: str = ""  # a heading behind which the row is looked for


AIMS = (
    Aim("children, AUC", "AUC", CHILDREN, 0.991),
    Aim("children, accuracy at “balanced”", "accuracy at “balanced”", CHILDREN, 0.95),
    Aim("children, accuracy at “confirming”", "accuracy at “confirming”", CHILDREN, 0.95),
    Aim("children, sensitivity at “confirming”", "sensitivity at “confirming”", CHILDREN, 0.97),
    Aim("children, specificity at “confirming”", "specificity at “confirming”", CHILDREN, 0.90),
    Aim("children, AUC, only the lungs visible", "AUC, only the lungs visible", CHILDREN, 0.98),
    Aim(
        "children, AUC, only what is outside them visible",
        "AUC, only what is outside them visible",
        CHILDREN,
        0.75,
        False,
    ),
    Aim("adults, AUC", "AUC", ADULTS, 0.85),
    Aim("adults, ECE", "calibration error (ECE, 15 bins of equal size)", ADULTS, 0.03, False),
    Aim("children, ECE", "calibration error (ECE, 15 bins of equal size)", CHILDREN, 0.03, False),
    Aim("adults, specificity at “confirming”", "specificity at “confirming”", ADULTS, 0.95),
    Aim(
        "children, specificity at “confirming”, as the point is meant",
        "specificity at “confirming”",
        CHILDREN,
        0.95,
    ),
    Aim("adults, sensitivity at “screening”", "sensitivity at “screening”", ADULTS, 0.95),
    Aim("children, sensitivity at “screening”", "sensitivity at “screening”", CHILDREN, 0.95),
    Aim("adults, prediction sets hold the class", "adults", 1, 0.9, after="## Prediction sets"),
    Aim("adults, the same, of normal ones", "adults", 2, 0.9, after="## Prediction sets"),
    Aim("children, prediction sets hold the class", "children", 1, 0.9, after="## Prediction sets"),
    Aim("adults, refused by the gate", "refused by the gate", ADULTS, 0.05, False),
    Aim("children, refused by the gate", "refused by the gate", CHILDREN, 0.05, False),
    Aim("Layer-CAM on the adults' boxes, pooled AUPRC", "layer-cam", 2, 0.45),
    Aim("the same, above the centre prior by", "layer-cam", 2, 0.1, above="centre-prior"),
    Aim(
        "the same, mean per image, above the lung prior (not asked for)",
        "layer-cam",
        1,
        0.0,
        above="lung-prior",
    ),
)


def cells(card: str, row: str, after: str = "") -> list[str]:
    """The cells of the first row with this label behind a heading. Raises ValueError where the card has none."""
    for line in card[card.index(after) :].splitlines():
        found = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and found[0] == row:
            return found
    raise ValueError(f"the card has no row {row!r}")


def number(cell: str) -> float:
    found = re.match(r"-?\d+\.\d+", cell)
    if found is None:
        raise ValueError(f"{cell!r} is no number")
    return float(found.group())


def table(card: str) -> str:
    lines = ["| test split | asked for | reached (95 % interval) | |", "|---|---|---|---|"]
    for aim in AIMS:
        cell = cells(card, aim.row, aim.after)[aim.column]
        value = number(cell)
        if aim.above:
            value = round(value - number(cells(card, aim.above)[aim.column]), 3)
            cell = f"{value:.3f}"
        met = value >= aim.limit if aim.least else value <= aim.limit
        sign = "≥" if aim.least else "≤"
        lines.append(f"| {aim.text} | {sign} {aim.limit:g} | {cell} | {'met' if met else '**missed**'} |")
    return "\n".join(lines)


def page(text: str, card: str) -> str:
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table(card)}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(
        page(PAGE.read_text(encoding="utf-8"), CARD.read_text(encoding="utf-8")), encoding="utf-8"
    )
