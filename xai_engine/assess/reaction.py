"""How strongly the score reacts to what it is shown, beside copies of the network that know nothing.

A network that learned something moves its score when parts of a chest are hidden; with random weights it hardly does. One
image can leave any network undecided, so the reaction is measured on two synthetic chests too (once per model, kept by
`memory`) and the mean square over all images counts. Half of the copies have weights drawn anew, half the network's own
weights shuffled: a network that was shuffled itself is one of the latter by chance alone, and exceeds the largest of n of
them by more than chance with a probability of 1 / (n + 1) at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xai_engine.assess import cascade, memory, perturbation, randomise
from xai_engine.assess.blocks import Blocks
from xai_engine.assess.pool import Pool
from xai_engine.classifier.types import ModelInput
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.session import Session
from xai_engine.runtime.run import Run

RULE = 1  # raise it when the measure changes: files of another rule are not read
IMAGE_SETS, REFERENCE_SETS = 12, 24  # hidden sets on the image in hand, on each synthetic chest
BEYOND = 50.0  # a copy whose scores leave this range (logits) has exploded and compares with nothing

Sets = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reactions:
    """Standard deviations of the score over hidden sets. own: (images,); copies: one (images,) each.

    forwards: what it cost, 0 when it was remembered.
    """

    own: tuple[float, ...]
    copies: tuple[tuple[float, ...], ...]
    forwards: int = 0

    def joined(self, other: Reactions) -> Reactions:
        """The same network and the same copies on more images."""
        copies = zip(self.copies, other.copies, strict=True)
        return Reactions(
            self.own + other.own, tuple(a + b for a, b in copies), self.forwards + other.forwards
        )

    def size(self) -> float:
        """Root mean square over the images."""
        return _root_mean_square(self.own)

    def largest_copy(self) -> float:
        """Of the copies that did not explode; 0 where none is left."""
        sizes = [_root_mean_square(c) for c in self.copies]
        return max((s for s in sizes if s < BEYOND), default=0.0)


def _root_mean_square(values: tuple[float, ...]) -> float:
    return math.sqrt(sum(v * v for v in values) / len(values))


_KEPT: dict[str, Reactions] = {}


def copy(classifier: Explainable, index: int, tick: Callable[[], object]) -> Explainable:
    """The index-th copy that knows nothing, the same for every image of the model."""
    how: randomise.How = "shuffled" if index % 2 else "redrawn"
    return randomise.randomised(classifier, 1.0, cascade.SEED, index // 2, tick, how)


def on_image(
    classifier: Explainable,
    model_input: ModelInput,
    target: str,
    sets: Sets,
    own: float | None,
    copies: int,
    run: Run,
    tick: Callable[[], object],
) -> Reactions | None:
    """Reactions to the hidden sets (n, blocks) of one image. own: the network's, where it is known. None: stopped."""
    found, forwards = [], 0
    members = [classifier] if own is None else []
    total = copies + len(members)
    for index in range(total):
        try:
            other = members[index] if index < len(members) else copy(classifier, index - len(members), tick)
        except Interrupted:
            return None
        with Session(other, model_input, target, run.part(index / total, (index + 1) / total)) as session:
            pool = Pool()
            try:
                scene = perturbation.Scene(session, model_input.valid)
                request = perturbation.plan_sets(scene, pool, sets)
                pool.run(session, "comparing with random networks")
            except Interrupted:
                return None
            forwards += session.forwards
            if session.partial or not request.done:
                return None
            exploded = bool(np.abs(request.scores).max() > BEYOND)
            found.append(BEYOND if exploded and index >= len(members) else float(request.scores.std()))
    first = found.pop(0) if own is None else own
    return Reactions((first,), tuple((f,) for f in found), forwards)


def measured(
    classifier: Explainable, target: str, copies: int, run: Run, tick: Callable[[], object]
) -> Reactions | None:
    """The reactions on the synthetic chests, remembered or measured. None: stopped.

    `tick` is called in long steps and may raise Interrupted.
    """
    name = memory.key(classifier, target, measure="reaction", rule=RULE, copies=copies, sets=REFERENCE_SETS)
    if name not in _KEPT:
        found = _read(name, copies)
        if found is None:
            inputs = cascade.references(classifier)
            for index, model_input in enumerate(inputs):
                rng = np.random.default_rng([cascade.SEED, 9, index])
                sets = Blocks(model_input.valid).random_sets(REFERENCE_SETS, rng)
                part = run.part(index / len(inputs), (index + 1) / len(inputs))
                one = on_image(classifier, model_input, target, sets, None, copies, part, tick)
                if one is None:
                    return None
                found = one if found is None else found.joined(one)
            assert found is not None  # there are synthetic chests
            memory.write(name, {"own": found.own, "copies": found.copies})
            _KEPT[name] = Reactions(found.own, found.copies)
            return found
        _KEPT[name] = found
    return _KEPT[name]


def _read(name: str, copies: int) -> Reactions | None:
    data = memory.read(name)
    try:
        own = tuple(float(v) for v in data["own"])
        found = tuple(tuple(float(v) for v in c) for c in data["copies"])
    except (ValueError, KeyError, TypeError):
        return None
    sound = len(own) == len(cascade.REFERENCES) and len(found) == copies
    sound = sound and all(len(c) == len(own) for c in found)
    return Reactions(own, found) if sound and all(v >= 0 for c in (own, *found) for v in c) else None
