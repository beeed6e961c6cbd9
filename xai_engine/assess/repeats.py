"""What a map is worth when it is made again: with another seed, a changed image, a network of random weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xai_engine.assess import cascade, findings, randomise, rerun, similarity
from xai_engine.assess.options import CardOptions
from xai_engine.assess.types import Finding
from xai_engine.classifier.types import ModelInput
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

Map = npt.NDArray[np.float32]

_PERTURB = 105  # stream of Run.rng; the others are the card's


@dataclass(frozen=True, slots=True)
class Scene:
    """What is explained again, how often and within which part of the run. `tick` may raise Interrupted."""

    classifier: Explainable
    model_input: ModelInput
    target: str
    options: CardOptions
    run: Run
    tick: Callable[[], object]


@dataclass
class Repeats:
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    forwards: int = 0


def measure(explanation: Explanation, scene: Scene) -> Repeats:
    """Stability between seeds and under harmless changes, and randomisation. A cancelled run gives what was found."""
    o = scene.options
    out = Repeats()
    total = o.seeds + o.noises + o.shifts + o.stages
    if not total:
        return out
    recipe = rerun.recipe(explanation, o.rerun_forwards)
    if recipe is None:
        out.notes.append(
            "Stability and model randomisation were not measured: the map cannot be made again at this cost."
        )
        return out
    work = _Work(explanation, scene, recipe, total, out)
    work.measure()
    out.forwards += work.bench.forwards
    return out


class _Work:
    def __init__(self, e: Explanation, scene: Scene, recipe: rerun.Recipe, total: int, out: Repeats) -> None:
        self.explanation, self.scene, self.recipe, self.total, self.out = e, scene, recipe, total, out
        self.bench = rerun.Bench(scene.classifier, scene.model_input, scene.target)
        self.valid = scene.model_input.valid
        self.done = 0

    def measure(self) -> None:
        e, run = self.explanation, self.scene.run
        base: Map | None = e.values
        if self.recipe.reduced:
            self.out.notes.append(
                f"Repeated with {self.recipe.reduced}: the map itself is at least as stable."
            )
            base = self.bench.map(self.recipe.method, self._part(), e.seed)
        if base is not None and not run.cancelled:
            self._seeds(base)
        if base is not None and not run.cancelled:
            self._perturb(base)
        if not run.cancelled:
            self._randomise()

    def _part(self) -> Run:
        self.done += 1
        return self.scene.run.part((self.done - 1) / (self.total + 1), self.done / (self.total + 1))

    def _seeds(self, base: Map) -> None:
        found = []
        for index in range(self.scene.options.seeds):
            again = self.bench.map(self.recipe.method, self._part(), self.explanation.seed + 1 + index)
            if again is None:
                return
            if np.array_equal(again, base):
                self.out.findings += findings.of_seeds([], True, "")
                return
            found.append(similarity.likeness(base, again, self.valid))
        if found:
            self.out.findings += findings.of_seeds(found, False, self.recipe.reduced)

    def _perturb(self, base: Map) -> None:
        found, changes = [], []
        seed, o, image = self.explanation.seed, self.scene.options, self.scene.model_input
        rng = self.scene.run.rng(_PERTURB)
        for _ in range(o.noises):
            changed = rerun.noisy(image, rng)
            again = self.bench.map(self.recipe.method, self._part(), seed, model_input=changed)
            if again is None:
                return
            found.append(similarity.likeness(base, again, self.valid))
            changes.append(similarity.relative_change(base, again, self.valid))
        distance = max(1, round(0.01 * max(self.valid.shape)))
        for down, right in rerun.DIRECTIONS[: o.shifts]:
            down, right = down * distance, right * distance
            changed = rerun.shifted(image, down, right)
            again = self.bench.map(self.recipe.method, self._part(), seed, model_input=changed)
            if again is None:
                return
            back, known = rerun.moved_back(again, down, right)
            found.append(similarity.likeness(base, back, self.valid & known))
        if found:
            self.out.findings += findings.of_perturbation(found, changes, self.recipe.reduced)

    def _randomise(self) -> None:
        scene, o, method = self.scene, self.scene.options, self.recipe.method
        if not o.stages or not randomise.can_randomise(scene.classifier.network):
            return
        if o.cascade == "model":
            known = cascade.measured(
                scene.classifier, scene.target, method, o.stages, self._part(), scene.tick
            )
            if known is not None:
                self.out.forwards += known.forwards
                alike = [v for v in known.alike if not math.isnan(v)]
                self.out.findings += findings.of_randomisation(
                    known.shares, known.ranks, alike, self.recipe.reduced, "two synthetic chests"
                )
            return
        shares, ranks, alike = [], [], []
        for share in cascade.steps_of(scene.classifier.network, o.stages):
            try:
                other = randomise.randomised(scene.classifier, share, cascade.SEED, 0, scene.tick)
            except Interrupted:
                return
            again = self.bench.map(method, self._part(), self.explanation.seed, classifier=other)
            if again is None:
                if scene.run.cancelled:
                    return
                continue  # this copy gives no finite map
            rank, likeness = cascade.compare(self.explanation.values, again, self.valid)
            ranks.append(rank)
            alike += [] if math.isnan(likeness) else [likeness]
            shares.append(share)
        if shares and shares[-1] == 1.0:
            self.out.findings += findings.of_randomisation(
                shares, ranks, alike, self.recipe.reduced, "this image"
            )
