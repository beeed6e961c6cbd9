"""Anchors: superpixels that hold the model's answer, by a beam search whose choices are made by a bandit (KL-LUCB)."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xai_engine.explain.compute.superpixels import Hider, hider
from xai_engine.explain.methods.masks import Anchors
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.session import Attribution, Session

Anchor = frozenset[int]
Shown = npt.NDArray[np.bool_]
FIRST = 64  # samples of the empty anchor to begin with
BATCH = 16  # samples drawn at a time
GAIN_SAMPLES = 128  # per superpixel of the anchor, for what the precision loses without it


class _Spent(Exception):
    """No samples are left."""


def kl(p: float, q: float) -> float:
    """Kullback-Leibler divergence of two coins."""
    q = min(max(q, 1e-12), 1 - 1e-12)
    out = 0.0
    if p > 0:
        out += p * math.log(p / q)
    if p < 1:
        out += (1 - p) * math.log((1 - p) / (1 - q))
    return out


def bound(mean: float, count: int, level: float, upper: bool) -> float:
    """The q furthest from `mean` with count × kl(mean, q) <= level (Kaufmann & Kalyanakrishnan 2013), by bisection."""
    if count == 0:
        return 1.0 if upper else 0.0
    near, far = mean, 1.0 if upper else 0.0
    for _ in range(40):
        middle = (near + far) / 2
        if count * kl(mean, middle) > level:
            far = middle
        else:
            near = middle
    return near


@dataclass
class _Samples:
    """Every changed image so far, by the anchor under which it was drawn: which superpixels it shows, whether the answer
    stayed.

    A sample under A that happens to show i as well is a sample under A + {i}: coins are independent. So the children of a
    set begin with half of its samples each.
    """

    method: Anchors
    session: Session
    parts: Hider
    stays: bool
    boundary: float
    spent: int = 0
    drawn: dict[Anchor, list[tuple[Shown, npt.NDArray[np.bool_]]]] = field(default_factory=dict)
    known: dict[Anchor, tuple[int, int]] = field(default_factory=dict)

    def draw(self, anchor: Anchor, count: int = BATCH) -> None:
        """Score `count` more images under an anchor, or what is left. Raises _Spent, Interrupted."""
        count = min(count, self.method.samples - self.spent)
        if count <= 0:
            raise _Spent
        rng = self.session.run.rng(70, self.spent)
        shown = rng.integers(0, 2, (count, self.parts.count), dtype=np.uint8).astype(bool)
        shown[:, sorted(anchor)] = True
        scores = self.session.scores(self.parts.images(shown))
        self.spent += count
        same = (scores > self.boundary) == self.stays
        self.drawn.setdefault(anchor, []).append((shown, same))
        hits, n = self.counts(anchor)
        self.known[anchor] = (hits + int(same.sum()), n + count)

    def counts(self, anchor: Anchor) -> tuple[int, int]:
        """(answers that stayed, samples) of an anchor."""
        return self.known.get(anchor, (0, 0))

    def inherit(self, child: Anchor, parent: Anchor) -> None:
        """Take over the parent's samples that fit."""
        if child in self.known:
            return
        (extra,) = child - parent
        hits = n = 0
        for shown, same in self.drawn.get(parent, []):
            fits = shown[:, extra]
            hits, n = hits + int(same[fits].sum()), n + int(fits.sum())
            self.drawn.setdefault(child, []).append((shown[fits], same[fits]))
        self.known[child] = (hits, n)

    def mean(self, anchor: Anchor) -> float:
        hits, n = self.counts(anchor)
        return hits / n if n else 0.0

    def bound(self, anchor: Anchor, level: float, upper: bool) -> float:
        return bound(self.mean(anchor), self.counts(anchor)[1], level, upper)


def answer_boundary(session: Session) -> float:
    """The score above which the model's answer is the target: the operating point where there is one, else 0."""
    classifier = session.classifier
    points = classifier.info.operating_points
    calibration = getattr(classifier, "calibration", None)
    if not points or calibration is None:
        return 0.0
    low, high = -40.0, 40.0
    for _ in range(60):  # calibrations are monotone
        middle = (low + high) / 2
        if float(calibration(np.array([middle]))[0]) >= points[0].threshold:
            high = middle
        else:
            low = middle
    sign = 1.0 if session.target == classifier.info.classes[-1] else -1.0
    return sign * (low + high) / 2


def explain(method: Anchors, session: Session) -> Attribution:
    session.plan(1, "superpixels", 0.02)
    parts = hider(method, session)
    if parts.count == 0:
        return Attribution(np.zeros(parts.labels.shape), segments=parts.labels)
    values = np.zeros(parts.count)
    session.plan(method.samples, "looking for an anchor")
    samples: _Samples | None = None
    best: Anchor = frozenset()
    found = False
    try:
        if method.samples >= 200:
            session.compile()
        score = float(session.scores(session.x)[0])
        boundary = answer_boundary(session)
        samples = _Samples(method, session, parts, score > boundary, boundary)
        search = _Search(method, samples)
        try:
            best, found = search.run()
        except _Spent:
            best = search.best
        gained = _gains(samples, best)
        for index, gain in gained.items():
            values[index] = gain
    except Interrupted:
        if samples is not None:  # gains are measured last: the set's precision stands for them
            values[list(search.best)] = samples.mean(search.best)
        return Attribution(parts.map(values), segments=parts.labels)
    level = math.log(2.0 / (1.0 - method.confidence))
    precision = samples.mean(best)
    low, high = (samples.bound(best, level, upper) for upper in (False, True))
    extra = {
        "precision": precision,
        "precision_low": low,
        "precision_high": high,
        "coverage": 0.5 ** len(best),
        "anchor_superpixels": float(len(best)),
        "superpixels": float(parts.count),
        "samples": float(samples.spent),
        "answer_is_target": float(samples.stays),
    }
    return Attribution(
        parts.map(values), None, found, _words(method, session, extra, found), parts.labels, extra
    )


