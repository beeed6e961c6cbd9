"""The tables of regions: a list with one row each, and the numbers of one beside those of its mirror.

Numbers are written as the report writes them.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.canvas.binding import listen
from app.model.case import CaseModel
from xai_engine.evidence import format, what_if
from xai_engine.radiograph.regions import Region, RegionStatistics
from xai_engine.radiograph.types import Radiograph

Index = QModelIndex | QPersistentModelIndex
WAITING = "…"
SORT = int(Qt.ItemDataRole.UserRole)
LEFT = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
RIGHT = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter

SPACING_SHORT = {
    "detector": "at detector",
    "calibrated": "calibrated",
    "unknown": "(plane unknown)",
}
COLUMNS = (("name", "Name"), ("mean", "Mean"), ("what_if", "What if"))

_MEASURES = (
    ("Mean", "mean"),
    ("SD", "sd"),
    ("Minimum", "minimum"),
    ("Maximum", "maximum"),
    ("Median", "median"),
)


def area_heading(radiograph: Radiograph) -> str:
    """Heading of the areas, with where the millimetres come from."""
    if radiograph.spacing is None:
        return "Area (no mm: no spacing)"
    return f"mm² {SPACING_SHORT[radiograph.spacing.source]}"


def rows(case: CaseModel) -> list[tuple[str, str]]:
    """(key, heading) of every row of the selected region's detail; "#…" is a heading of its own, without numbers."""
    chosen = case.region(case.selected_region)
    if case.radiograph is None or chosen is None:
        return []
    if chosen.kind == "line":
        lengths = [("length_mm", "Length (mm)")] if case.radiograph.spacing is not None else []
        return [*lengths, ("length_px", "In pixels")]
    unit = f" {case.radiograph.unit}" if case.radiograph.unit else ""
    listed = [(key, heading + unit) for heading, key in _MEASURES]
    listed += [("area", area_heading(case.radiograph)), ("pixels", "Pixels")]
    for layer in case.layers:
        method = layer.explanation.method
        listed += [(f"#{method}", layer.title), (f"+{method}", "Share for"), (f"-{method}", "Share against")]
    return listed


def value(statistics: RegionStatistics | None, key: str) -> float | None:
    """The number of one row; None where there is none, NaN where it is still being computed."""
    if statistics is None:
        return math.nan
    if key[0] in "+-":
        of_map = statistics.maps.get(key[1:])
        if of_map is None:
            return math.nan
        return of_map.share_positive if key[0] == "+" else of_map.share_negative
    found: float | None = statistics.area_mm2 if key == "area" else getattr(statistics, key)
    return found


def written(number: float | None, key: str) -> str:
    """An ellipsis where a number is still being computed, a dash where there is none."""
    if number is not None and math.isnan(number):
        return WAITING
    write: Callable[[float | None], str] = format.number
    if key[0] in "+-":
        write = format.percent
    elif key in ("area", "length_mm", "length_px"):
        write = format.tenths
    return write(number)


def difference(one: float | None, other: float | None) -> float | None:
    """NaN stays NaN: not there yet."""
    return None if one is None or other is None else one - other


