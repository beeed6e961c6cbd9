"""Regions and what was measured in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QEvent, QItemSelectionModel, QModelIndex, Qt
from PySide6.QtGui import QGuiApplication, QKeyEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QPushButton,
    QSizePolicy,
    QTableView,
    QVBoxLayout,
    QWidget,
)

from app.canvas.binding import listen
from app.model.case import CaseModel
from app.panels.region_table import RegionTable, as_csv
from xai_engine.errors import RadiolucentError
from xai_engine.radiograph import regions
from xai_engine.runtime import atomic

_FILTER = "Regions (*.json)"


class _Table(QTableView):
    """Delete removes the region of the current column."""

    def __init__(self, panel: RegionsPanel) -> None:
        super().__init__(panel)
        self._panel = panel

    def keyPressEvent(self, event: QKeyEvent) -> None:
        if event.key() in (Qt.Key.Key_Delete, Qt.Key.Key_Backspace):
            self._panel.delete_selected()
        elif event.key() == Qt.Key.Key_F2:
            self._panel.rename_selected()
        else:
            super().keyPressEvent(event)


class RegionsPanel(QWidget):
    """Live table of a case's regions, with copying, exporting, importing, renaming and deleting."""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self.setAccessibleName("Regions")
        self.model = RegionTable(case, self)
        self.table = _Table(self)
        self.table.setModel(self.model)
        self.table.setAccessibleName("Measurements of the regions")
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectColumns)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setAlternatingRowColors(True)
        self.table.setShowGrid(False)
        self.table.setWordWrap(False)
        self.table.setTabKeyNavigation(False)
        self.table.setCornerButtonEnabled(False)
        self.table.setFrameShape(QTableView.Shape.NoFrame)
        across, down = self.table.horizontalHeader(), self.table.verticalHeader()
        across.setMinimumSectionSize(64)
        across.setDefaultSectionSize(70)
        across.setHighlightSections(False)
        down.setHighlightSections(False)
        down.setSectionResizeMode(QHeaderView.ResizeMode.Fixed)
        down.setDefaultSectionSize(self.table.fontMetrics().lineSpacing() + 8)
        down.setMaximumWidth(132)
        heading = down.font()
        heading.setBold(False)
        down.setFont(heading)
        down.setTextElideMode(Qt.TextElideMode.ElideRight)

        self._empty = QLabel(
            "No regions yet. Draw one with the rectangle, ellipse, polygon or freehand tool."
        )
        self._empty.setWordWrap(True)
        self._empty.setProperty("tone", "muted")
        self._legend = QLabel("+ and −: share of a map's evidence for and against that lies inside.")
        self._legend.setWordWrap(True)
        self._legend.setProperty("tone", "muted")
        self._message = QLabel()
        self._message.setWordWrap(True)
        self._message.setProperty("tone", "error")
        self._message.hide()

        self.copy_button = self._button("Copy", "Copy the table as CSV", self.copy)
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
        layout.addWidget(self._legend)
        layout.addWidget(self._message)
        layout.addLayout(buttons)
        self.setMinimumWidth(260)
        self.table.selectionModel().currentColumnChanged.connect(self._current_changed)
        self.model.modelReset.connect(self._show_selection)
        listen(case.changed, self._changed)
        self._changed("regions")

    def _button(self, text: str, tip: str, act: Callable[[], object]) -> QPushButton:
        button = QPushButton(text)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        button.clicked.connect(lambda: act())
        return button

    # What the buttons and the window's menu do

    def copy(self) -> None:
        """The table to the clipboard, as CSV."""
        QGuiApplication.clipboard().setText(as_csv(self._case))

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
        column = self._column()
        if column >= 0:
            self.table.edit(self.model.index(0, column))

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

    def _column(self) -> int:
        ids = [region.id for region in self._case.regions]
        selected = self._case.selected_region
        return ids.index(selected) if selected in ids else -1

    def _changed(self, field: str) -> None:
        if field == "selection":
            self._show_selection()
        if field in ("regions", "radiograph", "selection", "layers"):
            some = bool(self._case.regions)
            self._empty.setVisible(not some)
            self.table.setVisible(some)
            self._legend.setVisible(some and bool(self._case.layers))
            self.copy_button.setEnabled(some)
            self.export_button.setEnabled(some)
            self.import_button.setEnabled(self._case.radiograph is not None)
            self.delete_button.setEnabled(self._case.selected_region is not None)
        if field == "radiograph":
            self._say("")

    def _show_selection(self) -> None:
        column = self._column()
        selection = self.table.selectionModel()
        if column < 0:
            selection.clear()
        elif selection.currentIndex().column() != column or not selection.isColumnSelected(column):
            row = max(selection.currentIndex().row(), 0)
            selection.setCurrentIndex(
                self.model.index(row, column),
                QItemSelectionModel.SelectionFlag.ClearAndSelect | QItemSelectionModel.SelectionFlag.Columns,
            )

    def _current_changed(self, current: QModelIndex, _previous: QModelIndex) -> None:
        if current.isValid() and current.column() < len(self._case.regions):
            self._case.select_region(self._case.regions[current.column()].id)

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.FontChange and hasattr(self, "table"):
            self.table.verticalHeader().setDefaultSectionSize(self.table.fontMetrics().lineSpacing() + 8)
        super().changeEvent(event)
