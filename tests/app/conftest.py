"""Every test of the window's parts runs under a watch: see `tests.helpers.qt_hygiene`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.canvas.view import CanvasView
from app.model.case import CaseModel
from tests.app import cases
from tests.app.canvas_hands import COLUMNS, ROWS
from tests.helpers import qt_hygiene


@pytest.fixture(autouse=True)
def nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Windows of `qtbot` are closed before this one looks, because it was set up before them."""
    if "qtbot" not in request.fixturenames and "qapp" not in request.fixturenames:
        yield
        return
    app: QApplication = request.getfixturevalue("qapp")
    with qt_hygiene.clean(app):
        yield


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(ROWS, COLUMNS)))
    return model


@pytest.fixture
def canvas(qtbot: QtBot, case: CaseModel) -> CanvasView:
    view = CanvasView(case)
    qtbot.addWidget(view)
    view.resize(400, 300)
    view.show()
    view.grab()
    return view
