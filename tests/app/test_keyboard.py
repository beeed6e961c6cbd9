"""The window by keyboard: Tab goes as one reads, the focus is to be seen, every key is told and means one thing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QKeySequence
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QHBoxLayout,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QTabBar,
    QToolButton,
    QVBoxLayout,
    QWidget,
)
from pytestqt.qtbot import QtBot

from app.canvas import keys
from app.engine import Engine
from app.main_window import MainWindow
from app.settings import SettingsStore
from app.theme import Theme, ThemeChoice
from app.window import focus
from tests.app import cases
from xai_engine.radiograph.regions import Region


@pytest.fixture
def window(qtbot: QtBot, qapp: QApplication, tmp_path: Path) -> Iterator[MainWindow]:
    """With an image, two maps and a region; its engine is never asked for anything."""
    store = SettingsStore(tmp_path / "settings.json")
    store.values.assess_maps = False
    theme = Theme(qapp, "dark")
    window = MainWindow(store, theme, Engine())
    window.files.interactive = False
    window.resize(1366, 768)
    shape = (300, 260)
    window.case.set_radiograph(cases.radiograph(cases.noise(*shape)))
    for method in ("grad-cam", "lime"):
        window.case.add_layer(cases.explanation(shape, method=method))
    window.case.add_region(Region("rectangle", np.array([(50.0, 50.0), (90.0, 90.0)]), "r", "1"))
    window.show()
    window.activateWindow()
    QApplication.processEvents()
    yield window
    window.close()
    window.deleteLater()
    theme.deleteLater()
    QApplication.processEvents()


def press(key: Qt.Key, modifiers: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> QWidget:
    current = QApplication.focusWidget()
    assert current is not None
    QTest.keyClick(current, key, modifiers)
    QApplication.processEvents()
    found = QApplication.focusWidget()
    assert found is not None
    return found


def walk(window: MainWindow, key: Qt.Key = Qt.Key.Key_Tab) -> list[QWidget]:
    """All that Tab reaches from the canvas until it is back there."""
    back = key == Qt.Key.Key_Backtab
    modifiers = Qt.KeyboardModifier.ShiftModifier if back else Qt.KeyboardModifier.NoModifier
    window.canvas.setFocus()
    found = []
    while (current := press(key, modifiers)) is not window.canvas:
        found.append(current)
        assert len(found) < 100, "never back at the canvas"
    return found


def pages(window: MainWindow) -> Iterator[str]:
    """Every page of the inspector, one after another in sight."""
    for number in range(window.inspector.count()):
        window.inspector.setCurrentIndex(number)
        for inner in range(window.maps.count() if window.inspector.widget(number) is window.maps else 1):
            window.maps.setCurrentIndex(inner)
            QApplication.processEvents()
            yield f"{window.inspector.tabText(number)} {inner}"


def reachable(window: MainWindow) -> set[QWidget]:
    return {
        w
        for w in window.findChildren(QWidget)
        if w.focusPolicy() & Qt.FocusPolicy.TabFocus
        and w.focusProxy() is None
        and w.isEnabled()
        and w.isVisible()
        and w.window() is window
    }


def test_tab_reaches_every_control_once_and_back(window: MainWindow) -> None:
    for page in pages(window):
        found = walk(window)
        assert {*found, window.canvas} == reachable(window), page
        assert len(found) == len(set(found)), page
        assert walk(window, Qt.Key.Key_Backtab) == found[::-1], page


def scrolled(widget: QWidget, root: QWidget) -> QWidget:
    """What scrolls with the widget: places in it do not change while the page is scrolled."""
    parent = widget.parentWidget()
    while parent is not None and parent is not root:
        above = parent.parentWidget()
        if above is not None and isinstance(above.parentWidget(), QScrollArea):
            return parent
        parent = above
    return root


def test_tab_follows_the_layout(window: MainWindow) -> None:
    """In the inspector no control stands wholly above the one before it; what was made last does not come last."""
    for page in pages(window):
        found = [w for w in walk(window) if window.inspector.isAncestorOf(w)]
        assert isinstance(found[0], QTabBar), page
        for before, after in pairwise(found):
            frame = scrolled(before, window.inspector)
            if scrolled(after, window.inspector) is frame:
                low = after.mapTo(frame, QPoint(0, after.height())).y()
                assert low > before.mapTo(frame, QPoint(0, 0)).y(), (page, before, after)
    window.inspector.setCurrentWidget(window.maps)
    window.maps.setCurrentWidget(window.layers)
    names = [w.accessibleName() for w in walk(window) if w.accessibleName().startswith("Show ")]
    assert names == [f"Show {layer.title}" for layer in reversed(window.case.layers)]  # the top map first


def test_order_of_parts(qtbot: QtBot) -> None:
    """A column beside a higher one is gone through as a whole; made in any order."""
    root = QWidget()
    qtbot.addWidget(root)
    made = {name: QPushButton(name) for name in ("d", "b", "c", "a")}
    number = QSpinBox()
    left, right = QWidget(), QWidget()
    last = QVBoxLayout()
    across = QHBoxLayout(root)
    for place, column, names in ((0, left, "ab"), (1, right, "cd")):
        layout = QVBoxLayout(column)
        for name in names:
            layout.addWidget(made[name])
        across.insertWidget(place, column)
        if column is right:
            last = layout
    last.addWidget(number)
    root.show()
    assert focus.order(root) == [made["a"], made["b"], made["c"], made["d"], number]
    made["c"].hide()
    made["b"].setEnabled(False)
    assert focus.order(root) == [made["a"], made["d"], number]
    assert focus.follow(root, number.lineEdit(), forward=True)  # from inside the number box
    assert root.focusWidget() is made["a"]
    assert focus.follow(root, made["b"], forward=False)  # has just been disabled
    assert root.focusWidget() is number


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_focus_is_seen_in_both_themes(window: MainWindow, theme: ThemeChoice) -> None:
    """What Tab comes to looks clearly otherwise than before, in at least twenty pixels, and has the ring on all four sides."""
    window.theme.apply(theme)
    accent = np.array(QColor(window.theme.tokens.accent).getRgb()[:3])

    def picture() -> np.ndarray:
        image = window.grab().toImage().convertToFormat(window.grab().toImage().Format.Format_RGB888)
        rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).astype(int)

    for page in pages(window):
        count = len(walk(window))
        before = picture()
        for _ in range(count):
            widget = press(Qt.Key.Key_Tab)
            assert window.focus_ring.around is widget
            now = picture()
            corner = widget.mapTo(window, QPoint(-4, -4))
            x, y = max(0, corner.x()), max(0, corner.y())
            part = np.s_[y : corner.y() + widget.height() + 8, x : corner.x() + widget.width() + 8]
            assert int((np.abs(now - before).max(2)[part] > 60).sum()) >= 20, (page, widget)
            seen = widget.visibleRegion().boundingRect()
            seen.moveTopLeft(widget.mapTo(window, seen.topLeft()))
            ringed = np.abs(now - accent).max(2) < 40
            for band in (
                np.s_[max(0, seen.top() - 4) : seen.top() + 4, seen.left() : seen.right()],
                np.s_[seen.bottom() - 3 : seen.bottom() + 5, seen.left() : seen.right()],
                np.s_[seen.top() : seen.bottom(), max(0, seen.left() - 4) : seen.left() + 4],
                np.s_[seen.top() : seen.bottom(), seen.right() - 3 : seen.right() + 5],
            ):
                assert int(ringed[band].sum()) >= 8, (page, widget, band)
            before = now


def test_a_click_draws_no_ring_and_the_ring_goes_with_its_control(window: MainWindow) -> None:
    window.inspector.setCurrentWidget(window.maps)
    window.maps.setCurrentWidget(window.layers)
    walk(window)
    card = window.layers.cards[window.case.layers[-1].id]
    while not card.isAncestorOf(press(Qt.Key.Key_Tab)):
        pass
    marked = window.focus_ring.around
    assert marked is not None
    assert card.isAncestorOf(marked)
    window.case.remove_layer(window.case.layers[-1].id)
    QApplication.processEvents()
    press(Qt.Key.Key_Tab) if QApplication.focusWidget() else window.canvas.setFocus()
    QTest.mouseClick(window.canvas, Qt.MouseButton.LeftButton)
    assert QApplication.focusWidget() is window.canvas
    assert window.focus_ring.around is None


OF_QT = (
    "ScrollLeftButton",
    "ScrollRightButton",
    "qt_menubar_ext_button",
    "qt_toolbar_ext_button",
    "qt_tableview_cornerbutton",
)


def test_buttons_without_words_say_what_they_do(window: MainWindow) -> None:
    for page in pages(window):
        for button in window.findChildren(QAbstractButton):
            if button.objectName() in OF_QT or type(button.parentWidget()).__name__ == "QLineEdit":
                continue
            if not button.isVisible():
                continue
            style = button.toolButtonStyle() if isinstance(button, QToolButton) else None
            if button.text() and style != Qt.ToolButtonStyle.ToolButtonIconOnly:
                continue
            name = button.accessibleName() or button.text()
            assert name, (page, button, button.parentWidget())
            assert button.toolTip(), (page, name)


def test_without_an_image_there_is_no_zoom(window: MainWindow) -> None:
    assert window.zoom_label.text().endswith("%")
    window.case.set_radiograph(None)
    window.resize(1200, 700)
    QApplication.processEvents()
    assert window.zoom_label.text() == ""


def test_no_key_means_two_things(window: MainWindow) -> None:
    used = Counter(
        sequence.toString() for action in window.findChildren(type(window.commands.actions["open"]))
        for sequence in action.shortcuts()
        if action.shortcutContext() != Qt.ShortcutContext.WidgetShortcut
    )  # fmt: skip
    used.update(QKeySequence(key).toString() for key in keys._PLAIN)
    used.update(str(number) for number in range(1, 10))
    used.update(QKeySequence(key).toString() for key in keys._ARROWS)
    assert [key for key, count in used.items() if count > 1] == []


def test_the_page_of_keys_has_them_all(window: MainWindow) -> None:
    groups = window.commands.keys()
    listed = [entry for _, entries in groups for entry in entries]
    told = {key for key, _ in listed}
    native = QKeySequence.SequenceFormat.NativeText
    wanted: set[str] = set()
    for action in window.commands.actions.values():
        wanted |= {sequence.toString(native) for sequence in action.shortcuts()}
    wanted |= {QKeySequence(key).toString(native) for key in keys._PLAIN}
    signs: dict[str, Any] = {"+": "+  −", "-": "+  −"}  # on one line
    assert {signs.get(key, key) for key in wanted} <= told
    assert {"Tab", "Esc", "F2", "Arrows", "1 – 9", "Return"} <= told
    for _, command in listed:
        assert command == command.strip()
    for action in window.commands.actions.values():  # and nothing that the window does not know
        for sequence in action.shortcuts():
            assert any(key == sequence.toString(native) for key, _ in listed)
