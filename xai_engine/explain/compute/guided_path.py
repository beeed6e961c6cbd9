"""Guided Integrated Gradients: an adaptive path from the baseline to the image."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.path import TOLERANCE, completeness_error
from xai_engine.explain.methods.paths import GuidedIntegratedGradients
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.session import Attribution, Session

FloatArray = npt.NDArray[np.float64]
CLOSE = 1e-12


def advance(
    position: FloatArray,
    weight: FloatArray,
    gradient: FloatArray,
    progress: float,
    fraction: float,
    deviation: float,
) -> FloatArray:
    """Positions after one step (algorithm 1 of the paper). All arrays (n,), one entry per pixel that differs.

    position: in [0, 1] between baseline and image; weight: |image - baseline|; progress: the part of the whole L1 distance
    that is behind after the step. Pixels with the smallest |gradient| move first, none further than `deviation` from the
    straight path.
    """
    low, high = max(progress - deviation, 0.0), min(progress + deviation, 1.0)
    total = float(weight.sum())
    wanted = total * (1.0 - progress)
    position = np.maximum(position, low)
    size = np.abs(gradient)
    while True:
        left = float((weight * (1.0 - position)).sum())
        if left - wanted <= CLOSE * total:
            return position
        able = position < high
        if not able.any():
            return position
        # the quantile is taken over all pixels, those that have arrived count as infinitely sensitive
        ranked = np.where(able, size, np.inf)
        limit = np.quantile(ranked, fraction, method="lower")
        moved = able & (ranked <= limit)
        if not moved.any():
            moved = able
        room = float((weight * (high - position) * moved).sum())
        share = (left - wanted) / room if room > 0 else np.inf
        position = np.where(moved, high if share > 1.0 else position + share * (high - position), position)
        if share <= 1.0:
            return position


def explain(method: GuidedIntegratedGradients, session: Session) -> Attribution:
    """Trapezoid sums along the path; the whole path is made anew with twice the steps until the sum is right."""
    base = baseline(session, method.baseline, method.blur)[0]
    start = base.double().cpu().numpy()
    difference = session.x[0].double().cpu().numpy() - start
    zero = np.zeros(difference.shape)
    best, used, error, converged = zero, 0.0, float("inf"), False
    steps, most = method.steps, max(method.steps, method.max_steps)
    found, ends = zero, (0.0, 0.0)
    try:
        session.quicken(steps + 1)
        while True:
            session.plan(3 * (steps + 1), "following the path", 1.0 if 2 * steps > most else 0.5)
            found = np.zeros(difference.shape)
            ends = _follow(method, session, start, difference, steps, found)
            best, used = found, float(steps)
            error = completeness_error(float(found.sum()), ends[1] - ends[0])
            converged = error <= TOLERANCE
            if converged or 2 * steps > most:
                break
            steps *= 2
    except Interrupted:
        best = best if used else found
    values = best.sum(0)
    if session.partial:
        return Attribution(values, error if used else None, converged, extra={"steps": used})
    note = f"Not converged: after {steps} steps the values add up to {100 * error:.1f} % beside the change in score."
    extra = {"steps": used, "score": ends[1], "baseline_score": ends[0], "change": ends[1] - ends[0]}
    return Attribution(values, error, converged, () if converged else (note,), extra=extra)


def _follow(
    method: GuidedIntegratedGradients,
    session: Session,
    start: FloatArray,
    difference: FloatArray,
    steps: int,
    total: FloatArray,
) -> tuple[float, float]:
    """Add what each pixel gains on the way to `total`; scores of the first and the last image. One image at a time: each
    step needs the gradient of the one before.
    """
    moving = difference != 0
    weight = np.abs(difference[moving])
    position = np.zeros(len(weight))
    gained = np.zeros(len(weight))

    def at(place: FloatArray) -> tuple[float, FloatArray]:
        image = start.copy()
        image[moving] += place * difference[moving]
        tensor = torch.tensor(image, dtype=torch.float32)[None].to(session.x.device)
        scores, gradients = session.gradients(tensor)
        return float(scores[0]), gradients[0].double().cpu().numpy()[moving]

    first, gradient = at(position)
    last = first
    for step in range(1, steps + 1):
        # sensitivity to the pixel itself, as in the paper, not to its position on the path
        ahead = advance(position, weight, gradient, step / steps, method.fraction, method.deviation)
        if step == steps:
            ahead = np.ones(len(weight))
        last, after = at(ahead)
        gained += (ahead - position) * difference[moving] * (gradient + after) / 2.0
        total[moving] = gained
        position, gradient = ahead, after
    return first, last
