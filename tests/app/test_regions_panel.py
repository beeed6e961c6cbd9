"""Tables of regions: numbers of `regions.measure` and of the mirror, what-if, copying, JSON, keys, sorting."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QGuiApplication, QImage
from PySide6.QtTest import QAbstractItemModelTester, QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from app.canvas import furniture
from app.canvas.measurer import RegionMeasurer
from app.canvas.view import CanvasView
from app.model.case import CaseModel
from app.panels.regions import RegionsPanel
from app.theme import Theme, load_fonts
from tests.app import cases
from xai_engine.explain.what_if import Patch, Score, WhatIf
from xai_engine.radiograph import mirror, regions
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
    for model in (widget.model, widget.numbers):
        QAbstractItemModelTester(model, QAbstractItemModelTester.FailureReportingMode.Fatal, widget)
    widget.measurer = RegionMeasurer(case, widget)  # type: ignore[attr-defined]
    return widget


def table(panel: RegionsPanel) -> dict[str, list[str]]:
    """Heading -> region, mirror, difference of the selected region; a map's title and shares by key."""
    model = panel.numbers
    found = {}
    for row, key in enumerate(model.keys):
        heading = key if key[0] in "+-#" else str(model.headerData(row, Qt.Orientation.Vertical))
        found[heading] = [model.data(model.index(row, column)) for column in range(3)]
    return found


def listed(panel: RegionsPanel) -> list[list[str]]:
    """The list as it is shown."""
    proxy = panel.proxy
    return [
        [proxy.index(row, column).data() for column in range(proxy.columnCount())]
        for row in range(proxy.rowCount())
    ]


def wait(panel: RegionsPanel) -> None:
    assert panel.measurer.wait()  # type: ignore[attr-defined]


def ink(picture: QImage, area: QRect) -> int:
    """Lowest row of a cell in which anything is written: the baseline of texts without descenders."""
    light = np.array(
        [
            [picture.pixelColor(x, y).lightness() for x in range(area.left(), area.right())]
            for y in range(area.top(), area.bottom() + 1)
        ]
    )
    return int(np.nonzero((abs(light - np.median(light)) > 60).any(1))[0].max())


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("scale", [1.0, 1.5])
def test_headings_of_rows_stand_on_the_line_of_their_numbers(
    qtbot: QtBot, case: CaseModel, qapp: QApplication, theme: str, scale: float
) -> None:
    before, sheet, palette = qapp.font(), qapp.styleSheet(), qapp.palette()
    load_fonts(qapp)
    font = qapp.font()
    font.setPointSizeF(9.5 * scale)
    qapp.setFont(font)
    switch = Theme(qapp, "dark" if theme == "dark" else "light")
    try:
        widget = RegionsPanel(case)
        qtbot.addWidget(widget)
        widget.measurer = RegionMeasurer(case, widget)  # type: ignore[attr-defined]
        widget.resize(int(340 * scale), int(600 * scale))
        widget.show()
        case.add_region(ONE)
        wait(widget)
        table, down = widget.detail, widget.detail.verticalHeader()
        picture = table.grab().toImage()
        for row in range(5):  # words without descenders
            top, height = down.sectionViewportPosition(row) + table.viewport().y(), down.sectionSize(row)
            heading = QRect(3, top, down.width() - 6, height)
            left = table.viewport().x() + table.columnViewportPosition(0)
            number = QRect(left + 2, top, table.columnWidth(0) - 4, height)
            assert ink(picture, heading) == ink(picture, number), widget.numbers.keys[row]
    finally:
        qapp.styleHints().colorSchemeChanged.disconnect(switch._system_changed)
        qapp.styleHints().unsetColorScheme()
        switch.deleteLater()
        qapp.setFont(before)
        qapp.setStyleSheet(sheet)
        qapp.setPalette(palette)


def test_numbers_and_their_units(panel: RegionsPanel, case: CaseModel) -> None:
    assert case.radiograph is not None
    case.add_region(ONE)
    assert table(panel)["Pixels"] == ["…", "–", "–"]
    wait(panel)
    inside = case.radiograph.pixels[10:20, 10:30]
    source = case.layers[0].source_map
    share = source[10:20, 10:30].clip(min=0).sum() / source.clip(min=0).sum()
    shown = {key: cells[0] for key, cells in table(panel).items()}
    assert listed(panel) == [["Nodule", shown["Mean OD"], ""]]
    assert shown["mm² at detector"] == f"{200 * 0.2 * 0.1:.1f}"
    assert shown["Pixels"] == "200"
    assert float(shown["Mean OD"]) == pytest.approx(inside.mean(), rel=1e-3)
    assert float(shown["SD OD"]) == pytest.approx(inside.std(ddof=1), rel=1e-3)
    assert float(shown["Minimum OD"]) == inside.min()
    assert float(shown["Maximum OD"]) == inside.max()
    assert float(shown["Median OD"]) == pytest.approx(np.median(inside))
    assert shown["+lime"] == f"{100 * share:.1f} %"
    assert shown["#lime"] == "LIME"


