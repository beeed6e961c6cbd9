"""Regions and what was measured in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QEvent, QItemSelectionModel, QModelIndex, QRect, QSortFilterProxyModel, Qt, Signal
from PySide6.QtGui import QColor, QGuiApplication, QKeyEvent, QKeySequence, QPainter, QPalette
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QPushButton,
    QSizePolicy,
    QStyle,
    QStyleOptionViewItem,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.model.case import CaseModel
from app.panels.region_table import SORT, RegionList, RegionTable, as_text
from app.panels.text import plain_label
from app.panels.what_if import WhatIfBox
from app.theme import current_tokens
from xai_engine.errors import RadiolucentError
from xai_engine.evidence import format
from xai_engine.radiograph import regions
from xai_engine.runtime import atomic

_FILTER = "Regions (*.json)"


class _List(QTableView):
    """Delete removes the region of the current row, F2 renames it, Ctrl+C copies the table for a spreadsheet."""

    def __init__(self, panel: RegionsPanel) -> None:
        super().__init__(panel)
        self._panel = panel

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._panel.delete_selected()
        elif event.key() == Qt.Key.Key_F2:
            self._panel.rename_selected()
        elif event.matches(QKeySequence.StandardKey.Copy):
            self._panel.copy("\t")
        else:
            super().keyPressEvent(event)


class _Headings(QHeaderView):
    """Row headings drawn as the cells are: a style sheet's section rounds differently, and its text sits a pixel off."""

    def __init__(self, table: QTableView) -> None:
        super().__init__(Qt.Orientation.Vertical, table)
        self._table = table

    def paintSection(self, painter: QPainter, rect: QRect, logicalIndex: int) -> None:
        option = QStyleOptionViewItem()
        self._table.initViewItemOption(option)
        tokens = current_tokens()
        painter.fillRect(rect, QColor(tokens.window))
        option.rect = rect.adjusted(3, 0, -3, 0)
        option.text = str(self.model().headerData(logicalIndex, self.orientation()) or "")
        option.displayAlignment = Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter
        option.textElideMode = Qt.TextElideMode.ElideRight
        option.features = QStyleOptionViewItem.ViewItemFeature.HasDisplay
        option.state = QStyle.StateFlag.State_Enabled
        option.palette.setColor(QPalette.ColorRole.Text, QColor(tokens.muted))
        self._table.style().drawControl(QStyle.ControlElement.CE_ItemViewItem, option, painter, self._table)


def _table(view: QTableView, name: str) -> None:
    view.setAccessibleName(name)
    view.setAlternatingRowColors(True)
    view.setShowGrid(False)
    view.setTabKeyNavigation(False)
    view.setCornerButtonEnabled(False)
    view.setFrameShape(QTableView.Shape.NoFrame)
    view.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
    view.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    across, down = view.horizontalHeader(), view.verticalHeader()
    across.setHighlightSections(False)
    across.setMinimumSectionSize(40)
    down.setHighlightSections(False)
    heading = down.font()
    heading.setBold(False)
    down.setFont(heading)


