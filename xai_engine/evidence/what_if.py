"""What a what-if says in words: one sentence for window and report."""

from __future__ import annotations

from xai_engine.evidence import format
from xai_engine.explain.what_if import TITLES, WhatIf


def change(asked: WhatIf) -> str:
    """ "0.902 → 0.515" """
    return f"{format.probability(asked.before.probability)} → {format.probability(asked.after.probability)}"


def sentence(asked: WhatIf) -> str:
    """What was changed, what the score does, and how far random regions move it."""
    before, after = asked.before, asked.after
    moved = f"{format.probability(before.probability)} to {format.probability(after.probability)}"
    logits = f"logit {format.logit(before.logit)} to {format.logit(after.logit)}"
    verb = "lowers" if asked.change.logit < 0 else "raises"
    first = f"This region, {TITLES[asked.fill]}, {verb} the probability from {moved} ({logits})."
    if asked.change.logit == 0.0:
        first = f"This region, {TITLES[asked.fill]}, leaves the probability at {format.probability(before.probability)}."
    spread = asked.reference_range
    if spread is None:
        return first
    count, strong = len(asked.reference), asked.as_strong
    places = f"{count} random region{'s' if count > 1 else ''} of the same shape"
    reach = f"{format.probability(spread[0])} to {format.probability(spread[1])}"
    if strong == 0:
        compared = "none moves the score as far"
    elif strong == count:
        compared = "all move the score as far or farther"
    else:
        compared = f"{strong} {'move' if strong > 1 else 'moves'} the score as far or farther"
    return f"{first} Of {places}, {compared} ({reach})."
