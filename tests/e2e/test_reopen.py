"""A saved analysis on the screen again, in the real window with real processes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PySide6.QtWidgets import QDialog

from app.dialogs.report import ReportChoice, ReportDialog
from tests.e2e.driver import Driver
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Window


def test_a_saved_analysis_is_reopened_as_it_was(driver: Driver, consolidation: Path, tmp_path: Path) -> None:
    image = tmp_path / "images" / "chest.dcm"
    image.parent.mkdir()
    shutil.copy(consolidation, image)
    driver.open(image)
    window, case = driver.window, driver.window.case
    assert case.prediction is not None
    if not case.prediction.readable:
        pytest.skip(f"the model in use refuses the sample: {case.prediction.refusal}")
    for method in ("grad-cam", "saliency"):
        window.explain_panel.run_requested.emit(method, {}, None, 3)
    driver.until(lambda: len(case.layers) == 2, "two maps")
    driver.wait_idle()
    rows, columns = driver.image.rows, driver.image.columns
    corners = np.array([[rows * 0.4, columns * 0.2], [rows * 0.7, columns * 0.4]])
    case.add_region(Region("ellipse", corners, "Right lower zone", case.new_region_id()))
    case.set_voi(Window(1500.0, 2000.0, "LINEAR", ""), "")
    case.set_invert(True)
    maps = [layer.explanation.in_source() for layer in case.layers]
    said = case.prediction
    folder = tmp_path / "images" / "chest-analysis"
    assert window.files.save_report(ReportChoice(folder, "A4", "Reader", "Consolidation.", True)) is not None
    driver.until(lambda: (folder / "analysis.json").exists(), "the analysis folder")
    driver.wait_idle()
    before = json.loads((folder / "analysis.json").read_text())
    case.set_invert(False)

    for way in ("folder", "file", "elsewhere"):
        window.reading.close_study(image)
        driver.wait_idle()
        assert case.radiograph is None
        if way == "elsewhere":
            image = image.rename(tmp_path / "moved.dcm")
            window.messages.clear()
            window.reopen.open(folder)
            driver.until(lambda: window.messages.rows, "what is wrong")
            (row,) = window.messages.rows
            assert "cannot be reopened" in row.text
            assert "--image" not in row.text
            assert row.action_button.text() == "Find the image …"
            window.reopen.open(folder, image)
        else:
            window.open([folder if way == "folder" else folder / "analysis.json"])
        driver.until(lambda: case.radiograph is not None, "the image")
        driver.wait_idle()
        assert driver.image.path == image
        assert case.prediction is not None
        assert case.prediction.probability == pytest.approx(said.probability, abs=1e-12)
        assert [layer.explanation.method for layer in case.layers] == ["grad-cam", "saliency"]
        assert [layer.visible for layer in case.layers] == [True, False]
        for layer, values in zip(case.layers, maps, strict=True):
            np.testing.assert_array_equal(layer.explanation.values, values)
        (region,) = case.regions
        assert (region.name, region.kind) == ("Right lower zone", "ellipse")
        np.testing.assert_allclose(region.points, corners)
        assert case.invert
        assert (case.voi, case.preset_key) == (Window(1500.0, 2000.0, "LINEAR", ""), "")
        assert window.reading.impressions[image] == "Consolidation."
        assert image not in window.reading.unsaved
        assert not window.trust.buttons["quick"].isEnabled()  # such maps cannot be assessed anew

    # saved again it says the same
    again = tmp_path / "again"
    assert window.files.save_report(ReportChoice(again, "A4", "Reader", "Consolidation.", True)) is not None
    driver.until(lambda: (again / "analysis.json").exists(), "the second folder")
    driver.wait_idle()
    after = json.loads((again / "analysis.json").read_text())
    assert after["prediction"] == before["prediction"]
    for one, other in zip(after["explanations"], before["explanations"], strict=True):
        assert {**one, "map": "", "overlay": ""} == {**other, "map": "", "overlay": ""}
        np.testing.assert_array_equal(np.load(again / one["map"]), np.load(folder / other["map"]))
    assert after["rois"] == before["rois"]

    # its pictures are no radiographs, and nobody's work is lost
    window.messages.clear()
    window.open([folder.parent])
    assert any("no images" in text for text in window.messages.texts)
    case.add_region(Region("rectangle", corners, "New", case.new_region_id()))
    window.reopen.open(folder, image)
    driver.until(lambda: any("in no report yet" in text for text in window.messages.texts), "the warning")
    assert len(case.regions) == 2


def test_a_folder_that_is_no_result_says_so(driver: Driver, tmp_path: Path) -> None:
    window = driver.window
    window.reopen.open(tmp_path)
    assert "holds no analysis.json" in window.messages.texts[-1]
    (tmp_path / "analysis.json").write_text("{}")
    window.reopen.open(tmp_path)
    driver.until(lambda: len(window.messages.texts) == 2, "what is wrong")
    assert "cannot be reopened" in window.messages.texts[-1]
    assert window.case.radiograph is None


def test_an_image_comes_back_as_it_was_shown(driver: Driver, normal: Path, consolidation: Path) -> None:
    driver.open(normal, consolidation)
    window, case = driver.window, driver.window.case
    case.set_voi(Window(1500.0, 2000.0, "LINEAR", ""), "")
    for command in ("invert", "rotate_right", "flip_h"):
        driver.do(command)
    before = case.voi, case.preset_key, case.invert, case.rotation, case.flip_h, case.flip_v
    driver.do("next")
    driver.until(
        lambda: case.radiograph is not None and case.radiograph.path == consolidation, "the next image"
    )
    driver.wait_idle()
    assert (case.invert, case.rotation, case.flip_h) == (False, 0, False)
    driver.do("previous")
    driver.until(lambda: case.radiograph is not None and case.radiograph.path == normal, "the first image")
    assert (case.voi, case.preset_key, case.invert, case.rotation, case.flip_h, case.flip_v) == before
    assert not window.reading.unsaved


def test_what_was_typed_for_the_report_is_not_lost(
    driver: Driver, normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.open(normal)
    window = driver.window
    window.store.values.folder = str(tmp_path)
    met: list[tuple[str, str]] = []

    def cancelled(dialog: ReportDialog) -> int:
        met.append((dialog.impression.toPlainText(), Path(dialog.path.text()).name))
        dialog.impression.setPlainText("No opacity.")
        return int(QDialog.DialogCode.Rejected)

    monkeypatch.setattr(ReportDialog, "exec", cancelled)
    driver.do("report")
    (tmp_path / f"{normal.stem}.pdf").touch()
    driver.do("report")
    assert met == [("", f"{normal.stem}.pdf"), ("No opacity.", f"{normal.stem}-2.pdf")]
    assert window.files.save_analysis(tmp_path / "out") is not None
    driver.until(lambda: (tmp_path / "out" / "analysis.json").exists(), "the analysis folder")
    driver.wait_idle()
    saved = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert saved["reader"]["impression"] == "No opacity."
