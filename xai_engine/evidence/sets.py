"""What a prediction set says in words: one line and how to read it, for window and report."""

from __future__ import annotations

from xai_engine.classifier.types import ConformalLimits, ModelInfo, Prediction

_SUFFIX = "_coverage"


def line(prediction: Prediction) -> str:
    """ "Cannot rule out: normal, pneumonia (error rate 10 %)"; empty where the bundle has no limits or the image was refused."""
    limits = prediction.model.conformal
    if not prediction.readable or prediction.prediction_set is None or limits is None:
        return ""
    rate = f"error rate {_percent(limits)}"
    if not prediction.prediction_set:
        return f"Fits none of {', '.join(prediction.model.classes)} ({rate}): the score lies where neither class was usual"
    return f"Cannot rule out: {', '.join(prediction.prediction_set)} ({rate})"


def meaning(model: ModelInfo) -> str:
    """What a set promises, whom the promise was fitted on and what was measured; empty without limits."""
    limits = model.conformal
    if limits is None:
        return ""
    promise = (
        f"The set leaves out the true class in at most about {100 * limits.error_rate:g} of 100 images with and of 100 "
        f"without pneumonia, where images are like those it was fitted on ({limits.population.rstrip('.')}). "
        "Several classes: the score does not decide between them."
    )
    measured = coverage(model)
    if not measured:
        return f"{promise} What it holds on test images is not stated for this model."
    shares = ", ".join(f"{population} {share}" for population, share in measured)
    return f"{promise} Sets with the true class among test images (95 % interval): {shares}."


def coverage(model: ModelInfo) -> tuple[tuple[str, str], ...]:
    """(population, measured share of sets that hold the truth) as the bundle states it, from `train.finish.summary`."""
    return tuple(
        (key.removesuffix(_SUFFIX).replace("_", " "), str(value))
        for key, value in sorted(model.metrics.items())
        if key.endswith(_SUFFIX)
    )


def _percent(limits: ConformalLimits) -> str:
    return f"{100 * limits.error_rate:g} %"
