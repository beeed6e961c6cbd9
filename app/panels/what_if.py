"""What if the selected region looked otherwise: the question, the answer in words, and the changed picture on request."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QFrame, QHBoxLayout, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from app.canvas.binding import listen
from app.model.case import CaseModel
from app.panels.text import plain_label
from xai_engine.evidence import what_if

FILLS = (
    (
        "inpaint",
        "filled in from its surroundings",
        "The smoothest surface that fits, with the texture around it",
    ),
    ("blur", "blurred", "Detail goes, mean density stays"),
    ("mirror", "like the other side", "What lies across the mid-line takes its place"),
    ("mean", "flat", "The mean grey of its surroundings"),
)


class WhatIfBox(QFrame):
    """Follows the selected region. `set_enabled` says why nothing can be asked where that is so."""

    requested = Signal(str, str)
    """region id, fill"""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._case = case
        self._reason = "Waiting for the verdict."
        self._busy: str | None = None
        self.heading = plain_label("What if this region were", "heading")
        self.fill = QComboBox()
        for row, (key, label, tip) in enumerate(FILLS):
            self.fill.addItem(label, key)
            self.fill.setItemData(row, tip, 3)
        self.fill.setAccessibleName("How the region is changed")
        self.fill.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.ask = QPushButton("Ask")
        self.ask.setToolTip(
            "Score the image with this region changed, and with 20 random lung regions changed likewise"
        )
        self.ask.clicked.connect(self._ask)
        self.answer = plain_label()
        self.notes = plain_label("", "muted")
        self.show_change = QPushButton("Show the changed image")
        self.show_change.setCheckable(True)
        self.show_change.setToolTip("On: the picture with the region changed. Off: the radiograph as it is.")
        self.show_change.toggled.connect(self._toggle)
        row_ = QHBoxLayout()
        row_.setSpacing(6)
        row_.addWidget(self.fill, 1)
        row_.addWidget(self.ask)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 4, 0, 4)
        layout.setSpacing(5)
        layout.addWidget(self.heading)
        layout.addLayout(row_)
        for widget in (self.answer, self.notes, self.show_change):
            layout.addWidget(widget)
        listen(case.changed, self._changed)
        listen(case.comparison.changed, self._compared)
        self._fill()

    def set_enabled(self, allowed: bool, reason: str) -> None:
        self._reason = "" if allowed else reason or "The image cannot be judged."
        self._fill()

    def set_busy(self, region_id: str | None) -> None:
        """The region that is being asked about; None when that has ended."""
        self._busy = region_id
        self._fill()

    def _ask(self) -> None:
        if self._case.selected_region is not None:
            self.requested.emit(self._case.selected_region, self.fill.currentData())

    def _toggle(self, shown: bool) -> None:
        self._case.comparison.set_preview(self._case.selected_region if shown else None)

    def _changed(self, field: str) -> None:
        if field == "selection":
            if self._case.comparison.preview is not None:
                self._case.comparison.set_preview(None)
            known = self._case.comparison.what_if.get(self._case.selected_region or "")
            if known is not None:
                self.fill.setCurrentIndex(self.fill.findData(known.fill))
        if field in ("selection", "regions", "radiograph"):
            self._fill()

    def _compared(self, what: str) -> None:
        if what in ("what_if", "preview"):
            self._fill()

    def _fill(self) -> None:
        chosen = self._case.selected_region
        known = self._case.comparison.what_if.get(chosen or "")
        self.ask.setEnabled(not self._reason and self._busy is None)
        self.ask.setText("Ask" if self._busy is None else "Asking …")
        text = "" if known is None else what_if.sentence(known)
        self.answer.setText(text)
        self.answer.setVisible(bool(text))
        notes = self._reason if known is None else " ".join(known.notes)
        self.notes.setText(notes)
        self.notes.setVisible(bool(notes))
        picture = known is not None and known.patch is not None
        self.show_change.setVisible(picture)
        blocked = self.show_change.blockSignals(True)
        on = picture and self._case.comparison.preview == chosen
        self.show_change.setChecked(on)
        self.show_change.setText("Back to the radiograph" if on else "Show the changed image")
        self.show_change.blockSignals(blocked)