def test_the_mirror_beside_it_once_the_midline_is_known(panel: RegionsPanel, case: CaseModel) -> None:
    assert case.radiograph is not None
    case.add_region(ONE)
    wait(panel)
    assert "classified" in panel._legend.text()
    case.comparison.set_midline(mirror.of_image(SHAPE))
    wait(panel)
    other = case.radiograph.pixels[10:20, 20:40]  # columns 10 to 30 of 50, flipped
    own = case.radiograph.pixels[10:20, 10:30]
    mean = [float(cell.replace("−", "-")) for cell in table(panel)["Mean OD"]]
    assert mean == pytest.approx([own.mean(), other.mean(), own.mean() - other.mean()], rel=1e-3, abs=0.05)
    source = case.layers[0].source_map.clip(min=0)
    shares = [source[10:20, left : left + 20].sum() / source.sum() for left in (10, 20)]
    assert table(panel)["+lime"][:2] == [f"{100 * share:.1f} %" for share in shares]
    case.update_region(replace(ONE, points=ONE.points + 5))
    assert table(panel)["Mean OD"] == ["…", "…", "…"]  # never the numbers of where it was
    wait(panel)
    assert float(table(panel)["Mean OD"][1]) == pytest.approx(
        case.radiograph.pixels[15:25, 15:35].mean(), rel=1e-3
    )


def answer(region: Region, after: float = -1.0, **changes: object) -> WhatIf:
    patch = Patch(10, 10, np.full((10, 20), 7, np.uint16), np.ones((10, 20), bool))
    values: dict[str, object] = {
        "region": region,
        "fill": "blur",
        "params": {},
        "before": Score(2.0, 0.9),
        "after": Score(after, 0.42),
        "anew": None,
        "reference": tuple(Score(1.9 + i / 100, 0.85 + i / 100) for i in range(7)),
        "share_shown": 1.0,
        "patch": patch,
        "seed": 0,
        "forwards": 9,
        "seconds": 0.1,
        "partial": False,
        "image_sha256": "",
        "model_sha256": "",
        "engine_version": "",
        "device": "cpu",
        "precision": "fp32",
        "notes": ("A remark.",),
    }
    return WhatIf(**{**values, **changes})  # type: ignore[arg-type]


def test_what_if_in_words_in_the_list_and_on_the_image(
    panel: RegionsPanel, case: CaseModel, qtbot: QtBot
) -> None:
    case.add_region(ONE)
    wait(panel)
    box = panel.what_if
    box.set_enabled(False, "Waiting for the verdict.")
    assert not box.ask.isEnabled()
    assert "Waiting" in box.notes.text()
    box.set_enabled(True, "")
    box.fill.setCurrentIndex(1)
    with qtbot.waitSignal(panel.what_if_requested) as asked:
        box.ask.click()
    assert asked.args == ["1", "blur"]
    assert case.comparison.set_what_if(answer(ONE))
    assert listed(panel)[0][2] == "0.900 → 0.420"
    assert "lowers the probability from 0.900 to 0.420" in box.answer.text()
    assert (
        "Of 7 random regions of the same shape, none moves the score as far (0.850 to 0.910)"
        in box.answer.text()
    )
    assert box.notes.text() == "A remark."
    before = case.radiograph
    assert before is not None
    box.show_change.click()
    shown = case.comparison.shown
    assert shown is not None
    assert (shown.pixels[10:20, 10:30] == 7).all()
    assert np.array_equal(shown.pixels[30:], before.pixels[30:])
    assert case.radiograph is before
    box.show_change.click()
    assert case.comparison.shown is before
    box.show_change.click()
    case.update_region(replace(ONE, points=ONE.points + 1))  # an answer about another place is no answer
    assert case.comparison.preview is None
    assert case.comparison.shown is before
    assert listed(panel)[0][2] == ""
    assert not case.comparison.set_what_if(answer(ONE))


def test_the_canvas_shows_the_changed_image_and_says_so(qtbot: QtBot, case: CaseModel) -> None:
    canvas = CanvasView(case)
    qtbot.addWidget(canvas)
    canvas.resize(500, 600)
    canvas.show()
    case.hide_all()
    case.add_region(ONE)
    case.comparison.set_what_if(answer(ONE))
    canvas.set_annotations_visible(False)
    canvas.actual_size()

    def picture() -> np.ndarray:
        image = canvas.grab_picture().convertToFormat(QImage.Format.Format_Grayscale8)
        rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
        return rows[:, : image.width()].copy()

    plain = picture()
    case.comparison.set_preview("1")
    changed = picture()
    differs = np.argwhere(plain != changed)
    at = canvas.viewport.to_device([(10, 10), (20, 30)])
    assert len(differs)
    assert (differs >= np.floor(at[0][::-1])).all()
    assert (differs < np.ceil(at[1][::-1])).all()
    assert furniture.notice_text(case) == "CHANGED · Nodule blurred"
    case.comparison.set_preview(None)
    assert np.array_equal(picture(), plain)
    assert furniture.notice_text(case) == ""


