"""What this program is, which versions are at work, and what it must not be used for."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QVBoxLayout,
    QWidget,
)

from app.icons import pixmap
from app.panels.scroll import scrolled
from app.theme import current_tokens
from xai_engine import __version__
from xai_engine.classifier.types import ModelInfo

WIDTH = 560
DISCLAIMER = "Research use only. Not a medical device."


def versions(model: ModelInfo | None, environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, version) of everything that shapes a result; nothing about the patient or the user."""

    def installed(package: str) -> str:
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "not installed"

    rows = [("Radiolucent", __version__)]
    if model is not None:
        rows.append(("Model", f"{model.title} {model.version} ({model.sha256[:12]})"))
    if environment:
        device = str(environment.get("device", ""))
        named = str(environment.get("device_name", "")) or device
        rows.append(
            (
                "Computes on",
                f"{named}, {environment.get('precision', '')}, {environment.get('threads', '')} threads",
            )
        )
    rows += [
        ("PyTorch", str(environment.get("torch") or installed("torch"))),
        ("MONAI", str(environment.get("monai") or installed("monai"))),
        ("pydicom", installed("pydicom")),
        ("Qt", f"{qVersion()} (PySide6 {installed('PySide6-Essentials')})"),
        ("Python", platform.python_version()),
        ("System", f"{platform.system()} {platform.release()}"),
    ]
    return rows


def attributions(model: ModelInfo | None) -> list[str]:
    """Licences, and whose data the model in use was trained on (its own card says it)."""
    parts = [
        "Apache License 2.0. Qt is used under the LGPL v3. Licences of data and components: NOTICE, THIRD-PARTY.md."
    ]
    if model is not None and model.training_data:
        parts.append(
            "The model was trained on: " + " ".join(f"{line.rstrip('. ')}." for line in model.training_data)
        )
    return parts


class AboutDialog(QDialog):
    """Versions can be copied as text for a fault report."""

    def __init__(
        self, parent: QWidget | None, environment: Mapping[str, Any] | None, model: ModelInfo | None
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("About Radiolucent")
        self.rows = versions(model, environment or {})
        tokens = current_tokens()
        mark = QLabel()
        mark.setPixmap(pixmap("radiolucent", tokens.accent, 48, self.devicePixelRatioF()))
        mark.setAlignment(Qt.AlignmentFlag.AlignTop)
        name = QLabel("Radiolucent")
        name.setProperty("tone", "verdict")
        purpose = QLabel(
            "Reads chest radiographs with a pneumonia classifier, shows why it says what it says and how far that can be trusted."
        )
        purpose.setWordWrap(True)
        self.disclaimer = QLabel(DISCLAIMER)
        self.disclaimer.setProperty("tone", "warning")
        words = QVBoxLayout()
        for label in (name, purpose, self.disclaimer):
            words.addWidget(label)
        head = QHBoxLayout()
        head.setSpacing(14)
        head.addWidget(mark)
        head.addLayout(words, 1)
        form = QFormLayout()
        form.setHorizontalSpacing(18)
        form.setVerticalSpacing(4)
        for what, version in self.rows:
            heading, value = QLabel(what), QLabel(version)
            heading.setProperty("tone", "muted")
            value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            value.setWordWrap(True)
            form.addRow(heading, value)
        licence = QLabel("\n\n".join(attributions(model)))
        licence.setProperty("tone", "muted")
        licence.setTextFormat(Qt.TextFormat.PlainText)
        licence.setWordWrap(True)
        licence.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close)
        copy = buttons.addButton("Copy versions", QDialogButtonBox.ButtonRole.ActionRole)
        copy.clicked.connect(self.copy)
        buttons.rejected.connect(self.reject)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(20, 18, 20, 14)
        layout.setSpacing(16)
        layout.addLayout(head)
        layout.addLayout(form)
        data = scrolled(licence, "Licences and data")
        data.setMinimumHeight(7 * licence.fontMetrics().lineSpacing())
        layout.addWidget(data)
        layout.addWidget(buttons)
        close = buttons.button(QDialogButtonBox.StandardButton.Close)
        close.setDefault(True)
        close.setFocus()
        self.setFixedWidth(WIDTH)
        # wrapped lines are not in a layout's size hint
        self.setMinimumHeight(layout.totalHeightForWidth(WIDTH))

    def copy(self) -> None:
        QGuiApplication.clipboard().setText("\n".join(f"{what}: {version}" for what, version in self.rows))
