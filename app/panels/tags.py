"""Every tag of the file, with a filter."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLabel,
    QLineEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.model.case import CaseModel
from xai_engine.radiograph.types import Tag

_HEADINGS = ("Tag", "Name", "VR", "Value")
_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


class TagTable(QAbstractTableModel):
    """Rows: tags in the file's order; nested ones are indented."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._tags: tuple[Tag, ...] = ()

    def set_tags(self, tags: tuple[Tag, ...]) -> None:
        self.beginResetModel()
        self._tags = tags
        self.endResetModel()

    def rowCount(self, parent: _Index = _ROOT) -> int:
        return 0 if parent.isValid() else len(self._tags)

    def columnCount(self, parent: _Index = _ROOT) -> int:
        return len(_HEADINGS)

    def headerData(
        self, section: int, orientation: Qt.Orientation, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        if orientation == Qt.Orientation.Horizontal and role == Qt.ItemDataRole.DisplayRole:
            return _HEADINGS[section]
        return None

    def data(self, index: _Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        tag = self._tags[index.row()]
        text = (tag.path.rpartition(".")[2], tag.keyword, tag.vr, tag.value)[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return "  " * tag.depth + text if index.column() == 0 else text.replace("\n", " ")
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{tag.path} {tag.keyword}\n{tag.value}"
        if role == Qt.ItemDataRole.UserRole:  # what the filter sees
            return f"{tag.path} {tag.keyword} {tag.value}"
        return None


class _View(QTableView):
    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.matches(QKeySequence.StandardKey.Copy):
            rows = sorted({index.row() for index in self.selectedIndexes()})
            lines = ["\t".join(str(self.model().index(r, c).data() or "") for c in range(4)) for r in rows]
            QGuiApplication.clipboard().setText("\n".join(lines))
        else:
            super().keyPressEvent(event)


class TagsPanel(QWidget):
    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self.setAccessibleName("Tags")
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter by tag, name or value")
        self.filter.setAccessibleName("Filter tags")
        self.filter.setClearButtonEnabled(True)
        self.model = TagTable(self)
        self.proxy = QSortFilterProxyModel(self)
        self.proxy.setSourceModel(self.model)
        self.proxy.setFilterCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        self.proxy.setFilterRole(Qt.ItemDataRole.UserRole)
        self.filter.textChanged.connect(self._filter)
        self.table = _View()
        self.table.setModel(self.proxy)
        self.table.setAccessibleName("Tags of the file")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setAlternatingRowColors(True)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setTabKeyNavigation(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(self.fontMetrics().lineSpacing() + 7)
        across = self.table.horizontalHeader()
        across.setHighlightSections(False)
        across.setStretchLastSection(True)
        across.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        across.setSectionResizeMode(QHeaderView.ResizeMode.Interactive)
        character = self.fontMetrics().averageCharWidth()
        for column, characters in ((0, 12), (1, 20), (2, 4)):
            self.table.setColumnWidth(column, character * characters + 14)
        self.empty = QLabel()
        self.empty.setProperty("tone", "muted")
        self.empty.setWordWrap(True)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.filter)
        layout.addWidget(self.empty)
        layout.addWidget(self.table, 1)
        listen(case.changed, self._changed)
        self._changed("radiograph")

    def _changed(self, field: str) -> None:
        if field == "radiograph":
            radiograph = self._case.radiograph
            self.model.set_tags(() if radiograph is None else radiograph.tags)
            self._say()

    def _filter(self, text: str) -> None:
        self.proxy.setFilterFixedString(text.strip())
        self._say()

    def _say(self) -> None:
        if self._case.radiograph is None:
            text = "No image is open."
        elif not self._case.radiograph.tags:
            text = "This file has no tags."
        elif not self.proxy.rowCount():
            text = "No tag matches the filter."
        else:
            text = ""
        self.empty.setText(text)
        self.empty.setVisible(bool(text))
        self.table.setVisible(not text)
