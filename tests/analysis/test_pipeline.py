"""The whole job: what is in the folder agrees with what the parts compute, and with numpy and pydicom."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.explain.test_contract import StopAfter
from xai_engine.analysis import pipeline, recall, tasks
from xai_engine.classifier import bundle
from xai_engine.classifier.predict import Classifier
from xai_engine.errors import (
    Cancelled,
    ModelError,
    OutputError,
    RefusedImage,
    UnreadableImage,
    UsageError,
)
from xai_engine.evidence import record
from xai_engine.evidence.case import CaseReview
from xai_engine.explain import registry
from xai_engine.radiograph import colour, correct
from xai_engine.radiograph.read import read
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Progress, Run
from xai_engine.runtime.worker import Once, Worker

METHODS = ("grad-cam", "integrated-gradients")


@pytest.fixture(scope="module")
def classifier(tiny_model: Path) -> Classifier:
    return bundle.load(tiny_model, DevicePolicy("cpu", "fp32", 1))


@pytest.fixture(scope="module")
def radiograph(image_file: Path) -> Radiograph:
    return read(image_file)


@pytest.fixture(scope="module")
def regions() -> tuple[Region, ...]:
    return (
        Region("rectangle", np.array([[20.0, 30.0], [80.0, 90.0]]), "left", "a"),
        Region("ellipse", np.array([[100.0, 100.0], [160.0, 180.0]]), "", ""),
    )


@pytest.fixture(scope="module")
def case(radiograph: Radiograph, classifier: Classifier, regions: tuple[Region, ...]) -> CaseReview:
    methods = [registry.create(name) for name in METHODS]
    return pipeline.analyze(radiograph, classifier, methods, None, 7, regions, Run())


def test_the_case_holds_what_the_parts_say(
    case: CaseReview, radiograph: Radiograph, classifier: Classifier
) -> None:
    assert case.prediction.probability == classifier.predict([radiograph])[0].probability
    assert case.names() == METHODS
    for name, explanation in zip(METHODS, case.explanations, strict=True):
        alone = registry.create(name).explain(
            classifier, classifier.prepare(radiograph), "pneumonia", Run(seed=7)
        )
        assert np.array_equal(explanation.values, alone.values)
        assert explanation.seed == 7
        assert explanation.target == "pneumonia"


def test_region_statistics_agree_with_numpy(case: CaseReview, image_file: Path) -> None:
    pixels = pydicom.dcmread(image_file).pixel_array[20:80, 30:90].astype(float)
    found = case.statistics["a"]
    assert found.pixels == pixels.size
    assert found.mean == pytest.approx(pixels.mean(), rel=1e-9)
    assert found.sd == pytest.approx(pixels.std(ddof=1), rel=1e-9)
    values = case.explanations[0].in_source().astype(float)
    inside = values[20:80, 30:90]
    expected = inside[inside > 0].sum() / values[values > 0].sum() if (values > 0).any() else None
    assert found.maps["grad-cam"].share_positive == pytest.approx(expected, rel=1e-6)


def test_the_folder(case: CaseReview, radiograph: Radiograph, tmp_path: Path) -> None:
    folder = pipeline.write(case, tmp_path / "out" / "chest", report=True)
    names = {f"{name}.{kind}" for name in METHODS for kind in ("npy", "png")}
    assert {p.name for p in folder.iterdir()} == names | {"analysis.json", "regions.json", "report.pdf"}
    grey = np.asarray(pipeline.display.picture(radiograph, case.voi)).astype(float)[..., None]
    for name, explanation in zip(METHODS, case.explanations, strict=True):
        values = np.load(folder / f"{name}.npy", allow_pickle=False)
        assert values.dtype == np.float32
        assert values.shape == (300, 260)
        assert np.array_equal(values, explanation.in_source())
        rgba = colour.paint(values, case.style(name), explanation.full_scale).astype(float)
        expected = (grey * (255 - rgba[..., 3:]) + rgba[..., :3] * rgba[..., 3:]) / 255
        overlay = np.asarray(Image.open(folder / f"{name}.png"))
        assert overlay.shape == (300, 260, 3)
        assert np.abs(overlay - expected).max() <= 0.5 + 1e-6

    def refuse(name: str) -> float:
        raise AssertionError(name)

    data = json.loads((folder / "analysis.json").read_text(), parse_constant=refuse)
    assert data["explanations"][0]["map"] == "grad-cam.npy"
    assert data["seed"] == 7


def test_the_same_seed_gives_the_same_files(
    case: CaseReview, radiograph: Radiograph, classifier: Classifier, tmp_path: Path
) -> None:
    methods = [registry.create(name) for name in METHODS]
    again = pipeline.analyze(radiograph, classifier, methods, None, 7, (), Run())
    one, two = pipeline.write(case, tmp_path / "1"), pipeline.write(again, tmp_path / "2")
    for name in METHODS:
        assert (one / f"{name}.npy").read_bytes() == (two / f"{name}.npy").read_bytes()
        assert (one / f"{name}.png").read_bytes() == (two / f"{name}.png").read_bytes()


def test_a_refused_image_gets_a_record_without_maps(
    flat_file: Path, classifier: Classifier, tmp_path: Path
) -> None:
    case = pipeline.analyze(read(flat_file), classifier, [registry.create("grad-cam")], None, 0, (), Run())
    folder = pipeline.write(case, tmp_path / "flat")
    assert [p.name for p in folder.iterdir()] == ["analysis.json"]
    data = json.loads((folder / "analysis.json").read_text())
    assert data["prediction"]["readable"] is False
    assert data["prediction"]["refusal"]
    assert data["prediction"]["probability"] is None
    assert data["explanations"] == []


def test_cancelling_gives_no_case(radiograph: Radiograph, classifier: Classifier) -> None:
    stop = threading.Event()

    def report(progress: Progress) -> None:
        if progress.fraction > 0.15:
            stop.set()

    run = Run(cancel=stop, report=report, min_interval_s=0.0)
    with pytest.raises(Cancelled):
        pipeline.analyze(radiograph, classifier, [registry.create(n) for n in METHODS], None, 0, (), run)


def test_progress_only_grows(radiograph: Radiograph, classifier: Classifier) -> None:
    seen: list[float] = []
    run = Run(report=lambda p: seen.append(p.fraction), min_interval_s=0.0)
    pipeline.analyze(radiograph, classifier, [registry.create(n) for n in METHODS], None, 0, (), run)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_unknown_target(radiograph: Radiograph, classifier: Classifier) -> None:
    with pytest.raises(UsageError, match="normal, pneumonia"):
        pipeline.analyze(radiograph, classifier, [], "fracture", 0, (), Run())


def test_a_failing_write_keeps_the_earlier_result(
    case: CaseReview, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = pipeline.write(case, tmp_path / "chest")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    calls: list[object] = []
    save = np.save

    def full_disk(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        save(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(np, "save", full_disk)
    with pytest.raises(OutputError, match="disk is full"):
        pipeline.write(case, folder, report=True)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["chest"]


def test_the_folder_of_the_originals_is_not_replaced(case: CaseReview, tmp_path: Path) -> None:
    (tmp_path / "chest").mkdir()
    (tmp_path / "chest" / "chest.dcm").write_bytes(b"original")
    with pytest.raises(OutputError, match="did not write"):
        pipeline.write(case, tmp_path / "chest")
    assert (tmp_path / "chest" / "chest.dcm").read_bytes() == b"original"


def test_a_name_of_dots_stays_within_the_folder() -> None:
    assert pipeline.folder_names([Path("..png"), Path("x/...png"), Path(".hidden.png")]) == [
        "image",
        "image-2",
        ".hidden",
    ]


@given(st.lists(st.sampled_from(["a", "A", "a-2", "b", "a.b", "a-3", "é"]), max_size=8))
def test_folder_names_never_meet(stems: list[str]) -> None:
    names = pipeline.folder_names([Path("x") / f"{stem}.dcm" for stem in stems])
    assert len({name.casefold() for name in names}) == len(stems)
    seen: set[str] = set()
    for stem, name in zip(stems, names, strict=True):
        assert name == stem or name.startswith(f"{stem}-")
        if stem.casefold() not in seen:
            assert name == stem
        seen.add(name.casefold())


def test_recalled_from_its_folder(
    case: CaseReview, tiny_model: Path, image_file: Path, tmp_path: Path
) -> None:
    folder = pipeline.write(case, tmp_path / "chest")
    again = recall.recall(folder, model=tiny_model)
    saved = replace(case, options={"roi": str(folder / record.REGIONS)})  # where `write` put the regions
    assert record.to_json(again) == record.to_json(saved)
    for one, two in zip(case.explanations, again.explanations, strict=True):
        assert np.array_equal(one.in_source(), two.in_source())

    other = tmp_path / "other.dcm"
    other.write_bytes(image_file.read_bytes() + b"\0\0")
    with pytest.raises((UsageError, UnreadableImage)):
        recall.recall(folder, image=other, model=tiny_model)
    data = json.loads((folder / "analysis.json").read_text())
    data["model"]["sha256"] = "0" * 64
    (folder / "analysis.json").write_text(json.dumps(data))
    with pytest.raises(ModelError, match="is not the model"):
        recall.recall(folder, model=tiny_model)


@pytest.fixture(scope="module")
def engine() -> Iterator[Worker]:
    with Worker("engine") as worker:
        yield worker


def test_tasks_in_a_worker_agree_with_this_process(
    engine: Worker, case: CaseReview, tiny_model: Path, image_file: Path, tmp_path: Path
) -> None:
    common = {"model": str(tiny_model), "device": "cpu", "precision": "fp32"}
    where = "xai_engine.analysis.tasks"
    info, environment, unsuited = engine.submit(f"{where}:warm_up", **common).result(120)
    assert info.name == "tiny"
    assert environment["device"] == "cpu"
    assert set(unsuited) == {"attention-rollout", "attention-relevance"}  # a convolutional network
    image = engine.submit(f"{where}:read_file", str(image_file)).result(60)
    assert np.array_equal(image.pixels, case.radiograph.pixels)
    assert not image.pixels.flags.writeable
    once = Once(image.sha256, image)
    verdict = engine.submit(f"{where}:predict", once, **common).result(60)
    assert verdict.probability == pytest.approx(case.prediction.probability, abs=1e-6)
    job = engine.submit(f"{where}:explain", once, "grad-cam", {}, "pneumonia", 7, **common)
    explanation = job.result(60)
    assert explanation.seed == 7
    np.testing.assert_allclose(explanation.values, case.explanations[0].values, atol=1e-6)
    measured = engine.submit(f"{where}:measure", once, case.regions, {"grad-cam": explanation}).result(60)
    assert measured["a"].mean == case.statistics["a"].mean
    whole = engine.submit(
        f"{where}:analyze", once, [("grad-cam", {})], "pneumonia", 7, case.regions, **common
    ).result(60)
    assert whole.statistics["a"].mean == case.statistics["a"].mean
    out = engine.submit(f"{where}:write", whole, str(tmp_path / "chest"), True).result(60)
    assert Path(out, "report.pdf").read_bytes()[:5] == b"%PDF-"
    pdf = engine.submit(f"{where}:report", whole, str(tmp_path / "one.pdf"), "Letter").result(60)
    assert Path(pdf).is_file()
    engine.submit(f"{where}:export_picture", once, "full", str(tmp_path / "p.png")).result(60)
    assert Image.open(tmp_path / "p.png").size == (260, 300)
    with pytest.raises(UsageError, match="unknown"):
        engine.submit(f"{where}:explain", once, "tea-leaves", {}, **common).result(60)
    with pytest.raises(ModelError):
        engine.submit(f"{where}:predict", once, model=str(tmp_path / "none")).result(60)


def test_a_refused_image_is_not_explained(flat_file: Path, tiny_model: Path) -> None:
    with pytest.raises(RefusedImage, match=r"flat\.png"):
        tasks.explain(read(flat_file), "grad-cam", {}, model=tiny_model, run=Run())


def test_a_changed_style_is_drawn(case: CaseReview, tmp_path: Path) -> None:
    plain = pipeline.write(case, tmp_path / "1")
    styled = replace(case, styles={"grad-cam": colour.LayerStyle(opacity=0.0)})
    hidden = pipeline.write(styled, tmp_path / "2")
    assert (plain / "grad-cam.png").read_bytes() != (hidden / "grad-cam.png").read_bytes()
    overlay = np.asarray(Image.open(hidden / "grad-cam.png"))
    assert np.array_equal(overlay[..., 0], pipeline.display.picture(case.radiograph, case.voi))


def test_a_verdict_tells_what_it_is_at_and_company_changes_no_bit(
    radiograph: Radiograph, image_file: Path, tiny_model: Path
) -> None:
    seen: list[Any] = []
    tasks._CLASSIFIERS.clear()  # as in a new process
    options: Any = {"model": tiny_model, "device": "cpu", "precision": "fp32"}
    alone = tasks.predict(radiograph, run=Run(report=seen.append, min_interval_s=0.0), **options)
    messages = [p.message for p in seen]
    for words in ("loading the classifier", "finding the lungs", "classifying", "how sure it is"):
        assert any(words in message for message in messages), (words, messages)
    assert [p.fraction for p in seen] == sorted(p.fraction for p in seen)
    other = correct.apply(radiograph, ("rotate-180",))
    both = tasks.classifier(**options).predict([other, radiograph], Run())[1]
    assert (both.logit, both.uncertainty) == (alone.logit, alone.uncertainty)
    with pytest.raises(Cancelled):
        tasks.predict(other, run=Run(cancel=StopAfter(1)), **options)
