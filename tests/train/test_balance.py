"""What an epoch shows, counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from xai_engine.errors import UsageError
from xai_engine.train import balance, classifier, settings
from xai_engine.train.sample import Sample


def _samples() -> list[Sample]:
    """30 normal and 10 sick of a, 15 normal and 5 sick of b."""
    kinds = [("a", 0.0)] * 30 + [("a", 1.0)] * 10 + [("b", 0.0)] * 15 + [("b", 1.0)] * 5
    return [
        Sample(Path(f"{i}.png"), label, 1.0, True, str(i), "train", name, 1.0)
        for i, (name, label) in enumerate(kinds)
    ]


def _drawn(**config: object) -> dict[tuple[str, float], float]:
    samples = _samples()
    which = np.arange(len(samples))
    chances = classifier.chances(samples, which, settings.complete(config))
    order = balance.order(which, chances, 12_000, (1, 2))
    kinds = [(samples[i].population, samples[i].label) for i in order]
    return {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))}


def test_shares_and_classes() -> None:
    close = {"abs": 0.02}
    assert _drawn(shares={"a": 0.2, "b": 0.8}) == pytest.approx(
        {("a", 0.0): 0.1, ("a", 1.0): 0.1, ("b", 0.0): 0.4, ("b", 1.0): 0.4}, **close
    )
    assert _drawn() == pytest.approx(
        {("a", 0.0): 1 / 3, ("a", 1.0): 1 / 3, ("b", 0.0): 1 / 6, ("b", 1.0): 1 / 6}, **close
    )
    with pytest.raises(UsageError, match=r"see b"):
        _drawn(shares={"a": 1.0})


def test_without_balance_every_image_comes_once_before_any_comes_again() -> None:
    samples = _samples()
    which = np.arange(10, len(samples))
    config = settings.complete({"balance": "none"})
    assert classifier.chances(samples, which, config) is None
    order = balance.order(which, None, 75, (3, 0))
    assert sorted(order[:50]) == list(which)
    assert len(set(order[50:])) == 25
    assert not np.array_equal(order[:50], balance.order(which, None, 50, (3, 1)))


def test_weights_make_both_classes_count_the_same() -> None:
    samples = _samples()
    which = np.arange(len(samples))
    weighed = balance.weighed(samples, which, settings.complete({"balance": "weights"}))
    sums = [sum(s.weight for s in weighed if s.label == label) for label in (0.0, 1.0)]
    assert sums == pytest.approx([30.0, 30.0])
    assert balance.weighed(samples, which, settings.complete({})) == samples
