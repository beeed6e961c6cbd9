"""Soups: the mean of fine-tuned copies, taken only where validation does not get worse, resumed to the bit."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.train import small  # noqa: E402
from xai_engine.errors import Cancelled, UsageError  # noqa: E402
from xai_engine.runtime.run import Progress, Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, settings, soup  # noqa: E402

SOUP: dict[str, Any] = {
    "size": 48,
    "epochs": 1,
    "copies": [{"lr": 0.002}, {"lr": 0.001, "style_mixing": 0.2}],
}


def averages(folder: Path, count: int) -> list[dict[str, Any]]:
    states = [checkpoint.peek(folder / f"copy-{k + 1}") for k in range(count)]
    return [state["average"] for state in states if state is not None]


def test_the_mean_is_that_of_the_copies_and_is_taken_when_it_is_no_worse(tmp_path: Path) -> None:
    small.images(tmp_path)
    config = small.config(tmp_path, soup=SOUP)
    plain = classifier.train({**config, "soup": None}, tmp_path, tmp_path / "plain", Run())
    trained = classifier.train(config, tmp_path, tmp_path / "run", Run())
    with (tmp_path / "run" / soup.NAME).open() as stream:
        rows = {row["network"]: row for row in csv.DictReader(stream)}
    assert list(rows) == ["start", "copy 1", "copy 2", "soup"]
    better = float(rows["soup"]["val_loss"]) <= float(rows["start"]["val_loss"])
    assert [name for name, row in rows.items() if row["taken"] == "1"] == ["soup" if better else "start"]
    one, two = averages(tmp_path / "run", 2)
    assert any(not torch.equal(one[name], two[name]) for name in one)
    for name, value in trained.network.state_dict().items():
        if value.dtype.is_floating_point:
            expected = (one[name] + two[name]) / 2 if better else plain.network.state_dict()[name]
            torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7)
    again = classifier.logits_of(
        trained.network,
        trained.crops,
        np.flatnonzero(np.isfinite(trained.logits)),
        classifier.PreprocessSpec(**config["preprocessing"]),
    )
    np.testing.assert_array_equal(again, trained.logits[np.isfinite(trained.logits)])


def test_a_worse_mean_is_left(tmp_path: Path) -> None:
    start = torch.nn.Linear(1, 1)

    def fine_tune(recipe: Any, network: Any, folder: Path, number: int) -> Any:
        network.weight.data.add_(1.0 + number)
        return network

    def figures(network: Any) -> dict[str, float]:
        return {"val_loss": float((network.weight - start.weight).detach().abs())}

    config = {"seed": 0, "soup": SOUP}
    assert soup.bake(start, config, tmp_path, fine_tune, figures) is start
    assert (
        soup.bake(start, config, tmp_path, fine_tune, lambda n: {"val_loss": -figures(n)["val_loss"]})
        is not start
    )


def test_a_stopped_copy_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    small.images(tmp_path)
    config = small.config(tmp_path, soup=SOUP)
    whole = classifier.train(config, tmp_path, tmp_path / "whole", Run())
    seen = []

    class Stop:
        def is_set(self) -> bool:
            return "epoch 1/1" in (seen[-1] if seen else "")

    def watch(progress: Progress) -> None:
        seen.append(progress.message)

    with pytest.raises(Cancelled):
        classifier.train(
            config, tmp_path, tmp_path / "parts", Run(cancel=Stop(), report=watch, min_interval_s=0)
        )
    assert (tmp_path / "parts" / "copy-1").is_dir()
    assert not (tmp_path / "parts" / soup.NAME).exists()
    resumed = classifier.train(config, tmp_path, tmp_path / "parts", Run())
    small.assert_same_bits(dict(whole.network.state_dict()), dict(resumed.network.state_dict()))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "soup must be an object"),
        ({"size": 48, "epochs": 0, "copies": [{}, {}]}, "soup.epochs must be"),
        ({"size": 48, "epochs": 1, "copies": [{}]}, "at least two"),
        ({"size": 48, "epochs": 1, "copies": [{}, {"seed": 3}]}, "unknown key 'soup.copies.seed'"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, value: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        settings.complete(small.config(tmp_path, soup=value))


def test_a_run_from_before_there_were_soups_goes_on() -> None:
    before = settings.fingerprint(settings.complete({"data": [], "version": "1.1.0"}))
    before["version"] = "'1.1.0'"
    now = settings.fingerprint(settings.complete({"data": [], "version": "1.2.0", "soup": SOUP}))
    assert settings.difference(before, now) == ""
