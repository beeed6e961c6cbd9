"""LIME: the same sampling distribution, distances, kernel and regression as the lime package, on logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import hadamard
from scipy.special import stdtrit

from xai_engine.explain.compute import combinations
from xai_engine.explain.compute.superpixels import Hider, hider
from xai_engine.explain.methods.perturbation import Lime
from xai_engine.explain.pool import Shared
from xai_engine.explain.session import Attribution, Session

POOR_FIT = 0.5  # R² below which the map carries a warning
LOOK_EVERY = 16  # samples between two looks at the confidence intervals
SOON = (
    5  # times the superpixels: so many images are scored before a check of bf16 that most series end without
)
FEWEST = 3  # degrees of freedom below which nothing is said about errors

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Surrogate:
    """Weighted ridge regression of scores on shown superpixels.

    coefficients: (superpixels,); half_width: of their 95 % confidence intervals; r2: weighted; local: its
    score for the image.
    """

    coefficients: FloatArray
    intercept: float
    half_width: FloatArray
    r2: float
    local: float


def design(rng: np.random.Generator, samples: int, count: int) -> npt.NDArray[np.bool_]:
    """(samples, count): fair coins; the first row shows everything (lime_image.data_labels)."""
    shown = rng.integers(0, 2, (samples, count), dtype=np.uint8).astype(bool)
    shown[0] = True
    return shown


def paired_design(rng: np.random.Generator, samples: int, count: int) -> npt.NDArray[np.bool_]:
    """(samples, count): everything shown, then fair coins, each followed by its complement (Covert & Lee 2021, section 4).

    The coins of different superpixels are orthogonal within a block: rows of a Hadamard matrix in random order, its columns
    drawn at random and turned over at random, so that each row by itself is as likely as any (Plackett & Burman 1946; with
    the complements a foldover design). Independent coins of n pairs tell p slopes with n / (n - p) times the variance:
    twice as much where n = 2 p.
    """
    order = 1 << count.bit_length()  # more columns than superpixels: the first one, all ones, is no coin
    signs = hadamard(order) > 0
    blocks = []
    for _ in range(samples // (2 * order) + 1):
        columns = rng.permutation(order - 1)[:count] + 1
        blocks.append(signs[rng.permutation(order)][:, columns] ^ (rng.integers(0, 2, count) > 0))
    half = np.concatenate(blocks)
    pairs = np.stack([half, ~half], 1).reshape(-1, count)
    return np.concatenate([np.ones((1, count), bool), pairs])[:samples]


def weights(shown: npt.NDArray[np.bool_], kernel_width: float) -> FloatArray:
    """Exponential kernel of the cosine distance to the whole image: sqrt(exp(-d² / w²)); distance 1 where
    all is hidden.
    """
    similarity = np.sqrt(shown.sum(1) / shown.shape[1])
    return np.asarray(np.exp(-0.5 * ((1.0 - similarity) / kernel_width) ** 2), np.float64)


def fit(
    shown: npt.NDArray[np.bool_],
    scores: FloatArray,
    weight: FloatArray,
    ridge: float,
    *,
    paired: bool = False,
) -> Surrogate:
    """What sklearn's Ridge(alpha=ridge, fit_intercept=True) gives with these sample weights, by the normal equations.

    Confidence intervals: heteroscedasticity-consistent sandwich (HC1) of the penalised estimate, Student's t. paired: after the
    first row come pairs of a set and its complement; pairs are drawn independently, their members are not, so errors are
    clustered by pair, and the pairs are what there is to learn slopes from. Infinite where there are too few.
    """
    z = shown.astype(np.float64)
    total = weight.sum()
    mean_z, mean_y = weight @ z / total, float(weight @ scores) / total
    zc, yc = z - mean_z, scores - mean_y
    gram = (zc * weight[:, None]).T @ zc
    gram[np.diag_indices_from(gram)] += max(ridge, 1e-9)
    inverse = np.linalg.inv(gram)
    coefficients = inverse @ (zc.T @ (weight * yc))
    residual = yc - zc @ coefficients
    spread = float(weight @ yc**2)
    r2 = 1.0 - float(weight @ residual**2) / spread if spread > 0 else 1.0
    meat = zc * (weight * residual)[:, None]
    if paired:
        ends = np.arange(1, len(meat), 2)
        meat = np.concatenate([meat[:1], np.add.reduceat(meat[1:], ends - 1)]) if len(ends) else meat
    known = len(z) // 2 if paired else len(z) - 1
    freedom = known - z.shape[1]
    if freedom < FEWEST:
        half = np.full(z.shape[1], np.inf)
    else:
        covariance = inverse @ (meat.T @ meat) @ inverse * (known / freedom)
        half = float(stdtrit(freedom, 0.975)) * np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    intercept = mean_y - float(mean_z @ coefficients)
    return Surrogate(coefficients, intercept, half, r2, intercept + float(coefficients @ z[0]))


def explain(method: Lime, session: Session) -> Attribution:
    if session.shared is not None:
        shared = session.shared.take(method, session)
        if shared is not None or session.partial:
            return _from_pool(method, session, shared)
    session.plan(1, "superpixels", 0.02)
    parts = hider(method, session)
    if parts.count == 0:
        return Attribution(np.zeros(parts.labels.shape), segments=parts.labels)
    stopping = method.tolerance > 0
    draw = (
        paired_design if stopping else design
    )  # without stopping: image for image what the lime package scores
    shown = draw(session.run.rng(31), method.samples, parts.count)
    weight = weights(shown, method.kernel_width)
    scores: list[float] = []
    enough = False
    session.plan(method.samples, "scoring changed images")
    looked = 0
    with session.stoppable():
        soon = SOON * parts.count if stopping else 0
        for _, stop, values in combinations.scored(
            session, parts, shown, before=soon, likely=soon or method.samples
        ):
            scores += values.tolist()
            if stopping and stop - looked >= LOOK_EVERY and stop > 2 * parts.count:
                looked = stop
                now = fit(shown[:stop], np.array(scores), weight[:stop], method.ridge, paired=True)
                largest = float(np.abs(now.coefficients).max())
                enough = float(now.half_width.max()) <= method.tolerance * largest
                if enough:
                    break
    done = len(scores)
    if done < 2:
        return Attribution(np.zeros(parts.labels.shape), converged=False, segments=parts.labels)
    found = fit(shown[:done], np.array(scores), weight[:done], method.ridge, paired=stopping)
    notes = []
    if stopping and not enough and not session.partial:
        notes.append("The samples ran out before the confidence intervals were as narrow as asked.")
    return _result(parts, found, scores[0], done, enough or not stopping, notes, {})


def _from_pool(method: Lime, session: Session, shared: Shared | None) -> Attribution:
    """The same surrogate from sets that KernelSHAP uses too, weighted to stand for fair coins; see explain.pool."""
    if shared is None:
        return Attribution(np.zeros(session.input.valid.shape), converged=False)
    shown = np.concatenate([np.ones((1, shared.sets.shape[1]), bool), shared.sets])
    scores = np.append(shared.full, shared.scores)
    weight = weights(shown, method.kernel_width) * np.append(1.0, shared.coin)
    found = fit(shown, scores, weight, method.ridge, paired=True)
    extra = session.from_pool(shared)
    return _result(shared.parts, found, shared.full, len(scores), True, [], extra)


def _result(
    parts: Hider,
    found: Surrogate,
    score: float,
    done: int,
    enough: bool,
    notes: list[str],
    extra: dict[str, float],
) -> Attribution:
    if found.r2 < POOR_FIT:
        notes = [
            f"Poor fit (R² {found.r2:.2f}): a sum over superpixels does not describe the network here.",
            *notes,
        ]
    extra = {
        "r2": found.r2,
        "intercept": found.intercept,
        "local_prediction": found.local,
        "score": score,
        "superpixels": float(parts.count),
        "samples": float(done),
        **extra,
    }
    if np.isfinite(found.half_width).all():
        extra["half_width_95"] = float(found.half_width.max())
    converged = found.r2 >= POOR_FIT and enough
    return Attribution(parts.map(found.coefficients), None, converged, tuple(notes), parts.labels, extra)
