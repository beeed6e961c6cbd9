"""Cheap maps of other methods, so that agreement is always judged by at least three."""

from __future__ import annotations

from collections.abc import Sequence

from xai_engine.classifier.types import ModelInput
from xai_engine.errors import ModelError, UsageError
from xai_engine.explain import registry
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

JURY = 3  # other methods that a map is compared with

# A few passes each, of different families; the later ones stand in where a network allows none of the earlier.
_CHEAP: tuple[tuple[str, dict[str, int | float | str]], ...] = (
    ("grad-cam", {}),
    ("lrp", {}),
    ("input-x-gradient", {}),
    ("layer-cam", {}),
    ("smooth-grad", {"samples": 8}),
    ("integrated-gradients", {"steps": 8, "max_steps": 8}),
)


def find(
    classifier: Explainable,
    model_input: ModelInput,
    target: str,
    present: Sequence[str],
    most: int,
    run: Run,
) -> tuple[list[Explanation], int]:
    """Up to `most` maps of methods that are not `present`, as many as make JURY + 1 methods in all, and their cost in
    forward passes (a backward counts as two). Methods that this network does not allow are passed over."""
    wanted = min(most, JURY + 1 - len(set(present)))
    out: list[Explanation] = []
    cost = 0
    for index, (name, params) in enumerate(_CHEAP):
        if len(out) >= wanted or run.cancelled:
            break
        if name in present:
            continue
        part = run.part(index / len(_CHEAP), (index + 1) / len(_CHEAP))
        try:
            made = registry.create(name, **params).explain(classifier, model_input, target, part)
        except (ModelError, UsageError):
            continue
        cost += made.forwards + 2 * made.backwards
        if not made.partial and made.values.any():
            out.append(made)
    return out, cost
