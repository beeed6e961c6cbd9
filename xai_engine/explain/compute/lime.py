"""LIME: the same sampling distribution, distances, kernel and regression as the lime package, on logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xai_engine.explain.compute.superpixels import hider
from xai_engine.explain.methods.perturbation import Lime
from xai_engine.explain.session import Attribution, Session

POOR_FIT = 0.5  # R² below which the map carries a warning
LOOK_EVERY = 128  # samples between two looks at the confidence intervals

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


def weights(shown: npt.NDArray[np.bool_], kernel_width: float) -> FloatArray:
    """Exponential kernel of the cosine distance to the whole image: sqrt(exp(-d² / w²)); distance 1 where
    all is hidden.
    """
    similarity = np.sqrt(shown.sum(1) / shown.shape[1])
    return np.asarray(np.exp(-0.5 * ((1.0 - similarity) / kernel_width) ** 2), np.float64)


def fit(shown: npt.NDArray[np.bool_], scores: FloatArray, weight: FloatArray, ridge: float) -> Surrogate:
    """What sklearn's Ridge(alpha=ridge, fit_intercept=True) gives with these sample weights, by the normal equations.

    Confidence intervals: heteroscedasticity-consistent sandwich (HC1) of the penalised estimate.
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
    freedom = max(len(z) - z.shape[1] - 1, 1)
    covariance = inverse @ (meat.T @ meat) @ inverse * (len(z) / freedom)
    half = 1.96 * np.sqrt(np.clip(np.diag(covariance), 0.0, None))
    intercept = mean_y - float(mean_z @ coefficients)
    return Surrogate(coefficients, intercept, half, r2, intercept + float(coefficients @ z[0]))


def explain(method: Lime, session: Session) -> Attribution:
    session.plan(1, "superpixels", 0.02)
    parts = hider(method, session)
    if parts.count == 0:
        return Attribution(np.zeros(parts.labels.shape), segments=parts.labels)
    shown = design(session.run.rng(31), method.samples, parts.count)
    weight = weights(shown, method.kernel_width)
    scores: list[float] = []
    enough = False
    session.plan(method.samples, "scoring changed images")
    looked = 0
    with session.stoppable():
        for _, stop, values in session.scored(method.samples, lambda a, b: parts.images(shown[a:b])):
            scores += values.tolist()
            if method.tolerance > 0 and stop - looked >= LOOK_EVERY and stop > 2 * parts.count:
                looked = stop
                now = fit(shown[:stop], np.array(scores), weight[:stop], method.ridge)
                largest = float(np.abs(now.coefficients).max())
                enough = float(now.half_width.max()) <= method.tolerance * largest
                if enough:
                    break
    done = len(scores)
    if done < 2:
        return Attribution(np.zeros(parts.labels.shape), converged=False, segments=parts.labels)
    found = fit(shown[:done], np.array(scores), weight[:done], method.ridge)
    notes = []
    if found.r2 < POOR_FIT:
        notes.append(
            f"Poor fit (R² {found.r2:.2f}): a sum over superpixels does not describe the network here."
        )
    if method.tolerance > 0 and not enough and not session.partial:
        notes.append("The samples ran out before the confidence intervals were as narrow as asked.")
    extra = {
        "r2": found.r2,
        "intercept": found.intercept,
        "local_prediction": found.local,
        "score": scores[0],
        "superpixels": float(parts.count),
        "samples": float(done),
        "half_width_95": float(found.half_width.max()),
    }
    converged = found.r2 >= POOR_FIT and (enough or method.tolerance == 0)
    return Attribution(parts.map(found.coefficients), None, converged, tuple(notes), parts.labels, extra)