def as_text(case: CaseModel, delimiter: str = ",") -> str:
    """One line per region, full precision, a point as decimal separator; empty where there is no number.

    Texts that a spreadsheet would run as a formula are prefixed with an apostrophe.
    """
    methods = [layer.explanation.method for layer in case.layers]
    unit = f"_{case.radiograph.unit}" if case.radiograph is not None and case.radiograph.unit else ""
    head = [
        "name",
        "kind",
        "area_mm2",
        "length_px",
        "length_mm",
        "spacing_source",
        "pixels",
        "excluded_pixels",
    ]
    measured = [key + unit for _, key in _MEASURES]
    shares = [f"{method}_{sign}_share" for method in methods for sign in ("positive", "negative")]
    asked = ["fill", "probability_before", "probability_after", "logit_before", "logit_after"]
    asked += ["random_regions", "random_low", "random_high", "random_as_strong"]
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, lineterminator="\n")
    writer.writerow(
        head
        + measured
        + shares
        + [f"mirror_{key}" for key in ["pixels", *measured, *shares]]
        + [f"what_if_{key}" for key in asked]
    )
    mirrors, answers = case.comparison.mirrors, case.comparison.what_if
    for region in case.regions:
        known, other = case.statistics.get(region.id), mirrors.get(region.id)
        line: list[Any] = [_harmless(region.name), region.kind]
        line += (
            [None] * 6
            if known is None
            else [
                known.area_mm2,
                known.length_px,
                known.length_mm,
                known.spacing_source,
                known.pixels,
                known.excluded_pixels,
            ]
        )
        line += _numbers(known, methods)
        line += [None if other is None else other.statistics.pixels]
        line += _numbers(None if other is None else other.statistics, methods)
        answer = answers.get(region.id)
        if answer is None:
            line += [None] * len(asked)
        else:
            low, high = answer.reference_range or (None, None)
            line += [answer.fill, answer.before.probability, answer.after.probability]
            line += [
                answer.before.logit,
                answer.after.logit,
                len(answer.reference),
                low,
                high,
                answer.as_strong,
            ]
        writer.writerow(["" if each is None else each for each in line])
    return out.getvalue()


def _numbers(statistics: RegionStatistics | None, methods: list[str]) -> list[float | None]:
    if statistics is None:
        return [None] * (len(_MEASURES) + 2 * len(methods))
    line: list[float | None] = [getattr(statistics, key) for _, key in _MEASURES]
    for method in methods:
        share = statistics.maps.get(method)
        line += [None, None] if share is None else [share.share_positive, share.share_negative]
    return line


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


