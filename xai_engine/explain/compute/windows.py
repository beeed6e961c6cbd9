"""Occlusion by windows and by random soft masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.compute import local
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.methods.perturbation import Occlusion, Rise
from xai_engine.explain.session import Attribution, Session

FEWEST = 16  # windows below which writing the network down costs more than it saves
VERIFIED = 2  # windows computed both ways
AHEAD = 4  # batches of windows whose touched parts are computed at once

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
    places = [
        (r, c)
        for r in positions(rows, tall, method.stride)
        for c in positions(columns, wide, method.stride)
        if valid[r : r + tall, c : c + wide].any()
    ]
    behind = baseline(session, method.replacement, method.blur)
    total, covered = np.zeros((rows, columns)), np.zeros((rows, columns))
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
            else session.scored(len(places), shared.make, shared.passed)
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
        behind: torch.Tensor,
        starts: npt.NDArray[np.int64],
        size: tuple[int, int],
    ) -> None:
        self.session, self.plan, self.behind, self.starts, self.size = session, plan, behind, starts, size
        self.rest = plan.rest.to(memory_format=torch.channels_last)
        self.found, self.ahead = torch.empty(0), (0, 0)

    @staticmethod
    def of(
        session: Session,
        behind: torch.Tensor,
        places: list[tuple[int, int]],
        size: tuple[int, int],
        make: Callable[[int, int], torch.Tensor],
    ) -> _Prefix | None:
        """None where full passes are right or cheaper."""
        if session.x.device.type != "cpu" or len(places) < FEWEST or session.is_tapped():
            return None
        if session.is_compiled(len(places)):
            return None  # whole passes there are faster than torch on the touched part: measured, see docs/bench.md
        starts = np.array(places, np.int64)
        plan = session.awaited(local.prepare(session.network, session.x, size, starts))
        if plan is None:
            return None
        out = _Prefix(session, plan, behind, starts, size)
        expected = session.scores(make(0, VERIFIED))
        found = out.passed(out.make(0, VERIFIED), "fp32").double().numpy()
        session.count(VERIFIED)
        if not np.all(np.abs(found - expected) <= local.AGREEMENT * (1 + np.abs(expected))):
            return None
        return out

    def make(self, start: int, stop: int) -> torch.Tensor:
        """Activations at the cut, computed for several batches at a time: the touched parts are small."""
        most = AHEAD * self.session.batch_size
        if not self.ahead[0] <= start < stop <= self.ahead[1]:
            last = min(start + most, len(self.starts))
            starts, (tall, wide) = self.starts[start:last], self.size
            hidden = [self.behind[0, :, r : r + tall, c : c + wide] for r, c in starts.tolist()]
            self.found = self.plan.activations(torch.stack(hidden), starts, self.size, self.session.tick)
            self.ahead = (start, last)
        return self.found[start - self.ahead[0] : stop - self.ahead[0]]

    def passed(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        """Scores of activations at the cut."""
        session = self.session
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            outputs = self.rest(batch.contiguous(memory_format=torch.channels_last)).float()
        return session.classifier.score_of(outputs, session.target)


def soft_mask(
    rng: np.random.Generator, shape: tuple[int, int], cells: int, shown: float
) -> npt.NDArray[np.float32]:
    """(rows, columns) in [0, 1]: a random grid of (cells + 1)² resampled bilinearly and cut at a random
    offset (RISE, section 3.2).
    """
    grid = (rng.random((cells + 1, cells + 1)) < shown).astype(np.float64)
    for axis in (0, 1):
        step = np.ceil(shape[axis] / cells)
        place = np.clip((np.arange(shape[axis]) + rng.integers(step) + 0.5) / step - 0.5, 0, cells)
        low = np.minimum(place.astype(np.int64), cells - 1)
        share = (place - low).reshape((-1, 1) if axis == 0 else (1, -1))
        grid = grid.take(low, axis) * (1 - share) + grid.take(low + 1, axis) * share
    return grid.astype(np.float32)


def rise(method: Rise, session: Session) -> Attribution:
    """Mean score weighted by the mask less mean score weighted by its complement, pixel by pixel."""
    x, valid = session.x, session.input.valid
    behind = baseline(session, method.replacement, method.blur)
    front = x - behind
    session.plan(method.masks, "scoring masked images")
    current: list[npt.NDArray[np.float32]] = []

    def make(start: int, stop: int) -> torch.Tensor:
        current[:] = [
            soft_mask(session.run.rng(50, i), (valid.shape[0], valid.shape[1]), method.cells, method.shown)
            for i in range(start, stop)
        ]
        masks = torch.from_numpy(np.stack(current))[:, None].to(x.device)
        return behind + masks * front

    weighted, mass = np.zeros(valid.shape), np.zeros(valid.shape)
    total, done = 0.0, 0
    with session.stoppable():
        for _, stop, scores in session.scored(method.masks, make):
            for mask, score in zip(current, scores, strict=True):
                weighted += score * mask
                mass += mask
            total += float(scores.sum())
            done = stop
    if done < 2:
        return Attribution(np.zeros(valid.shape), converged=False)
    seen = weighted / np.maximum(mass, 1e-9)
    unseen = (total - weighted) / np.maximum(done - mass, 1e-9)
    sure = (mass > 1e-6) & (done - mass > 1e-6) & valid
    return Attribution(np.where(sure, seen - unseen, 0.0), extra={"masks": float(done)})
