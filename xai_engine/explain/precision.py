"""Cheap scores in reduced precision, put right by a few in fp32, and whether the map that comes of them can be trusted.

What reduced precision does to a score is mostly the same from image to image: rounded weights are another network, and
the difference of two networks has a map of its own. So the first images of a series are scored in both precisions, the
difference is regressed on what was changed in them (which superpixels, which cells), and the prediction is added to the
cheap scores of all others: a control variate (Owen, Monte Carlo theory, methods and examples, section 8.9). What is left
is the error of that regression, which is known, and it is compared with how far the map's own values lie apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

FloatArray = npt.NDArray[np.float64]
CARE = 0.1  # share of the draws that may be worse than what is expected
DRAWS = 100  # of errors, for the expected rank correlation
STEP = 32  # images after which it is looked again whether those in both precisions suffice
PENALTY = 1.0  # of the regressions, against that a feature never varies
MOST = 0.4  # of all images may be scored twice, or reduced precision saves nothing


@dataclass(frozen=True, slots=True, eq=False)
class Correction:
    """fp32 less reduced score = offset + features @ slope.

    expected: rank correlation with fp32 that a map made of corrected scores reaches in nine of ten cases; see `of`.
    """

    offset: float
    slope: FloatArray
    expected: float

    def __call__(self, features: FloatArray) -> FloatArray:
        """(n, features) -> (n,) what to add to reduced scores."""
        return self.offset + features @ self.slope

    @staticmethod
    def of(
        features: FloatArray, exact: FloatArray, reduced: FloatArray, count: int, means: bool = False
    ) -> Correction:
        """features (n, p); exact, reduced: scores (n,) of the same images, the first n of `count`.

        The values of the map are taken to be like the slopes of the scores on the features or, with `means`, like their
        covariances, which neighbours that hang together do not blur. `expected` is the rank
        correlation of such values with themselves after errors as those of the difference's were added, which nine
        of ten draws of these errors reach. The values are first drawn together until they vary as much as the true ones
        must (the variance of the estimates less that of their sampling). Sampling variances are heteroscedasticity-consistent (HC3: as if each image had been left out).
        0 where the values cannot be told from none.
        """
        centre = features.mean(0)
        z = features - centre
        told, _, effect, signal = _told(z, exact, means)
        difference = exact - reduced
        _, left, slope, _ = _told(z, difference, False)
        offset = float(difference.mean() - centre @ slope)
        if signal <= 0.0:
            return Correction(offset, slope, 0.0)
        true = (effect - effect.mean()) * np.sqrt(signal / effect.var())
        drawn = np.random.default_rng(0).normal(size=(DRAWS, len(z))) * left  # neighbours share their errors
        return Correction(offset, slope, ranks_kept(true, drawn @ told.T * np.sqrt(1.0 - len(z) / count)))


def offset_only(
    features: FloatArray, exact: FloatArray, reduced: FloatArray, count: int, means: bool = False
) -> Correction:
    """What can be said before there are images enough to tell the difference's slopes: reduced scores as they are, but for what
    all have in common.

    features (n, p); exact: (k,), of the first k images; reduced: (n,); the first of `count`. How much of the difference hangs on
    the features, and so moves the map where the rest averages out, is estimated without telling how: from products of pairs of images that
    are alike or unlike in what was changed (a U-statistic, Hoeffding 1948), and taken for what one of ten such estimates
    exceeds; it is as likely to point in any direction. How much of the score does is told in the same way. `expected` as in
    `Correction.of`, of values shaped as those of the reduced scores.
    """
    z = features - features.mean(0)
    difference = exact - reduced[: len(exact)]
    offset, none = float(difference.mean()), np.zeros(features.shape[1])
    told, _, effect, _ = _told(z, reduced, means)
    # what all features have in common moves all values of the map alike, and no rank
    left, strength, _ = np.linalg.svd(z if means else z - z.mean(1, keepdims=True), full_matrices=False)
    left = left[:, strength > 1e-6 * strength[0]]
    alike = left @ left.T * len(z)
    moved, doubt = _hanging(alike, difference)
    signal, _ = _hanging(alike, reduced)
    if signal <= 0.0 or not effect.any():
        return Correction(offset, none, 0.0)
    rest = max(float(difference.var(ddof=1)) - moved, 0.0)
    moved = max(moved, 0.0) + float(ndtri(1.0 - CARE)) * doubt
    rng = np.random.default_rng(0)

    def maps(variance: float) -> FloatArray:
        """(draws, p) of scores (n,) that hang on the features with this variance, in any direction."""
        drawn = rng.normal(size=(DRAWS, left.shape[1]))
        drawn *= np.sqrt(variance * len(z)) / np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn @ left.T @ told.T

    wanted = float(maps(signal).var(1).mean())  # of the map's values, if the signal lay in any direction
    true = (effect - effect.mean()) * np.sqrt(wanted / effect.var())
    chance = rng.normal(size=(DRAWS, len(z))) @ told.T * np.sqrt(rest * len(z) / count)
    return Correction(offset, none, ranks_kept(true, maps(moved) + chance))


def _hanging(alike: FloatArray, values: FloatArray) -> tuple[float, float]:
    """The variance of the part of the values (k <= n,) that is a sum over the features, without bias, and its standard error were
    there none. alike: (n, n) products of whitened features."""
    k = len(values)
    pairs = alike[:k, :k] - np.diag(np.diag(alike)[:k])
    centred = values - values.mean()
    # features whitened by themselves: what an image shares with all it shares with itself, too, and that is left out
    shrunk = (1.0 - float(np.trace(alike)) / len(alike) ** 2) * k * (k - 1)
    variance = float(centred @ pairs @ centred) / shrunk
    return variance, float(centred.var(ddof=1)) * np.sqrt(2.0 * float((pairs**2).sum())) / shrunk


def _told(z: FloatArray, values: FloatArray, means: bool) -> tuple[FloatArray, FloatArray, FloatArray, float]:
    """(what makes a map of scores (p, n), leave-one-out residuals of the regression, the map of these, its variance over the
    map less that of its sampling). z: centred features."""
    project = np.linalg.inv(z.T @ z + PENALTY * np.eye(z.shape[1])) @ z.T
    leverage = np.clip(np.einsum("ij,ji->i", z, project) + 1.0 / len(z), 0.0, 0.999)
    told = z.T / len(z) if means else project
    centred = values - values.mean()
    left = (centred - z @ (project @ centred)) / (1.0 - leverage)
    effect = told @ centred
    # which features were drawn together moves a covariance, too, but no slope
    noise = ((told * (centred if means else left)) ** 2).sum(1)
    return told, left, effect, float(effect.var() - noise.mean())


def ranks_kept(true: FloatArray, errors: FloatArray) -> float:
    """The rank correlation that nine of ten maps with such an error (draws, p) reach."""
    first, others = _ranks(true), _ranks(true + errors)
    return float(np.quantile(others @ first / (first @ first), CARE))


def _ranks(values: FloatArray) -> FloatArray:
    """Ranks along the last axis, centred. No two values are equal here but where the score does not vary at all."""
    return np.asarray(values.argsort(-1).argsort(-1) - (values.shape[-1] - 1) / 2.0, np.float64)


def checked(columns: int, count: int) -> int:
    """How many of `count` images are scored in both precisions for `columns` features; 0 where that is too many."""
    wanted = max(96, 5 * columns // 2)
    return wanted if wanted <= MOST * count else 0


def enough(images: int, expected: float, wanted: float) -> int:
    """After how many images in both precisions the correction can be expected to be good enough, at least STEP more than
    `images`, with which the rank correlation `expected` is reached.

    The variance of its slopes falls as one over the images, and 1 - the correlation with it; a series that will not get
    there while it still pays is left at the first look.
    """
    return max(images + STEP, round(images * (1.0 - expected) / (1.0 - wanted)))
