"""Mirror regions, what-if and corrections in the record, and back from it; the command line with the shipped model."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from PIL import Image

from xai_engine import cli
from xai_engine.analysis import pipeline, recall, tasks
from xai_engine.classifier import bundle
from xai_engine.classifier.predict import Classifier
from xai_engine.evidence import record
from xai_engine.explain import registry
from xai_engine.explain.compute.what_if import ask
from xai_engine.explain.what_if import Fill
from xai_engine.paths import data_root, resources_dir
from xai_engine.radiograph import correct, display, mirror, regions
from xai_engine.radiograph.read import read
from xai_engine.radiograph.regions import Region
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run

LEFT = Region("ellipse", np.array([[80.0, 30.0], [180.0, 110.0]]), "left", "a")
SCHEMA = data_root() / "docs" / "analysis.schema.json"
shipped = pytest.mark.skipif(not bundle.installed(), reason="no bundle is shipped")


@pytest.fixture(scope="module")
def classifier(tiny_model: Path) -> Classifier:
    return bundle.load(tiny_model, DevicePolicy("cpu", "fp32", 1))


def test_record_and_recall(
    classifier: Classifier, tiny_model: Path, image_file: Path, tmp_path: Path
) -> None:
    image = read(image_file)
    methods = [registry.create("grad-cam")]
    case = pipeline.analyze(image, classifier, methods, None, 5, (LEFT,), Run(), what_if="mirror")
    asked = case.what_if["a"]
    alone = ask(classifier, image, LEFT, "mirror", Run(seed=5))
    assert (asked.before, asked.after, asked.reference) == (alone.before, alone.after, alone.reference)
    assert asked.before.logit == pytest.approx(case.prediction.logit, abs=1e-5)
    line = classifier.midline(image)
    there = regions.mask(mirror.mirrored(LEFT, line), image.pixels.shape)
    assert case.mirrors["a"].statistics.mean == pytest.approx(float(image.pixels[there].mean()))
    share = case.explanations[0].in_source()
    expected = share[there].clip(min=0).sum() / share.clip(min=0).sum()
    assert case.mirrors["a"].statistics.maps["grad-cam"].share_positive == pytest.approx(
        float(expected), rel=1e-4
    )

    folder = pipeline.write(case, tmp_path / "out")
    data = json.loads((folder / "analysis.json").read_text())
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(data)
    entry = data["rois"][0]
    assert entry["what_if"]["after"]["logit"] == asked.after.logit
    assert entry["what_if"]["reference"]["count"] == len(asked.reference)
    assert entry["mirror"]["mean"] == case.mirrors["a"].statistics.mean
    again = recall.recall(folder, image_file, tiny_model)
    assert record.to_json(again)["rois"] == record.to_json(case)["rois"]


def test_corrections_are_in_the_record(
    classifier: Classifier, tiny_model: Path, image_file: Path, tmp_path: Path
) -> None:
    image = correct.apply(read(image_file), ("rotate-90",))
    case = pipeline.analyze(image, classifier, [registry.create("grad-cam")], None, 0, (), Run())
    data = record.to_json(case)
    assert data["image"]["corrections"] == ["rotate-90"]
    assert data["image"]["sha256"] == read(image_file).sha256
    assert (data["image"]["rows"], data["image"]["columns"]) == (image.rows, image.columns)
    assert "--correct" in shlex.split(data["command"])
    folder = pipeline.write(case, tmp_path / "out")
    again = recall.recall(folder, image_file, tiny_model)
    assert np.array_equal(again.radiograph.pixels, image.pixels)
    assert again.radiograph.sha256 == image.sha256 == again.explanations[0].image_sha256


@pytest.mark.parametrize("fill", ["inpaint", "mirror"])
def test_a_result_read_back_gets_its_changed_picture_again(
    classifier: Classifier, tiny_model: Path, image_file: Path, tmp_path: Path, fill: Fill
) -> None:
    case = pipeline.analyze(read(image_file), classifier, [], None, 5, (LEFT,), Run(), what_if=fill)
    folder = pipeline.write(case, tmp_path / "out")
    back = recall.recall(folder, model=tiny_model)
    assert back.what_if["a"].patch is None
    drawn = recall.with_pictures(back, tiny_model).what_if["a"]
    truth = case.what_if["a"].patch
    assert truth is not None
    assert drawn.patch is not None
    assert (drawn.patch.row, drawn.patch.column) == (truth.row, truth.column)
    np.testing.assert_array_equal(drawn.patch.values, truth.values)
    assert replace(drawn, patch=None).to_json() == back.what_if["a"].to_json()

    other = replace(back.what_if["a"].after, logit=back.what_if["a"].after.logit + 0.1)
    doubtful = replace(back, what_if={"a": replace(back.what_if["a"], after=other)})
    assert (
        recall.with_pictures(doubtful, tiny_model).what_if["a"].patch is None
    )  # not the picture that was scored


@shipped
@pytest.mark.parametrize("wrong", [("invert",), ("rotate-90",), ("rotate-180",), ("invert", "rotate-270")])
def test_the_shipped_gate_offers_to_put_right_and_the_command_line_takes_it(
    wrong: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    upright = read(resources_dir() / "samples" / "synthetic-consolidation.dcm")
    spoiled = correct.apply(upright, wrong)
    path = tmp_path / "spoiled.png"
    Image.fromarray(display.picture(spoiled, display.select(spoiled, "full"))).save(path)
    back = tuple(x if x == "invert" else f"rotate-{360 - int(x.removeprefix('rotate-'))}" for x in wrong)
    refused = tasks.predict(read(path), run=Run())
    assert not refused.readable
    assert refused.offer == correct.composed(back)
    words = ["analyze", str(path), "--methods", "none", "--out", str(tmp_path / "out")]
    if len(wrong) == 1:
        assert cli.main(words) == 3
        assert f"--correct reads it {correct.words(refused.offer)}" in capsys.readouterr().err
    assert cli.main([*words, "--correct"]) == 0
    data = json.loads((tmp_path / "out" / "spoiled" / "analysis.json").read_text())
    assert tuple(data["image"]["corrections"]) == refused.offer
    assert data["prediction"]["readable"] is True
    expected = tasks.predict(replace(upright, sha256="straight"), run=Run())
    # 8 bits and another window: nearly, not exactly
    assert data["prediction"]["logit"] == pytest.approx(expected.logit, abs=0.3)


@shipped
def test_a_readable_image_is_offered_nothing() -> None:
    sample = read(resources_dir() / "samples" / "synthetic-consolidation.dcm")
    assert tasks.predict(sample, run=Run()).offer == ()