def test_sorted_by_any_column(panel: RegionsPanel, case: CaseModel) -> None:
    three = Region("rectangle", np.array([[30.0, 10.0], [34.0, 14.0]]), "apex", "3")
    for region in (ONE, TWO, three):
        case.add_region(region)
    wait(panel)
    assert [row[0] for row in listed(panel)] == ["Nodule", "=SUM(A1)", "apex"]
    panel.table.sortByColumn(0, Qt.SortOrder.AscendingOrder)
    assert [row[0] for row in listed(panel)] == ["=SUM(A1)", "apex", "Nodule"]
    panel.table.sortByColumn(1, Qt.SortOrder.DescendingOrder)
    means = [case.statistics[r.id].mean for r in (ONE, TWO, three)]
    order = [
        r.name for _, r in sorted(zip(means, (ONE, TWO, three), strict=True), key=lambda x: -(x[0] or 0))
    ]
    assert [row[0] for row in listed(panel)] == order
    case.select_region("3")
    assert panel.table.currentIndex().row() == order.index("apex")
    assert case.selected_region == "3"
    panel.table.sortByColumn(-1, Qt.SortOrder.AscendingOrder)
    case.comparison.set_what_if(answer(three, after=1.0))
    case.comparison.set_what_if(answer(ONE, after=-3.0))
    panel.table.sortByColumn(2, Qt.SortOrder.AscendingOrder)  # what takes most away first
    assert [row[0] for row in listed(panel)] == ["Nodule", "apex", "=SUM(A1)"]


def test_copied_with_tabs_for_a_spreadsheet(panel: RegionsPanel, case: CaseModel) -> None:
    case.add_region(ONE)
    case.comparison.set_midline(mirror.of_image(SHAPE))
    wait(panel)
    case.comparison.set_what_if(answer(ONE))
    panel.table.setFocus()
    QTest.keyClick(panel.table, Qt.Key.Key_C, Qt.KeyboardModifier.ControlModifier)
    (line,) = csv.DictReader(io.StringIO(QGuiApplication.clipboard().text()), delimiter="\t")
    assert float(line["mirror_mean_OD"]) == case.comparison.mirrors["1"].statistics.mean
    assert (line["what_if_fill"], line["what_if_probability_after"]) == ("blur", "0.42")
    assert (line["what_if_random_regions"], line["what_if_random_as_strong"]) == ("7", "0")


def test_without_a_spacing_there_is_no_area(panel: RegionsPanel, case: CaseModel) -> None:
    case.set_radiograph(cases.radiograph(cases.noise(*SHAPE), spacing=None))
    case.add_region(ONE)
    wait(panel)
    assert table(panel)["Area (no mm: no spacing)"][0] == "–"
    assert table(panel)["Pixels"][0] == "200"


def test_a_length_states_its_millimetres_and_nothing_that_needs_an_area(
    panel: RegionsPanel, case: CaseModel
) -> None:
    case.add_region(Region("line", np.array([[10.0, 10.0], [10.0, 40.0]]), "Heart", "9"))
    case.comparison.set_midline(mirror.of_image(SHAPE))
    wait(panel)
    assert [row[:2] for row in listed(panel)] == [["Heart  3.0 mm", "–"]]
    assert table(panel) == {"Length (mm)": ["3.0", "–", "–"], "In pixels": ["30.0", "–", "–"]}
    assert panel.what_if.isHidden()
    assert "at the detector" in panel._legend.text()
    panel.copy()
    (row,) = csv.DictReader(io.StringIO(QGuiApplication.clipboard().text()))
    assert (row["name"], row["kind"], row["area_mm2"]) == ("Heart", "line", "")
    assert float(row["length_mm"]) == pytest.approx(3.0)
    panel.rename_selected()
    index = panel.proxy.index(0, 0)
    assert index.data(Qt.ItemDataRole.EditRole) == "Heart"
    case.add_region(ONE)
    case.select_region("1")
    assert not panel.what_if.isHidden()


def test_a_length_without_a_spacing_is_in_pixels(panel: RegionsPanel, case: CaseModel) -> None:
    case.set_radiograph(replace(case.radiograph, spacing=None))  # type: ignore[type-var]
    case.add_region(Region("line", np.array([[10.0, 10.0], [14.0, 13.0]]), "", "9"))
    wait(panel)
    assert table(panel) == {"In pixels": ["5.0", "–", "–"]}
    assert "no pixel spacing" in panel._legend.text()


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
    assert panel.table.currentIndex().row() == 1
    case.select_region("1")
    assert panel.table.currentIndex().row() == 0
    panel.table.setCurrentIndex(panel.proxy.index(1, 0))
    assert case.selected_region == "2"
    case.select_region(None)
    assert not panel.table.selectionModel().hasSelection()
    assert not panel.delete_button.isEnabled()


def test_rename_and_delete_by_keys(panel: RegionsPanel, case: CaseModel) -> None:
    case.add_region(ONE)
    case.add_region(TWO)
    assert panel.model.setData(panel.model.index(0, 0), "  Left base ")
    assert case.regions[0].name == "Left base"
    assert not panel.model.setData(panel.model.index(0, 1), "square")
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
