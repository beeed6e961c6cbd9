"""How to read a map: the page holds what the registry says, and every method has its pitfalls."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from PySide6.QtCore import QEvent, QObject, Qt
from PySide6.QtGui import QFontMetricsF
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel
from pytestqt.qtbot import QtBot

from app.model.case import CaseModel
from app.panels.form_widgets import fitting_bar
from app.panels.method_page import MethodPage
from tests.app import cases
from tests.app.test_finding import model
from xai_engine.explain import pitfalls, registry
from xai_engine.radiograph.colour import LayerStyle


@pytest.fixture
def page(qtbot: QtBot) -> MethodPage:
    widget = MethodPage()
    qtbot.addWidget(widget)
    return widget


def words(page: MethodPage) -> str:
    QApplication.processEvents()
    return "\n".join(label.text() for label in page.findChildren(QLabel) if label.isVisible())


@pytest.mark.parametrize("about", registry.describe(), ids=lambda about: about.name)
def test_every_method_has_a_page_with_its_pitfalls(
    page: MethodPage, about: registry.MethodDescription
) -> None:
    own = pitfalls.of(about)
    assert len(own) > len(pitfalls.EVERY)
    page.show_method(about.name, model(), {})
    text = words(page)
    assert page.title.text() == about.title
    for part in (about.summary, about.unit, about.source, *own, *(each.meaning for each in about.parameters)):
        assert part in text, part


def test_pitfalls_are_of_methods_that_exist() -> None:
    assert set(pitfalls.METHODS) <= set(registry.names())
    assert {about.family for about in registry.describe()} <= set(pitfalls.FAMILIES)


def test_the_page_of_a_map_shows_its_own_parameters(page: MethodPage) -> None:
    case = CaseModel()
    case.set_radiograph(cases.radiograph(cases.noise(40, 40)))
    params = {**registry.create("lime").values(), "samples": 321}
    layer = case.add_layer(cases.explanation((40, 40), method="lime", params=params))
    page.show_map(layer, model())
    about = next(each for each in registry.method_class("lime").parameters() if each.name == "samples")
    assert f"321 {about.unit}".rstrip() + f"  (default {about.default})" in words(page)
    assert "speaks against “pneumonia”" in words(page)
    page.show_map(case.add_layer(cases.explanation((40, 40), method="channel-x-1")), None)
    assert "Activation of one channel" in words(page)
    assert "samples" not in words(page)
    QTest.keyClick(page, Qt.Key.Key_Escape)
    assert not page.isVisible()


@pytest.mark.parametrize("scale", [*np.geomspace(1e-7, 1e4, 12), 1.2e-4, 0.33])
@pytest.mark.parametrize("width", [120, 200, 290])
def test_ticks_of_a_lying_bar_never_touch(qapp: QApplication, scale: float, width: int) -> None:
    metrics = QFontMetricsF(qapp.font())
    bar = fitting_bar(LayerStyle(), float(scale), "logit per pixel", metrics, width)
    sizes = [metrics.horizontalAdvance(tick.label) for tick in bar.ticks]
    inner = width - max(sizes) - 4
    ends = [
        (tick.fraction * inner - size / 2, tick.fraction * inner + size / 2)
        for tick, size in zip(bar.ticks, sizes, strict=True)
    ]
    assert len(bar.ticks) >= 2
    assert all(left[1] < right[0] for left, right in pairwise(ends))


@pytest.mark.parametrize("steps", [1, -1])
def test_a_page_is_never_seen_squeezed(page: MethodPage, steps: int) -> None:
    """Whenever it is painted, every text has the height that it needs, whichever page was there before."""
    squeezed = []

    class Watch(QObject):
        def eventFilter(self, label: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint and isinstance(label, QLabel):
                need = label.heightForWidth(label.width())
                if label.height() < need:
                    squeezed.append((page.title.text(), label.text(), label.height(), need))
            return False

    watch = Watch()
    page.show_method("saliency", model(), {})
    QTest.qWait(50)
    for about in list(registry.describe())[::steps]:
        page.show_method(about.name, model(), {})
        for label in page.area.findChildren(QLabel):
            label.installEventFilter(watch)
        QTest.qWait(30)
    assert squeezed == []
