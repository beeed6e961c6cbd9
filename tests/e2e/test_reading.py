"""From file to report, as a radiologist goes."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pymupdf
import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QApplication, QDialog, QFileDialog

from app.dialogs.report import ReportChoice, ReportDialog
from tests.e2e.driver import Driver, as_array
from xai_engine.evidence import format
from xai_engine.paths import data_root
from xai_engine.radiograph import display, regions
from xai_engine.radiograph.read import read

STANDARD = {"integrated-gradients", "grad-cam", "lime"}


def test_open_and_verdict(driver: Driver, consolidation: Path) -> None:
    driver.open(consolidation)
    window, prediction = driver.window, driver.window.case.prediction
    assert prediction is not None
    assert np.array_equal(driver.image.pixels, read(consolidation).pixels)
    assert consolidation.name in window.windowTitle()
    study = window.studies.get(consolidation)
    assert study is not None
    if prediction.readable:
        assert study.probability == prediction.probability
        assert window.finding.number.text() == format.probability(prediction.probability)
        assert window.finding.number.isVisible()
    else:
        assert study.status == "refused"
    window.canvas.actual_size()
    shown = as_array(window.canvas.grab_picture())
    picture = display.picture(driver.image, display.select(driver.image, "default"))
    middle = driver.at(driver.image.rows / 2, driver.image.columns / 2)
    row, column = (int(part) for part in driver.source(middle))
    side = 60  # clear of the texts in the corners
    seen = shown[middle.y() - side : middle.y() + side, middle.x() - side : middle.x() + side]
    assert (seen == seen[:, :, :1]).all()
    expected = picture[row - side : row + side, column - side : column + side]
    assert np.array_equal(seen[:, :, 0], expected)


def test_the_first_sight_of_a_preset_stays_on_the_image(driver: Driver, consolidation: Path) -> None:
    driver.open(consolidation)
    driver.wait_idle()
    if not driver.window.commands.actions["quick"].isEnabled():
        pytest.skip("the model in use refuses the sample")
    case = driver.window.case

    def visible() -> set[str]:
        return {layer.explanation.method for layer in case.layers if layer.visible}

    for _ in range(2):  # again: the maps take the places of those of before
        driver.do("quick")
        driver.wait_idle()
        driver.until(lambda: len(case.layers) == 3, "three maps")
        assert visible() == {"grad-cam"}
    driver.window.explain_panel.run_requested.emit("lrp", {}, None, 0)  # asked for by itself
    driver.until(lambda: visible() == {"lrp"}, "the map that was asked for")
    driver.wait_idle()


def test_maps_regions_report(
    driver: Driver, consolidation: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.open(consolidation)
    window, case = driver.window, driver.window.case
    assert case.prediction is not None
    if not case.prediction.readable:
        pytest.skip(f"the model in use refuses the sample: {case.prediction.refusal}")
    driver.explain()
    assert {layer.explanation.method for layer in case.layers} == STANDARD
    for layer in case.layers:
        made = layer.explanation
        assert made.image_sha256 == driver.image.sha256
        assert not made.partial
        assert np.isfinite(made.values).all()
        assert np.abs(made.values).max() > 0
    assert len(window.layers.cards) == 3

    opacity_changes_the_picture(driver)
    a_region_drawn_by_hand(driver)
    the_report_says_it(driver, tmp_path, monkeypatch)
    the_folder_holds_it(driver, tmp_path)


def opacity_changes_the_picture(driver: Driver) -> None:
    """Every map pulls the picture towards its colours in proportion to its opacity, where the map is strongest."""
    case, window = driver.window.case, driver.window
    for layer in case.layers:
        values = np.abs(layer.source_map)
        peak = driver.at(*(float(part) for part in np.unravel_index(values.argmax(), values.shape)))
        part = np.s_[max(peak.y() - 3, 0) : peak.y() + 4, max(peak.x() - 3, 0) : peak.x() + 4]
        slider = window.layers.cards[layer.id].opacity.slider
        window.layers.cards[layer.id].threshold.slider.setValue(0)
        case.show_only(layer.id)
        before, change, pictures = slider.value(), [], []
        for percent in (0, 30, 90):
            slider.setValue(percent)
            QApplication.processEvents()
            pictures.append(driver.picture()[part].astype(int))
            change.append(float(np.abs(pictures[-1] - pictures[0]).mean()))
        slider.setValue(before)
        assert change[1] > 1.0, layer.title
        assert change[2] == pytest.approx(3 * change[1], rel=0.1, abs=2.0), layer.title  # whole grey levels
        assert (pictures[0] == pictures[0][:, :, :1]).all(), layer.title  # without opacity the greys are bare


def a_region_drawn_by_hand(driver: Driver) -> None:
    window, case = driver.window, driver.window.case
    image = driver.image
    driver.do("rectangle")
    corner = driver.at(image.rows * 0.45, image.columns * 0.2)
    opposite = driver.at(image.rows * 0.7, image.columns * 0.4)
    driver.drag([corner, (corner + opposite) / 2, opposite])
    assert len(case.regions) == 1
    region = case.regions[0]
    assert window.canvas.measurer.wait(60_000)
    statistics = case.statistics[region.id]

    (top, left), (bottom, right) = driver.source(corner), driver.source(opposite)
    y, x = np.mgrid[0 : image.rows, 0 : image.columns] + 0.5
    inside = (y > top) & (y < bottom) & (x > left) & (x < right)
    values = image.pixels[inside].astype(np.float64)
    assert statistics.pixels == inside.sum()
    assert statistics.mean == pytest.approx(values.mean())
    assert statistics.median == pytest.approx(np.median(values))
    assert (statistics.minimum, statistics.maximum) == (values.min(), values.max())
    maps = {layer.explanation.method: layer.source_map for layer in case.layers}
    expected = regions.measure(image, region, maps)
    assert statistics.sd == pytest.approx(expected.sd)
    assert statistics.area_mm2 == pytest.approx(expected.area_mm2)
    for method, of_map in expected.maps.items():
        assert statistics.maps[method].share_positive == pytest.approx(of_map.share_positive, abs=1e-6), (
            method
        )
        assert statistics.maps[method].share_negative == pytest.approx(of_map.share_negative, abs=1e-6), (
            method
        )

    table = window.regions.numbers
    shown = {key: table.index(row, 0).data() for row, key in enumerate(table.keys)}
    assert shown["mean"] == format.number(expected.mean)
    assert shown["pixels"] == format.number(expected.pixels)
    assert shown["area"] == format.tenths(expected.area_mm2)
    assert shown["+lime"] == format.percent(expected.maps["lime"].share_positive)

    driver.do("undo")
    assert case.regions == ()
    driver.do("redo")
    assert len(case.regions) == 1
    assert window.canvas.measurer.wait(60_000)


def the_report_says_it(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window, case = driver.window, driver.window.case
    assert case.prediction is not None
    path = tmp_path / "Bericht Ü.pdf"

    def fill_in(dialog: ReportDialog) -> int:
        dialog.path.setText(str(path))
        dialog.reader.setText("Dr. E2E")
        dialog.impression.setPlainText("Opacity in the right base.")
        return int(QDialog.DialogCode.Accepted)

    monkeypatch.setattr(ReportDialog, "exec", fill_in)
    case.rename_region(case.regions[0].id, "Right base")
    driver.do("report")
    driver.until(
        lambda: any(str(path) in text for text in window.messages.texts), "the message that it is saved"
    )
    driver.wait_idle()
    with pymupdf.open(path) as pdf:
        text = " ".join(" ".join(page.get_text() for page in pdf).split())
    wanted = [
        format.probability(case.prediction.probability),
        "Dr. E2E",
        "Opacity in the right base.",
        "Right base",
        "Research use only",
        driver.image.sha256[:12],
        case.prediction.model.version,
        format.number(case.statistics[case.regions[0].id].mean),
        *(layer.title for layer in case.layers),
    ]
    assert [part for part in wanted if part not in text] == []
    assert window.reading.unsaved == set()


def the_folder_holds_it(driver: Driver, tmp_path: Path) -> None:
    window, case = driver.window, driver.window.case
    folder = tmp_path / "analysis"
    window.files.save_report(ReportChoice(folder, "A4", "Dr. E2E", "", True))
    driver.until(lambda: any(str(folder) in text for text in window.messages.texts), "the folder")
    driver.wait_idle()
    record = json.loads((folder / "analysis.json").read_text())
    jsonschema.validate(record, json.loads((data_root() / "docs" / "analysis.schema.json").read_text()))
    assert record["prediction"]["probability"] == pytest.approx(case.prediction.probability)  # type: ignore[union-attr]
    assert {each["method"] for each in record["explanations"]} == STANDARD
    for each in record["explanations"]:
        layer = next(one for one in case.layers if one.explanation.method == each["method"])
        stored = np.load(folder / each["map"])
        assert np.array_equal(stored, layer.source_map)
    assert (folder / "report.pdf").stat().st_size > 10_000


def test_picture_is_what_is_shown(
    driver: Driver, normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.open(normal)
    path = tmp_path / "shown.png"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", staticmethod(lambda *_a, **_k: (str(path), "")))
    shown = driver.picture()
    driver.do("picture")
    assert np.array_equal(as_array(QImage(str(path))), shown)


def test_two_images_keep_their_work(driver: Driver, normal: Path, consolidation: Path) -> None:
    driver.open(normal, consolidation)
    window, case = driver.window, driver.window.case
    first = case.prediction
    driver.do("ellipse")
    driver.drag([driver.at(300, 300), driver.at(600, 500)])
    assert [region.kind for region in case.regions] == ["ellipse"]
    region = case.regions[0]
    driver.do("next")
    driver.until(
        lambda: driver.image.path == consolidation and case.prediction is not None, "the second image"
    )
    assert case.regions == ()
    assert case.prediction is not first
    driver.do("previous")
    driver.until(lambda: driver.image.path == normal, "the first image again")
    assert case.prediction == first
    assert np.array_equal(case.regions[0].points, region.points)
    assert case.regions[0].name == region.name
    assert [study.path for study in window.studies.studies] == [normal, consolidation]


def test_blind_reading_tells_nothing(driver: Driver, consolidation: Path) -> None:
    from dataclasses import replace

    window = driver.window
    before = window.store.values
    try:
        window.help.apply(replace(before, blind_reading=True))
        driver.open(consolidation)
        assert window.finding.hidden
        assert not window.finding.result.isVisible()
        assert window.studies_panel.model.hide_scores
        for key in ("report", "analysis", "standard"):
            assert not window.commands.actions[key].isEnabled(), key
        form = window.finding.blind_form
        form.group.buttons()[0].click()
        form.reveal.click()
        QApplication.processEvents()
        assert not window.finding.hidden
        assert window.commands.actions["report"].isEnabled()
        assert not window.studies_panel.model.hide_scores
        review = window.reading.review("Dr. B", window.finding.impression)
        assert review is not None
        assert "before" in review.impression
    finally:
        window.help.apply(before)
