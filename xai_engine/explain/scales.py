"""Absolute colour scales: measured once per model when it is trained, and stored in its bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from xai_engine.classifier.types import ModelInput
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.registry import Method
from xai_engine.runtime.run import Run

PERCENTILE = 99.0


def measure_scales(
    classifier: Explainable,
    inputs: Sequence[ModelInput],
    methods: Iterable[Method],
    target: str = "",
    run: Run | None = None,
) -> dict[str, float]:
    """Method name -> full scale for `ModelInfo.map_scales`: the median over images of each map's 99th percentile of
    |value| over the valid pixels. The strongest part of a typical map reaches the end of the colour bar; a pooled
    percentile would belong to the few images with the largest scores and leave all others pale.

    target: the model's last class where empty. Two significant digits, so that colour bars read well; methods whose
    maps are mostly zero are left out. Raises Cancelled.
    """
    run = run or Run()
    wanted = list(methods)
    out: dict[str, float] = {}
    for index, method in enumerate(wanted):
        found = []
        for number, item in enumerate(inputs):
            run.check((index + number / len(inputs)) / len(wanted), f"colour scale of {method.title}")
            quiet = Run(run.seed, run.cancel)
            explanation = method.explain(classifier, item, target or classifier.info.classes[-1], quiet)
            run.check((index + (number + 1) / len(inputs)) / len(wanted))
            found.append(float(np.percentile(np.abs(explanation.values[item.valid]), PERCENTILE)))
        scale = float(np.median(found)) if found else 0.0
        if scale > 0:
            out[method.name] = float(f"{scale:.2g}")
    return out
