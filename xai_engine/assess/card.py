"""The reliability card of every map of one image: the one entry point is `assess`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.assess import (
    areas,
    companions,
    findings,
    perturbation,
    random_maps,
    randomise,
    reaction,
    record,
    repeats,
    verdict,
)
from xai_engine.assess.options import CardOptions
from xai_engine.assess.pool import Pool
from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.classifier.types import ModelInput
from xai_engine.errors import UsageError
from xai_engine.explain.compute.consensus import POOR
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

# Streams of Run.rng, one per use; `repeats` has the next.
_SETS, _MAPS, _TIES, _NOISE = range(101, 105)


@dataclass
class _Draft:
    """A card in the making."""

    explanation: Explanation
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    forwards: int = 0

    @property
    def empty(self) -> bool:
        return any(f.name == "map_range" for f in self.findings)


def assess(
    classifier: Explainable,
    model_input: ModelInput,
    explanations: Sequence[Explanation],
    lungs_probability: npt.NDArray[np.floating[Any]] | None,
    options: CardOptions | None,
    run: Run,
) -> tuple[ReliabilityCard, ...]:
    """One card per explanation, in order. All must be maps of this input, in the classifier's grid, of one target.

    lungs_probability: (rows, columns) over the same grid, e.g. `LungFields.in_grid(model_input.transform)`; None leaves
    out what needs it. options: None for the standard ones. A cancelled run gives what was found so far, marked partial,
    never the verdict "use". The network, its gradients and the global random state are left as they were; the same
    `run.seed` gives the same card. Raises UsageError (maps of another grid or target) and UnsupportedModel.
    """
    options = options or CardOptions()
    if not explanations:
        return ()
    _check(model_input, explanations, lungs_probability)
    return _Assessment(classifier, model_input, explanations, lungs_probability, options, run).cards()


def _check(model_input: ModelInput, explanations: Sequence[Explanation], lungs: Any) -> None:
    shape = model_input.valid.shape
    for e in explanations:
        if e.values.shape != shape:
            raise UsageError(
                f"{e.method}: its map is {e.values.shape[0]} x {e.values.shape[1]}, the model's input {shape[0]} x {shape[1]}; explain the image again"
            )
        if e.target != explanations[0].target:
            raise UsageError(
                f"{e.method}: explains {e.target!r}, {explanations[0].method} {explanations[0].target!r}; assess one target at a time"
            )
    if lungs is not None and np.shape(lungs) != shape:
        raise UsageError(f"lung probability is {np.shape(lungs)}, the model's input {shape}")
    if not model_input.valid.any():
        raise UsageError("the model's input holds no image")


class _Assessment:
    def __init__(
        self,
        classifier: Explainable,
        model_input: ModelInput,
        explanations: Sequence[Explanation],
        lungs: npt.NDArray[np.floating[Any]] | None,
        options: CardOptions,
        run: Run,
    ) -> None:
        self.classifier, self.input, self.options, self.run = classifier, model_input, options, run
        self.target = explanations[0].target
        self.valid = model_input.valid
        self.areas = areas.find(model_input.array, model_input.valid, lungs, model_input.transform.inside())
        self.drafts = [_Draft(e) for e in explanations]
        self.precision = "fp32"
        self.partial = False
        self.forwards = 0

    def cards(self) -> tuple[ReliabilityCard, ...]:
        began = time.perf_counter()
        for draft in self.drafts:
            draft.findings += findings.of_map(draft.explanation, self.areas)
        on_record = record.of_record(self.classifier)
        if not on_record:
            self._note(record.MISSING)
        for draft in self.drafts:
            draft.findings += on_record
        if self.areas.lungs is None:
            self._note("Where the lungs are is not known: the share inside the lungs was not measured.")
        pool_share, again_share = self._weights()
        self._agreement(self.run.part(0.0, 0.1 * pool_share))
        if not self._stopped():
            self._shared(self.run.part(0.1 * pool_share, pool_share))
        shared = (time.perf_counter() - began) / len(self.drafts)
        step = again_share / len(self.drafts)
        for index, draft in enumerate(self.drafts):
            draft.seconds += shared
            draft.forwards += round(self.forwards / len(self.drafts))
            if self._stopped() or draft.empty:
                continue
            start = pool_share + step * index
            title = draft.explanation.title
            own = time.perf_counter()
            part = self.run.part(start, start + step, f"{title}: ")
            scene = repeats.Scene(self.classifier, self.input, self.target, self.options, part, self._tick)
            found = repeats.measure(draft.explanation, scene)
            draft.findings += found.findings
            draft.notes += found.notes
            draft.forwards += found.forwards
            self._stopped()
            draft.seconds += time.perf_counter() - own
        if not self.partial:
            self.run.step(1.0, "assessed")
        return tuple(self._card(draft) for draft in self.drafts)

    def _weights(self) -> tuple[float, float]:
        """Shares of the progress: shared forward passes, repeated explanations."""
        o = self.options
        shared = o.masks + len(self.drafts) * ((1 + o.random_maps) * 2 * o.curve_steps + 10 * len(o.road))
        shared += o.copies * 2 * reaction.IMAGE_SETS
        repeats = (
            1 + o.seeds + o.noises + o.shifts + o.stages if o.seeds + o.noises + o.shifts + o.stages else 0
        )
        again = sum(
            repeats * min(d.explanation.forwards + 2 * d.explanation.backwards + 2, o.rerun_forwards)
            for d in self.drafts
        )
        share = shared / (shared + again)
        return share, 1.0 - share

    def _note(self, text: str) -> None:
        for draft in self.drafts:
            draft.notes.append(text)

    def _stopped(self) -> bool:
        self.partial = self.partial or self.run.cancelled
        return self.partial

    def _agreement(self, run: Run) -> None:
        own = [d.explanation for d in self.drafts]
        names = [e.method for e in own]
        others, cost = companions.find(
            self.classifier, self.input, self.target, names, self.options.companions, run
        )
        self.forwards += cost
        if self._stopped():
            return
        for draft in self.drafts:
            jury = [e for e in (*own, *others) if e is not draft.explanation]
            if not draft.empty:
                draft.findings += findings.of_agreement(draft.explanation, jury, self.valid)

    # ---- shared forward passes ---------------------------------------------------------------------------------

    def _shared(self, run: Run) -> None:
        o, seed = self.options, self.run
        full = [d for d in self.drafts if not d.empty]
        copies_share = 0.0 if not o.copies else 0.15
        with Session(self.classifier, self.input, self.target, run.part(0.0, 1.0 - copies_share)) as session:
            try:
                session.tick()
                scene = perturbation.Scene(session, self.valid)
                blocks, pool = scene.blocks, Pool()
                ends = perturbation.plan_ends(scene, pool)
                removals = perturbation.plan_removals(scene, pool, ends, o.masks, seed.rng(_SETS))
                effects = perturbation.plan_areas(scene, pool, ends, self.areas)
                planned = []
                for index, draft in enumerate(full):
                    session.tick()
                    values = draft.explanation.values
                    chance = random_maps.of_same_smoothness(
                        values, self.valid, o.random_maps, seed.rng(_MAPS, index)
                    )
                    sums = np.stack([blocks.sums(m) for m in (values, *chance)])
                    ties = seed.rng(_TIES, index)
                    orders = np.stack([blocks.order(s / blocks.sizes, ties) for s in sums])
                    curves = perturbation.plan_curves(scene, pool, ends, orders, o.curve_steps)
                    planned.append((draft, sums, orders, curves))
                roads = [
                    perturbation.plan_road(
                        scene, pool, session, orders[0], o.road, [seed.seed, _NOISE, index]
                    )
                    for index, (_, _, orders, _) in enumerate(planned)
                    if o.road
                ]
                pool.run(session, "testing the maps")
            except Interrupted:
                self.partial = True
                return
            finally:
                self.forwards += session.forwards
        self.precision = session.precision
        if session.notes:
            self._note(" ".join(session.notes))
        self.partial = self.partial or session.partial
        model = findings.of_model(removals, effects) if removals.done and ends.request.done else []
        for draft, sums, _, curves in planned:
            if curves.done and removals.done:
                draft.findings += findings.of_faithfulness(curves, removals, sums, blocks.sizes)
        for (draft, *_), road in zip(planned, roads, strict=False):
            if road.done:
                draft.findings.append(findings.of_road(road))
        if not self._stopped() and o.copies and removals.done:
            few = slice(reaction.IMAGE_SETS)
            own = float(removals.request.scores[few].std())
            over_random = self._reaction(removals.sets[few], own, run.part(1.0 - copies_share, 1.0))
            if over_random is not None:
                model.append(over_random)
        for draft in self.drafts:
            draft.findings += model

    def _reaction(self, sets: npt.NDArray[np.bool_], own: float, run: Run) -> Finding | None:
        """The score's reaction to the sets and to synthetic chests beside that of random networks; None when stopped."""
        if not randomise.can_randomise(self.classifier.network):
            self._note("The network has no weights that could be randomised.")
            return None
        copies = self.options.copies
        here = reaction.on_image(
            self.classifier, self.input, self.target, sets, own, copies, run.part(0.0, 0.4), self._tick
        )
        chests = None
        if here is not None:
            chests = reaction.measured(self.classifier, self.target, copies, run.part(0.4, 1.0), self._tick)
        if here is None or chests is None:
            self.partial = True
            return None
        found = here.joined(chests)
        self.forwards += found.forwards
        return findings.of_reaction(found)

    def _tick(self) -> None:
        if self.run.cancelled:
            raise Interrupted

    # ---- result ------------------------------------------------------------------------------------------------

    def _card(self, draft: _Draft) -> ReliabilityCard:
        e = draft.explanation
        caveats = []
        if e.partial:
            caveats.append("The map is partial: its computation was stopped.")
        elif not e.converged:
            caveats.append("The map has not converged: more steps or samples may change it.")
        if e.method == "consensus" and e.extra.get("agreement", 1.0) < POOR:
            caveats.append("The methods do not agree: there is no consensus.")
        decision, reasons = verdict.decide(draft.findings, partial=self.partial, caveats=caveats)
        notes = list(draft.notes)
        if self.partial:
            notes.append("Stopped before the end: findings are missing.")
        return ReliabilityCard(
            method=e.method,
            target=e.target,
            verdict=decision,
            reasons=reasons,
            findings=tuple(draft.findings),
            preset=self.options.preset,
            seed=self.run.seed,
            seconds=draft.seconds,
            forwards=draft.forwards,
            precision=self.precision,
            partial=self.partial,
            notes=tuple(notes),
        )
