"""Layer-wise relevance propagation: the score is handed back layer by layer, and nothing gets lost on the way.

Rules as in Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview", section 10.2, in the form for values of
any sign. With contributions c_ij of input i to output j and the denominator n_j:

    R_i = sum_j c_ij / n_j R_j
    epsilon:  c = z,  n = z_j + e sign(z_j),  z_ij = x_i w_ij,  z_j = sum_i z_ij + b_j,  e relative to the layer's values
    gamma:    c = z_ij + g z_ij^(sign of z_j),  the same for the bias;  n = their sum
    box:      c = x_i w_ij - low_i w_ij⁺ - high_i w_ij⁻,  n = sum_i c   (input only)
    flat:     c = 1,  n = inputs in the field                            (input only)

What the bias (and e) take, b_j / n_j R_j, is known with its place and is booked there, so relevance, biases and score
can be checked against each other. Sharing it over the pixels of that place follows FullGrad (Srinivas & Fleuret 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import fx
from torch.nn import functional as F

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.compute.graph import Graph, Step, Tape, adjoint
from xai_engine.explain.compute.path import TOLERANCE, completeness_error
from xai_engine.explain.methods.propagation import Lrp
from xai_engine.explain.session import Attribution, Session

TINY = 1e-7  # of a layer's values: keeps 0 / 0 away where nothing is to be stabilised


@dataclass
class Absorbed:
    """Relevance that biases and stabilisers took: on grids over the image, and without a place."""

    grids: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict)
    nowhere: float = 0.0

    def add(self, relevance: torch.Tensor) -> None:
        if relevance.ndim == 4:
            grid = relevance.double().sum((0, 1))
            shape = (grid.shape[0], grid.shape[1])
            self.grids[shape] = self.grids[shape] + grid if shape in self.grids else grid
        else:
            self.nowhere += float(relevance.double().sum())

    def total(self) -> float:
        return self.nowhere + sum(float(g.sum()) for g in self.grids.values())

    def over(self, valid: torch.Tensor) -> torch.Tensor:
        """(rows, columns) float64: each cell's relevance over the valid pixels that it covers, bilinearly.

        The rest goes evenly over all valid pixels, also that of cells that cover none.
        """
        inside = valid.double()
        out = torch.zeros_like(inside)
        rest = self.nowhere
        for grid in self.grids.values():

            def enlarge(g: torch.Tensor) -> torch.Tensor:
                return F.interpolate(g[None, None], size=valid.shape, mode="bilinear", align_corners=False)[
                    0, 0
                ]

            (mass,) = adjoint(enlarge, [grid], inside)
            covered = mass > 1e-3 * valid.numel() / grid.numel()
            share = torch.where(covered, grid / mass.clamp_min(1e-9), 0.0)
            out += inside * enlarge(share)
            rest += float(grid[~covered].sum())
        return out + inside * (rest / max(float(inside.sum()), 1.0))


def propagate(
    method: Lrp, session: Session, tape: Tape, relevance: torch.Tensor
) -> tuple[torch.Tensor, Absorbed]:
    """Relevance of the input (1, channels, rows, columns) and what was absorbed. relevance: of the network's outputs."""
    at: dict[fx.Node, torch.Tensor] = {tape.output: relevance}
    absorbed = Absorbed()
    kinds = {step.node: step.kind for step in tape.steps}
    for step in reversed(tape.steps):
        session.tick()
        given = at.pop(step.node, None)
        if given is None:
            continue
        operands = tape.operands(step)
        if step.kind == "linear":
            parts = [_weighted(method, step, operands[0], tape, given, session.valid, absorbed)]
        elif step.kind == "sum":
            z = tape.values[step.node]
            s, taken = _ratio(given, z, z, TINY)
            absorbed.add(taken)
            parts = [x * d for x, d in zip(operands, adjoint(step.apply, operands, s), strict=True)]
        elif step.kind in ("move", "maximum"):
            parts = adjoint(step.apply, operands, given)
            # laid beside constants, which take their share
            if len(step.node.all_input_nodes) > len(step.sources):
                absorbed.nowhere += float(given.double().sum()) - sum(float(p.double().sum()) for p in parts)
        elif step.kind == "pass":
            parts = [given]
        elif step.kind == "multiply":
            parts = _gated(step, operands, kinds, given)
        else:
            raise UnsupportedModel(f"layer {step.name!r}: no rule to hand relevance back through {step.kind}")
        for node, part in zip(step.sources, parts, strict=True):
            if part.any() or kinds.get(node) != "gate":
                at[node] = at[node] + part if node in at else part
    return at.get(tape.source, torch.zeros_like(tape.values[tape.source])), absorbed


