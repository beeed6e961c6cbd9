"""Meaningful perturbation: a low-resolution mask found by gradient descent."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.path import FLOOR
from xai_engine.explain.methods.masks import MeaningfulPerturbation
from xai_engine.explain.session import Attribution, Session

RATE = 0.1  # of Adam, as in the paper
AREA_WEIGHT = 20.0  # "keep": of the ranked mask's distance to the template, in the end
DONE = 0.8  # of the whole change that the mask must bring about, or keep


def explain(method: MeaningfulPerturbation, session: Session) -> Attribution:
    """See `_optimised`. Adam divides slopes by their size, so hundreds of steps make another mask of another last digit: one thread."""
    with session.one_thread():
        return _optimised(method, session)


def _optimised(method: MeaningfulPerturbation, session: Session) -> Attribution:
    """Minimise over the mask m (cells, 1 = hidden, or shown for "keep"), drawn over the image bilinearly:

    hide: score(image with m hidden) / whole + area_weight mean(m) + smoothness TV(m)  (equation 3 of Fong 2017);
    keep: - score(image of which only m is shown) / whole + a penalty that draws the sorted m to a step of the given area
    (equation 5 of Fong 2019) + smoothness TV(m). `whole`: the change in score when everything is hidden. A fall by more than
    that, or a rise above the image's own score, earns nothing: a mask that seeks them finds weaknesses of the network.
    One image per pass, so that nothing depends on the batch.
    """
    x, valid = session.x, session.valid
    behind = baseline(session, method.replacement, method.blur)
    shape = (int(x.shape[2]), int(x.shape[3]))
    cells = (min(method.cells, shape[0]), min(method.cells, shape[1]))
    session.plan(3 * method.iterations + 3, "optimising the mask")
    inside = F.interpolate(valid.double()[None, None], cells, mode="area")  # padding is hidden at no cost
    hide = method.aim == "hide"
    hidden = torch.full((1, 1, *cells), 0.5, dtype=torch.float64, device=x.device)
    drawn = _draw(hidden, shape)
    first = second = torch.zeros_like(hidden)
    done, end, ends = 0, float("nan"), (0.0, 0.0)
    with session.stoppable():
        session.quicken(method.iterations)
        ends = (float(session.scores(x)[0]), float(session.scores(behind)[0]))
        whole = max(abs(ends[0] - ends[1]), FLOOR)
        for index in range(method.iterations):
            shift = session.run.rng(60, index).integers(-method.jitter, method.jitter + 1, 2).tolist()
            leaf = hidden.clone().requires_grad_(True)
            with torch.enable_grad():
                drawn_now = _draw(leaf, shape)
                changed = _mixed(x, behind, drawn_now if hide else 1.0 - drawn_now)
                moved = _shifted(changed, shift)
            scores, gradient = session.gradients(moved.detach().float())
            reached = scores[0] <= ends[0] - whole if hide else scores[0] >= ends[0]
            with torch.enable_grad():
                score = (moved * gradient.double()).sum() * (0.0 if reached else 1.0 / whole)
                ramp = min(1.0, (index + 1) / (0.5 * method.iterations))
                cost = _cost(method, leaf, inside, score if hide else -score, ramp)
                (slope,) = torch.autograd.grad(cost, [leaf])
            done = index + 1
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            step = first / (1 - 0.9**done) / ((second / (1 - 0.999**done)).sqrt() + 1e-8)
            hidden = (hidden - RATE * step).clamp(0.0, 1.0)
            drawn = _draw(hidden, shape)
        final = _mixed(x, behind, drawn if hide else 1.0 - drawn)
        end = float(session.scores(final.float())[0])
    values = torch.where(valid, drawn[0, 0], 0.0).cpu().numpy()
    extra = {"iterations": float(done)}
    if session.partial:
        return Attribution(values if done else 0.0 * values, extra=extra)
    share = float(values.sum() / max(int(valid.sum()), 1))
    change = (ends[0] - end if hide else end - ends[1]) / (ends[0] - ends[1] or 1.0)
    extra |= {"score": ends[0], "score_with_mask": end, "score_all_hidden": ends[1], "share_of_area": share}
    if abs(ends[0] - ends[1]) < FLOOR:
        note = "Hiding the whole image hardly changes the score: the mask explains nothing."
        return Attribution(values, None, False, (note,), extra=extra)
    extra["share_of_change"] = change
    return Attribution(
        values, None, change >= DONE, () if change >= DONE else (shortfall(hide, change),), extra=extra
    )


def shortfall(hide: bool, change: float) -> str:
    """Why a mask is not to be trusted. change: its part of the change in score that hiding everything makes, below DONE."""
    if change <= 0:
        what = "Hiding the marked area" if hide else "Hiding all but the marked area"
        return f"{what} moves the score the other way than hiding everything does: the mask explains nothing."
    what = "Hiding the marked area brings about" if hide else "The marked area alone holds"
    return f"{what} only {100 * change:.0f} % of the change in score that hiding everything does."


def _draw(mask: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return F.interpolate(mask, shape, mode="bilinear", align_corners=False)


def _mixed(x: torch.Tensor, behind: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    return x.double() + hidden * (behind.double() - x.double())


def _shifted(image: torch.Tensor, shift: list[int]) -> torch.Tensor:
    """The image moved by (rows, columns); its border is repeated."""
    down, right = shift
    rows = (torch.arange(image.shape[2], device=image.device) - down).clamp(0, image.shape[2] - 1)
    columns = (torch.arange(image.shape[3], device=image.device) - right).clamp(0, image.shape[3] - 1)
    return image[:, :, rows][:, :, :, columns]


def _cost(
    method: MeaningfulPerturbation, mask: torch.Tensor, inside: torch.Tensor, score: torch.Tensor, ramp: float
) -> torch.Tensor:
    """ramp: from 0 to 1 over the first half of the optimisation, the area's weight in "keep"."""
    rough = mask.diff(dim=2).abs().mean() + mask.diff(dim=3).abs().mean()
    if method.aim == "hide":
        area = (mask * inside).sum() / inside.sum().clamp_min(1.0)
        return score + method.area_weight * area + method.smoothness * rough
    ranked = mask.flatten()[inside.flatten() > 0.5].sort().values
    if not len(ranked):
        return score + method.smoothness * rough
    template = (
        torch.arange(len(ranked), device=mask.device) >= round((1 - method.area) * len(ranked))
    ).double()
    outside = (mask * (inside <= 0.5)).mean()
    distance = ((ranked - template) ** 2).mean() + outside
    return score + AREA_WEIGHT * ramp * distance + method.smoothness * rough
