"""Reliability cards on their way into the case, the folder and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from xai_engine.analysis import pipeline, recall, tasks
from xai_engine.assess.options import preset
from xai_engine.assess.types import ReliabilityCard
from xai_engine.cli import main
from xai_engine.errors import RefusedImage, UsageError
from xai_engine.evidence import record
from xai_engine.explain import registry
from xai_engine.radiograph.read import read
from xai_engine.runtime.run import Progress, Run


def test_cards_are_in_the_record_and_come_back(tiny_model: Path, image_file: Path, tmp_path: Path) -> None:
    # the engine worker's own: another load may find another backend faster, which differs in the last bits
    classifier = tasks.classifier(str(tiny_model), "cpu", "fp32")
    radiograph = read(image_file)
    methods = [registry.create("grad-cam"), registry.create("saliency")]
    seen: list[Progress] = []
    run = Run(report=seen.append, min_interval_s=0.0)
    case = pipeline.analyze(radiograph, classifier, methods, None, 7, (), run, cards=preset("quick"))
    fractions = [p.fraction for p in seen]
    assert fractions == sorted(fractions)
    assert list(case.reliability) == ["grad-cam", "saliency"]
    folder = pipeline.write(case, tmp_path / "chest", report=True)
    saved = json.loads((folder / "analysis.json").read_text())["explanations"]
    same = {"model": str(tiny_model), "device": "cpu", "precision": "fp32"}
    alone = tasks.assess(radiograph, case.explanations, "quick", 7, run=Run(), **same)
    for name, entry, expected in zip(case.names(), saved, alone, strict=True):
        found = ReliabilityCard.from_json(entry["reliability"])
        assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)
        assert found.finding("lungs_share") is not None or found.notes
        assert case.reliability[name] == found.to_json()
    assert record.to_json(recall.recall(folder, model=tiny_model)) == record.to_json(case)


def test_what_cannot_be_assessed(tiny_model: Path, flat_file: Path) -> None:
    with pytest.raises(RefusedImage, match=r"flat\.png"):
        tasks.assess(read(flat_file), (), "quick", model=tiny_model, run=Run())
    with pytest.raises(UsageError, match="quick, standard, audit"):
        tasks.assess(read(flat_file), (), "deep", model=tiny_model, run=Run())


def test_the_command_line(
    tiny_model: Path, image_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "analyze",
        str(image_file),
        "--model",
        str(tiny_model),
        "--methods",
        "grad-cam",
        "--cards",
        "quick",
    ]
    assert main([*arguments, "--device", "cpu", "--precision", "fp32", "--out", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / image_file.stem
    data = json.loads((folder / "analysis.json").read_text())
    assert data["explanations"][0]["reliability"]["preset"] == "quick"
    assert "--cards quick" in data.get("command", "--cards quick")