def _words(method: Anchors, session: Session, about: dict[str, float], found: bool) -> tuple[str, ...]:
    count, of = int(about["anchor_superpixels"]), int(about["superpixels"])
    answer = session.target if about["answer_is_target"] else f"not {session.target}"
    share = f"{100 * about['precision']:.0f} % ({100 * about['precision_low']:.0f} to {100 * about['precision_high']:.0f} %)"
    if found and count == 0:
        return (
            f"No anchor is needed: the answer “{answer}” stays in {share} of images in which half of the superpixels "
            f"are hidden at random.",
        )
    which = "this superpixel" if count == 1 else f"these {count} superpixels"
    text = (
        f"With {which} of {of} left as they are, the answer “{answer}” stays in {share} of images in which the others are "
        f"hidden at random."
    )
    if found:
        return (text,)
    return (
        text,
        f"No set of at most {method.largest} superpixels was found to hold the answer in {100 * method.precision:g} %.",
    )


@dataclass
class _Search:
    """Beam search over sets of superpixels, smallest first: the first size at which a set is precise enough has the
    largest coverage (2 to the power of minus its size, as coins are fair).
    """

    method: Anchors
    samples: _Samples
    best: Anchor = frozenset()

    def run(self) -> tuple[Anchor, bool]:
        """(anchor, whether its precision is assured). Raises _Spent, Interrupted."""
        method, samples = self.method, self.samples
        samples.draw(self.best, FIRST)
        if self._is_precise(self.best):
            return self.best, True
        beam: list[Anchor] = [self.best]
        for _ in range(min(method.largest, samples.parts.count)):
            candidates: dict[Anchor, None] = {}
            for parent in beam:
                for index in range(samples.parts.count):
                    if index not in parent:
                        child = parent | {index}
                        samples.inherit(child, parent)
                        candidates[child] = None
            beam = self._top(list(candidates))
            self.best = max([self.best, *beam], key=samples.mean)
            precise = [anchor for anchor in beam if self._is_precise(anchor)]
            if precise:
                self.best = max(precise, key=samples.mean)
                return self.best, True
        return self.best, False

    def _top(self, arms: list[Anchor]) -> list[Anchor]:
        """The `beam` most precise sets, to within the tolerance (KL-LUCB, algorithm 1 of Kaufmann 2013)."""
        method, samples = self.method, self.samples
        size = min(method.beam, len(arms))
        for arm in arms:
            while samples.counts(arm)[1] < BATCH // 4:
                samples.draw(arm, BATCH // 4)
        turn = 1
        while True:
            order = sorted(range(len(arms)), key=lambda i: -samples.mean(arms[i]))  # ties in their own order
            top = order[:size]
            rest = order[size:]
            if not rest:
                return [arms[i] for i in top]
            level = self._level(len(arms), turn)
            weakest = min(top, key=lambda i: samples.bound(arms[i], level, False))
            rival = max(rest, key=lambda i: samples.bound(arms[i], level, True))
            gap = samples.bound(arms[rival], level, True) - samples.bound(arms[weakest], level, False)
            if gap <= method.tolerance or turn > self._patience(len(arms)):
                return [arms[i] for i in top]
            samples.draw(arms[weakest])
            samples.draw(arms[rival])
            turn += 1

    def _patience(self, arms: int) -> int:
        """Turns for one size: arms of the same precision (most of them, in a large image) are never told apart, and need
        not be; what is left of the budget is worth more at the next size.
        """
        return max(10, min(arms, self.method.samples // (2 * BATCH * (self.method.largest + 1))))

    def _level(self, arms: int, turn: int) -> float:
        """Exploration rate: all bounds of all turns hold together with the confidence asked for."""
        delta = 1.0 - self.method.confidence
        first = math.log(405.5 * arms * turn**1.1 / delta)
        return first + math.log(max(first, 1.0))

    def _is_precise(self, anchor: Anchor) -> bool:
        """Sample until the precision is known to be above or below what is asked for, to within a third of the tolerance."""
        method, samples = self.method, self.samples
        level = math.log(1.0 / (1.0 - method.confidence))
        slack = min(method.tolerance / 3, (1 - method.precision) / 2)
        while True:
            low, high = (samples.bound(anchor, level, upper) for upper in (False, True))
            if samples.mean(anchor) >= method.precision and low >= method.precision - slack:
                return True
            if samples.mean(anchor) < method.precision and high < method.precision + slack:
                return False
            if high < method.precision:
                return False
            samples.draw(anchor)


def _gains(samples: _Samples, anchor: Anchor) -> dict[int, float]:
    """What the precision loses without each superpixel of the anchor, at least 0; whole where no samples are left."""
    out: dict[int, float] = {}
    for index in sorted(anchor):
        less = anchor - {index}
        try:
            while samples.counts(less)[1] < GAIN_SAMPLES:
                samples.draw(less)
        except _Spent:
            if not samples.counts(less)[1]:
                samples.known[less] = (0, 1)
        out[index] = max(samples.mean(anchor) - samples.mean(less), 0.0)
    return out
