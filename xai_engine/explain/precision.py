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
        project = np.linalg.inv(z.T @ z + PENALTY * np.eye(z.shape[1])) @ z.T
        leverage = np.clip(np.einsum("ij,ji->i", z, project) + 1.0 / len(z), 0.0, 0.999)

        told = z.T / len(z) if means else project  # what the map makes of scores

        def fitted(values: FloatArray) -> tuple[FloatArray, FloatArray]:
            slope = project @ (values - values.mean())
            return slope, (values - values.mean() - z @ slope) / (1.0 - leverage)

        difference = exact - reduced
        slope, left = fitted(difference)
        effect = told @ (exact - exact.mean())
        # which features were drawn together moves a covariance, too, but no slope
        noise = ((told * (exact - exact.mean() if means else fitted(exact)[1])) ** 2).sum(1)
        signal = float(effect.var() - noise.mean())
        offset = float(difference.mean() - centre @ slope)
        if signal <= 0.0:
            return Correction(offset, slope, 0.0)
        true = (effect - effect.mean()) * np.sqrt(signal / effect.var())
        drawn = np.random.default_rng(0).normal(size=(DRAWS, len(z))) * left  # neighbours share their errors
        moved = true + drawn @ told.T * np.sqrt(1.0 - len(z) / count)
        first, others = _ranks(true), _ranks(moved)
        return Correction(offset, slope, float(np.quantile(others @ first / (first @ first), CARE)))


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
