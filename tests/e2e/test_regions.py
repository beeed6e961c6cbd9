"""What-if, mirror and putting right in the real window with real processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf
import pytest
from PIL import Image

from app.dialogs.report import ReportChoice
from tests.e2e.driver import Driver
from xai_engine.classifier import bundle
from xai_engine.evidence import format
from xai_engine.radiograph import correct, display
from xai_engine.radiograph.read import read
from xai_engine.radiograph.regions import Region, mask

shipped = pytest.mark.skipif(not bundle.installed(), reason="no bundle is shipped")


def test_what_if_and_mirror(driver: Driver, consolidation: Path, tmp_path: Path) -> None:
    driver.open(consolidation)
    window, case = driver.window, driver.window.case
    assert case.prediction is not None
    if not case.prediction.readable:
        pytest.skip(f"the model in use refuses the sample: {case.prediction.refusal}")
    rows, columns = driver.image.rows, driver.image.columns
    region = Region(
        "ellipse",
        np.array([[rows * 0.42, columns * 0.15], [rows * 0.68, columns * 0.42]]),
        "Right middle zone",
        case.new_region_id(),
    )
    case.add_region(region)
    window.inspector.setCurrentWidget(window.regions)
    driver.until(lambda: case.comparison.mirrors.get(region.id), "the mirror's numbers")
    across = case.comparison.counterpart(region)
    assert across is not None
    found = case.comparison.mirrors[region.id].statistics.mean
    assert found == pytest.approx(float(driver.image.pixels[mask(across, (rows, columns))].mean()))

    box = window.regions.what_if
    box.fill.setCurrentIndex(box.fill.findData("mirror"))
    box.ask.click()
    assert not box.ask.isEnabled()
    driver.until(lambda: region.id in case.comparison.what_if, "the answer")
    driver.wait_idle()
    asked = case.comparison.what_if[region.id]
    assert box.ask.isEnabled()
    assert asked.fill == "mirror"
    assert asked.before.probability == pytest.approx(case.prediction.probability, abs=1e-5)
    assert format.probability(asked.after.probability) in box.answer.text()
    plain = driver.picture()
    box.show_change.click()
    assert not np.array_equal(driver.picture(), plain)
    box.show_change.click()
    assert np.array_equal(driver.picture(), plain)

    window.store.values.institution = "St. Elsewhere"
    task = window.files.save_report(ReportChoice(tmp_path / "out", "A4", "Reader", "", True))
    assert task is not None
    driver.until(lambda: (tmp_path / "out" / "analysis.json").exists(), "the analysis folder")
    driver.wait_idle()
    (entry,) = json.loads((tmp_path / "out" / "analysis.json").read_text())["rois"]
    assert entry["what_if"]["after"]["probability"] == asked.after.probability
    assert entry["mirror"]["mean"] == found
    with pymupdf.open(tmp_path / "out" / "report.pdf") as pdf:
        assert len(pdf) >= 1
    window.store.values.institution = ""

    # back again from another image: the answer is still there, and goes with the region
    assert window.studies.current is not None
    other = tmp_path / "other.png"
    Image.fromarray(display.picture(driver.image, display.select(driver.image, "full"))).save(other)
    driver.open(other)
    assert case.comparison.what_if == {}
    driver.wait_idle()
    window.reading.show(consolidation)
    driver.until(lambda: region.id in case.comparison.what_if, "the answer kept")
    case.remove_region(region.id)
    assert case.comparison.what_if == {}
    driver.wait_idle()


@shipped
def test_a_turned_image_is_put_right_in_one_click_and_back(
    driver: Driver, consolidation: Path, tmp_path: Path
) -> None:
    upright = read(consolidation)
    turned = correct.apply(upright, ("invert", "rotate-90"))
    path = tmp_path / "turned.png"
    Image.fromarray(display.picture(turned, display.select(turned, "full"))).save(path)
    driver.open(path)
    window, case = driver.window, driver.window.case
    assert case.prediction is not None
    assert not case.prediction.readable
    assert case.prediction.offer == ("invert", "rotate-270")
    stored = driver.image
    case.add_region(Region("rectangle", np.array([[100.0, 200.0], [180.0, 260.0]]), "A", "1"))
    before = stored.pixels[100:180, 200:260]
    (row,) = [r for r in window.messages.rows if hasattr(r, "action_button")]
    assert row.action_button.text() == "Read it inverted and rotated by 90° to the left"
    row.action_button.click()
    driver.until(
        lambda: case.prediction is not None and case.prediction.readable, "the verdict on the corrected image"
    )
    driver.wait_idle()
    corrected = driver.image
    assert corrected.corrections == ("invert", "rotate-270")
    assert (corrected.rows, corrected.columns) == (upright.rows, upright.columns)
    assert corrected.inverted
    inside = mask(case.regions[0], (corrected.rows, corrected.columns))
    assert sorted(corrected.pixels[inside].tolist()) == sorted(before.ravel().tolist())
    task = window.files.save_report(ReportChoice(tmp_path / "out", "A4", "", "", True))
    assert task is not None
    driver.until(lambda: (tmp_path / "out" / "analysis.json").exists(), "the analysis folder")
    driver.wait_idle()
    record = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert record["image"]["corrections"] == ["invert", "rotate-270"]
    assert record["image"]["sha256"] == stored.sha256
    driver.do("as_stored")
    driver.until(lambda: case.prediction is not None, "the verdict on the stored image")
    assert driver.image is stored
    assert np.array_equal(
        mask(case.regions[0], (stored.rows, stored.columns)).nonzero()[0][[0, -1]], [100, 179]
    )
    driver.do("put_right")
    assert driver.image.corrections == ("invert", "rotate-270")
    driver.until(lambda: case.prediction is not None, "the verdict again")
    driver.wait_idle()


def test_cores_chosen_in_the_preferences_reach_the_engine(driver: Driver) -> None:
    window = driver.window
    before = window.store.values
    window.help.apply(replace(before, threads=1))
    found: list[int] = []
    window.engine.warm_up().done.connect(lambda value: found.append(value[1]["threads"]))
    driver.until(lambda: found, "the environment")
    assert found == [1]
    window.help.apply(before)
    driver.wait_idle()
