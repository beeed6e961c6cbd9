"""The tag browser: facts of the file, indentation, filter, copy."""

from __future__ import annotations

import pydicom.uid
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.model.case import CaseModel
from app.panels import tags
from app.panels.tags import TagsPanel
from tests.app import cases
from xai_engine.radiograph.types import Tag

TAGS = (
    Tag("0010,0010", "PatientName", "PN", "<b>DOE</b>^Jane"),
    Tag("0040,0275", "RequestAttributesSequence", "SQ", "1 item"),
    Tag("0040,0275[0].0040,0007", "ScheduledProcedureStepDescription", "LO", "胸部\n正面", 1),
)


@pytest.fixture
def case() -> CaseModel:
    one = CaseModel()
    image = cases.radiograph(cases.noise(20, 30), tags=TAGS, notices=("The first of 3 frames.",), frames=3)
    one.set_radiograph(image)
    return one


@pytest.fixture
def panel(qtbot: QtBot, case: CaseModel) -> TagsPanel:
    widget = TagsPanel(case)
    qtbot.addWidget(widget)
    widget.resize(300, 500)
    widget.show()
    QApplication.processEvents()
    return widget


def rows(panel: TagsPanel) -> list[list[str]]:
    return [
        [str(panel.proxy.index(row, column).data()) for column in range(4)]
        for row in range(panel.proxy.rowCount())
    ]


def test_facts_come_first_then_tags_indented(panel: TagsPanel) -> None:
    assert rows(panel) == [
        ["File", "Name", "", "image.dcm"],
        ["File", "Format", "", "DICOM"],
        ["File", "Transfer syntax", "", "Explicit VR Little Endian (1.2.840.10008.1.2.1)"],
        ["File", "Size", "", "30 × 20 pixels (columns × rows)"],
        ["File", "Bits stored", "", "12"],
        ["File", "Photometric", "", "MONOCHROME2"],
        [
            "File",
            "Pixel spacing",
            "",
            "0.2 × 0.1 mm (row × column), at the detector; lengths in the patient are smaller by the magnification",
        ],
        ["File", "Frames", "", "3"],
        ["File", "SHA-256", "", "0" * 64],
        ["File", "Notice", "", "The first of 3 frames."],
        ["0010,0010", "PatientName", "PN", "<b>DOE</b>^Jane"],
        ["0040,0275", "RequestAttributesSequence", "SQ", "1 item"],
        ["  0040,0007", "ScheduledProcedureStepDescription", "LO", "胸部 正面"],
    ]


def test_a_picture_without_tags_has_its_facts(panel: TagsPanel, case: CaseModel) -> None:
    case.set_radiograph(
        cases.radiograph(cases.noise(5, 5), spacing=None, file_format="PNG", transfer_syntax="")
    )
    found = {name: value for _tag, name, _vr, value in rows(panel)}
    assert found["Format"] == "PNG"
    assert found["Pixel spacing"] == "not stated in the file; no lengths or areas in mm"
    assert "Transfer syntax" not in found


def test_names_of_transfer_syntaxes_agree_with_the_standard() -> None:
    for uid, name in tags._SYNTAXES.items():
        known = pydicom.uid.UID(uid).name
        assert known.startswith(name), uid


def test_filter_by_path_name_and_value(panel: TagsPanel) -> None:
    for words, names in (
        ("patientn", ["PatientName"]),
        ("0040,0275[0]", ["ScheduledProcedureStepDescription"]),
        ("正面", ["ScheduledProcedureStepDescription"]),
        ("sha", ["SHA-256"]),
    ):
        panel.filter.setText(words)
        assert [row[1] for row in rows(panel)] == names
    panel.filter.setText("nothing like it")
    assert panel.empty.text() == "No tag matches the filter."
    assert not panel.table.isVisible()


def test_copy_takes_what_is_chosen(panel: TagsPanel) -> None:
    panel.filter.setText("0040,")
    panel.table.setFocus()
    panel.table.selectAll()
    QTest.keySequence(panel.table, QKeySequence(QKeySequence.StandardKey.Copy))
    assert QGuiApplication.clipboard().text() == (
        "0040,0275\tRequestAttributesSequence\tSQ\t1 item\n"
        "0040,0007\tScheduledProcedureStepDescription\tLO\t胸部 正面"
    )
    panel.table.clearSelection()
    panel.table.selectRow(0)
    panel.copy_value()
    assert QGuiApplication.clipboard().text() == "1 item"
    assert panel.table.contextMenuPolicy() == Qt.ContextMenuPolicy.ActionsContextMenu


def test_filled_only_when_seen(qtbot: QtBot, case: CaseModel) -> None:
    outer = QWidget()
    qtbot.addWidget(outer)
    panel = TagsPanel(case, outer)
    outer.show()
    panel.hide()
    case.set_radiograph(cases.radiograph(cases.noise(4, 4), tags=TAGS[:1]))
    assert panel.model.rowCount() == 0 or panel.model.rowCount() == 13
    panel.show()
    assert [row[1] for row in rows(panel)][-1] == "PatientName"
    panel.hide()
    case.set_radiograph(None)
    panel.show()
    assert panel.model.rowCount() == 0
    assert panel.empty.text() == "No image is open."


def test_html_in_values_is_text(panel: TagsPanel) -> None:
    panel.filter.setText("PatientName")
    assert "&lt;b&gt;DOE&lt;/b&gt;^Jane" in str(panel.proxy.index(0, 0).data(Qt.ItemDataRole.ToolTipRole))


def test_values_are_seen_at_300_pixels(panel: TagsPanel) -> None:
    left = panel.table.columnViewportPosition(3)
    assert panel.table.viewport().width() - left >= 60


def test_the_chosen_row_in_full(panel: TagsPanel, case: CaseModel) -> None:
    panel.filter.setText("scheduled")
    panel.table.selectRow(0)
    assert panel.detail.toPlainText() == (
        "0040,0275[0].0040,0007 ScheduledProcedureStepDescription LO\n胸部\n正面"
    )
    case.set_radiograph(None)
    assert panel.detail.toPlainText() == ""
