"""Integrals of the gradient along paths from a baseline to the image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

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

REFINED = 4  # intervals halved at a time
KEPT = 256 << 20  # bytes of maps

FloatArray = npt.NDArray[np.float64]
Path = Callable[[float], tuple[torch.Tensor, torch.Tensor]]  # position in [0, 1] -> image, its derivative


def completeness_error(total: float, change: float) -> float:
    """|total - change| / max(|change|, FLOOR)."""
    return abs(total - change) / max(abs(change), FLOOR)


@dataclass
class _Integral:
    """Nodes of a path: scores, slopes of the score along the path, and derivative x gradient summed over the channels.

    keep: whether the latter are kept by node, for weights that will change; else `total` is all there is.
    """

    session: Session
    path: Path
    keep: bool
    total: npt.NDArray[np.float64]
    weight: float = 0.0
    scores: dict[float, float] = field(default_factory=dict)
    slopes: dict[float, float] = field(default_factory=dict)
    maps: dict[float, npt.NDArray[np.float32]] = field(default_factory=dict)

    def add(self, nodes: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> None:
        """Add nodes, batch by batch; after an Interrupted what was added so far remains."""
        size = self.session.gradients_at_once
        for start in range(0, len(nodes), size):
            images, slopes = zip(*(self.path(float(a)) for a in nodes[start : start + size]), strict=True)
            scores, gradients = self.session.gradients(torch.cat(images))
            for node, w, score, slope, gradient in zip(
                nodes[start:], weights[start:], scores, slopes, gradients, strict=False
            ):
                found = (slope[0].double() * gradient.double()).sum(0).cpu().numpy()
                self.scores[float(node)], self.slopes[float(node)] = float(score), float(found.sum())
                if self.keep:
                    self.maps[float(node)] = found.astype(np.float32)
                self.total += float(w) * found
                self.weight += float(w)

    def panels(self) -> tuple[FloatArray, FloatArray]:
        """Nodes in order (n + 1,), and by how much the trapezoid rule is off between two of them, exactly: the change in
        score less its own.
        """
        nodes = np.array(sorted(self.scores))
        scores = np.array([self.scores[float(a)] for a in nodes])
        slopes = np.array([self.slopes[float(a)] for a in nodes])
        return nodes, np.diff(scores) - np.diff(nodes) * (slopes[:-1] + slopes[1:]) / 2.0

    def trapezoid(self) -> FloatArray:
        """The rule on all nodes that are kept."""
        nodes = np.array(sorted(self.maps))
        widths = np.diff(nodes)
        weights = (np.append(widths, 0.0) + np.insert(widths, 0, 0.0)) / 2.0
        total = np.zeros(self.total.shape)
        for node, w in zip(nodes, weights, strict=True):
            total += w * self.maps[float(node)]
        return total


def integrate(session: Session, path: Path, rule: str, steps: int, max_steps: int) -> Attribution:
    """Refine until the completeness error is at most TOLERANCE or `max_steps` is reached.

    The trapezoid rule on n steps has n + 1 nodes, at first evenly placed. The scores at the nodes come with the gradients,
    so what the rule is off by between two nodes is known exactly, and the REFINED worst intervals are halved at a time:
    adaptive quadrature with an exact local error (after Davis & Rabinowitz 1984, Methods of Numerical Integration, 6.2). Nothing is scaled to
    make the sum right. A rectifier network's gradient jumps thousands of times along the path, so rules of higher order gain
    nothing: at as many nodes Gauss-Legendre is further from the limit (docs/decisions/0008-integrating-gradients.md).
    Maps of the nodes are kept while refining is possible, KEPT bytes at most; beyond, refining ends.
    """
    shape = (int(session.x.shape[2]), int(session.x.shape[3]))
    trapezoid = rule == "trapezoid"
    if trapezoid:
        max_steps = max(steps, min(max_steps, KEPT // (4 * shape[0] * shape[1]) - 1))
    integral = _Integral(session, path, trapezoid and max_steps > steps, np.zeros(shape))
    best, used = np.zeros(shape), 0
    start, end, n, error, converged = 0.0, 0.0, steps, float("inf"), False
    try:
        session.quicken(max_steps)
        session.plan(3 * (steps + 2), "integrating", 1.0 if max_steps == steps else 0.5)
        if trapezoid:
            weights = np.ones(n + 1)
            weights[[0, -1]] = 0.5
            integral.add(np.linspace(0.0, 1.0, n + 1), weights)
            best = integral.total / n
            start, end = integral.scores[0.0], integral.scores[1.0]
        else:
            ends = session.scores(torch.cat([path(0.0)[0], path(1.0)[0]]))
            start, end = float(ends[0]), float(ends[1])
            best = _gauss_legendre(integral, n)
        while True:
            used = n
            error = completeness_error(float(best.sum()), end - start)
            converged = error <= TOLERANCE
            if converged or (n >= max_steps if trapezoid else 2 * n > max_steps):
                break
            if trapezoid:
                count = min(REFINED, max_steps - n)
                session.plan(3 * count, "refining", count / (max_steps - n))
                nodes, off = integral.panels()
                worst = np.sort(np.argsort(-np.abs(off), kind="stable")[:count])
                middles = (nodes[worst] + nodes[worst + 1]) / 2.0
                integral.add(middles, np.zeros(len(middles)))
                best, n = integral.trapezoid(), n + count
            else:
                n *= 2
                session.plan(3 * n, f"refining to {n} steps", 1.0 if 2 * n > max_steps else 0.5)
                best = _gauss_legendre(integral, n)
    except Interrupted:
        # an unfinished first pass: what there is, scaled to the whole path
        if not used and integral.weight > 0:
            best = integral.total / integral.weight
    if session.partial:
        return Attribution(best, error if used else None, converged, extra={"steps": float(used)})
    notes: tuple[str, ...] = ()
    if not converged:
        notes = (
            f"Not converged: after {n} steps the values add up to {100 * error:.1f} % beside the change in score.",
        )
    extra = {"steps": float(used), "score": end, "baseline_score": start, "change": end - start}
    return Attribution(best, error, converged, notes, extra=extra)


def _gauss_legendre(integral: _Integral, n: int) -> FloatArray:
    x, w = np.polynomial.legendre.leggauss(n)
    integral.total, integral.weight = np.zeros(integral.total.shape), 0.0
    integral.add((x + 1) / 2, w / 2)
    return integral.total


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
