"""Occlusion by windows.

In a convolutional network the first stages see little: a change under a window changes only the part of an early activation
whose receptive field meets the window. So windows whose parts lie apart are replaced in one image together, the first
stages run on these few images, and each window's own activation is put together from its part and the image's own. This is the
full forward pass, not an approximation: a place is only taken from an image that is the same as far as that place sees.
Networks whose first operations are not among those that `receptive` knows, or that torch.fx cannot write down, get full passes;
so does a network for which the first windows give other scores than full passes do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import chi2
from torch import fx

from xai_engine.classifier.backends.base import Unavailable, written
from xai_engine.explain.behind import BROKEN, Behind
from xai_engine.explain.compute import cuts, receptive
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.compute.combinations import LARGEST, MEMORY, fronts
from xai_engine.explain.methods.perturbation import Occlusion
from xai_engine.explain.precision import CARE, DRAWS, ranks_kept
from xai_engine.explain.scoring import Judge
from xai_engine.explain.session import Attribution, Session

FEWEST = 16  # windows below which writing the network down costs more than it saves
VERIFIED = 2  # windows computed both ways
FRONT = 2.0  # times the cost of a multiplication, in the first layers: large activations, never in bf16

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def positions(length: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side; the last window ends at the border."""
    window = min(window, length)
    out = list(range(0, length - window + 1, stride))
    if out[-1] != length - window:
        out.append(length - window)
    return out


def occlusion(method: Occlusion, session: Session) -> Attribution:
    """Mean over the windows that cover a pixel of score(image) - score(image with the window replaced)."""
    x, valid = session.x, session.input.valid
    rows, columns = valid.shape
    tall, wide = min(method.window, rows), min(method.window, columns)
    behind = baseline(session, method.replacement, method.blur)
    differs = (behind != x).any(1)[0].cpu().numpy()
    total, covered = np.zeros((rows, columns)), np.zeros((rows, columns))
    places: list[tuple[int, int]] = []
    for r in positions(rows, tall, method.stride):
        for c in positions(columns, wide, method.stride):
            if differs[r : r + tall, c : c + wide].any():
                places.append((r, c))
            else:  # nothing is replaced: the score falls by exactly nothing, and no pass is needed to know it
                covered[r : r + tall, c : c + wide] += 1
    session.plan(len(places) + 1, "sliding the window")

    make = replaced(x, behind, (tall, wide))

    done, reused = 0, 0
    with session.stoppable():
        whole = float(session.scores(x)[0])
        ready = Together.of(session, behind, places, (tall, wide))
        if ready is None:
            scored = session.scored(
                len(places),
                lambda a, b: torch.cat([make([place]) for place in places[a:b]]),
                judge=keeps(places, (tall, wide), whole),
            )
        else:
            places, reused = ready.places, ready.operations
            scored = session.scored(
                len(places), ready.activations, ready.behind, judge=keeps(places, (tall, wide), whole)
            )
        for start, stop, scores in scored:
            for (r, c), score in zip(places[start:stop], scores, strict=True):
                total[r : r + tall, c : c + wide] += whole - score
                covered[r : r + tall, c : c + wide] += 1
            done = stop
    values = np.where(valid, total / np.maximum(covered, 1), 0.0)
    return Attribution(values, extra={"windows": float(done), "operations_reused": float(reused)})


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """Windows (first row, first column) in the order in which they are scored, and where the network is cut for them.

    which: (n,) the image that holds each window, with others; images: how many. parts: (n, 4) the rows and the columns (first,
    behind the last) of the cut's activation that see each window. operations: before the cut.
    """

    cut: fx.Node
    operations: int
    places: list[tuple[int, int]]
    images: int
    which: IntArray
    parts: IntArray

    def held_by(self, image: int) -> list[tuple[int, int]]:
        """The windows that are replaced in an image; none in the last one, which is the image itself."""
        return [self.places[index] for index in np.flatnonzero(self.which == image)]


def planned(
    graph: fx.GraphModule, shape: tuple[int, int, int], places: list[tuple[int, int]], size: tuple[int, int]
) -> Plan | None:
    """The cut that saves most work; None where full passes take less. shape: of the image."""
    channels, height, width = shape
    (rows, row_of), (columns, column_of) = (
        np.unique(np.array(places)[:, axis], return_inverse=True) for axis in (0, 1)
    )
    # what sees a window lies in the rows that see the window's rows and in the columns that see its columns
    bands = np.zeros((len(rows) + len(columns), height, width), bool)
    for band, first in zip(bands, rows, strict=False):
        band[first : first + size[0]] = True
    for band, first in zip(bands[len(rows) :], columns, strict=True):
        band[:, first : first + size[1]] = True
    narrow = set(cuts.narrow(graph))
    best, saved = None, 0.0
    for operations, sight in enumerate(receptive.walk(graph, bands, channels), 1):
        if sight.node not in narrow:
            continue
        seen = sight.seen[:, 0].numpy() > 0
        spans = [_spans(np.asarray(s)) for s in (seen[: len(rows)].any(2), seen[len(rows) :].any(1))]
        apart = [classes(s) for s in spans]
        pairs = apart[0][row_of] * (int(apart[1].max()) + 1) + apart[1][column_of]
        held, which = np.unique(pairs, return_inverse=True)
        numbers = sight.channels * seen.shape[1] * seen.shape[2]
        saving = (len(places) - FRONT * (len(held) + 1)) * sight.multiplications
        few = numbers <= LARGEST * height * width and 4 * numbers * (len(held) + 1) <= MEMORY
        if few and saving > saved:
            parts = np.concatenate([spans[0][row_of], spans[1][column_of]], 1)
            best, saved = (sight.node, operations, len(held), which, parts), saving
    if best is None:
        return None
    cut, operations, images, which, parts = best
    order = np.argsort(which, kind="stable")
    return Plan(cut, operations, [places[i] for i in order], images + 1, which[order], parts[order])


