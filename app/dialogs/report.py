"""What to write, where, on which paper, in whose name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from app.settings import Settings

PDF = ".pdf"


@dataclass(frozen=True)
class ReportChoice:
    """path: the PDF, or with `folder` the folder of the whole analysis (maps, analysis.json, report.pdf)."""

    path: Path
    page: Literal["A4", "Letter"]
    reader: str
    impression: str = ""
    folder: bool = False


class ReportDialog(QDialog):
    """impression: what was typed before. A file that is there already is named, and the button says what will happen to it."""

    def __init__(self, parent: QWidget | None, settings: Settings, path: Path, impression: str = "") -> None:
        super().__init__(parent)
        self.setWindowTitle("Report")
        self.path = QLineEdit(str(path))
        self.path.setAccessibleName("File")
        browse = QPushButton("Choose …")
        browse.clicked.connect(self._browse)
        self.page = QComboBox()
        for key, label in (("A4", "A4"), ("Letter", "US Letter")):
            self.page.addItem(label, key)
        self.page.setCurrentIndex(self.page.findData(settings.page))
        self.reader = QLineEdit(settings.reader)
        self.reader.setPlaceholderText("may stay empty")
        browse.setAutoDefault(False)
        self.impression = QPlainTextEdit(impression)
        self.impression.setPlaceholderText(
            "Your impression, printed beside the classifier's verdict (optional)"
        )
        self.impression.setTabChangesFocus(True)
        self.impression.setFixedHeight(5 * self.fontMetrics().lineSpacing())
        self.folder = QCheckBox("With maps and analysis.json, in a folder")
        self.folder.toggled.connect(self._folder_toggled)
        self.there = QLabel("There is one of this name already.")
        self.there.setProperty("tone", "warning")
        row = QHBoxLayout()
        row.addWidget(self.path, 1)
        row.addWidget(browse)
        form = QFormLayout()
        form.setHorizontalSpacing(16)
        form.setVerticalSpacing(9)
        form.addRow("File", row)
        form.addRow("", self.there)
        form.addRow("Paper", self.page)
        form.addRow("Reader", self.reader)
        form.addRow("Impression", self.impression)
        form.addRow("", self.folder)
        note = QLabel("The report holds the patient's data as they are in the file.")
        note.setProperty("tone", "muted")
        self.buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Save | QDialogButtonBox.StandardButton.Cancel
        )
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        self.path.textChanged.connect(self._look)
        self.folder.toggled.connect(self._look)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 16, 18, 14)
        layout.setSpacing(12)
        layout.addLayout(form)
        layout.addWidget(note)
        layout.addWidget(self.buttons)
        self.setMinimumWidth(560)
        self._form = form
        self._look()

    def _look(self) -> None:
        save = self.buttons.button(QDialogButtonBox.StandardButton.Save)
        named = bool(self.path.text().strip())
        there = named and self.choice().path.exists()
        self._form.setRowVisible(self.there, there)
        save.setEnabled(named)
        save.setText("Replace" if there else "Save")

    def choice(self) -> ReportChoice:
        path = Path(self.path.text().strip()).expanduser()
        folder = self.folder.isChecked()
        if not folder and path.suffix.lower() != PDF:
            path = path.with_name(f"{path.name}{PDF}")
        page = cast(Literal["A4", "Letter"], self.page.currentData())
        words = self.impression.toPlainText().strip()
        return ReportChoice(path, page, self.reader.text().strip(), words, folder)

    def _folder_toggled(self, folder: bool) -> None:
        text = self.path.text().strip()
        bare = (
            text[: -len(PDF)] if text.lower().endswith(PDF) else text
        )  # names may be UIDs: dots are no suffixes
        if bare:
            self.path.setText(bare if folder else f"{bare}{PDF}")

    def _browse(self) -> None:
        pattern = "All files (*)" if self.folder.isChecked() else "PDF (*.pdf)"
        name, _ = QFileDialog.getSaveFileName(self, "Save report", self.path.text(), pattern)
        if name:
            self.path.setText(name)
