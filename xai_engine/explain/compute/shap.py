"""Shapley values of superpixels (Lundberg & Lee 2017): exact by enumeration, else by paired weighted regression."""

from __future__ import annotations

from math import comb

import numpy as np
import numpy.typing as npt

from xai_engine.explain.compute import combinations
from xai_engine.explain.compute.superpixels import Hider, hider
from xai_engine.explain.methods.perturbation import KernelShap
from xai_engine.explain.session import Attribution, Session

FloatArray = npt.NDArray[np.float64]
MOST_PLAYERS = 14  # enumerated at most


def every_set(players: int) -> npt.NDArray[np.bool_]:
    """(2**players, players): row number read as bits."""
    return (np.arange(2**players)[:, None] >> np.arange(players) & 1).astype(bool)


def exact(values: FloatArray, players: int) -> FloatArray:
    """Shapley values from the worth of every set, in the order of `every_set`."""
    sets = every_set(players)
    sizes = sets.sum(1)
    out = np.empty(players)
    for player in range(players):
        without = np.flatnonzero(~sets[:, player])
        gain = values[without | (1 << player)] - values[without]
        chance = np.array([1.0 / (players * comb(players - 1, int(s))) for s in sizes[without]])
        out[player] = float(chance @ gain)
    return out


def paired_sets(rng: np.random.Generator, pairs: int, players: int) -> npt.NDArray[np.bool_]:
    """(2 pairs, players): sets drawn with the Shapley kernel's probability, each followed by its complement."""
    sizes = np.arange(1, players)
    chance = 1.0 / (sizes * (players - sizes))
    drawn = rng.choice(sizes, pairs, p=chance / chance.sum())
    rank = rng.random((pairs, players)).argsort(1).argsort(1)
    some = rank < drawn[:, None]
    return np.stack([some, ~some], 1).reshape(2 * pairs, players)


def regress(
    sets: npt.NDArray[np.bool_],
    values: FloatArray,
    empty: float,
    full: float,
    weight: FloatArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Least squares under the constraint that the values add up to full - empty; and their standard errors.

    The sets were drawn with the kernel's probability, so they weigh the same; else `weight` holds that probability over
    the one they were drawn with. The matrix of second moments
    is known in closed
    form (Covert & Lee 2021, section 3.2), but with it a finite sample loses the linear model's exactness,
    so the sampled one is used.
    """
    players = sets.shape[1]
    if players == 1:
        return np.array([full - empty]), np.zeros(1)
    found, inverse, residual, weighted = _solved(sets, values, empty, full, weight)
    # pairs are drawn independently, their members are not: errors are clustered by pair
    score = (weighted * residual[:, None]).reshape(-1, 2, players - 1).sum(1)
    covariance = inverse @ (score.T @ score) @ inverse
    errors = np.sqrt(np.clip(np.append(np.diag(covariance), covariance.sum()), 0.0, None))
    return found, errors


def solve(
    sets: npt.NDArray[np.bool_], values: FloatArray, empty: float, full: float, weight: FloatArray
) -> FloatArray:
    """As `regress`, of sets drawn in any way, without errors."""
    return _solved(sets, values, empty, full, weight)[0]


def _solved(
    sets: npt.NDArray[np.bool_], values: FloatArray, empty: float, full: float, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """(values of the players, inverse of the normal matrix, residuals, weighted design)."""
    z = sets.astype(np.float64)
    y = values - empty
    # eliminate the last player: phi_last = total - sum(others)
    total = full - empty
    design = z[:, :-1] - z[:, -1:]
    wanted = y - z[:, -1] * total
    weighted = design if weight is None else design * weight[:, None]
    inverse = np.asarray(np.linalg.pinv(design.T @ weighted), np.float64)
    first = inverse @ (weighted.T @ wanted)
    residual = wanted - design @ first
    return np.append(first, total - first.sum()), inverse, residual, weighted


def kernel_shap(method: KernelShap, session: Session) -> Attribution:
    if session.shared is not None:
        shared = session.shared.take(method, session)
        if shared is not None:
            found, errors = regress(shared.sets, shared.scores, shared.empty, shared.full, shared.kernel)
            extra = {"superpixels": float(len(found)), "samples": float(len(shared.scores))}
            extra |= session.from_pool(shared)
            return _result(shared.parts, found, errors, shared.empty, shared.full, extra)
        if session.partial:
            return Attribution(np.zeros(session.input.valid.shape), converged=False)
    session.plan(2, "superpixels", 0.02)
    parts = hider(method, session)
    n = parts.count
    if n == 0:
        return Attribution(np.zeros(parts.labels.shape), segments=parts.labels)
    extra = {"superpixels": float(n)}
    if n <= MOST_PLAYERS and 2**n <= method.samples:
        values = worth(session, every_set(n), parts)
        extra["samples"] = float(len(values))
        if len(values) < 2**n:
            return Attribution(
                np.zeros(parts.labels.shape), converged=False, segments=parts.labels, extra=extra
            )
        found, errors = exact(values, n), np.zeros(n)
        empty, full = float(values[0]), float(values[-1])
    else:
        ends = session.scores(parts.images(np.stack([np.zeros(n, bool), np.ones(n, bool)])))
        empty, full = float(ends[0]), float(ends[1])
        sets = paired_sets(session.run.rng(41), max(1, (method.samples - 2) // 2), n)
        values = worth(session, sets, parts)
        done = len(values) // 2 * 2
        extra["samples"] = float(done)
        if done < 2:
            return Attribution(
                np.zeros(parts.labels.shape), converged=False, segments=parts.labels, extra=extra
            )
        found, errors = regress(sets[:done], values[:done], empty, full)
    return _result(parts, found, errors, empty, full, extra)


def _result(
    parts: Hider, found: FloatArray, errors: FloatArray, empty: float, full: float, extra: dict[str, float]
) -> Attribution:
    extra |= {
        "standard_error": float(errors.max()),
        "change": full - empty,
        "baseline_score": empty,
        "score": full,
    }
    enough = float(errors.max()) <= 0.1 * max(float(np.abs(found).max()), 1e-12)
    notes = () if enough else ("Few samples: the standard error exceeds a tenth of the largest value.",)
    off = abs(float(found.sum()) - (full - empty)) / max(abs(full - empty), 1e-6)
    return Attribution(parts.map(found), off, enough, notes, parts.labels, extra)


def worth(session: Session, sets: npt.NDArray[np.bool_], parts: Hider) -> FloatArray:
    """Scores of the images in which only these superpixels are shown; fewer than asked when cancelled."""
    values: list[float] = []
    session.plan(len(sets), "scoring changed images")
    with session.stoppable():
        for _, _, scores in combinations.scored(session, parts, sets):
            values += scores.tolist()
    return np.array(values)