def _spans(seen: npt.NDArray[np.bool_]) -> IntArray:
    """(n, places of one side) -> (n, 2): the first place that sees something, and the one behind the last; 0, 0 for none."""
    some, places = seen.any(1), seen.shape[1]
    return np.stack(
        [np.where(some, seen.argmax(1), 0), np.where(some, places - seen[:, ::-1].argmax(1), 0)], 1
    )


def classes(spans: IntArray) -> IntArray:
    """(n, 2) intervals, the second number behind the last -> (n,) a class of each, from 0: those of one class do not
    overlap. As few as there can be: intervals in the order of their beginnings, each in the first class that is free."""
    out, ends = np.zeros(len(spans), np.int64), list[int]()
    for index in np.argsort(spans[:, 0], kind="stable"):
        first, last = spans[index]
        free = next((k for k, end in enumerate(ends) if end <= first), len(ends))
        out[index] = free
        if free == len(ends):
            ends.append(0)
        ends[free] = int(last)
    return out


def replaced(
    x: torch.Tensor, hidden: torch.Tensor, size: tuple[int, int]
) -> Callable[[list[tuple[int, int]]], torch.Tensor]:
    """A function of windows: the image (1, channels, rows, columns) in which all of them are replaced."""

    def make(places: list[tuple[int, int]]) -> torch.Tensor:
        image = x.clone()
        for r, c in places:
            part = np.s_[:, :, r : r + size[0], c : c + size[1]]
            image[part] = hidden[part]
        return image

    return make


def keeps(places: list[tuple[int, int]], size: tuple[int, int], whole: float) -> Judge:
    """How well the map of the first windows keeps its ranks when scores are off as much as those known in both precisions.

    A pixel's value is a mean over windows, so errors average out; those of windows that overlap are taken to be alike as far
    as they do, as if each pixel had an error of its own. How large they are is taken for what one of ten such estimates exceeds.
    """

    def judge(exact: FloatArray, reduced: FloatArray) -> float:
        first = np.array(places[: len(reduced)])
        corners = np.concatenate([first, first + np.array(size)])
        # the map is constant between the edges of windows
        inside = [
            (first[:, axis, None] <= edges[:-1]) & (edges[:-1] < first[:, axis, None] + size[axis])
            for axis, edges in enumerate(np.unique(corners[:, axis]) for axis in (0, 1))
        ]
        covers = (inside[0][:, :, None] & inside[1][:, None, :]).reshape(len(first), -1)
        covers = np.unique(covers[:, covers.any(0)], axis=1).astype(np.float64)
        mean = (covers / covers.sum(0)).T
        apart = np.abs(first[:, None] - first[None]) / np.array(size)
        alike = np.prod(np.clip(1.0 - apart, 0.0, None), axis=2)
        difference = exact - reduced[: len(exact)]
        doubt = chi2.ppf(CARE, len(exact) - 1) / (len(exact) - 1)
        strength, ways = np.linalg.eigh(alike)
        drawn = np.random.default_rng(0).normal(size=(DRAWS, len(first))) * np.sqrt(
            np.clip(strength, 0.0, None)
        )
        errors = drawn @ ways.T * float(difference.std(ddof=1)) / np.sqrt(doubt)
        return ranks_kept(mean @ (whole - reduced - difference.mean()), errors @ mean.T)

    return judge


class Together:
    """An early activation for windows that are computed together.

    made: (images, channels, rows, columns), see Plan.which; the last one is of the image as it is.
    """

    def __init__(self, behind: Behind, plan: Plan, made: torch.Tensor) -> None:
        self.behind, self.plan, self.made = behind, plan, made
        self.places, self.operations = plan.places, plan.operations

    @staticmethod
    def of(
        session: Session, hidden: torch.Tensor, places: list[tuple[int, int]], size: tuple[int, int]
    ) -> Together | None:
        """None where full passes are right or cheaper. hidden: (1, channels, rows, columns), what lies in the windows."""
        if session.x.device.type != "cpu" or len(places) < FEWEST or session.is_tapped():
            return None
        try:
            graph = written(session.network, session.tick)
        except Unavailable:
            return None
        x = session.x
        shape = (int(x.shape[1]), int(x.shape[2]), int(x.shape[3]))
        plan = session.awaited(lambda: planned(graph, shape, places, size))
        if plan is None:
            return None
        make = replaced(x, hidden, size)

        def together(start: int, stop: int) -> torch.Tensor:
            return torch.cat([make(plan.held_by(image)) for image in range(start, stop)])

        try:
            made = fronts(session, cuts.front(graph, plan.cut), shape, plan.images, together, len(places))
            cut = (int(made.shape[1]), int(made.shape[2]), int(made.shape[3]))
            behind = Behind.of(session, cuts.rest(graph, plan.cut), cut, len(places))
            ready = Together(behind, plan, made)
            first = torch.cat([make([place]) for place in ready.places[:VERIFIED]])
            right = behind.agrees(ready.activations(0, VERIFIED), first, receptive.AGREEMENT)
        except BROKEN:
            return None
        return ready if right else None

    def activations(self, start: int, stop: int) -> torch.Tensor:
        """(stop - start, channels, rows, columns) float32 at the cut."""
        plan = self.plan
        out = self.made[-1:].repeat(stop - start, 1, 1, 1)
        for one, image, (a, b, c, d) in zip(
            out, plan.which[start:stop].tolist(), plan.parts[start:stop].tolist(), strict=True
        ):
            one[:, a:b, c:d] = self.made[image, :, a:b, c:d]
        return out
