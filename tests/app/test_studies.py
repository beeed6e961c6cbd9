"""The list of studies: search, orders, keyboard, menu, names that look like HTML."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from app.model.studies import StudyList
from app.panels.studies import StudiesPanel, two_lines

FOLDER = Path("/studies").absolute()
NAMES = ("a.dcm", "b.png", "<b>c&d.dcm", "胸部正面.dcm")


@pytest.fixture
def studies() -> StudyList:
    return StudyList()


@pytest.fixture
def panel(qtbot: QtBot, studies: StudyList) -> StudiesPanel:
    widget = StudiesPanel(studies)
    qtbot.addWidget(widget)
    widget.resize(300, 500)
    widget.show()
    QApplication.processEvents()
    return widget


@pytest.fixture
def paths(studies: StudyList, panel: StudiesPanel) -> list[Path]:
    paths = studies.add([FOLDER / name for name in NAMES])
    studies.update(paths[0], title="DOE^Jane", subtitle="2026-11-22 · DX", status="read", probability=0.12)
    studies.update(paths[1], status="read", probability=0.93)
    studies.update(paths[2], status="error", note="<i>no image</i>")
    QApplication.processEvents()
    return paths


def shown(panel: StudiesPanel) -> list[str]:
    role = int(Qt.ItemDataRole.UserRole)
    rows = (panel.proxy.index(row, 0).data(role) for row in range(panel.proxy.rowCount()))
    return [study.path.name for study in rows]


def spoken(panel: StudiesPanel, row: int) -> str:
    return str(panel.proxy.index(row, 0).data(Qt.ItemDataRole.AccessibleTextRole))


def centre(panel: StudiesPanel, row: int) -> QPoint:
    return panel.view.visualRect(panel.proxy.index(row, 0)).center()


def test_an_empty_list_says_what_to_do(panel: StudiesPanel) -> None:
    assert panel.empty.isVisible()
    assert panel.empty.text() == "No studies. Open files, or drop files and folders here."
    assert not panel.search.isVisible()


def test_search_by_patient_file_and_status(panel: StudiesPanel, paths: list[Path]) -> None:
    for words, found in (
        ("doe, jane", ["a.dcm"]),
        ("胸部", ["胸部正面.dcm"]),
        ("cannot", ["<b>c&d.dcm"]),
        ("<b>", ["<b>c&d.dcm"]),
        (" .dcm ", ["a.dcm", "<b>c&d.dcm", "胸部正面.dcm"]),
    ):
        panel.search.setText(words)
        assert shown(panel) == found, words
    panel.search.setText("nobody")
    assert panel.empty.isVisible()
    assert panel.empty.text() == "No study matches the search."
    assert panel.search.isVisible()
    panel.search.clear()
    assert shown(panel) == list(NAMES)


def test_highest_score_first_and_back(panel: StudiesPanel, studies: StudyList, paths: list[Path]) -> None:
    panel.order.setCurrentIndex(1)
    assert shown(panel) == ["b.png", "a.dcm", "<b>c&d.dcm", "胸部正面.dcm"]
    studies.update(paths[3], status="read", probability=0.5)
    assert shown(panel) == ["b.png", "胸部正面.dcm", "a.dcm", "<b>c&d.dcm"]
    panel.order.setCurrentIndex(0)
    assert shown(panel) == list(NAMES)


def test_blind_reading_tells_no_score_and_no_order(panel: StudiesPanel, paths: list[Path]) -> None:
    assert spoken(panel, 0) == "DOE, Jane, 2026-11-22 · DX, read · 0.120"
    panel.set_scores_hidden(True)
    panel.order.setCurrentIndex(1)
    assert shown(panel) == list(NAMES)
    assert spoken(panel, 0) == "DOE, Jane, 2026-11-22 · DX, read"


def test_blind_reading_does_not_tell_of_a_refusal(
    panel: StudiesPanel, studies: StudyList, paths: list[Path]
) -> None:
    studies.update(paths[3], status="refused", note="no chest")
    tooltip = Qt.ItemDataRole.ToolTipRole
    assert spoken(panel, 3).endswith("refused")
    assert "no chest" in str(panel.proxy.index(3, 0).data(tooltip))
    panel.set_scores_hidden(True)
    assert spoken(panel, 3).endswith("unread")
    assert "no chest" not in str(panel.proxy.index(3, 0).data(tooltip))
    assert "no image" in str(panel.proxy.index(2, 0).data(tooltip))  # what the file is remains told
    panel.search.setText("refused")
    assert shown(panel) == []


def test_mouse_and_keys_open(panel: StudiesPanel, paths: list[Path]) -> None:
    opened: list[Path] = []
    panel.open_requested.connect(opened.append)
    QTest.mouseClick(panel.view.viewport(), Qt.MouseButton.LeftButton, pos=centre(panel, 1))
    panel.view.setFocus()
    QTest.keyClick(panel.view, Qt.Key.Key_Down)
    QTest.keyClick(panel.view, Qt.Key.Key_Return)
    assert opened == [paths[1], paths[2]]


def test_enter_in_the_search_field_leads_to_the_first_match(panel: StudiesPanel, paths: list[Path]) -> None:
    opened: list[Path] = []
    panel.open_requested.connect(opened.append)
    QTest.keyClicks(panel.search, "b.png")
    QTest.keyClick(panel.search, Qt.Key.Key_Return)
    QTest.keyClick(panel.view, Qt.Key.Key_Return)
    assert opened == [paths[1]]


def test_remove_by_key_and_menu(panel: StudiesPanel, studies: StudyList, paths: list[Path]) -> None:
    asked: list[Path] = []
    panel.remove_requested.connect(asked.append)
    panel.view.setCurrentIndex(panel.proxy.index(2, 0))
    QTest.keyClick(panel.view, Qt.Key.Key_Delete)
    menu = panel.menu_at(centre(panel, 0))
    assert menu is not None
    assert [action.text() for action in menu.actions()] == ["Open", "Remove from the list"]
    menu.actions()[1].trigger()
    assert asked == [paths[2], paths[0]]
    assert len(studies.studies) == 4  # who listens removes
    assert panel.menu_at(QPoint(5, 480)) is None


def test_the_current_study_stays_chosen_when_others_come(
    panel: StudiesPanel, studies: StudyList, paths: list[Path]
) -> None:
    studies.set_current(paths[1])
    assert panel.view.currentIndex().row() == 1
    studies.add([FOLDER / "new.dcm"])
    assert panel.view.currentIndex().row() == 1
    studies.remove(paths[0])
    assert panel.view.currentIndex().row() == 0
    assert shown(panel)[0] == "b.png"


def test_html_in_names_is_text(panel: StudiesPanel, paths: list[Path]) -> None:
    tooltip = str(panel.proxy.index(2, 0).data(Qt.ItemDataRole.ToolTipRole))
    assert "&lt;b&gt;c&amp;d.dcm" in tooltip
    assert "&lt;i&gt;no image" in tooltip


def test_a_thumbnail_keeps_its_shape(panel: StudiesPanel, studies: StudyList, paths: list[Path]) -> None:
    studies.update(paths[0], thumbnail=np.full((96, 48), 255, np.uint8))
    QApplication.processEvents()
    image = panel.view.viewport().grab().toImage()
    ratio = image.devicePixelRatio()
    row = panel.view.visualRect(panel.proxy.index(0, 0))
    y = round(row.center().y() * ratio)
    white = [
        x for x in range(round(6 * ratio), round(58 * ratio)) if image.pixelColor(x, y).lightness() == 255
    ]
    assert abs(len(white) / ratio - 26) <= 2  # 52 high, so 26 wide


def test_long_names_take_two_lines(qtbot: QtBot) -> None:
    widget = QWidget()
    qtbot.addWidget(widget)
    metrics = QFontMetrics(widget.font())
    assert two_lines("Short", 140, metrics) == ["Short"]
    name = "SYNTHETIC, PHANTOM CONSOLIDATION"
    width = metrics.horizontalAdvance("SYNTHETIC, PHANTOM ") + 2
    assert two_lines(name, width, metrics) == ["SYNTHETIC, PHANTOM", "CONSOLIDATION"]
    double = "Müller-Lüdenscheidt, Änne"
    width = metrics.horizontalAdvance("Müller-Lüdenscheidt")
    assert two_lines(double, width, metrics) == [
        "Müller-",
        "Lüdenscheidt, Änne",
    ]  # no line begins with a comma
    for text in ("x" * 200, "胸" * 60, "a b " * 50):
        lines = two_lines(text, 140, metrics)
        assert len(lines) == 2
        assert all(metrics.horizontalAdvance(line) <= 140 for line in lines)
        assert text.startswith(lines[0])
