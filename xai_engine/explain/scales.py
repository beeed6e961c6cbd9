"""Absolute colour scales: measured once per model when it is trained, and stored in its bundle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from xai_engine.classifier.types import ModelInput
from xai_engine.errors import UnsupportedModel
from xai_engine.explain import registry
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.registry import Method, Value
from xai_engine.runtime.run import Run

PERCENTILE = 99.0
EMPTY = 0.01  # of the largest image's percentile: below, a map shows nothing
IMAGES = 10  # enough for a median to two digits that hold
BY_THEIR_UNIT = {
    "consensus",
    "anchors",
    "meaningful-perturbation",
}  # ranks and shares: every model has the same scale

# Fewer samples than for reading: single maps get noisier, the 99th percentile of a typical one changes little.
# A method that is not named here is measured with its standard settings.
_QUICK: Mapping[str, Mapping[str, Value]] = {
    "integrated-gradients": {"steps": 16, "max_steps": 16},
    "gradient-shap": {"samples": 32},
    "blur-ig": {"steps": 12, "max_steps": 12},
    "guided-ig": {"steps": 16, "max_steps": 16},
    "xrai": {"steps": 8, "max_steps": 8},
    "smooth-grad": {"samples": 10},
    "var-grad": {"samples": 10},
    "score-cam": {"channels": 16},
    "ablation-cam": {"channels": 64},
    "deep-shap": {"baselines": 3},
    "lime": {"samples": 150},
    "kernel-shap": {"samples": 150},
    "occlusion": {"stride": 24},
    "rise": {"masks": 300},
}


def settings() -> dict[str, dict[str, Value]]:
    """Every method whose scale is a property of the model, with the settings under which it is measured.

    About 800 forward and 150 backward passes of one image, together.
    """
    return {name: dict(_QUICK.get(name, {})) for name in registry.names() if name not in BY_THEIR_UNIT}


def measure_scales(
    classifier: Explainable,
    inputs: Sequence[ModelInput],
    methods: Iterable[Method],
    target: str = "",
    run: Run | None = None,
) -> dict[str, float]:
    """Method name -> full scale for `ModelInfo.map_scales`: the median over images of each map's 99th percentile of
    |value| over the valid pixels, without images whose map shows nothing. The strongest part of a typical map reaches the
    end of the colour bar; a pooled percentile would belong to the few images with the largest scores and leave all
    others pale.

    target: the model's last class where empty. Two significant digits, so that colour bars read well; methods whose
    maps are mostly zero, and those that cannot explain this network, are left out. Raises Cancelled.
    """
    run = run or Run()
    wanted = list(methods)
    out: dict[str, float] = {}
    for index, method in enumerate(wanted):
        found = []
        for number, item in enumerate(inputs):
            run.check((index + number / len(inputs)) / len(wanted), f"colour scale of {method.title}")
            quiet = Run(run.seed, run.cancel)
            try:
                explanation = method.explain(classifier, item, target or classifier.info.classes[-1], quiet)
            except UnsupportedModel:
                break
            run.check((index + (number + 1) / len(inputs)) / len(wanted))
            found.append(float(np.percentile(np.abs(explanation.values[item.valid]), PERCENTILE)))
        # a map may be empty for every image without the finding: its scale is that of the maps that show something
        told = [value for value in found if value > EMPTY * max(found)]
        scale = float(np.median(told)) if told else 0.0
        if scale > 0:
            out[method.name] = float(f"{scale:.2g}")
    return out
