"""Maps of a preset share their forwards, whichever way they are asked for, and are made again from the record alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.explain.test_contract import StopAfter
from xai_engine import cli
from xai_engine.analysis import pipeline, tasks
from xai_engine.classifier import bundle
from xai_engine.evidence import record
from xai_engine.evidence.case import CaseReview
from xai_engine.explain import registry
from xai_engine.explain.types import Explanation
from xai_engine.radiograph.read import read
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.device import choose
from xai_engine.runtime.run import Run

SUPERPIXELS: dict[str, Any] = {"segments": 20, "samples": 240}
TOGETHER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("grad-cam", {}),
    ("lime", SUPERPIXELS),
    ("kernel-shap", SUPERPIXELS),
    ("rise", {"masks": 256}),
)
OPTIONS: dict[str, Any] = {"device": "cpu", "precision": "fp32"}


@pytest.fixture(autouse=True, scope="module")
def torch_alone(tiny_model: Path) -> Iterator[None]:
    """Which backend is the fastest may change on a busy machine, and with it the last bits."""
    tasks._CLASSIFIERS.clear()
    policy = choose("cpu", "fp32", "torch")
    tasks._CLASSIFIERS[str(tiny_model), "cpu", "fp32", 0] = bundle.load(tiny_model, policy)
    yield
    tasks._CLASSIFIERS.clear()


@pytest.fixture(autouse=True)
def fresh_process(torch_alone: None) -> Iterator[None]:
    tasks._POOL.clear()
    yield
    tasks._POOL.clear()


@pytest.fixture(scope="module")
def radiograph(image_file: Path) -> Radiograph:
    return read(image_file)


def ask(radiograph: Radiograph, model: Path, number: int, beside: Any = TOGETHER, **run: Any) -> Explanation:
    """One map as the window asks for it."""
    method, params = TOGETHER[number]
    options: Any = {"model": model, **OPTIONS}
    return tasks.explain(radiograph, method, params, None, 5, beside, run=Run(**run), **options)


@pytest.fixture(scope="module")
def at_once(radiograph: Radiograph, tiny_model: Path) -> CaseReview:
    """As `radiolucent analyze` makes them."""
    options: Any = {"model": tiny_model, **OPTIONS}
    return tasks.analyze(radiograph, TOGETHER, None, 5, run=Run(), **options)


def same(one: Explanation, other: Explanation) -> bool:
    return (
        np.array_equal(one.values, other.values)
        and (one.notes, one.extra, one.precision, one.backend, one.shared_with)
        == (other.notes, other.extra, other.precision, other.backend, other.shared_with)
    )  # fmt: skip


def test_one_by_one_as_at_once(radiograph: Radiograph, tiny_model: Path, at_once: CaseReview) -> None:
    found = [ask(radiograph, tiny_model, n) for n in range(4)]
    assert all(same(one, other) for one, other in zip(found, at_once.explanations, strict=True))
    assert found[1].forwards > 200
    assert found[2].forwards == 0  # LIME's
    assert found[3].forwards <= 256  # its own masks alone
    assert [len(e.shared_with) for e in found] == [0, 2, 2, 2]
    alone = ask(radiograph, tiny_model, 2, beside=())
    assert alone.forwards > 200
    assert alone.shared_with == ()
    assert not np.array_equal(alone.values, found[2].values)


def test_a_lost_process_or_a_stopped_map_changes_no_other_map(
    radiograph: Radiograph, tiny_model: Path, at_once: CaseReview
) -> None:
    stopped = ask(radiograph, tiny_model, 1, cancel=StopAfter(12))
    assert stopped.partial
    assert same(ask(radiograph, tiny_model, 2), at_once.explanations[2])
    tasks._POOL.clear()  # as in a process that was started again
    again = ask(radiograph, tiny_model, 3)
    assert same(again, at_once.explanations[3])
    assert again.forwards > 256  # those of the others too
    ask(radiograph, tiny_model, 1, beside=TOGETHER[:3])  # other methods in between
    assert same(ask(radiograph, tiny_model, 1), at_once.explanations[1])


def saved(case: CaseReview, folder: Path, numbers: tuple[int, ...]) -> tuple[Path, dict[str, Any]]:
    """The folder of a case with these maps only, and its record."""
    chosen = replace(case, explanations=tuple(case.explanations[n] for n in numbers))
    pipeline.write(chosen, folder)
    return folder / record.FILE_NAME, json.loads((folder / record.FILE_NAME).read_text())


def test_maps_that_shared_verify_without_each_other(
    at_once: CaseReview, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """LIME was taken out of the case, RISE and KernelSHAP changed places, one of two has been assessed."""
    path, data = saved(at_once, tmp_path / "part", (3, 2))
    assert [e["shared_with"][0]["method"] for e in data["explanations"]] == ["lime", "lime"]
    words = ["verify", str(path.parent), "--model", str(tiny_model)]
    assert cli.main(words) == 0, capsys.readouterr().out
    for entry in data["explanations"]:
        entry["shared_with"] = []
    path.write_text(json.dumps(data))
    assert cli.main(words) == 1
    out = capsys.readouterr().out
    assert "rise.npy: " in out
    assert "kernel-shap.npy: " in out


def test_a_record_of_an_older_version_verifies(
    at_once: CaseReview, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = saved(at_once, tmp_path / "old", (0, 1, 2, 3))
    for entry in data["explanations"]:
        del entry["shared_with"]
    path.write_text(json.dumps(data))
    assert cli.main(["verify", str(path.parent), "--model", str(tiny_model)]) == 0, capsys.readouterr().out


def test_the_command_says_what_it_cannot_repeat(at_once: CaseReview) -> None:
    assert record.untold(at_once) == []
    lime, shap, rise = at_once.explanations[1:]
    assert record.untold(replace(at_once, explanations=(shap, rise))) == [
        "kernel-shap was made beside lime",
        "rise was made beside lime and kernel-shap",
    ]
    own = replace(lime, shared_with=())
    assert record.untold(replace(at_once, explanations=(own, shap, rise))) == ["lime was made by itself"]


def test_presets_hold_what_shares() -> None:
    """Audit's three forward-only methods share by default; what stands in the other presets has nobody to share with."""
    from xai_engine.explain.pool import Pool

    for preset in registry.presets():
        methods = [registry.create(name, **params) for name, params in preset.methods]
        pool = Pool.of(methods)
        served = [m.name for m in methods if pool.serves(m)]
        assert served == (["lime", "kernel-shap", "rise"] if preset.name == "audit" else [])
