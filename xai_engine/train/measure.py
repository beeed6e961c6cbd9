"""All that `radiolucent evaluate` measures of a bundle on one split, as one JSON-ready result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xai_engine.classifier import bundle
from xai_engine.runtime.run import Run
from xai_engine.train import (
    conformal,
    evaluate,
    gatecheck,
    localisation,
    naive,
    robustness,
    shortcuts,
)
from xai_engine.train.sample import Sample


def measure(
    folder: Path,
    samples: Sequence[Sample],
    run: Run,
    split: str = "test",
    quick: bool = True,
    data: Path | None = None,
) -> dict[str, Any]:
    """Every figure of `split`, with naive floors trained on the train split. Raises Cancelled.

    quick: predictions, prediction sets and the shortcut check only; else also the gate, robustness and localisation.
    data: folder whose `dicom/` adds other kinds of files to the gate's negatives. Thresholds of maps come from the
    validation split; nothing else of a bundle is chosen here.
    """
    classifier = bundle.load(bundle.find(folder))
    chosen = [s for s in samples if s.split == split]
    outcomes, problems = evaluate.run(classifier, chosen, run if quick else run.part(0.0, 0.4))
    info = classifier.info
    scores = naive.scores(samples, outcomes)
    populations = evaluate.summarise(outcomes, {p.name: p.threshold for p in info.operating_points}, scores)
    result: dict[str, Any] = {
        "schema": 1,
        "model": {"name": info.name, "version": info.version, "sha256": info.sha256},
        "split": split,
        "unreadable": problems,
        "populations": populations,
        "shortcuts": shortcuts.check(outcomes),
        "rows": [_row(o) for o in outcomes],
    }
    if info.conformal is not None:
        result["conformal"] = {
            "error_rate": info.conformal.error_rate,
            "limits": list(info.conformal.limits),
            "fitted_on": info.conformal.population,
            "populations": {name: _coverage(o, info.conformal.limits) for name, o in _sure(outcomes).items()},
        }
    if not quick:
        tuning = [s for s in samples if s.split == "val"]
        result["gate"] = gatecheck.measure(classifier, chosen, outcomes, data, run.part(0.4, 0.55))
        result["robustness"] = robustness.measure(classifier, chosen, run.part(0.55, 0.8))
        result["localisation"] = localisation.measure(classifier, tuning, chosen, run.part(0.8, 1.0))
    return result


def _row(o: evaluate.Outcome) -> dict[str, Any]:
    return {
        "file": o.sample.path.name,
        "population": o.sample.population,
        "label": o.sample.label,
        "sure": o.sample.sure,
        "logit": o.logit,
        "probability": o.probability,
        "uncertainty": o.uncertainty,
        "refusal": o.refusal,
        **{name: _number(getattr(o, name)) for name in shortcuts.VIEWS},
    }


def _sure(outcomes: Sequence[evaluate.Outcome]) -> dict[str, list[evaluate.Outcome]]:
    names = sorted({o.sample.population for o in outcomes if o.sample.sure})
    return {n: [o for o in outcomes if o.sample.population == n and o.sample.sure] for n in names}


def _coverage(outcomes: Sequence[evaluate.Outcome], limits: tuple[float, float]) -> dict[str, Any]:
    return conformal.measure([o.sample.label for o in outcomes], [o.probability for o in outcomes], limits)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