class RegionsPanel(QWidget):
    """List of a case's regions; of the selected one the numbers beside its mirror's, and what changing it does."""

    what_if_requested = Signal(str, str)
    """region id, fill"""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self.setAccessibleName("Regions")
        self.model = RegionList(case, self)
        self.proxy = QSortFilterProxyModel(self)
        self.proxy.setSourceModel(self.model)
        self.proxy.setSortRole(SORT)
        self.table = _List(self)
        _table(self.table, "Regions of this image")
        self.table.setModel(self.proxy)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSortingEnabled(True)
        self.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)  # as drawn, until a heading is clicked
        self.table.setWordWrap(False)  # a long name is cut; its tooltip has it whole
        self.table.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.verticalHeader().hide()
        across = self.table.horizontalHeader()
        across.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        across.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)

        self.numbers = RegionTable(case, self)
        self.detail = QTableView(self)
        self.detail.setVerticalHeader(_Headings(self.detail))
        _table(self.detail, "Numbers of the selected region and of its mirror")
        self.detail.setModel(self.numbers)
        self.detail.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.detail.setWordWrap(False)
        self.detail.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.Stretch)
        down = self.detail.verticalHeader()
        down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        self._fit_rows()

        self._empty = plain_label(
            "No regions yet. Draw one with the rectangle, ellipse, polygon or freehand tool, or measure a length.",
            "muted",
        )
        self._legend = plain_label("", "muted")
        self._message = plain_label("", "error")
        self._message.hide()
        self.what_if = WhatIfBox(case, self)
        self.what_if.requested.connect(self.what_if_requested)

        self.copy_button = self._button(
            "Copy", "Copy every number as CSV (Ctrl+C in the list: for a spreadsheet)", self.copy
        )
        self.export_button = self._button("Export…", "Write the regions to a JSON file", self._ask_export)
        self.import_button = self._button("Import…", "Add the regions of a JSON file", self._ask_import)
        self.delete_button = self._button("Delete", "Delete the selected region (Del)", self.delete_selected)
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.copy_button, self.export_button, self.import_button, self.delete_button):
            buttons.addWidget(button)

        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 6, 6)
        layout.addWidget(self._empty)
        layout.addWidget(self.table, 1)
        layout.addWidget(self.detail, 4)
        layout.addWidget(self._legend)
        layout.addWidget(self.what_if)
        layout.addStretch(0)
        layout.addWidget(self._message)
        layout.addLayout(buttons)
        self.setMinimumWidth(260)
        self.table.selectionModel().currentRowChanged.connect(self._current_changed)
        self.model.modelReset.connect(self._show_selection)
        self.numbers.modelReset.connect(self._span)
        listen(case.changed, self._changed)
        listen(case.comparison.changed, self._compared)
        self._changed("regions")

    def _button(self, text: str, tip: str, act: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: act())
        return button

    # What the buttons and the window's menu do

    def copy(self, delimiter: str = ",") -> None:
        """Every number to the clipboard: as CSV, or with tabs as spreadsheets take it."""
        QGuiApplication.clipboard().setText(as_text(self._case, delimiter))

    def export_to(self, path: Path | str) -> bool:
        """Write every region to a JSON file, whole or not at all. False (with a message in the panel) on failure."""
        try:
            with atomic.file(path) as temporary:
                temporary.write_text(regions.dump(self._case.regions), encoding="utf-8")
        except RadiolucentError as error:
            return self._say(str(error))
        return self._say("")

    def import_from(self, path: Path | str) -> bool:
        """Add the regions of a JSON file, as one step of undo. False (with a message in the panel) on failure."""
        try:
            loaded = regions.load(path)
        except RadiolucentError as error:
            return self._say(str(error))
        with self._case.edit():
            for region in loaded:
                taken = self._case.region(region.id) is not None
                new = self._case.new_region_id() if taken else region.id
                name = region.name or f"{region.kind.capitalize()} {new}"
                self._case.add_region(replace(region, id=new, name=name))
        return self._say("")

    def delete_selected(self) -> None:
        if self._case.selected_region is not None:
            self._case.remove_region(self._case.selected_region)

    def rename_selected(self) -> None:
        """Edit the name of the selected region in its cell."""
        row = self.model.row_of(self._case.selected_region)
        if row >= 0:
            self.table.edit(self.proxy.mapFromSource(self.model.index(row, 0)))

    def _ask_export(self) -> None:
        path, _ = QFileDialog.getSaveFileName(self, "Export regions", "regions.json", _FILTER)
        if path:
            self.export_to(path)

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import regions", "", _FILTER)
        if path:
            self.import_from(path)

    def _say(self, message: str) -> bool:
        self._message.setText(message)
        self._message.setVisible(bool(message))
        return not message

    # Following the model

    def _changed(self, field: str) -> None:
        if field == "selection":
            self._show_selection()
        if field in ("regions", "radiograph", "selection", "layers"):
            some, chosen = bool(self._case.regions), self._case.selected_region is not None
            self._empty.setVisible(not some)
            self.table.setVisible(some)
            self.detail.setVisible(chosen)
            self.what_if.setVisible(chosen and not self._chosen_line)
            self.copy_button.setEnabled(some)
            self.export_button.setEnabled(some)
            self.import_button.setEnabled(self._case.radiograph is not None)
            self.delete_button.setEnabled(chosen)
            self._say_where()
            self._fit_list()
        if field == "radiograph":
            self._say("")

    def _compared(self, what: str) -> None:
        if what == "midline":
            self._say_where()

    @property
    def _chosen_line(self) -> bool:
        region = self._case.region(self._case.selected_region)
        return region is not None and region.kind == "line"

    def _say_where(self) -> None:
        """What the mirror is, and what a share is, below the numbers."""
        parts = []
        if self._chosen_line:
            spacing = None if self._case.radiograph is None else self._case.radiograph.spacing
            meaning = "" if spacing is None else format.SPACING_MEANING[spacing.source]
            parts.append(f"Length: {meaning or 'in pixels, for the file states no pixel spacing'}.")
        elif self._case.selected_region is not None:
            line = self._case.comparison.midline
            if line is None:
                parts.append("The mirror region is known once the image is classified.")
            elif line.note:
                parts.append(line.note)
            else:
                parts.append("Mirror: dashed on the image, across the mid-line of the lungs.")
            if self._case.layers:
                parts.append("Shares: of the map's whole evidence for and against.")
        else:
            parts += ["Select a region for its numbers."] if self._case.regions else []
        self._legend.setText(" ".join(parts))
        self._legend.setVisible(bool(parts))

    def _show_selection(self) -> None:
        row = self.model.row_of(self._case.selected_region)
        selection = self.table.selectionModel()
        if row < 0:
            selection.clear()
            return
        index = self.proxy.mapFromSource(self.model.index(row, 0))
        if selection.currentIndex().row() != index.row() or not selection.isRowSelected(index.row()):
            flags = QItemSelectionModel.SelectionFlag
            selection.setCurrentIndex(index, flags.ClearAndSelect | flags.Rows)

    def _current_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        region = self.model.region(self.proxy.mapToSource(current).row()) if current.isValid() else None
        if region is not None:
            self._case.select_region(region.id)

    def _fit_list(self) -> None:
        """Room for up to three regions at least and, beside the numbers of one, for six at most."""
        line = self.fontMetrics().lineSpacing()
        count, head = len(self._case.regions), self.table.horizontalHeader().sizeHint().height() + 4
        self.table.setMinimumHeight(head + min(count, 3) * (line + 8))
        whole = head + min(count, 6) * (2 * line + 6)
        self.table.setMaximumHeight(whole if self._case.selected_region is not None else 16777215)

    def _span(self) -> None:
        """Headings of maps across; no empty rows below the last number."""
        self.detail.clearSpans()
        for row, key in enumerate(self.numbers.keys):
            if key.startswith("#"):
                self.detail.setSpan(row, 0, 1, 3)

        self._fit_rows()

    def _fit_rows(self) -> None:
        height = self.fontMetrics().lineSpacing() + 6
        self.detail.verticalHeader().setMaximumWidth(
            self.fontMetrics().horizontalAdvance("Share against") + 24
        )
        self.detail.verticalHeader().setDefaultSectionSize(height)
        whole = self.detail.horizontalHeader().sizeHint().height() + len(self.numbers.keys) * height + 4
        self.detail.setMaximumHeight(whole)
        self.detail.setMinimumHeight(min(whole, 6 * height))

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.FontChange and hasattr(self, "detail"):
            self._fit_rows()
        super().changeEvent(event)
