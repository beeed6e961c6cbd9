"""DeepLIFT with the rescale rule, on the same graph as relevance propagation, so nothing escapes it.

Multipliers m with sum_i m_i (x_i - x0_i) = score(x) - score(x0) are handed back through every operation:
functions of one value take difference out / difference in (Shrikumar et al. 2017), maxima give what each side adds over
the other (as in the shap package), products take the mean of the other factor, softmax and the score's own function are
averaged along the straight line between the two states. Each of these is exact, so the sum is.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import fx

from xai_engine.explain.compute.baselines import baseline, random_baseline
from xai_engine.explain.compute.graph import Graph, Step, Tape, adjoint
from xai_engine.explain.compute.path import TOLERANCE, completeness_error
from xai_engine.explain.methods.propagation import DeepLift, DeepShap
from xai_engine.explain.session import Attribution, Session

SMALL = 1e-6  # difference, of 1 + |value|, below which the quotient of differences is the derivative
NODES = 32  # along the straight line, Gauss-Legendre


def along(
    function: Callable[..., torch.Tensor], x: torch.Tensor, x0: torch.Tensor, g: torch.Tensor
) -> torch.Tensor:
    """Mean vector-Jacobian product on the straight line from x0 to x."""
    places, weights = np.polynomial.legendre.leggauss(NODES)
    out = torch.zeros_like(x, dtype=torch.float64)
    for place, weight in zip((places + 1) / 2, weights / 2, strict=True):
        out += float(weight) * adjoint(function, [x0 + float(place) * (x - x0)], g)[0].double()
    return out.to(x.dtype)


def multipliers(session: Session, tape: Tape, base: Tape) -> torch.Tensor:
    """Of the input, (1, channels, rows, columns). Both tapes are of the same graph."""

    def score(o: torch.Tensor) -> torch.Tensor:
        return session.classifier.score_of(o, session.target)

    one = torch.ones((), device=session.x.device)
    at: dict[fx.Node, torch.Tensor] = {
        tape.output: along(score, tape.values[tape.output], base.values[tape.output], one)
    }
    for step in reversed(tape.steps):
        session.tick()
        given = at.pop(step.node, None)
        if given is None:
            continue
        x, x0 = tape.operands(step), base.operands(step)
        if step.kind in ("linear", "sum", "move"):
            parts = adjoint(step.apply, x, given)
        elif step.kind in ("pass", "gate"):
            parts = [_rescaled(step, tape.values[step.node], base.values[step.node], x[0], x0[0], given)]
        elif step.kind == "maximum":
            parts = [_maximum(step, tape.values[step.node], base.values[step.node], x[0], x0[0], given)]
        elif step.kind == "multiply":
            parts = adjoint(step.apply, [(a + b) / 2 for a, b in zip(x, x0, strict=True)], given)
        else:
            parts = [along(step.apply, x[0], x0[0], given)]
        for node, part in zip(step.sources, parts, strict=True):
            at[node] = at[node] + part if node in at else part
    return at.get(tape.source, torch.zeros_like(session.x))


def _rescaled(
    step: Step, y: torch.Tensor, y0: torch.Tensor, x: torch.Tensor, x0: torch.Tensor, given: torch.Tensor
) -> torch.Tensor:
    difference = x - x0
    small = difference.abs() <= SMALL * (1 + x.abs())
    (slope,) = adjoint(step.apply, [(x + x0) / 2], torch.ones_like(y))
    return given * torch.where(small, slope, (y - y0) / torch.where(small, 1.0, difference))


def _maximum(
    step: Step, y: torch.Tensor, y0: torch.Tensor, x: torch.Tensor, x0: torch.Tensor, given: torch.Tensor
) -> torch.Tensor:
    """What exceeds the reference's maximum goes to the winner here, what falls short of it to the winner there."""
    higher = torch.maximum(y, y0)
    (gain,) = adjoint(step.apply, [x], given * (higher - y0))
    (loss,) = adjoint(step.apply, [x0], given * (y - higher))
    difference = x - x0
    same = difference == 0
    return torch.where(same, 0.0, (gain + loss) / torch.where(same, 1.0, difference))


def _contributions(
    session: Session, graph: Graph, tape: Tape, base: torch.Tensor
) -> tuple[torch.Tensor, float]:
    """(channels, rows, columns) float64 against one baseline, and the baseline's score."""
    score = float(session.scores(base)[0])
    found = multipliers(session, tape, graph.run(base, score))
    session.count(0, 1)
    return (session.x - base)[0].double() * found[0].double(), score


def _noted(error: float) -> tuple[str, ...]:
    if error <= TOLERANCE:
        return ()
    return (f"The values add up to {100 * error:.1f} % beside the change in score.",)


def explain(method: DeepLift, session: Session) -> Attribution:
    session.plan(8, "comparing with the baseline")
    graph = Graph(session)
    score = float(session.scores(session.x)[0])
    tape = graph.run(session.x, score)
    base = baseline(session, method.baseline, method.blur)
    values, base_score = _contributions(session, graph, tape, base)
    change = score - base_score
    error = completeness_error(float(values.sum()), change)
    extra = {"score": score, "baseline_score": base_score, "change": change}
    return Attribution(values.sum(0).cpu().numpy(), error, error <= TOLERANCE, _noted(error), extra=extra)


def explain_many(method: DeepShap, session: Session) -> Attribution:
    """Mean of DeepLIFT over random baselines; exact against their mean score."""
    session.plan(2 + 5 * method.baselines, "comparing with baselines")
    graph = Graph(session)
    score = float(session.scores(session.x)[0])
    tape = graph.run(session.x, score)
    total = torch.zeros_like(session.x[0], dtype=torch.float64)
    squares = torch.zeros_like(total[0])
    scores: list[float] = []
    with session.stoppable():
        for index in range(method.baselines):
            base = random_baseline(session, session.run.rng(12, index), method.noise)
            values, base_score = _contributions(session, graph, tape, base)
            total += values
            squares += values.sum(0) ** 2
            scores.append(base_score)
    done = len(scores)
    mean = (total / max(done, 1)).sum(0)
    spread = (squares / max(done, 1) - mean**2).clamp_min(0).sqrt()
    extra = {"score": score, "baselines": float(done), "standard_deviation": float(spread.mean())}
    values_out = mean.cpu().numpy()
    if session.partial:
        return Attribution(values_out, extra=extra)
    change = score - float(np.mean(scores))
    error = completeness_error(float(mean.sum()), change)
    extra |= {"baseline_score": float(np.mean(scores)), "change": change}
    return Attribution(values_out, error, error <= TOLERANCE, _noted(error), extra=extra)
