"""Explaining again: with another seed, a slightly changed image, another model."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.classifier.types import ModelInput
from xai_engine.errors import ModelError, UsageError
from xai_engine.explain import registry
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.registry import Method
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

Map = npt.NDArray[np.float32]

COUNTS = ("samples", "masks", "steps", "channels")  # parameters that the number of passes is proportional to
NOISE = 0.02  # half width of the uniform noise, share of the image's range


@dataclass(frozen=True, slots=True)
class Recipe:
    """A method that can be run again. reduced: how it differs from the original, "" where it does not."""

    method: Method
    reduced: str


def recipe(explanation: Explanation, limit: int) -> Recipe | None:
    """How to make this map again for at most about `limit` forward passes; None where that cannot be done."""
    try:
        method = registry.create(explanation.method, **explanation.params)
    except UsageError:
        return None
    cost = explanation.forwards + 2 * explanation.backwards
    about = {item.name: item for item in method.parameters()}
    if "max_steps" in about:  # a method that adds steps until it converges may cost far more on another image
        used = max(2, explanation.backwards)
        steps = min(used, max(2, limit // 3))
        same = steps == used == explanation.params["steps"]
        fixed = replace(method, steps=steps, max_steps=steps)  # type: ignore[call-arg]
        return Recipe(fixed, "" if same else f"{steps} steps")
    if cost <= limit:
        return Recipe(method, "")
    name = next((n for n in (*COUNTS, "stride") if n in about), None)
    if name is None:
        return None
    value = float(explanation.params[name])
    wanted = math.ceil(value * math.sqrt(cost / limit)) if name == "stride" else int(value * limit / cost)
    low, high = about[name].low, about[name].high
    wanted = int(min(max(wanted, low if low is not None else wanted), high if high is not None else wanted))
    if "window" in about:  # or parts of the image would never be covered
        wanted = min(wanted, int(explanation.params["window"]))
    if name != "stride" and cost * wanted / value > 3 * limit:
        return None
    return Recipe(
        replace(method, **{name: wanted}), f"{name.replace('_', ' ')} {wanted} instead of {value:g}"
    )


@dataclass(slots=True)
class Bench:
    """Runs a recipe and counts what it costs."""

    classifier: Explainable
    model_input: ModelInput
    target: str
    forwards: int = 0

    def map(
        self,
        method: Method,
        run: Run,
        seed: int,
        *,
        model_input: ModelInput | None = None,
        classifier: Explainable | None = None,
    ) -> Map | None:
        """The map, or None when the run was cancelled or this model cannot be explained so."""
        run.seed = seed
        try:
            made = method.explain(
                classifier or self.classifier, model_input or self.model_input, self.target, run
            )
        except ModelError:
            return None
        self.forwards += made.forwards + 2 * made.backwards
        return None if made.partial else made.values


def noisy(model_input: ModelInput, rng: np.random.Generator) -> ModelInput:
    """The input plus uniform noise of ± NOISE of its range on the valid pixels, the same in all channels."""
    plane = model_input.array[:, model_input.valid]
    width = NOISE * float(np.ptp(plane)) if plane.size else 0.0
    noise = rng.uniform(-width, width, model_input.valid.shape).astype(np.float32)
    array = np.where(model_input.valid, model_input.array + noise, model_input.array)
    return replace(model_input, array=_read_only(array.astype(np.float32)))


DIRECTIONS = ((1, 1), (-1, 1), (1, -1), (-1, -1))


def shifted(model_input: ModelInput, down: int, right: int) -> ModelInput:
    """The input moved by whole pixels; what comes in at the edge repeats the edge."""
    rows = np.clip(np.arange(model_input.valid.shape[0]) - down, 0, model_input.valid.shape[0] - 1)
    columns = np.clip(np.arange(model_input.valid.shape[1]) - right, 0, model_input.valid.shape[1] - 1)
    return replace(
        model_input,
        array=_read_only(model_input.array[:, rows][:, :, columns]),
        valid=_read_only(model_input.valid[rows][:, columns]),
    )


def moved_back(values: Map, down: int, right: int) -> tuple[Map, npt.NDArray[np.bool_]]:
    """A map of a shifted input in the original place, and where it is known."""
    known = np.zeros(values.shape, bool)
    rows, columns = values.shape
    known[max(0, -down) : rows - max(0, down), max(0, -right) : columns - max(0, right)] = True
    return np.roll(values, (-down, -right), (0, 1)), known


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    out = np.ascontiguousarray(array)
    out.setflags(write=False)
    return out