class RegionList(QAbstractTableModel):
    """One row per region; the name can be edited. `SORT` gives the numbers behind the texts."""

    def __init__(self, case: CaseModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._ids = [region.id for region in case.regions]
        listen(case.changed, self._changed)
        listen(case.comparison.changed, self._compared)

    def _changed(self, field: str) -> None:
        if field not in ("radiograph", "regions", "statistics"):
            return
        ids = [region.id for region in self._case.regions]
        if ids != self._ids:
            self.beginResetModel()
            self._ids = ids
            self.endResetModel()
        elif ids:
            self.dataChanged.emit(self.index(0, 0), self.index(len(ids) - 1, len(COLUMNS) - 1))

    def _compared(self, what: str) -> None:
        if what == "what_if" and self._ids:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._ids) - 1, len(COLUMNS) - 1))

    def row_of(self, region_id: str | None) -> int:
        return self._ids.index(region_id) if region_id in self._ids else -1

    def region(self, row: int) -> Region | None:
        return self._case.region(self._ids[row]) if 0 <= row < len(self._ids) else None

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._ids)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(COLUMNS)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        region = self.region(index.row()) if index.isValid() else None
        if region is None:
            return None
        key = COLUMNS[index.column()][0]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return LEFT if key == "name" else RIGHT
        if role == SORT:
            return self._sorted_by(region, key)
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole, Qt.ItemDataRole.ToolTipRole):
            return None
        if key == "name":
            return self._named(region, role)
        answer = self._case.comparison.what_if.get(region.id)
        if key == "what_if":
            if answer is None:
                return ""
            whole = role == Qt.ItemDataRole.ToolTipRole
            return what_if.sentence(answer) if whole else what_if.change(answer)
        return written(value(self._case.statistics.get(region.id), key), key)

    def _named(self, region: Region, role: int) -> str:
        """A line says its length beside its name: it has no mean."""
        if role == Qt.ItemDataRole.EditRole:
            return region.name
        name, known = region.name, self._case.statistics.get(region.id)
        if region.kind == "line":
            name += f"  {WAITING if known is None else format.length(known.length_px, known.length_mm)}"
        return f"{name} ({region.kind})" if role == Qt.ItemDataRole.ToolTipRole else name

    def _sorted_by(self, region: Region, key: str) -> str | float:
        """Regions without a number come last."""
        if key == "name":
            return region.name.casefold()
        if key == "what_if":
            answer = self._case.comparison.what_if.get(region.id)
            return math.inf if answer is None else answer.change.logit
        number = value(self._case.statistics.get(region.id), key)
        return math.inf if number is None or math.isnan(number) else number

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        region = self.region(index.row()) if index.isValid() else None
        if role != Qt.ItemDataRole.EditRole or region is None or index.column() != 0:
            return False
        self._case.rename_region(region.id, str(value).strip()[:80])
        return True

    def flags(self, index: Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        return flags | Qt.ItemFlag.ItemIsEditable if index.isValid() and index.column() == 0 else flags

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation != Qt.Orientation.Horizontal or not 0 <= section < len(COLUMNS):
            return None
        key, heading = COLUMNS[section]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return LEFT if key == "name" else RIGHT
        if role == Qt.ItemDataRole.ToolTipRole and self._case.radiograph is not None:
            return {
                "mean": f"Mean grey {self._case.radiograph.unit}".rstrip(),
                "what_if": "Probability before and after the region is changed",
            }.get(key)
        return heading if role == Qt.ItemDataRole.DisplayRole else None


class RegionTable(QAbstractTableModel):
    """The selected region, its mirror and the difference, a row for every number."""

    HEADINGS = ("Region", "Mirror", "Δ")
    TIPS = ("This region", "The region on the other side", "Region minus mirror")

    def __init__(self, case: CaseModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._rows = self._wanted()
        listen(case.changed, self._changed)
        listen(case.comparison.changed, self._compared)

    def _wanted(self) -> list[tuple[str, str]]:
        return rows(self._case)

    @property
    def keys(self) -> list[str]:
        return [key for key, _ in self._rows]

    def _changed(self, field: str) -> None:
        if field not in ("radiograph", "regions", "statistics", "layers", "selection"):
            return
        now = self._wanted()
        if now != self._rows:
            self.beginResetModel()
            self._rows = now
            self.endResetModel()
        elif now:
            self.dataChanged.emit(self.index(0, 0), self.index(len(now) - 1, 2))

    def _compared(self, what: str) -> None:
        if self._rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, 2))

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else 3

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        chosen = self._case.selected_region
        if not index.isValid() or chosen is None or index.row() >= len(self._rows):
            return None
        key, heading = self._rows[index.row()]
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return LEFT if key.startswith("#") else RIGHT
        if role not in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            return None
        if key.startswith("#"):  # the title of a map has the whole row
            return heading if index.column() == 0 else ""
        own = self._case.statistics.get(chosen)
        text = self._text(key, index.column(), own, chosen)
        if role == Qt.ItemDataRole.DisplayRole:
            return text
        tooltip = f"{self.TIPS[index.column()]}: {heading} {text}"
        if key == "pixels" and index.column() == 0 and own is not None and own.excluded_pixels:
            tooltip += f" (another {own.excluded_pixels} are padding or have no value)"
        return tooltip

    def _text(self, key: str, column: int, own: RegionStatistics | None, chosen: str) -> str:
        one = value(own, key)
        if column == 0:
            return written(one, key)
        region = self._case.region(chosen)
        if self._case.comparison.midline is None or region is None or region.kind == "line":
            return format.NONE
        found = self._case.comparison.mirrors.get(chosen)
        other = value(None if found is None else found.statistics, key)
        return written(other if column == 1 else difference(one, other), key)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal:
            if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole) and 0 <= section < 3:
                return (self.HEADINGS if role == Qt.ItemDataRole.DisplayRole else self.TIPS)[section]
            return RIGHT if role == Qt.ItemDataRole.TextAlignmentRole else None
        if not 0 <= section < len(self._rows):
            return None
        if role == Qt.ItemDataRole.TextAlignmentRole:
            return LEFT
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
            key, heading = self._rows[section]
            return "" if key.startswith("#") and role == Qt.ItemDataRole.DisplayRole else heading
        return None
