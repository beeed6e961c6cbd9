"""Does the model look at the lungs? AUC with everything else erased, and with only everything else left.

Letters, borders, shoulders and belly lie outside the lungs: a model that needs them loses when they are gone, and one
that can do without the lungs has found something that no disease explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xai_engine.train import metrics
from xai_engine.train.evaluate import Outcome

FALL = 0.01  # largest fall of the AUC that passes
OUTSIDE = 0.75  # largest AUC from outside the lungs that raises no suspicion
VIEWS = ("lungs_only", "outside_only")


def check(outcomes: Sequence[Outcome]) -> dict[str, dict[str, Any]]:
    """Per population: AUC of the whole image, of the lungs alone, of the rest alone, on the sure images whose lungs were
    found; the fall with DeLong's interval for paired scores; verdict "pass" where it is at most `FALL`, else "flagged".

    `certain`: the interval lies on one side of the limit. `outside_suspicious`: AUC from outside above `OUTSIDE`.
    """
    found: dict[str, dict[str, Any]] = {}
    for population in sorted({o.sample.population for o in outcomes}):
        kept = [
            o
            for o in outcomes
            if o.sample.population == population and o.sample.sure and np.isfinite(o.lungs_only)
        ]
        labels = [o.sample.label >= 0.5 for o in kept]
        if len(set(labels)) < 2:
            continue
        whole = [o.logit for o in kept]
        areas = {name: metrics.auc(labels, [getattr(o, name) for o in kept]) for name in VIEWS}
        fall = metrics.auc_difference(labels, whole, [o.lungs_only for o in kept])
        found[population] = {
            "images": len(kept),
            "auc": list(metrics.auc(labels, whole).as_tuple()),
            **{f"auc_{name}": list(area.as_tuple()) for name, area in areas.items()},
            "fall": list(fall.as_tuple()),
            "limit": FALL,
            "verdict": "pass" if fall.value <= FALL else "flagged",
            "certain": bool(fall.lower > FALL or fall.upper <= FALL),
            "outside_suspicious": bool(areas["outside_only"].value > OUTSIDE),
        }
    return found
