"""The window itself: files that are none, drag and drop, recent files, themes, several views, keys."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QPalette
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QMenu

from app.theme import DARK, LIGHT
from tests.e2e.driver import Driver


def broken(kind: str, folder: Path, good: Path) -> Path:
    path = folder / f"{kind}.dcm"
    if kind == "text":
        path.write_text("Dear colleague, please find the image attached.\n" * 40)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        content = good.read_bytes()
        path.write_bytes(content[: len(content) // 2])
    return path  # "missing": none


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "missing"])
def test_a_bad_file_costs_a_message_and_no_more(
    driver: Driver, normal: Path, tmp_path: Path, kind: str
) -> None:
    window = driver.window
    driver.open(normal)
    bad = broken(kind, tmp_path, normal)
    window.open([bad])
    driver.until(
        lambda: any(bad.name in text for text in window.messages.texts), "a message that names the file"
    )
    driver.wait_idle()
    message = next(text for text in window.messages.texts if bad.name in text)
    assert "\n" not in message
    assert "Traceback" not in message
    assert driver.image.path == normal  # still on the screen
    study = window.studies.get(bad)
    assert study is not None
    assert study.status == "error"
    window.reading.show(normal)
    driver.wait_idle()
    assert window.case.prediction is not None
    driver.do("invert")
    assert window.case.invert
    driver.do("invert")


def test_a_folder_without_images(driver: Driver, tmp_path: Path) -> None:
    driver.window.open([tmp_path])
    assert driver.window.messages.texts == [f"{tmp_path.name}: there are no images in this folder."]


def test_drop_files_and_a_folder(driver: Driver, normal: Path, consolidation: Path) -> None:
    window = driver.window
    driver.drop(consolidation, normal.parent)
    driver.until(lambda: window.case.radiograph is not None, "the dropped image")
    assert driver.image.path == consolidation
    names = [study.path.name for study in window.studies.studies]
    assert names.count(consolidation.name) == 1
    assert normal.name in names
    driver.wait_idle()


def test_recent_files(driver: Driver, normal: Path, consolidation: Path) -> None:
    window = driver.window
    window.store.values.forget_recent()
    driver.open(normal)
    driver.open(consolidation)
    driver.reset()
    menu = QMenu(window)
    window.files.fill_recent(menu)
    assert [action.text() for action in menu.actions()[:2]] == [consolidation.name, normal.name]
    menu.actions()[1].trigger()
    driver.until(lambda: window.case.radiograph is not None, "the recent file")
    assert driver.image.path == normal
    driver.wait_idle()
    menu.actions()[-1].trigger()
    assert window.store.values.recent == []
    menu.deleteLater()


def test_themes_change_all_but_the_image(driver: Driver, normal: Path) -> None:
    window = driver.window
    driver.open(normal)
    pictures = []
    try:
        for choice, tokens in (("light", LIGHT), ("dark", DARK)):
            window.theme.apply(choice)
            QApplication.processEvents()
            assert window.palette().color(QPalette.ColorRole.Window).name() == tokens.window
            shown = window.grab().toImage()
            bar = window.statusBar()
            corner = bar.mapTo(window, bar.rect().center())
            assert shown.pixelColor(corner).name() == tokens.window
            pictures.append(driver.picture())
    finally:
        window.theme.apply("dark")
    inner = np.s_[2:-2, 2:-2]  # the frame of the keyboard focus is of the theme
    assert np.array_equal(pictures[0][inner], pictures[1][inner])


def test_linked_views(driver: Driver, normal: Path) -> None:
    window = driver.window
    driver.open(normal)
    driver.do("two")
    assert len(window.views.companions) == 1
    window.canvas.set_zoom(1.5)
    other = window.views.companions[0]
    assert other.viewport.scale == pytest.approx(1.5)
    assert other.viewport.center == pytest.approx(window.canvas.viewport.center)
    driver.do("invert")
    assert other.case.invert
    driver.do("four")
    assert len(window.views.companions) == 3
    driver.do("one")
    assert window.views.companions == []
    driver.do("invert")


def test_keys(driver: Driver, normal: Path) -> None:
    window = driver.window
    driver.open(normal)
    window.activateWindow()
    canvas = window.canvas
    canvas.setFocus()
    for key, holds in (
        (Qt.Key.Key_R, lambda: window.case.rotation == 90),
        (Qt.Key.Key_L, lambda: window.case.rotation == 0),
        (Qt.Key.Key_H, lambda: window.case.flip_h),
        (Qt.Key.Key_I, lambda: window.case.invert),
        (Qt.Key.Key_2, lambda: window.case.preset_key == window.case.presets[1].key),
        (Qt.Key.Key_0, lambda: canvas.viewport.scale == 1.0),
        (Qt.Key.Key_Period, lambda: not canvas.annotations_visible),
        (Qt.Key.Key_Period, lambda: canvas.annotations_visible),
        (Qt.Key.Key_P, lambda: canvas.tool == "pan" and window.commands.actions["pan"].isChecked()),
        (Qt.Key.Key_W, lambda: canvas.tool == "window"),
        (Qt.Key.Key_Space, lambda: not window.case.invert and not window.case.flip_h),
    ):
        QTest.keyClick(canvas, key)
        QApplication.processEvents()
        assert holds(), key
    QTest.keyClick(window, Qt.Key.Key_2, Qt.KeyboardModifier.ControlModifier)
    assert len(window.views.companions) == 1
    QTest.keyClick(window, Qt.Key.Key_1, Qt.KeyboardModifier.ControlModifier)
    assert window.views.companions == []


def test_every_dock_can_be_hidden_and_comes_back(driver: Driver) -> None:
    window = driver.window
    for dock in (window.studies_dock, window.inspector_dock):
        dock.toggleViewAction().trigger()
        assert not dock.isVisible()
    window.reset_layout()
    QApplication.processEvents()
    assert window.studies_dock.isVisible()
    assert window.inspector_dock.isVisible()
