"""The table of regions: measures down, one column per region. Numbers are written as the report writes them."""

from __future__ import annotations

import csv
import io
from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QObject, QPersistentModelIndex, Qt

from app.canvas.binding import listen
from app.model.case import CaseModel
from xai_engine.evidence import format
from xai_engine.radiograph.regions import MapStatistics, Region, RegionStatistics
from xai_engine.radiograph.types import Radiograph

Index = QModelIndex | QPersistentModelIndex
WAITING = "…"

SPACING_SHORT = {
    "detector": "at detector",
    "calibrated": "calibrated",
    "unknown": "(plane unknown)",
}

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
    """(key, heading) of every row."""
    if case.radiograph is None:
        return []
    unit = f" {case.radiograph.unit}" if case.radiograph.unit else ""
    listed = [
        ("name", "Name"),
        ("kind", "Kind"),
        ("area", area_heading(case.radiograph)),
        ("pixels", "Pixels"),
    ]
    listed += [(key, heading + unit) for heading, key in _MEASURES]
    for layer in case.layers:
        listed += [
            (f"+{layer.explanation.method}", f"+ {layer.title}"),
            (f"-{layer.explanation.method}", f"− {layer.title}"),
        ]
    return listed


def cell(region: Region, statistics: RegionStatistics | None, key: str) -> str:
    """Text of one cell; an ellipsis where the number is still being computed, a dash where there is none."""
    if key == "name":
        return region.name
    if key == "kind":
        return region.kind
    if statistics is None:
        return WAITING
    if key == "area":
        return format.area(statistics.area_mm2)
    if key[0] in "+-":
        of_map: MapStatistics | None = statistics.maps.get(key[1:])
        if of_map is None:
            return WAITING
        return format.percent(of_map.share_positive if key[0] == "+" else of_map.share_negative)
    return format.number(getattr(statistics, key))


def as_csv(case: CaseModel) -> str:
    """One line per region, full precision, a point as decimal separator; empty where there is no number.

    Texts that a spreadsheet would run as a formula are prefixed with an apostrophe.
    """
    methods = [layer.explanation.method for layer in case.layers]
    unit = f"_{case.radiograph.unit}" if case.radiograph is not None and case.radiograph.unit else ""
    head = ["name", "kind", "area_mm2", "spacing_source", "pixels", "excluded_pixels"]
    head += [key + unit for _, key in _MEASURES]
    head += [f"{method}_{sign}_share" for method in methods for sign in ("positive", "negative")]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(head)
    for region in case.regions:
        known = case.statistics.get(region.id)
        line: list[Any] = [_harmless(region.name), region.kind]
        if known is not None:
            line += [known.area_mm2, known.spacing_source, known.pixels, known.excluded_pixels]
            line += [getattr(known, key) for _, key in _MEASURES]
            for method in methods:
                shares = known.maps.get(method)
                line += ["", ""] if shares is None else [shares.share_positive, shares.share_negative]
        writer.writerow(["" if value is None else value for value in line])
    return out.getvalue()


def _harmless(text: str) -> str:
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


class RegionTable(QAbstractTableModel):
    """Regions of a case for a QTableView. The first row is the name and can be edited."""

    def __init__(self, case: CaseModel, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._rows = rows(case)
        self._columns = len(case.regions)
        listen(case.changed, self._changed)

    def _changed(self, field: str) -> None:
        if field not in ("radiograph", "regions", "statistics", "layers"):
            return
        now = rows(self._case)
        if now != self._rows or len(self._case.regions) != self._columns:
            self.beginResetModel()
            self._rows, self._columns = now, len(self._case.regions)
            self.endResetModel()
        elif self._columns and self._rows:
            self.dataChanged.emit(self.index(0, 0), self.index(len(self._rows) - 1, self._columns - 1))
            self.headerDataChanged.emit(Qt.Orientation.Horizontal, 0, self._columns - 1)

    def rowCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self._rows)

    def columnCount(self, parent: Index = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else self._columns

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        if not index.isValid() or index.column() >= len(self._case.regions):
            return None
        region = self._case.regions[index.column()]
        key, heading = self._rows[index.row()]
        statistics = self._case.statistics.get(region.id)
        if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.EditRole):
            return cell(region, statistics, key)
        if role == Qt.ItemDataRole.ToolTipRole:
            text = f"{heading}: {cell(region, statistics, key)}"
            if key == "pixels" and statistics is not None and statistics.excluded_pixels:
                text += f" (another {statistics.excluded_pixels} are padding or have no value)"
            return text
        if role == Qt.ItemDataRole.TextAlignmentRole and key not in ("name", "kind"):
            return Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
        return None

    def setData(self, index: Index, value: Any, role: int = Qt.ItemDataRole.EditRole) -> bool:
        if role != Qt.ItemDataRole.EditRole or not index.isValid() or self._rows[index.row()][0] != "name":
            return False
        self._case.rename_region(self._case.regions[index.column()].id, str(value).strip()[:80])
        return True

    def flags(self, index: Index) -> Qt.ItemFlag:
        flags = super().flags(index)
        if index.isValid() and self._rows[index.row()][0] == "name":
            flags |= Qt.ItemFlag.ItemIsEditable
        return flags

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation == Qt.Orientation.Vertical:
            if not 0 <= section < len(self._rows):
                return None
            if role == Qt.ItemDataRole.TextAlignmentRole:
                return Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
            if role in (Qt.ItemDataRole.DisplayRole, Qt.ItemDataRole.ToolTipRole):
                return self._rows[section][1]
        elif role == Qt.ItemDataRole.DisplayRole and 0 <= section < len(self._case.regions):
            return str(section + 1)
        return None
