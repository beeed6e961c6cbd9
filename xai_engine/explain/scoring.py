"""Scores of many changed images: the next ones are made while the network is at the ones before, in the precision that a check
on this image allows."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from xai_engine.explain.precision import MOST, STEP, Correction, checked, enough, offset_only
from xai_engine.explain.ranks import rank_correlation

if TYPE_CHECKING:
    from xai_engine.explain.session import Session

Finished = Callable[[], torch.Tensor]
Begin = Callable[[torch.Tensor, str], Finished]
FloatArray = npt.NDArray[np.float64]
# exact scores (k,), reduced ones (n >= k,) of the first images -> the rank correlation that the map can be expected to keep
Judge = Callable[[FloatArray, FloatArray], float]

BF16_GATE = 0.995  # rank correlation with fp32 that reduced precision must reach on this image
BF16_MINIMUM = 96  # scores below which checking costs more than bf16 saves
BF16_CHECKED = 32  # images scored in both precisions
JUDGED = 96  # images whose reduced scores a judge is shown
UNDER_WAY = 2  # batches in a compiled copy: more would only be given up when a run is cancelled
IN_BLOCKS = 8  # the same where batches are made several at a time
WIDER = 2  # times as many images in a batch of a compiled copy in bf16, which takes less than half the time of fp32


@dataclass(slots=True)
class _Batch:
    """Images start … stop; what will give their scores in either precision."""

    start: int
    stop: int
    images: torch.Tensor
    exact: Finished | None = None
    reduced: Finished | None = None


Scored = tuple[int, int, FloatArray]


@dataclass(slots=True, eq=False)
class _Check:
    """In which precision images are scored, and whether the reduced one keeps the ranks on this image.

    Until `paired` both are used, until `look` the reduced one alone: its scores are held back. Then, where features tell what was
    changed, it is asked whether the reduced scores will do as they are. Where they will not, the exact ones are computed for some of those that
    were held, too, and it is asked again; with all of them the difference is regressed (explain.precision). Nothing is decided by a clock.
    """

    session: Session
    count: int
    before: int
    again: Callable[[list[Scored]], list[Scored]]  # the exact scores of images that were held
    features: Callable[[int, int], FloatArray] | None
    means: bool
    judge: Judge | None
    undecided: bool
    reduced_will_do: bool = False
    paired: int = 0
    look: int = 0
    correction: Correction | None = None
    exact: list[float] = field(default_factory=list)
    reduced: list[float] = field(default_factory=list)
    known: list[FloatArray] = field(default_factory=list)
    held: list[Scored] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.look = min(self.count, BF16_CHECKED)
        if self.undecided and self.features is not None:
            self.look = checked(self.features(0, 1).shape[1], self.count - self.before)
            self.undecided = self.look > 0
        elif self.judge is not None:
            self.look = min(self.count, JUDGED)
        self.look += self.before
        self.paired = self.before + BF16_CHECKED

    def precisions(self, start: int) -> tuple[str, ...]:
        """For the images from `start` on; none while that is not known."""
        if self.reduced_will_do:
            return ("bf16",)
        if not self.undecided or start < self.before:
            return ("fp32",)
        if start < self.paired:
            return ("fp32", "bf16")
        return ("bf16",) if start < self.look else ()

    def take(
        self, start: int, stop: int, exact: FloatArray | None, reduced: FloatArray | None
    ) -> list[Scored]:
        """Scores that are final now."""
        if reduced is None:
            assert exact is not None
            return [(start, stop, exact)]
        if not self.undecided:
            return [(start, stop, self._corrected(start, stop, reduced))]
        self.reduced += reduced.tolist()
        if self.features is not None:
            self.known.append(self.features(start, stop))
        out = []
        if exact is None:
            self.held.append((start, stop, reduced))
        else:
            self.exact += exact.tolist()
            out.append((start, stop, exact))
        return out if stop < self.look else out + self._decided(stop)

    def _corrected(self, start: int, stop: int, reduced: FloatArray) -> FloatArray:
        if self.correction is None:
            return reduced
        if self.features is None:
            return reduced + self.correction.offset
        return reduced + self.correction(self.features(start, stop))

    def _decided(self, looked: int) -> list[Scored]:
        if self.features is None:
            return self._judged()
        out: list[Scored] = []
        while self.held:
            about = np.concatenate(self.known), np.array(self.exact), np.array(self.reduced)
            plain = offset_only(*about, self.count - self.before, self.means)
            if plain.expected >= BF16_GATE:
                return out + self._settle(plain)
            first = self.held[0][0]
            some = [batch for batch in self.held if batch[0] < first + BF16_CHECKED]
            del self.held[: len(some)]
            out += self.again(some)
            self.exact += [float(v) for _, _, values in out[-len(some) :] for v in values]
        exact, reduced = np.array(self.exact), np.array(self.reduced)
        correction = Correction.of(
            np.concatenate(self.known), exact, reduced, self.count - self.before, self.means
        )
        agreement = correction.expected
        if agreement >= BF16_GATE:
            return out + self._settle(correction)
        if enough(len(exact), agreement, BF16_GATE) <= MOST * (self.count - self.before):
            self.look = self.paired = looked + STEP
            return out
        self._refuse(agreement)
        return out

    def _judged(self) -> list[Scored]:
        """Where nothing tells what was changed: by the map as far as it is known, or by the scores themselves."""
        exact, reduced = np.array(self.exact), np.array(self.reduced)
        agreement = rank_correlation(exact, reduced) if self.judge is None else self.judge(exact, reduced)
        if agreement >= BF16_GATE:
            offset = float((exact - reduced[: len(exact)]).mean())
            return self._settle(Correction(offset, np.zeros(0), agreement))
        self._refuse(agreement)
        return self.again(self.held)

    def _refuse(self, agreement: float) -> None:
        self.undecided = False
        self.session.notes.append(
            f"Computed in fp32: bf16 changes the ranks on this image ({agreement:.3f})."
        )

    def _settle(self, correction: Correction) -> list[Scored]:
        """Reduced scores from here on, and for those that were held."""
        self.undecided, self.reduced_will_do, self.correction = False, True, correction
        self.session.precision = "bf16"
        return [(start, stop, self._corrected(start, stop, values)) for start, stop, values in self.held]


def scored(
    session: Session,
    count: int,
    make: Callable[[int, int], torch.Tensor],
    begin: Begin,
    precisions: tuple[str, ...],
    features: Callable[[int, int], FloatArray] | None,
    means: bool,
    under_way: int,
    before: int = 0,
    judge: Judge | None = None,
) -> Iterator[Scored]:
    """See Session.scored. begin: (what `make` gives, precision) -> what waits for its scores; precisions: what it can.

    under_way: batches begun and not yet taken, at most; nobody waits for those when a run is cancelled.
    before: images scored in fp32 before precisions are compared. judge: in place of features, asked once.
    """
    wanted = (
        count - before >= BF16_MINIMUM and session.classifier.precision == "bf16" and "bf16" in precisions
    )

    def again(held: list[Scored]) -> list[Scored]:
        out: list[Scored] = []
        begun: deque[tuple[int, int, Finished]] = deque()
        for start, stop, _ in held:
            session.tick()
            begun.append((start, stop, begin(make(start, stop), "fp32")))
            if len(begun) == under_way:
                a, b, finished = begun.popleft()
                out.append((a, b, session.taken(finished)))
        return out + [(a, b, session.taken(finished)) for a, b, finished in begun]

    check = _Check(session, count, before, again, features, means, judge, wanted)
    waiting: deque[_Batch] = deque()
    ahead: _Batch | None = None
    following = 0
    while True:
        # until it is known how, the next batch is made, but not begun
        while following < count or ahead is not None:
            if ahead is None:
                session.tick()
                wider = WIDER if check.reduced_will_do and under_way > 1 else 1
                stop = min(following + wider * session.batch_size, count)
                ahead = _Batch(following, stop, make(following, stop))
                following = stop
            chosen = check.precisions(ahead.start)
            if not chosen or len(waiting) >= (1 if len(chosen) == 2 else under_way):
                break
            session.tick()
            if "fp32" in chosen:
                ahead.exact = begin(ahead.images, "fp32")
            if "bf16" in chosen:
                ahead.reduced = begin(ahead.images, "bf16")
            waiting.append(ahead)
            ahead = None
        if not waiting:
            return
        batch = waiting.popleft()
        exact = None if batch.exact is None else session.taken(batch.exact)
        reduced = None if batch.reduced is None else session.taken(batch.reduced)
        yield from check.take(batch.start, batch.stop, exact, reduced)
