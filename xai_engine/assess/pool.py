"""One shared run of forward passes for all measures of one image, so that batches are always full."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.session import Session

Make = Callable[[int, int], torch.Tensor]


class Request:
    """`scores` (count,) float64 is filled when the pool runs; NaN before."""

    def __init__(self, count: int, make: Make) -> None:
        self.scores: npt.NDArray[np.float64] = np.full(count, np.nan)
        self.make = make

    @property
    def done(self) -> bool:
        return not bool(np.isnan(self.scores).any())


class Pool:
    """Collects requests, then scores them in order. Memory is that of one batch, whatever the number of requests."""

    def __init__(self) -> None:
        self._requests: list[Request] = []

    def add(self, count: int, make: Make) -> Request:
        """make(start, stop) -> (stop - start, channels, rows, columns), called when its turn comes, maybe in parts."""
        request = Request(count, make)
        self._requests.append(request)
        return request

    @property
    def count(self) -> int:
        return sum(len(r.scores) for r in self._requests)

    def run(self, session: Session, message: str) -> None:
        """Score everything. A cancelled run leaves the rest of the scores NaN and the session marked partial."""
        session.plan(self.count, message)
        pieces = [(r, i) for r in self._requests for i in range(len(r.scores))]

        def make(start: int, stop: int) -> torch.Tensor:
            parts = []
            at = start
            while at < stop:
                request, first = pieces[at]
                last = min(len(request.scores), first + stop - at)
                parts.append(request.make(first, last))
                session.tick()  # making images may take time too
                at += last - first
            return torch.cat(parts)

        with session.stoppable():
            for start, stop, scores in session.scored(len(pieces), make):
                for at in range(start, stop):
                    request, index = pieces[at]
                    request.scores[index] = scores[at - start]
