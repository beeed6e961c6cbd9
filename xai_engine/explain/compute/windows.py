"""Occlusion by windows and by random soft masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.classifier.backends.base import Backend
from xai_engine.explain.compute import local
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.methods.perturbation import Occlusion, Rise
from xai_engine.explain.session import Attribution, Session

FEWEST = 16  # windows below which writing the network down costs more than it saves
VERIFIED = 2  # windows computed both ways
AHEAD = 32  # windows whose touched parts are computed at once: fewer waste time between operations, more leave the cache
ALIGNED = 8  # windows whose places agree modulo this many pixels are computed together: the same part of each is touched

MASK_STEP = 64  # masks; a multiple of the images of a pass

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
    """Windows whose first operations are computed on what they touch; see compute.local. What lies behind runs on the
    backend that the policy asks for."""

    def __init__(
        self,
        session: Session,
        plan: local.Plan,
        behind: torch.Tensor,
        starts: npt.NDArray[np.int64],
        size: tuple[int, int],
        backend: Backend | None,
    ) -> None:
        self.session, self.plan, self.starts, self.size, self.backend = session, plan, starts, size, backend
        self.hidden = behind
        self.rest = plan.rest.to(memory_format=torch.channels_last)
        self.plans = {"fp32": plan}
        self.ahead: dict[str, tuple[int, int, torch.Tensor]] = {}

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
        starts = np.array(places, np.int64)
        plan = session.awaited(local.prepare(session.network, session.x, size, starts))
        if plan is None:
            return None
        backend = None
        if session.is_compiled(len(places)):
            backend = session.compiled(plan.rest, plan.shape)
            if backend is None:
                return None  # full passes on a compiled network are faster than what torch makes of the rest
        out = _Prefix(session, plan, behind, starts, size, backend)
        expected = session.scores(make(0, VERIFIED))
        found = out.passed(out.make(0, VERIFIED), "fp32").double().numpy()
        session.count(VERIFIED)
        if not np.all(np.abs(found - expected) <= local.AGREEMENT * (1 + np.abs(expected))):
            return None
        return out

    def make(self, start: int, stop: int) -> torch.Tensor:
        """Numbers of windows: what is under them depends on the precision, see `passed`."""
        return torch.arange(start, stop)

    def passed(self, batch: torch.Tensor, precision: str) -> torch.Tensor:
        """Scores of windows by their numbers, which follow each other."""
        session, backend = self.session, self.backend
        cut = self._at_cut(int(batch[0]), int(batch[-1]) + 1, precision)
        if backend is not None and precision in backend.precisions:
            session.backend = backend.name
            outputs = backend.outputs(cut, precision)
        else:
            with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = self.rest(cut.contiguous(memory_format=torch.channels_last)).float()
        return session.classifier.score_of(outputs, session.target)

    def _at_cut(self, start: int, stop: int, precision: str) -> torch.Tensor:
        """Activations at the cut, float32, computed for several batches at a time: the touched parts are small."""
        first, last, found = self.ahead.get(precision, (0, 0, torch.empty(0)))
        if not first <= start < stop <= last:
            first, last = start, min(start + max(AHEAD, stop - start), len(self.starts))
            starts, (tall, wide) = self.starts[first:last], self.size
            under = torch.stack([self.hidden[0, :, r : r + tall, c : c + wide] for r, c in starts.tolist()])
            if precision not in self.plans:
                self.plans[precision] = self.plan.reduced() if precision == "bf16" else self.plan
            plan = self.plans[precision]
            dtype = next(iter(plan.wholes.values())).dtype
            found = plan.activations(under.to(dtype), starts, self.size, self.session.tick).float()
            self.ahead[precision] = (first, last, found)
        return found[start - first : stop - first]


def soft_mask(
    rng: np.random.Generator, shape: tuple[int, int], cells: int, shown: float
) -> npt.NDArray[np.float32]:
    """(rows, columns) in [0, 1]: a random grid of (cells + 1)² resampled bilinearly and cut at a random
    offset (RISE, section 3.2).
    """
    grid = (rng.random((cells + 1, cells + 1)) < shown).astype(np.float64)
    for axis in (0, 1):
        step = np.ceil(shape[axis] / cells)
        low, share = _between(shape[axis], cells, int(rng.integers(step)))
        share = share.reshape((-1, 1) if axis == 0 else (1, -1))
        grid = grid.take(low, axis) * (1 - share) + grid.take(low + 1, axis) * share
    return grid.astype(np.float32)


def _between(length: int, cells: int, offset: int) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """(cell before each pixel of one side, share of the cell behind it) of a grid cut at this offset."""
    step = np.ceil(length / cells)
    place = np.clip((np.arange(length) + offset + 0.5) / step - 0.5, 0, cells)
    low = np.minimum(place.astype(np.int64), cells - 1)
    return low, place - low


def shared_cells(length: int, cells: int) -> FloatArray:
    """(length, length): how far two pixels of one side hang on the same cells, in the mean over the offsets of a grid.

    Cells are independent, so two pixels of a soft mask have the covariance shown (1 - shown) times the product of these
    numbers for their rows and their columns.
    """
    steps = int(np.ceil(length / cells))
    total = np.zeros((length, length))
    for offset in range(steps):
        low, share = _between(length, cells, offset)
        weight = np.zeros((length, cells + 1))
        weight[np.arange(length), low] = 1 - share
        weight[np.arange(length), low + 1] += share
        total += weight @ weight.T
    return total / steps


def rise(method: Rise, session: Session) -> Attribution:
    """Mean score weighted by the mask less mean score weighted by its complement, pixel by pixel.

    Where LIME and KernelSHAP have a pool, a sum over pixels fitted to it is the control variate: its own map is known
    exactly, only what it misses is estimated, with as many masks as give the precision of `method.masks` without it.
    """
    x, valid = session.x, session.input.valid
    helper = None if session.shared is None else session.shared.help(session)
    if session.partial:
        return Attribution(np.zeros(valid.shape), converged=False)
    slope = None if helper is None else helper.slope()
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

    def cells(start: int, stop: int) -> FloatArray:
        """What each mask shows, by blocks as large as its cells."""
        grids = torch.from_numpy(np.stack(current))[:, None].double()
        return torch.nn.functional.adaptive_avg_pool2d(grids, method.cells).flatten(1).numpy()

    weighted, told, mass = np.zeros(valid.shape), np.zeros(valid.shape), np.zeros(valid.shape)
    found: list[float] = []
    sums: list[float] = []
    wanted = method.masks
    with session.stoppable():
        for _, _, scores in session.scored(method.masks, make, features=cells):
            for mask, score in zip(current[: wanted - len(found)], scores, strict=False):
                weighted += score * mask
                mass += mask
                found.append(float(score))
                if slope is not None:
                    sums.append(float((slope * mask).sum()))
                    told += sums[-1] * mask
            if slope is not None and len(found) >= method.masks // 2:
                first = method.masks // 2
                wanted = enough_masks(
                    method.masks, _explained(np.array(found[:first]), np.array(sums[:first]))
                )
                if len(found) >= wanted:
                    break
    done = len(found)
    if done < 2:
        return Attribution(np.zeros(valid.shape), converged=False)
    sure = (mass > 1e-6) & (done - mass > 1e-6) & valid

    def contrast(weighted: FloatArray, total: float) -> FloatArray:
        return weighted / np.maximum(mass, 1e-9) - (total - weighted) / np.maximum(done - mass, 1e-9)

    values = contrast(weighted, float(np.sum(found)))
    extra = {"masks": float(done)}
    if helper is not None and slope is not None:
        f, g = np.array(found), np.array(sums)
        factor = float(np.cov(f, g)[0, 1]) / max(float(g.var(ddof=1)), 1e-30)
        rows, columns = (shared_cells(n, method.cells) for n in valid.shape)
        values = contrast(weighted - factor * told, float((f - factor * g).sum())) + factor * (
            rows @ slope @ columns
        )
        share = _explained(f, g)
        extra |= {"forwards_shared": float(len(helper.scores) + 2), "told_by_shared": share}
        session.notes.append(
            f"A sum over superpixels, from changed images that other maps of this analysis share, tells {share:.0%} of how its "
            f"masks move the score: {done} masks give the precision of {round(done / max(1.0 - share, 1e-3))}."
        )
    return Attribution(np.where(sure, values, 0.0), extra=extra)


def enough_masks(asked: int, explained: float) -> int:
    """Masks whose mean is as precise as that of `asked` once this share of the variance is known otherwise; never fewer than
    half, in steps, so that rounding errors do not change the number."""
    needed = max(asked / 2, asked * (1.0 - explained))
    return min(asked, int(np.ceil(needed / MASK_STEP - 1e-9)) * MASK_STEP)


def _explained(scores: FloatArray, sums: FloatArray) -> float:
    """Share of the variance of the scores that a multiple of the sums explains."""
    power = float(scores.var() * sums.var())
    return float(((scores - scores.mean()) * (sums - sums.mean())).mean() ** 2) / power if power > 0 else 0.0
