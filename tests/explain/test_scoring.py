"""Making the next images while others are scored: the same scores in the same order, nothing left at work, one precision at a
time."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import SIDE, image
from xai_engine.explain import scoring
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run


class Mean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((1, 2, 3))[:, None] * 100.0


class Queue:
    """A compiled copy that computes when it is asked for what it has begun, and insists on the order."""

    name, precisions = "test", ("fp32", "bf16")

    def __init__(self, off: float = 0.0) -> None:
        self.off, self.events, self.under_way = off, [], {"fp32": [], "bf16": []}  # type: ignore[var-annotated]
        self.most = 0

    def start(self, batch: torch.Tensor, precision: str) -> Callable[[], torch.Tensor]:
        ticket = object()
        kept = batch.clone()
        self.under_way[precision].append(ticket)
        self.most = max(self.most, len(self.under_way[precision]))

        def finished() -> torch.Tensor:
            assert self.under_way[precision].pop(0) is ticket
            assert torch.equal(batch, kept)  # nobody changed it meanwhile
            self.events.append((precision, len(batch)))
            found = Mean()(batch)
            return found if precision == "fp32" else found + self.off * torch.sin(1e6 * found)

        return finished

    def outputs(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        return self.start(batch, precision)()


def session_with(queue: Queue, precision: str = "fp32", run: Run | None = None) -> Session:
    model = ModuleClassifier(Mean().eval(), (1, SIDE, SIDE))
    model.precision, model.batch_size = precision, 4  # type: ignore[assignment]
    session = Session(model, image(), "pneumonia", run or Run())
    session._compiled = queue
    return session


def images(count: int) -> torch.Tensor:
    return torch.randn(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def test_the_next_batch_is_begun_before_the_last_is_taken() -> None:
    given, queue = images(30), Queue()
    with session_with(queue) as session:
        found = list(session.scored(30, lambda a, b: given[a:b]))
    assert [(a, b) for a, b, _ in found] == [(n, min(n + 4, 30)) for n in range(0, 30, 4)]
    expected = Mean()(given)[:, 0].double().numpy()
    assert np.allclose(np.concatenate([v for *_, v in found]), expected, atol=1e-6)
    assert queue.most == scoring.UNDER_WAY
    assert session.forwards == 30


def test_whoever_stops_early_does_not_wait() -> None:
    given, queue = images(64), Queue()
    with session_with(queue) as session:
        for _, stop, _ in session.scored(64, lambda a, b: given[a:b]):
            if stop >= 12:
                break
        assert session.forwards == 12
    token, queue = threading.Event(), Queue()
    with session_with(queue, run=Run(cancel=token)) as session, session.stoppable():
        for _, stop, _ in session.scored(64, lambda a, b: given[a:b]):
            if stop >= 8:
                token.set()
    assert session.partial
    assert session.forwards == 8


def test_precisions_are_compared_only_where_a_series_goes_on() -> None:
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (600, 5)).astype(float)
    given = (
        torch.from_numpy((sets @ rng.normal(size=5))[:, None, None, None]).float().expand(-1, 1, SIDE, SIDE)
    )
    queue = Queue()
    with session_with(queue, "bf16") as session:
        parts = session.scored(
            600, lambda a, b: given[a:b].clone(), features=lambda a, b: sets[a:b], before=200
        )
        values = np.concatenate([v for *_, v in parts])
    assert np.allclose(values, Mean()(given)[:, 0].double().numpy(), atol=1e-5)
    assert {p for p, _ in queue.events[:50]} == {"fp32"}
    count = {p: sum(n for q, n in queue.events if q == p) for p in ("fp32", "bf16")}
    assert (session.precision, count) == ("bf16", {"fp32": 200 + scoring.BF16_CHECKED, "bf16": 400})


@pytest.mark.parametrize(("off", "features"), [(0.0, False), (0.0, True), (40.0, False), (40.0, True)])
def test_precisions_are_compared_before_one_is_taken(off: float, features: bool) -> None:
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (600, 5)).astype(float)
    given = (
        torch.from_numpy((sets @ rng.normal(size=5))[:, None, None, None]).float().expand(-1, 1, SIDE, SIDE)
    )
    queue = Queue(off)
    with session_with(queue, "bf16") as session:
        parts = session.scored(
            600, lambda a, b: given[a:b].clone(), features=(lambda a, b: sets[a:b]) if features else None
        )
        values = np.concatenate([v for *_, v in parts])
    count = {p: sum(n for q, n in queue.events if q == p) for p in ("fp32", "bf16")}
    exact = Mean()(given)[:, 0].double().numpy()
    if off:
        assert (session.precision, count["fp32"]) == ("fp32", 600)
        assert "bf16 changes the ranks" in session.notes[0]
        assert np.allclose(values, exact, atol=1e-5)
    else:
        assert (session.precision, count) == ("bf16", {"fp32": scoring.BF16_CHECKED, "bf16": 600})
        assert np.allclose(values, exact, atol=1e-5)
    assert session.forwards == sum(count.values())


class Askew(Queue):
    """In bf16 it adds what one pixel says: another sum over the same sets."""

    def start(self, batch: torch.Tensor, precision: str) -> Callable[[], torch.Tensor]:
        finished = super().start(batch, precision)
        if precision == "fp32":
            return finished
        return lambda: finished() + self.share * batch[:, 0, 0, :1]

    share = 0.0


@pytest.mark.parametrize(("share", "exact"), [(0.0, 32), (0.003, 32), (0.6, 96)])
def test_scores_are_held_until_it_is_known_whether_they_will_do(share: float, exact: int) -> None:
    """Where they will not do as they are, the exact ones are computed for those that were held, and the difference is told from
    all of them; in order, each image once."""
    rng = np.random.default_rng(0)
    sets = rng.integers(0, 2, (600, 8)).astype(float)
    given = (
        torch.from_numpy((sets @ rng.normal(size=8) / 100)[:, None, None, None])
        .float()
        .expand(-1, 1, SIDE, SIDE)
        .clone()
    )
    given[:, 0, 0, 0] = torch.from_numpy(sets @ rng.normal(size=8))
    queue = Askew()
    queue.share = share
    with session_with(queue, "bf16") as session:
        found = list(session.scored(600, lambda a, b: given[a:b].clone(), features=lambda a, b: sets[a:b]))
    ends = [b for _, b, _ in found]
    assert [a for a, _, _ in found] == [0, *ends[:-1]]
    assert ends[-1] == 600
    assert {b - a for a, b, _ in found} == {4, 4 * scoring.WIDER}  # when it is known that bf16 will do
    values, truth = np.concatenate([v for *_, v in found]), Mean()(given)[:, 0].double().numpy()
    assert np.allclose(values[:exact], truth[:exact], atol=1e-6)
    count = {p: sum(n for q, n in queue.events if q == p) for p in ("fp32", "bf16")}
    assert (session.precision, count) == ("bf16", {"fp32": exact, "bf16": 600})
    off = np.abs(values[96:] - truth[96:])
    if share == 0.6:  # regressed: the added sum is gone
        assert off.max() < 0.1 * truth.std()
    else:
        assert bool(off.max() > 1e-4 * truth.std()) is (share > 0)
    slope = lambda y: np.linalg.lstsq(np.column_stack([np.ones(600), sets]), y, rcond=None)[0][1:]  # noqa: E731
    assert np.corrcoef(slope(values).argsort().argsort(), slope(truth).argsort().argsort())[0, 1] >= 0.97
