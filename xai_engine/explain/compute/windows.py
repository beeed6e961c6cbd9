"""Occlusion by windows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.behind import BROKEN, Behind
from xai_engine.explain.compute import local
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.methods.perturbation import Occlusion
from xai_engine.explain.session import Attribution, Session

FEWEST = 16  # windows below which writing the network down costs more than it saves
VERIFIED = 2  # windows computed both ways
AHEAD = 32  # windows whose touched parts are computed at once: fewer waste time between operations, more leave the cache
ALIGNED = 8  # windows whose places agree modulo this many pixels are computed together: the same part of each is touched

FloatArray = npt.NDArray[np.float64]


def positions(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side; the last window ends at the border."""
    window = min(window, length)
    out = list(range(0, length - window + 1, stride))
    if out[-1] != length - window:
        out.append(length - window)
    return out


def occlusion(method: Occlusion, session: Session) -> Attribution:
    """Mean over the windows that cover a pixel of score(image) - score(image with the window replaced)."""
    x, valid = session.x, session.input.valid
    rows, columns = valid.shape
    tall, wide = min(method.window, rows), min(method.window, columns)
    behind = baseline(session, method.replacement, method.blur)
    differs = (behind != x).any(1)[0].cpu().numpy()
    total, covered = np.zeros((rows, columns)), np.zeros((rows, columns))
    places: list[tuple[int, int]] = []
    for r in positions(rows, tall, method.stride):
        for c in positions(columns, wide, method.stride):
            if differs[r : r + tall, c : c + wide].any():
                places.append((r, c))
            else:  # nothing is replaced: the score falls by exactly nothing, and no pass is needed to know it
                covered[r : r + tall, c : c + wide] += 1
    places.sort(key=lambda at: (at[0] % ALIGNED, at[1] % ALIGNED, at))
    session.plan(len(places) + 1, "sliding the window")

    def make(start: int, stop: int) -> torch.Tensor:
        batch = x.repeat(stop - start, 1, 1, 1)
        for image, (r, c) in zip(batch, places[start:stop], strict=True):
            image[:, r : r + tall, c : c + wide] = behind[0, :, r : r + tall, c : c + wide]
        return batch

    done, reused = 0, 0
    with session.stoppable():
        whole = float(session.scores(x)[0])
        shared = _Prefix.of(session, behind, places, (tall, wide), make)
        if shared is not None:
            reused = len(shared.plan.nodes)
        scored = (
            session.scored(len(places), make)
            if shared is None
            else session.scored(len(places), shared.make, shared.behind)
        )
        for start, stop, scores in scored:
            for (r, c), score in zip(places[start:stop], scores, strict=True):
                total[r : r + tall, c : c + wide] += whole - score
                covered[r : r + tall, c : c + wide] += 1
            done = stop
    values = np.where(valid, total / np.maximum(covered, 1), 0.0)
    return Attribution(values, extra={"windows": float(done), "operations_reused": float(reused)})


class _Prefix:
    """Windows whose first operations are computed on what they touch; see compute.local."""

    def __init__(
        self,
        session: Session,
        plan: local.Plan,
        hidden: torch.Tensor,
        starts: npt.NDArray[np.int64],
        size: tuple[int, int],
    ) -> None:
        self.session, self.plan, self.starts, self.size = session, plan, starts, size
        self.hidden = hidden
        self.behind = Behind.of(session, plan.rest, plan.shape, len(starts))
        self.ahead = (0, 0, torch.empty(0))

    @staticmethod
    def of(
        session: Session,
        hidden: torch.Tensor,
        places: list[tuple[int, int]],
        size: tuple[int, int],
        make: Callable[[int, int], torch.Tensor],
    ) -> _Prefix | None:
        """None where full passes are right or cheaper."""
        if session.x.device.type != "cpu" or len(places) < FEWEST or session.is_tapped():
            return None
        starts = np.array(places, np.int64)
        plan = session.awaited(local.prepare(session.network, session.x, size, starts))
        if plan is None:
            return None
        try:
            out = _Prefix(session, plan, hidden, starts, size)
        except BROKEN:
            return None
        return out if out.behind.agrees(out.make(0, VERIFIED), make(0, VERIFIED), local.AGREEMENT) else None

    def make(self, start: int, stop: int) -> torch.Tensor:
        """(n, channels, rows, columns) at the cut, float32, computed for several batches at a time: the touched parts are small.
        Never in bf16: the first layers suffer most from it, see backends.mixed."""
        first, last, found = self.ahead
        if not first <= start < stop <= last:
            first, last = start, min(start + max(AHEAD, stop - start), len(self.starts))
            starts, (tall, wide) = self.starts[first:last], self.size
            under = torch.stack([self.hidden[0, :, r : r + tall, c : c + wide] for r, c in starts.tolist()])
            found = self.plan.activations(under, starts, self.size, self.session.tick)
            self.ahead = (first, last, found)
        return found[start - first : stop - first]
