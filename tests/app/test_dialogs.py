"""Dialogs: what is chosen is what comes out; they fit a small screen and can be worked by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QFileDialog,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.dialogs.about import DISCLAIMER, AboutDialog
from app.dialogs.preferences import PreferencesDialog
from app.dialogs.report import ReportChoice, ReportDialog
from app.dialogs.shortcuts import ShortcutsDialog
from app.settings import Settings
from app.theme import load_fonts
from xai_engine import __version__
from xai_engine.classifier.types import ModelInfo

MODEL = ModelInfo(
    name="tiny",
    version="1.2.3",
    sha256="ab" * 32,
    title="Pneumonia on radiographs",
    architecture="EfficientNet-lite0",
    classes=("normal", "pneumonia"),
    input_shape=(1, 224, 224),
    intended_use="",
    limitations=(),
    training_data=("Set one (CC BY 4.0)", "Set two."),
    operating_points=(),
    metrics={},
    layers=(),
    default_layer="",
    parameters=1,
    map_scales={},
)
ENVIRONMENT = {
    "device": "cpu",
    "device_name": "A processor",
    "precision": "bf16",
    "threads": 2,
    "torch": "9.9.9",
}
GROUPS = [("View", [("R", "Rotate right"), ("1 – 9", "Window presets")]), ("Mouse", [("Wheel", "Zoom")])]

DIALOGS: dict[str, Callable[[], QDialog]] = {
    "about": lambda: AboutDialog(None, ENVIRONMENT, MODEL),
    "preferences": lambda: PreferencesDialog(None, Settings(recent=["a.dcm"])),
    "report": lambda: ReportDialog(None, Settings(), Path("/somewhere/image.pdf")),
    "shortcuts": lambda: ShortcutsDialog(None, GROUPS),
}


def shown(qtbot: QtBot, dialog: QDialog) -> QDialog:
    qtbot.addWidget(dialog)
    dialog.show()
    QApplication.processEvents()
    return dialog


@pytest.mark.parametrize("name", DIALOGS)
def test_fits_a_small_screen_and_clips_nothing(qtbot: QtBot, qapp: QApplication, name: str) -> None:
    load_fonts(qapp)
    dialog = shown(qtbot, DIALOGS[name]())
    assert dialog.width() <= 1280
    assert dialog.height() <= 680  # 720 less a title bar
    for widget in dialog.findChildren(QWidget):
        if isinstance(widget, (QCheckBox, QPushButton, QComboBox)) and widget.isVisible():
            assert widget.width() >= widget.sizeHint().width(), widget
        if isinstance(widget, QLabel) and widget.isVisible():
            room = widget.heightForWidth(widget.width()) if widget.wordWrap() else widget.sizeHint().height()
            assert widget.height() >= room, widget.text()


@pytest.mark.parametrize("name", DIALOGS)
def test_escape_closes(qtbot: QtBot, name: str) -> None:
    dialog = shown(qtbot, DIALOGS[name]())
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not dialog.isVisible()
    assert dialog.result() == QDialog.DialogCode.Rejected


@pytest.mark.parametrize("name", DIALOGS)
def test_tab_reaches_every_control(qtbot: QtBot, name: str) -> None:
    dialog = shown(qtbot, DIALOGS[name]())
    dialog.activateWindow()
    wanted = {
        w
        for w in dialog.findChildren(QWidget)
        if isinstance(w, (QCheckBox, QComboBox, QLineEdit, QPlainTextEdit, QPushButton)) and w.isEnabled()
    }
    reached, widget = set(), dialog.focusWidget() or dialog
    for _ in range(60):
        reached.add(widget)
        widget = widget.nextInFocusChain()
        while not (widget.focusPolicy() & Qt.FocusPolicy.TabFocus):
            widget = widget.nextInFocusChain()
    assert wanted <= reached
    for widget in wanted:
        if isinstance(widget, (QComboBox, QLineEdit, QPlainTextEdit)):
            assert widget.accessibleName() or label_of(dialog, widget), widget


def label_of(dialog: QDialog, widget: QWidget) -> str:
    return next((label.text() for label in dialog.findChildren(QLabel) if label.buddy() is widget), "")


def test_about_names_versions_and_limits(qtbot: QtBot) -> None:
    dialog = shown(qtbot, AboutDialog(None, ENVIRONMENT, MODEL))
    words = " ".join(label.text() for label in dialog.findChildren(QLabel))
    for part in (
        DISCLAIMER,
        __version__,
        "1.2.3",
        "abababababab",
        "9.9.9",
        "A processor",
        "Apache License 2.0",
        "Set one (CC BY 4.0).",
    ):
        assert part in words
    QTest.mouseClick(button(dialog, "Copy versions"), Qt.MouseButton.LeftButton)
    copied = QApplication.clipboard().text()
    assert f"Radiolucent: {__version__}" in copied
    assert "PyTorch: 9.9.9" in copied


def test_about_has_room_for_every_line(qtbot: QtBot) -> None:
    long = replace(
        MODEL,
        title="Pneumonia on frontal chest radiographs of children and adults",
        training_data=tuple(
            f"Set {n}: many words about where it comes from and its licence" for n in range(9)
        ),
    )
    dialog = shown(qtbot, AboutDialog(None, ENVIRONMENT, long))
    for label in dialog.findChildren(QLabel):
        if label.wordWrap() and label.isVisible():
            assert label.height() >= label.heightForWidth(label.width()), label.text()
    assert dialog.height() < 600  # on small screens too


def test_about_without_a_model(qtbot: QtBot) -> None:
    dialog = shown(qtbot, AboutDialog(None, None, None))
    assert "Model" not in [name for name, _ in dialog.rows]  # type: ignore[attr-defined]


def button(dialog: QDialog, text: str) -> QPushButton:
    return next(b for b in dialog.findChildren(QPushButton) if b.text() == text)


def test_preferences_change_a_copy(qtbot: QtBot) -> None:
    before = Settings(reader="Old", recent=["a.dcm"], folder="/kept", theme="light")
    same = replace(before, recent=list(before.recent))
    dialog = PreferencesDialog(None, before)
    shown(qtbot, dialog)
    assert dialog.result_settings() == same
    for box, key in (
        (dialog.theme, "system"),
        (dialog.window_choice, "full"),
        (dialog.page, "Letter"),
        (dialog.device, "cpu"),
    ):
        box.setCurrentIndex(box.findData(key))
    dialog.reader.setText("  Dr. New ")
    dialog.institution.setText(" St. Elsewhere ")
    dialog.threads.setValue(1)
    dialog.blind.setChecked(True)
    QTest.mouseClick(dialog.forget, Qt.MouseButton.LeftButton)
    after = dialog.result_settings()
    assert after == replace(
        same,
        theme="system",
        default_window="full",
        page="Letter",
        device="cpu",
        reader="Dr. New",
        institution="St. Elsewhere",
        threads=1,
        blind_reading=True,
        recent=[],
    )
    assert before == same


def test_recent_files_go_with_their_remembering(qtbot: QtBot) -> None:
    dialog = PreferencesDialog(None, Settings(recent=["a.dcm"]))
    shown(qtbot, dialog)
    dialog.recent.setChecked(False)
    after = dialog.result_settings()
    assert (after.remember_recent, after.recent) == (False, [])


def test_report_choice(qtbot: QtBot) -> None:
    dialog = ReportDialog(None, Settings(page="Letter", reader="Dr. R"), Path("/a/image.pdf"))
    shown(qtbot, dialog)
    assert dialog.choice() == ReportChoice(Path("/a/image.pdf"), "Letter", "Dr. R")
    dialog.path.setText(" /b/other ")
    dialog.reader.setText("Dr. S ")
    dialog.impression.setPlainText("Opacity in the right base.\nNo effusion.\n")
    dialog.page.setCurrentIndex(dialog.page.findData("A4"))
    assert dialog.choice() == ReportChoice(
        Path("/b/other.pdf"), "A4", "Dr. S", "Opacity in the right base.\nNo effusion."
    )


def test_what_is_there_already_is_not_replaced_unawares(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / "old.pdf").touch()
    (tmp_path / "done").mkdir()
    dialog = ReportDialog(None, Settings(), tmp_path / "new.pdf", "As before.")
    shown(qtbot, dialog)
    save = dialog.buttons.button(QDialogButtonBox.StandardButton.Save)
    assert dialog.choice().impression == "As before."
    for text, folder, there in (
        ("new.pdf", False, False),
        ("old.pdf", False, True),
        ("old", False, True),  # the suffix is added
        ("done", False, False),
        ("done", True, True),
        ("done-2", True, False),
    ):
        dialog.folder.setChecked(folder)
        dialog.path.setText(str(tmp_path / text))
        assert dialog.there.isVisible() is there, text
        assert save.text() == ("Replace" if there else "Save")


@pytest.mark.parametrize("name", ["image", "1.2.840.10008", "archive.v2", "Ünïcode Name"])
def test_a_folder_instead_of_a_file(qtbot: QtBot, name: str) -> None:
    """Dots of a UID are no suffix."""
    dialog = ReportDialog(None, Settings(), Path(f"/a/{name}.pdf"))
    shown(qtbot, dialog)
    dialog.folder.setChecked(True)
    assert (dialog.choice().path, dialog.choice().folder) == (Path(f"/a/{name}"), True)
    dialog.folder.setChecked(False)
    assert (dialog.choice().path, dialog.choice().folder) == (Path(f"/a/{name}.pdf"), False)


def test_nothing_is_saved_without_a_name(qtbot: QtBot) -> None:
    dialog = ReportDialog(None, Settings(), Path("/a/image.pdf"))
    shown(qtbot, dialog)
    save = dialog.buttons.button(QDialogButtonBox.StandardButton.Save)
    dialog.path.setText("  ")
    assert not save.isEnabled()
    dialog.folder.setChecked(True)  # must not fail on the empty name
    dialog.path.setText("/a/b")
    assert save.isEnabled()


def test_browse(qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
    dialog = ReportDialog(None, Settings(), Path("/a/image.pdf"))
    shown(qtbot, dialog)
    monkeypatch.setattr(
        QFileDialog, "getSaveFileName", staticmethod(lambda *_a, **_k: ("/chosen/here.pdf", ""))
    )
    QTest.mouseClick(button(dialog, "Choose …"), Qt.MouseButton.LeftButton)
    assert dialog.choice().path == Path("/chosen/here.pdf")
    monkeypatch.setattr(QFileDialog, "getSaveFileName", staticmethod(lambda *_a, **_k: ("", "")))
    QTest.mouseClick(button(dialog, "Choose …"), Qt.MouseButton.LeftButton)
    assert dialog.choice().path == Path("/chosen/here.pdf")


def test_keys_page_lists_all(qtbot: QtBot) -> None:
    dialog = ShortcutsDialog(None, GROUPS)
    shown(qtbot, dialog)
    listed = []
    for number in range(dialog.tree.topLevelItemCount()):
        group = dialog.tree.topLevelItem(number)
        assert group.isExpanded()
        listed.append(
            (
                group.text(0),
                [(group.child(i).text(0), group.child(i).text(1)) for i in range(group.childCount())],
            )
        )
    assert listed == GROUPS
