"""Scores of many changed images: the next ones are made while the network is at the ones before, in the precision that a check
on this image allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.precision import MOST, STEP, Correction, checked, enough
from xai_engine.explain.ranks import rank_correlation

if TYPE_CHECKING:
    from xai_engine.explain.session import Session

Finished = Callable[[], torch.Tensor]
Begin = Callable[[torch.Tensor, str], Finished]
FloatArray = npt.NDArray[np.float64]

BF16_GATE = 0.995  # rank correlation with fp32 that reduced precision must reach on this image
BF16_MINIMUM = 96  # scores below which checking costs more than bf16 saves
BF16_CHECKED = 32  # images scored in both precisions
UNDER_WAY = 2  # batches in a compiled copy: more would only be given up when a run is cancelled
IN_BLOCKS = 8  # the same where batches are made several at a time


@dataclass(slots=True)
class _Batch:
    """Images start … stop; what will give their scores, in the precision of the moment and, while checking, in bf16."""

    start: int
    stop: int
    images: torch.Tensor
    values: Finished | None = None
    reduced: Finished | None = None


@dataclass(slots=True, eq=False)
class _Check:
    """Whether reduced precision keeps the ranks on this image, as far as it is known."""

    session: Session
    count: int
    features: Callable[[int, int], FloatArray] | None
    means: bool
    under_way: bool
    look: int = BF16_CHECKED
    correction: Correction | None = None
    exact: list[float] = field(default_factory=list)
    reduced: list[float] = field(default_factory=list)
    known: list[FloatArray] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.look = min(self.count, BF16_CHECKED)
        if self.under_way and self.features is not None:
            self.look = checked(self.features(0, 1).shape[1], self.count)
            self.under_way = self.look > 0

    def add(self, start: int, stop: int, exact: FloatArray, reduced: FloatArray) -> bool:
        """Whether from here on reduced precision is right."""
        self.exact += exact.tolist()
        self.reduced += reduced.tolist()
        if self.features is not None:
            self.known.append(self.features(start, stop))
        if stop < self.look:
            return False
        if self.features is None:
            agreement = rank_correlation(np.array(self.exact), np.array(self.reduced))
        else:
            both = np.array(self.exact), np.array(self.reduced)
            self.correction = Correction.of(np.concatenate(self.known), *both, self.count, self.means)
            agreement = self.correction.expected
        if agreement >= BF16_GATE:
            self.under_way = False
            return True
        self.correction = None
        if self.features is not None and enough(len(self.exact), agreement, BF16_GATE) <= MOST * self.count:
            self.look = stop + STEP
            return False
        self.under_way = False
        self.session.notes.append(
            f"Computed in fp32: bf16 changes the ranks on this image ({agreement:.3f})."
        )
        return False


def scored(
    session: Session,
    count: int,
    make: Callable[[int, int], torch.Tensor],
    begin: Begin,
    precisions: tuple[str, ...],
    features: Callable[[int, int], FloatArray] | None,
    means: bool,
    under_way: int,
    before: int = 0,
) -> Iterator[tuple[int, int, FloatArray]]:
    """See Session.scored. begin: (what `make` gives, precision) -> what waits for its scores; precisions: what it can.

    under_way: batches begun and not yet taken, at most; nobody waits for those when a run is cancelled.
    before: images scored in fp32 before precisions are compared.
    """
    precision = "fp32"
    wanted = (
        count - before >= BF16_MINIMUM and session.classifier.precision == "bf16" and "bf16" in precisions
    )
    check = _Check(session, count - before, features, means, wanted)
    check.look += before
    waiting: deque[_Batch] = deque()
    ahead: _Batch | None = None
    following = 0
    while True:
        # while precisions are compared the next batch is made, but not begun: how is not known yet
        while following < count or ahead is not None:
            if ahead is None:
                session.tick()
                stop = min(following + session.batch_size, count)
                ahead = _Batch(following, stop, make(following, stop))
                following = stop
            compared = check.under_way and ahead.start >= before
            if len(waiting) >= (1 if compared else under_way):
                break
            session.tick()
            ahead.values = begin(ahead.images, precision)
            if compared:
                ahead.reduced = begin(ahead.images, "bf16")
            waiting.append(ahead)
            ahead = None
        if not waiting:
            return
        batch = waiting.popleft()
        assert batch.values is not None
        given, other = batch.values, batch.reduced
        values = session.taken(given)
        if other is not None:
            if check.add(batch.start, batch.stop, values, session.taken(other)):
                precision = session.precision = "bf16"
        elif check.correction is not None and features is not None:
            values = values + check.correction(features(batch.start, batch.stop))
        yield batch.start, batch.stop, values