def _ratio(
    relevance: torch.Tensor, denominator: torch.Tensor, values: torch.Tensor, epsilon: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """relevance / stabilised denominator, and what the stabiliser takes."""
    size = epsilon * values.square().mean().sqrt()
    extra = torch.where(denominator >= 0, size, -size)
    whole = denominator + extra
    s = torch.where(whole == 0, 0.0, relevance / torch.where(whole == 0, 1.0, whole))
    return s, torch.where(whole == 0, relevance, extra * s)


def _gated(
    step: Step, operands: list[torch.Tensor], kinds: Mapping[fx.Node, str], relevance: torch.Tensor
) -> list[torch.Tensor]:
    """The signal takes all, its gate nothing (Arras et al. 2017)."""
    gates = [kinds.get(node) == "gate" for node in step.sources]
    if len(gates) != 2 or sum(gates) != 1 or operands[gates.index(False)].shape != relevance.shape:
        raise UnsupportedModel(f"layer {step.name!r}: multiplies two signals of which neither is a gate")
    return [torch.zeros_like(x) if gate else relevance for x, gate in zip(operands, gates, strict=True)]


def _weighted(
    method: Lrp,
    step: Step,
    x: torch.Tensor,
    tape: Tape,
    relevance: torch.Tensor,
    valid: torch.Tensor,
    absorbed: Absorbed,
) -> torch.Tensor:
    weight = step.weight
    assert weight is not None
    convolution = weight.ndim == 4 and step.map is not torch.mul
    if convolution and step.sources[0] is tape.source and method.input != "same":
        return _input(method.input, step, x, relevance, valid, absorbed)
    if method.rule == "gamma" or (method.rule == "composite" and convolution):
        return _gamma(method, step, x, tape.values[step.node], relevance, absorbed)
    z = tape.values[step.node]
    s, taken = _ratio(relevance, z, z, method.epsilon)
    absorbed.add(taken)
    if step.bias is not None:
        absorbed.add(step.bias * s)
    return x * _back(step, x, weight, s)


def _back(step: Step, x: torch.Tensor, weight: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    mapping = step.map
    assert mapping is not None
    return adjoint(lambda leaf: mapping(leaf, weight), [x], s)[0]


def _gamma(
    method: Lrp, step: Step, x: torch.Tensor, z: torch.Tensor, relevance: torch.Tensor, absorbed: Absorbed
) -> torch.Tensor:
    mapping, weight = step.map, step.weight
    assert mapping is not None
    assert weight is not None
    up, down = weight.clamp_min(0), weight.clamp_max(0)
    plus, minus = x.clamp_min(0), x.clamp_max(0)
    signed = bool((x < 0).any())
    agreeing = mapping(plus, up)
    opposing = mapping(plus, down)
    if signed:
        agreeing = agreeing + mapping(minus, down)
        opposing = opposing + mapping(minus, up)
    bias = torch.zeros((), dtype=x.dtype, device=x.device) if step.bias is None else step.bias
    favoured = torch.where(z >= 0, agreeing + bias.clamp_min(0), opposing + bias.clamp_max(0))
    s, taken = _ratio(relevance, z + method.gamma * favoured, z, TINY)
    own = torch.where(z >= 0, bias.clamp_min(0), bias.clamp_max(0))
    absorbed.add(taken)
    absorbed.add((bias + method.gamma * own) * s)
    rising, falling = torch.where(z >= 0, s, 0.0), torch.where(z >= 0, 0.0, s)
    out = x * _back(step, x, weight, s)
    out = out + method.gamma * plus * (_back(step, x, up, rising) + _back(step, x, down, falling))
    if signed:
        out = out + method.gamma * minus * (_back(step, x, down, rising) + _back(step, x, up, falling))
    return out


def _input(
    rule: str, step: Step, x: torch.Tensor, relevance: torch.Tensor, valid: torch.Tensor, absorbed: Absorbed
) -> torch.Tensor:
    """The first convolution. Padding takes no part: its low and high are what it is."""
    mapping, weight = step.map, step.weight
    assert mapping is not None
    assert weight is not None
    if rule == "flat":
        field_ = valid.to(x.dtype).expand_as(x)
        terms = [(field_, torch.ones_like(weight))]
    else:
        inside = x[..., valid] if bool(valid.any()) else x.flatten(2)
        low = torch.where(valid, inside.amin(-1)[..., None, None], x)
        high = torch.where(valid, inside.amax(-1)[..., None, None], x)
        terms = [(x, weight), (-low, weight.clamp_min(0)), (-high, weight.clamp_max(0))]
    n = torch.stack([mapping(a, w) for a, w in terms]).sum(0)
    some = (
        n > 1e-5 * n.abs().amax()
    )  # where all of the field is padding there is nothing to give relevance to
    s = torch.where(some, relevance / torch.where(some, n, 1.0), 0.0)
    absorbed.add(torch.where(some, 0.0, relevance))
    out = torch.stack([a * _back(step, a, w, s) for a, w in terms]).sum(0)
    return out


def head(session: Session, outputs: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Relevance of the network's outputs, and what of the score they cannot explain (the spread among other classes)."""

    def score(o: torch.Tensor) -> torch.Tensor:
        return session.classifier.score_of(o, session.target)

    (gradient,) = adjoint(score, [outputs], torch.ones((), device=outputs.device))
    relevance = outputs * gradient
    return relevance, float(score(outputs)[0]) - float(relevance.sum())


def explain(method: Lrp, session: Session) -> Attribution:
    session.plan(8, "forward pass")
    graph = Graph(session)
    score = float(session.scores(session.x)[0])
    tape = graph.run(session.x, score)
    session.plan(6, "handing relevance back")
    relevance, rest = head(session, tape.values[tape.output])
    found, absorbed = propagate(method, session, tape, relevance)
    session.count(0, 1)
    absorbed.nowhere += rest
    inside = torch.where(session.valid, found, 0.0)[0].double().sum(0)
    absorbed.nowhere += float(found.double().sum()) - float(inside.sum())
    taken = absorbed.total()
    shared = method.bias == "shared"
    values = inside + absorbed.over(session.valid) if shared else inside
    error = completeness_error(float(values.sum()) + (0.0 if shared else taken), score)
    notes = []
    if error > TOLERANCE:
        notes.append(f"Not conserved: the relevance adds up to {100 * error:.1f} % beside the score.")
    if not shared:
        notes.append(
            f"Biases took {taken:.2f} of the score of {score:.2f}; the map adds up to the rest only."
        )
    extra = {"score": score, "absorbed": taken}
    return Attribution(values.cpu().numpy(), error, error <= TOLERANCE, tuple(notes), extra=extra)
