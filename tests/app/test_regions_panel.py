"""The table of regions: numbers of `regions.measure`, CSV, JSON, renaming, deleting."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QAbstractItemModelTester, QTest
from pytestqt.qtbot import QtBot

from app.canvas.measurer import RegionMeasurer
from app.model.case import CaseModel
from app.panels.regions import RegionsPanel
from tests.app import cases
from xai_engine.radiograph import regions
from xai_engine.radiograph.regions import Region

SHAPE = (60, 50)
ONE = Region("rectangle", np.array([[10.0, 10.0], [20.0, 30.0]]), "Nodule", "1")
TWO = Region("ellipse", np.array([[5.0, 5.0], [50.0, 45.0]]), "=SUM(A1)", "2")


@pytest.fixture
def case() -> CaseModel:
    model = CaseModel()
    model.set_radiograph(cases.radiograph(cases.noise(*SHAPE), unit="OD"))
    model.add_layer(cases.explanation(SHAPE, method="lime"))
    return model


@pytest.fixture
def panel(qtbot: QtBot, case: CaseModel) -> RegionsPanel:
    widget = RegionsPanel(case)
    qtbot.addWidget(widget)
    widget.resize(300, 500)
    widget.show()
    QAbstractItemModelTester(widget.model, QAbstractItemModelTester.FailureReportingMode.Fatal, widget)
    widget.measurer = RegionMeasurer(case, widget)  # type: ignore[attr-defined]
    return widget


def table(panel: RegionsPanel) -> dict[str, list[str]]:
    model = panel.model
    return {
        model.headerData(row, Qt.Orientation.Vertical): [
            model.data(model.index(row, column)) for column in range(model.columnCount())
        ]
        for row in range(model.rowCount())
    }


def wait(panel: RegionsPanel) -> None:
    assert panel.measurer.wait()  # type: ignore[attr-defined]


def test_numbers_and_their_units(panel: RegionsPanel, case: CaseModel) -> None:
    assert case.radiograph is not None
    case.add_region(ONE)
    assert table(panel)["Pixels"] == ["…"]
    wait(panel)
    inside = case.radiograph.pixels[10:20, 10:30]
    source = case.layers[0].source_map
    share = source[10:20, 10:30].clip(min=0).sum() / source.clip(min=0).sum()
    shown = table(panel)
    assert shown["Name"] == ["Nodule"]
    assert shown["Kind"] == ["rectangle"]
    assert shown["mm² at detector"] == [f"{200 * 0.2 * 0.1:.1f}"]
    assert shown["Pixels"] == ["200"]
    assert float(shown["Mean OD"][0]) == pytest.approx(inside.mean(), rel=1e-3)
    assert float(shown["SD OD"][0]) == pytest.approx(inside.std(ddof=1), rel=1e-3)
    assert float(shown["Minimum OD"][0]) == inside.min()
    assert float(shown["Maximum OD"][0]) == inside.max()
    assert float(shown["Median OD"][0]) == pytest.approx(np.median(inside))
    assert shown["+ LIME"] == [f"{100 * share:.1f} %"]


def test_without_a_spacing_there_is_no_area(panel: RegionsPanel, case: CaseModel) -> None:
    case.set_radiograph(cases.radiograph(cases.noise(*SHAPE), spacing=None))
    case.add_region(ONE)
    wait(panel)
    assert table(panel)["Area (no mm: no spacing)"] == ["–"]
    assert table(panel)["Pixels"] == ["200"]


def test_csv_holds_full_precision_and_no_formulas(panel: RegionsPanel, case: CaseModel) -> None:
    case.add_region(ONE)
    case.add_region(TWO)
    wait(panel)
    panel.copy()
    lines = list(csv.DictReader(io.StringIO(QGuiApplication.clipboard().text())))
    assert [line["name"] for line in lines] == ["Nodule", "'=SUM(A1)"]
    known = case.statistics["2"]
    assert float(lines[1]["mean_OD"]) == known.mean
    assert float(lines[1]["lime_negative_share"]) == known.maps["lime"].share_negative
    assert lines[1]["spacing_source"] == "detector"


def test_export_and_import_are_inverse(panel: RegionsPanel, case: CaseModel, tmp_path: Path) -> None:
    case.add_region(ONE)
    case.add_region(TWO)
    path = tmp_path / "regions.json"
    assert panel.export_to(path)
    assert regions.load(path) == (ONE, TWO)
    case.remove_region("1")
    assert panel.import_from(path)
    assert {(r.kind, r.name, r.points.tobytes()) for r in case.regions} == {
        (r.kind, r.name, r.points.tobytes()) for r in (ONE, TWO, TWO)
    }
    assert len({r.id for r in case.regions}) == 3
    case.undo()
    assert case.regions == (TWO,)


def test_a_bad_file_is_one_line_in_the_panel(panel: RegionsPanel, case: CaseModel, tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text("{")
    assert not panel.import_from(path)
    assert panel._message.isVisible()
    assert "broken.json" in panel._message.text()
    assert case.regions == ()
    assert not panel.export_to(tmp_path)
    assert str(tmp_path) in panel._message.text()
    case.add_region(ONE)
    assert panel.export_to(tmp_path / "good.json")
    assert not panel._message.isVisible()


def test_selection_is_shared_with_the_canvas(panel: RegionsPanel, case: CaseModel) -> None:
    case.add_region(ONE)
    case.add_region(TWO)
    assert panel.table.currentIndex().column() == 1
    case.select_region("1")
    assert panel.table.currentIndex().column() == 0
    panel.table.setCurrentIndex(panel.model.index(3, 1))
    assert case.selected_region == "2"
    case.select_region(None)
    assert not panel.table.selectionModel().hasSelection()
    assert not panel.delete_button.isEnabled()


def test_rename_and_delete_by_keys(panel: RegionsPanel, case: CaseModel) -> None:
    case.add_region(ONE)
    case.add_region(TWO)
    assert panel.model.setData(panel.model.index(0, 0), "  Left base ")
    assert case.regions[0].name == "Left base"
    assert not panel.model.setData(panel.model.index(1, 0), "square")
    case.select_region("1")
    panel.table.setFocus()
    QTest.keyClick(panel.table, Qt.Key.Key_Delete)
    assert [region.id for region in case.regions] == ["2"]
    case.undo()
    assert case.regions[0].name == "Left base"


def test_the_panel_fits_a_narrow_dock(panel: RegionsPanel, case: CaseModel) -> None:
    case.add_region(ONE)
    wait(panel)
    assert panel.minimumSizeHint().width() <= 300
