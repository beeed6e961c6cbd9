"""Integrals of the gradient along paths from a baseline to the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.compute.baselines import baseline, blurred, random_baseline
from xai_engine.explain.methods.gradient import (
    BlurIntegratedGradients,
    ExpectedGradients,
    IntegratedGradients,
)
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.session import Attribution, Session

TOLERANCE = 0.01  # of the change in score
LOOSE = 0.1  # the same for methods that sample
FLOOR = (
    0.05  # logits: changes below are judged as if they were this large, else noise would be called an error
)

Path = Callable[[float], tuple[torch.Tensor, torch.Tensor]]  # position in [0, 1] -> image, its derivative


def completeness_error(total: float, change: float) -> float:
    """|total - change| / max(|change|, FLOOR)."""
    return abs(total - change) / max(abs(change), FLOOR)


@dataclass
class _Integral:
    """Sum of weighted (derivative x gradient) over nodes of a path; scores by node."""

    session: Session
    path: Path
    total: torch.Tensor
    scores: dict[float, float]
    weight: float = 0.0

    def add(self, nodes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> None:
        """Add nodes, batch by batch; after an Interrupted what was added so far remains."""
        size = self.session.gradient_batch
        for start in range(0, len(nodes), size):
            images, slopes = zip(*(self.path(float(a)) for a in nodes[start : start + size]), strict=True)
            scores, gradients = self.session.gradients(torch.cat(images))
            for node, w, score, slope, gradient in zip(
                nodes[start:], weights[start:], scores, slopes, gradients, strict=False
            ):
                self.total += float(w) * (slope[0].double() * gradient.double())
                self.scores[float(node)] = float(score)
                self.weight += float(w)


def integrate(session: Session, path: Path, rule: str, steps: int, max_steps: int) -> Attribution:
    """Refine by doubling until the completeness error is at most TOLERANCE or `max_steps` is reached.

    The trapezoid rule on n steps uses n + 1 nodes; every second node of the next refinement is already there.
    """
    zero = torch.zeros_like(session.x[0], dtype=torch.float64)
    integral = _Integral(session, path, zero.clone(), {})
    start, n, error, converged = 0.0, steps, float("inf"), False
    best = (zero, 0.0)
    trapezoid = rule == "trapezoid"
    try:
        session.quicken(max_steps)
        session.plan(3 * (steps + 2), "integrating", 1.0 if 2 * steps > max_steps else 0.5)
        if not trapezoid:
            ends = session.scores(torch.cat([path(0.0)[0], path(1.0)[0]]))
            start, end = float(ends[0]), float(ends[1])
        while True:
            if trapezoid:
                if n == steps:
                    nodes = np.linspace(0.0, 1.0, n + 1)
                    weights = np.ones(n + 1)
                    weights[[0, -1]] = 0.5
                else:
                    nodes = (np.arange(n // 2) * 2 + 1) / n
                    weights = np.ones(n // 2)
                integral.add(nodes, weights)
                total = integral.total / n
                start, end = integral.scores[0.0], integral.scores[1.0]
            else:
                x, w = np.polynomial.legendre.leggauss(n)
                integral.total, integral.weight = zero.clone(), 0.0
                integral.add((x + 1) / 2, w / 2)
                total = integral.total
            best = (total, float(n))
            error = completeness_error(float(total.sum()), end - start)
            converged = error <= TOLERANCE
            if converged or 2 * n > max_steps:
                break
            n *= 2
            session.plan(
                3 * (n // 2 if trapezoid else n), f"refining to {n} steps", 1.0 if 2 * n > max_steps else 0.5
            )
    except Interrupted:
        if (
            integral.weight > 0 and best[1] == 0
        ):  # an unfinished first pass: what there is, scaled to the whole path
            best = (integral.total / integral.weight, 0.0)
    total, used = best
    values = total.sum(0).cpu().numpy()
    notes: tuple[str, ...] = ()
    if session.partial:
        return Attribution(values, None if used == 0 else error, converged, extra={"steps": used})
    if not converged:
        notes = (
            f"Not converged: after {n} steps the values add up to {100 * error:.1f} % beside the change in score.",
        )
    extra = {"steps": used, "score": end, "baseline_score": start, "change": end - start}
    return Attribution(values, error, converged, notes, extra=extra)


def integrated_gradients(method: IntegratedGradients, session: Session) -> Attribution:
    base = baseline(session, method.baseline, method.blur)
    difference = session.x - base

    def path(position: float) -> tuple[torch.Tensor, torch.Tensor]:
        return base + position * difference if position < 1.0 else session.x, difference

    return integrate(session, path, method.rule, method.steps, max(method.steps, method.max_steps))


def blur_integrated_gradients(method: BlurIntegratedGradients, session: Session) -> Attribution:
    """The path is x blurred by sigma_max (1 - position); its derivative is a central difference (the blur
    is smooth in sigma).
    """
    x, valid, widest = session.x, session.valid, method.blur

    def at(position: float) -> torch.Tensor:
        session.tick()  # a wide blur takes a tenth of a second, and a batch has dozens
        sigma = widest * (1.0 - position)
        return (
            blurred(x, valid, sigma) if sigma > 0.2 else x + (sigma / 0.2) ** 2 * (blurred(x, valid, 0.2) - x)
        )

    def path(position: float) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = max(position - 1e-3, 0.0), min(position + 1e-3, 1.0)
        return at(position), (at(high).double() - at(low).double()) / (high - low)

    return integrate(session, path, "trapezoid", method.steps, max(method.steps, method.max_steps))


POSITIONS = (
    4  # on each path, one in each quarter and mirrored: exact where the gradient is linear along the path
)


def expected_gradients(method: ExpectedGradients, session: Session) -> Attribution:
    """Mean over random baselines b of the path integral from b to x, each at POSITIONS places.

    Each baseline has a generator of its own, so its draw does not depend on the batch.
    """
    x = session.x
    paths = max(1, method.samples // POSITIONS)
    total = torch.zeros_like(x[0], dtype=torch.float64)
    base_scores: list[float] = []
    session.plan(paths * (1 + 3 * POSITIONS), "sampling baselines")
    with session.stoppable():
        session.quicken(paths * POSITIONS)
        for index in range(paths):
            rng = session.run.rng(11, index)
            first, second = (float(v) for v in rng.random(2))
            base = random_baseline(session, rng, method.noise)
            half = torch.tensor([first / 4, (1 + second) / 4], device=x.device)
            places = torch.cat([half, 1 - half])[:, None, None, None]
            _, gradients = session.gradients(base + places * (x - base))
            score = float(session.scores(base)[0])
            total += (x - base)[0].double() * gradients.double().mean(0)
            base_scores.append(score)
    done = len(base_scores)
    values = (total / max(done, 1)).sum(0).cpu().numpy()
    extra = {"baselines": float(done)}
    if session.partial:
        return Attribution(values, extra=extra)
    change = float(session.scores(x)[0]) - float(np.mean(base_scores))
    error = completeness_error(float(values.sum()), change)
    enough = error <= LOOSE
    note = f"The values add up to {100 * error:.0f} % beside the change in score: take more samples."
    return Attribution(values, error, enough, () if enough else (note,), extra=extra | {"change": change})
