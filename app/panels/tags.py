"""What the file says of itself: facts of the image first, then every tag, with a filter."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QAbstractTableModel, QModelIndex, QPersistentModelIndex, QSortFilterProxyModel, Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHeaderView,
    QLineEdit,
    QPlainTextEdit,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.model.case import CaseModel
from app.panels.text import plain_label, tip
from xai_engine.evidence import format
from xai_engine.radiograph.types import Radiograph, Tag

_HEADINGS = ("Tag", "Name", "VR", "Value")
_Index = QModelIndex | QPersistentModelIndex
_ROOT = QModelIndex()


FILE = "File"
"""Stands where a tag's number stands, for facts of the file."""


def file_facts(r: Radiograph) -> tuple[Tag, ...]:
    """Facts of the image that the engine goes by, as rows before the tags."""
    rows = [
        ("Name", r.path.name),
        ("Format", r.file_format),
        ("Transfer syntax", _transfer_syntax(r.transfer_syntax)),
        ("Size", f"{r.columns} × {r.rows} pixels (columns × rows)"),
        ("Bits stored", str(r.bits_stored)),
        ("Photometric", r.source_photometric),
        ("Pixel spacing", format.spacing(r.spacing)),
        ("Frames", str(r.frames) if r.frames > 1 else ""),
        ("SHA-256", r.file_sha256),
        *(("Notice", notice) for notice in r.notices),
    ]
    return tuple(Tag(FILE, keyword, "", value) for keyword, value in rows if value)


_SYNTAXES = {
    "1.2.840.10008.1.2": "Implicit VR Little Endian",
    "1.2.840.10008.1.2.1": "Explicit VR Little Endian",
    "1.2.840.10008.1.2.1.99": "Deflated Explicit VR Little Endian",
    "1.2.840.10008.1.2.2": "Explicit VR Big Endian",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline (Process 1)",
    "1.2.840.10008.1.2.4.51": "JPEG Extended (Process 2 and 4)",
    "1.2.840.10008.1.2.4.57": "JPEG Lossless, Non-Hierarchical (Process 14)",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, Non-Hierarchical, First-Order Prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless Image Compression",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Lossy (Near-Lossless) Image Compression",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 Image Compression (Lossless Only)",
    "1.2.840.10008.1.2.4.91": "JPEG 2000 Image Compression",
    "1.2.840.10008.1.2.5": "RLE Lossless",
}
"""DICOM PS3.6, table A-1. Not from pydicom: the window's process does without it."""


def _transfer_syntax(uid: str) -> str:
    return f"{_SYNTAXES[uid]} ({uid})" if uid in _SYNTAXES else uid


class TagTable(QAbstractTableModel):
    """Rows: tags in the file's order; nested ones are indented."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._tags: tuple[Tag, ...] = ()

    def set_tags(self, tags: tuple[Tag, ...]) -> None:
        self.beginResetModel()
        self._tags = tags
        self.endResetModel()

    def tag(self, row: int) -> Tag:
        return self._tags[row]

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
            return tip(f"{tag.path} {tag.keyword}\n{tag.value}")
        if role == Qt.ItemDataRole.UserRole:  # what the filter sees
            return f"{tag.path} {tag.keyword} {tag.value}"
        return None


class TagsPanel(QWidget):
    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._stale = True
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
        self.table = QTableView()
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
        # Narrow enough that values are seen at 300 pixels; names that are cut are whole in the tooltip.
        for column, widest in ((0, "  0000,0000"), (1, "Pixel spacing"), (2, "VR"), (3, "")):
            self.table.setColumnWidth(column, self.fontMetrics().horizontalAdvance(widest) + 12)
        copy = QAction("Copy", self.table)
        copy.setShortcut(QKeySequence.StandardKey.Copy)
        copy.setShortcutContext(Qt.ShortcutContext.WidgetShortcut)
        copy.triggered.connect(self.copy)
        copy_value = QAction("Copy value", self.table)
        copy_value.triggered.connect(self.copy_value)
        self.table.addActions([copy, copy_value])
        self.table.setContextMenuPolicy(Qt.ContextMenuPolicy.ActionsContextMenu)
        self.detail = QPlainTextEdit()
        self.detail.setReadOnly(True)
        self.detail.setTabChangesFocus(True)
        self.detail.setAccessibleName("The chosen tag in full")
        self.detail.setPlaceholderText("Choose a row to read it in full.")
        self.detail.setFixedHeight(5 * self.fontMetrics().lineSpacing() + 12)
        self.table.selectionModel().currentRowChanged.connect(self._show_row)
        self.proxy.modelReset.connect(self.detail.clear)
        self.empty = plain_label(tone="muted")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 8, 8, 8)
        layout.addWidget(self.filter)
        layout.addWidget(self.empty)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.detail)
        layout.addStretch(0)
        listen(case.changed, self._changed)
        self._say()

    def _changed(self, field: str) -> None:
        if field == "radiograph":
            self._stale = True
            if self.isVisible():
                self._refresh()

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._refresh()

    def _refresh(self) -> None:
        """Filled only where it is seen: files may have thousands of tags."""
        if not self._stale:
            return
        self._stale = False
        radiograph = self._case.radiograph
        self.model.set_tags(() if radiograph is None else (*file_facts(radiograph), *radiograph.tags))
        self._say()

    def _show_row(self, index: QModelIndex) -> None:
        tag = self.model.tag(self.proxy.mapToSource(index).row()) if index.isValid() else None
        self.detail.setPlainText(
            f"{tag.path} {tag.keyword} {tag.vr}".rstrip() + f"\n{tag.value}" if tag else ""
        )

    def _chosen(self) -> list[int]:
        return sorted({index.row() for index in self.table.selectedIndexes()})

    def copy(self) -> None:
        """The chosen rows, columns apart by tabs, without indentation."""
        lines = [
            "\t".join(str(self.proxy.index(row, column).data() or "").strip() for column in range(4))
            for row in self._chosen()
        ]
        QGuiApplication.clipboard().setText("\n".join(lines))

    def copy_value(self) -> None:
        values = [str(self.proxy.index(row, 3).data() or "") for row in self._chosen()]
        QGuiApplication.clipboard().setText("\n".join(values))

    def _filter(self, text: str) -> None:
        self.proxy.setFilterFixedString(text.strip())
        self._say()

    def _say(self) -> None:
        if self._case.radiograph is None:
            text = "No image is open."
        elif not self.proxy.rowCount():
            text = "No tag matches the filter."
        else:
            text = ""
        self.empty.setText(text)
        self.empty.setVisible(bool(text))
        for widget in (self.table, self.detail):
            widget.setVisible(not text)
