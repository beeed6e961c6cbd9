"""Occlusion by windows and by random soft masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.methods.perturbation import Occlusion, Rise
from xai_engine.explain.session import Attribution, Session

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

    done = 0
    with session.stoppable():
        whole = float(session.scores(x)[0])
        for start, stop, scores in session.scored(len(places), make):
            for (r, c), score in zip(places[start:stop], scores, strict=True):
                total[r : r + tall, c : c + wide] += whole - score
                covered[r : r + tall, c : c + wide] += 1
            done = stop
    values = np.where(valid, total / np.maximum(covered, 1), 0.0)
    return Attribution(values, extra={"windows": float(done)})


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
