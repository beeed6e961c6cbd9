"""Preferences. Changes take effect with OK; Cancel leaves everything as it was."""

from __future__ import annotations

import os
from dataclasses import replace

from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.settings import Settings

_THEMES = (("dark", "Dark"), ("light", "Light"), ("system", "As the system"))
_WINDOWS = (("default", "The file's own"), ("full", "Full range"), ("auto", "Automatic"))
_PAGES = (("A4", "A4"), ("Letter", "US Letter"))
_DEVICES = (("auto", "Automatic"), ("cpu", "Processor"), ("cuda", "Graphics card (CUDA)"))


def _choice(choices: tuple[tuple[str, str], ...], value: str, name: str) -> QComboBox:
    box = QComboBox()
    for key, label in choices:
        box.addItem(label, key)
    box.setCurrentIndex(box.findData(value))
    box.setAccessibleName(name)
    return box


class PreferencesDialog(QDialog):
    def __init__(self, parent: QWidget | None, settings: Settings) -> None:
        super().__init__(parent)
        self.setWindowTitle("Preferences")
        self._settings = settings
        self.theme = _choice(_THEMES, settings.theme, "Theme")
        self.window_choice = _choice(_WINDOWS, settings.default_window, "Window at opening")
        self.page = _choice(_PAGES, settings.page, "Paper")
        self.device = _choice(_DEVICES, settings.device, "Compute on")
        self.reader = QLineEdit(settings.reader)
        self.reader.setPlaceholderText("printed on reports; may stay empty")
        self.reader.setAccessibleName("Reader")
        self.institution = QLineEdit(settings.institution)
        self.institution.setPlaceholderText("heads every report; may stay empty")
        self.institution.setAccessibleName("Institution")
        self.threads = QSpinBox()
        self.threads.setRange(0, max(1, os.cpu_count() or 1, settings.threads))
        self.threads.setSpecialValueText("Automatic")
        self.threads.setValue(settings.threads)
        self.threads.setAccessibleName("Processor cores")
        self.threads.lineEdit().setAccessibleName("Processor cores")
        self.threads.setToolTip("Most cores that one computation takes")
        self.blind = QCheckBox("Blind reading: your impression comes before the AI's")
        self.blind.setChecked(settings.blind_reading)
        self.recent = QCheckBox("Remember recent files (names may identify patients)")
        self.recent.setChecked(settings.remember_recent)
        self.forget = QPushButton("Forget recent files")
        self.forget.setAutoDefault(False)
        self.forget.setEnabled(bool(settings.recent))
        self.forget.clicked.connect(self._forget)
        self._forgotten = False
        form = QFormLayout()
        form.setHorizontalSpacing(16)
        form.setVerticalSpacing(9)
        for label, field in (
            ("Theme", self.theme),
            ("Window at opening", self.window_choice),
            ("Paper", self.page),
            ("Reader", self.reader),
            ("Institution", self.institution),
            ("Compute on", self.device),
            ("Processor cores", self.threads),
            ("", self.blind),
            ("", self.recent),
        ):
            form.addRow(label, field)
        aside = QHBoxLayout()
        aside.addWidget(self.forget)
        aside.addStretch(1)
        form.addRow("", aside)
        note = QLabel("“Compute on” and “Processor cores” hold from the next computation.")
        note.setProperty("tone", "muted")
        buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel
        )
        buttons.accepted.connect(self.accept)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(18, 16, 18, 14)
        layout.setSpacing(12)
        layout.addLayout(form)
        layout.addWidget(note)
        layout.addWidget(buttons)
        self.setMinimumWidth(max(460, self.sizeHint().width()))

    def _forget(self) -> None:
        self._forgotten = True
        self.forget.setEnabled(False)
        self.forget.setText("Recent files go with OK")

    def result_settings(self) -> Settings:
        """The settings with what was chosen; recent files are dropped where they shall not be remembered
        or were told to be forgotten."""
        remember = self.recent.isChecked()
        return replace(
            self._settings,
            theme=self.theme.currentData(),
            default_window=self.window_choice.currentData(),
            page=self.page.currentData(),
            device=self.device.currentData(),
            reader=self.reader.text().strip(),
            institution=self.institution.text().strip(),
            threads=self.threads.value(),
            blind_reading=self.blind.isChecked(),
            remember_recent=remember,
            recent=list(self._settings.recent) if remember and not self._forgotten else [],
        )
