"""The search for hyperparameters: seeded, resumable, ending in a configuration that trains."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
optuna = pytest.importorskip("optuna")

from tests.train import small  # noqa: E402
from xai_engine.errors import Cancelled, UsageError  # noqa: E402
from xai_engine.runtime.run import Progress, Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, command, settings, tune  # noqa: E402

SPACE = {
    "lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "batch": {"choices": [4, 8]},
    "augment.rotate": {"low": 0, "high": 20},
}


def _config(folder: Path, **changes: Any) -> dict[str, Any]:
    small.images(folder, 4)
    given = small.config(
        folder, stages=[{"size": 32, "epochs": 2}], images_per_epoch=8, tune={"trials": 3, "space": SPACE}
    )
    return settings.complete(given | changes)


def _trials(folder: Path) -> list[dict[str, str]]:
    with (folder / "trials.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_a_stopped_search_ends_like_one_that_was_not(tmp_path: Path) -> None:
    config = _config(tmp_path)
    path = tune.search(config, tmp_path, tmp_path / "whole", Run())
    whole = _trials(tmp_path / "whole")
    assert [t["trial"] for t in whole] == ["1", "2", "3"]
    assert all(t["state"] == "complete" for t in whole)
    assert len({t["lr"] for t in whole}) == 3

    class Stop:
        now = False

        def is_set(self) -> bool:
            return self.now

    stop = Stop()

    def watch(progress: Progress) -> None:
        stop.now = stop.now or "trial 2/3, epoch 2/2" in progress.message

    with pytest.raises(Cancelled, match="goes on from there"):
        tune.search(config, tmp_path, tmp_path / "parts", Run(cancel=stop, report=watch, min_interval_s=0))
    assert len(checkpoint.read_log(tmp_path / "parts" / "trials" / "002")) == 1
    again = tune.search(config, tmp_path, tmp_path / "parts", Run())
    assert _trials(tmp_path / "parts") == whole
    assert again.read_bytes() == path.read_bytes()

    # the figure of each trial is the best epoch of its log, and the best trial is what is written
    values = []
    for number in range(1, 4):
        rows = checkpoint.read_log(tmp_path / "whole" / "trials" / f"{number:03d}")
        values.append(max(float(row["val_auc"]) for row in rows))
    assert [float(t["val_auc"]) for t in whole] == pytest.approx(values, abs=1e-5)
    best = whole[values.index(max(values))]
    tuned = json.loads(path.read_text())
    assert (tuned["lr"], tuned["batch"]) == (float(best["lr"]), int(best["batch"]))
    assert tuned["augment"]["rotate"] == float(best["augment.rotate"])
    assert tuned["name"] == "small-tuned"
    assert "tune" not in tuned
    assert str(tmp_path) not in path.read_text()

    # it can be trained
    ready = command.read_config(str(path)) | {"lungs": config["lungs"]}
    trained = classifier.train(ready, tmp_path, tmp_path / "tuned", Run())
    assert trained.crops.pixels.shape[0] == 24


def test_poor_trials_are_pruned_and_bad_ones_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six scripted trials: the fifth is far below the median of the four before it, the sixth has no loss."""
    epochs = []

    def train(config: Any, root: Path, out: Path, run: Run, *, on_epoch: Any, **_: Any) -> None:
        number = int(out.name)
        out.mkdir(parents=True)
        if number == 6:
            raise classifier.TrainingFailed("the loss is not a number")
        for epoch in range(1, 6):
            row = {"epoch": epoch, "val_auc": 0.4 if number == 5 else 0.7 + number / 100}
            checkpoint.log(out, row)
            epochs.append((number, epoch))
            on_epoch(row)

    monkeypatch.setattr(classifier, "train", train)
    config = _config(tmp_path)
    path = tune.search(config, tmp_path, tmp_path / "run", Run(), trials=6)
    trials = _trials(tmp_path / "run")
    assert [t["state"] for t in trials] == ["complete"] * 4 + ["pruned", "fail"]
    assert max(e for n, e in epochs if n == 5) == tune.WARM_UP
    assert json.loads(path.read_text())["lr"] == float(trials[3]["lr"])
    with pytest.raises(UsageError, match="another configuration"):
        tune.search(config | {"seed": 9}, tmp_path, tmp_path / "run", Run(), trials=6)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"lr": {"low": 1.0, "high": 0.1}}, "tune.space.lr needs low < high"),
        ({"lr": {"low": 0.0, "high": 0.1, "log": True}}, "above 0 for log"),
        ({"lr": [1, 2]}, "tune.space.lr needs"),
        ({"rate": {"low": 0.1, "high": 1.0}}, "unknown key 'rate'"),
        ({"augment.turn": {"low": 0.1, "high": 1.0}}, "unknown key 'augment.turn'"),
        ({"lr.x": {"choices": [1]}}, "there is no 'lr' to set it in"),
        ({}, "must be an object"),
    ],
)
def test_a_space_that_cannot_be_searched_is_named(space: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tune.check(settings.complete({}), {"space": space}, space)
