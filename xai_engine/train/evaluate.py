"""What a bundle does on labelled images, through the same path that a user's image takes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from xai_engine.classifier import preprocess
from xai_engine.classifier.predict import Classifier, Prepared
from xai_engine.errors import UnreadableImage
from xai_engine.radiograph.types import PixelSpacing, Radiograph
from xai_engine.runtime.run import Run
from xai_engine.train import metrics
from xai_engine.train.sample import Sample

THUMB = 16


@dataclass(frozen=True)
class Outcome:
    """What the classifier said of one image. `lungs_only`, `outside_only`: logits with the rest of the image erased
    (NaN where no lungs were found); `thumbnail`: (256,) grey values for the naive floor."""

    sample: Sample
    logit: float
    probability: float
    uncertainty: float
    refusal: str
    lungs_only: float
    outside_only: float
    thumbnail: npt.NDArray[np.float32]


def read_sample(sample: Sample) -> Radiograph:
    """The radiograph of a sample, with the true proportions of a squashed image as its pixel aspect."""
    from xai_engine.radiograph.read import read

    radiograph = read(sample.path)
    if sample.aspect == 1.0:
        return radiograph
    aspect = sample.aspect * radiograph.columns / radiograph.rows
    return replace(radiograph, spacing=PixelSpacing(aspect, 1.0, "unknown", "proportions from the manifest"))


def run(classifier: Classifier, samples: Sequence[Sample], job: Run) -> tuple[list[Outcome], list[str]]:
    """Outcomes in order, and a line for each image that could not be read. Raises Cancelled."""
    outcomes: list[Outcome] = []
    problems: list[str] = []
    for start in range(0, len(samples), 8):
        job.check(start / len(samples), f"evaluating {start}/{len(samples)}")
        part, radiographs = [], []
        for sample in samples[start : start + 8]:
            try:
                radiographs.append(read_sample(sample))
                part.append(sample)
            except UnreadableImage as error:
                problems.append(str(error))
        if not part:
            continue
        predictions = classifier.predict(radiographs)
        prepared = classifier.prepared(radiographs)
        pairs = np.stack([v for p in prepared for v in erased(p, classifier)])
        logits = classifier.scores(torch.from_numpy(pairs), classifier.info.classes[-1], "fp32").cpu().numpy()
        for k, (sample, prediction, item) in enumerate(zip(part, predictions, prepared, strict=True)):
            found = item.lungs is not None and item.lungs.box is not None
            inside, outside = (float(v) for v in logits[2 * k : 2 * k + 2]) if found else (np.nan, np.nan)
            thumb = cv2.resize(item.grey, (THUMB, THUMB), interpolation=cv2.INTER_AREA)
            outcomes.append(
                Outcome(
                    sample,
                    prediction.logit,
                    prediction.probability,
                    prediction.uncertainty,
                    prediction.refusal,
                    inside,
                    outside,
                    thumb.ravel().astype(np.float32),
                )
            )
    return outcomes, problems


def erased(item: Prepared, classifier: Classifier) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Network input with only the lungs visible, and with only what is outside them. (channels, size, size) each.

    Erased pixels take the mean of what stays, then the input is standardised as usual.
    """
    array, valid = item.input.array[0], item.input.valid
    if item.lungs is None or item.lungs.box is None:
        return item.input.array, item.input.array
    field = item.lungs.in_grid(item.input.transform) > 0.4
    out = []
    for keep in (field & valid, ~field & valid):
        if keep.any():
            image = np.where(keep, array, array[keep].mean()).astype(np.float32)
        else:
            image = np.zeros_like(array)
        spec = classifier.preprocessing
        plane = preprocess.standardise(image, valid, replace(spec, low=0.0, high=100.0))
        out.append(np.repeat(plane[None], classifier.info.input_shape[0], axis=0))
    return out[0], out[1]


def summarise(
    outcomes: Sequence[Outcome],
    thresholds: Mapping[str, float],
    naive: Mapping[str, Mapping[str, npt.NDArray[np.float64]]] | None = None,
) -> dict[str, Any]:
    """Figures per population and subgroup on surely labelled, readable images. JSON-ready (NaN becomes None).

    naive: scores of trivial models by name per population, in the order of the sure outcomes, for the floor.
    """
    result: dict[str, Any] = {}
    for population in sorted({o.sample.population for o in outcomes}):
        members = [o for o in outcomes if o.sample.population == population]
        entry = _figures([o for o in members if o.sample.sure], thresholds)
        entry["images"] = len(members)
        entry["refused"] = _interval(metrics.wilson(sum(bool(o.refusal) for o in members), len(members)))
        sure = [o for o in members if o.sample.sure]
        for name in ("lungs_only", "outside_only"):
            kept = [o for o in sure if np.isfinite(getattr(o, name))]
            entry[f"auc_{name}"] = _interval(
                metrics.auc([o.sample.label for o in kept], [getattr(o, name) for o in kept])
            )
        for name, scores in (naive or {}).get(population, {}).items():
            entry[f"auc_naive_{name}"] = _interval(metrics.auc([o.sample.label for o in sure], scores))
        entry["subgroups"] = _subgroups(sure, thresholds)
        entry["subgroup_gaps"] = gaps(entry["subgroups"])
        result[population] = entry
    return result


def gaps(subgroups: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per kind of group (age, sex, view): best and worst AUC and their difference, where two can be compared."""
    kinds: dict[str, dict[str, float]] = {}
    for name, group in subgroups.items():
        kind, _, value = name.partition("=")
        if value != "unknown" and group["auc"][0] is not None:
            kinds.setdefault(kind, {})[value] = group["auc"][0]
    found = {}
    for kind, areas in kinds.items():
        if len(areas) > 1:
            best, worst = max(areas, key=lambda v: areas[v]), min(areas, key=lambda v: areas[v])
            found[kind] = {"best": best, "worst": worst, "gap": areas[best] - areas[worst]}
    return found


def _figures(outcomes: Sequence[Outcome], thresholds: Mapping[str, float]) -> dict[str, Any]:
    labels = [o.sample.label for o in outcomes]
    probabilities = [o.probability for o in outcomes]
    entry: dict[str, Any] = {
        "labelled": len(outcomes),
        "positive": int(sum(v >= 0.5 for v in labels)),
        "auc": _interval(metrics.auc(labels, [o.logit for o in outcomes])),
        "operating_points": {},
    }
    for name, figure in (
        ("average_precision", metrics.average_precision),
        ("brier", metrics.brier),
        ("ece", metrics.calibration_error),
        ("ece_even", metrics.even_calibration_error),
    ):
        entry[name] = _interval(metrics.bootstrap(labels, probabilities, figure)) if labels else [None] * 3
    perfect = metrics.perfect_calibration_errors(probabilities)
    entry["ece_if_perfect"] = _number(float(perfect.mean()) if len(perfect) else float("nan"))
    measured = entry["ece"][0]
    entry["ece_perfect_as_large"] = None if measured is None else float((perfect >= measured).mean())
    for name, threshold in thresholds.items():
        sensitivity, specificity = metrics.sensitivity_specificity(labels, probabilities, threshold)
        counts = metrics.confusion(labels, probabilities, threshold)
        entry["operating_points"][name] = {
            "threshold": threshold,
            "sensitivity": _interval(sensitivity),
            "specificity": _interval(specificity),
            "accuracy": _interval(metrics.wilson(counts["tp"] + counts["tn"], len(labels))),
            **counts,
        }
    return entry


def _subgroups(outcomes: Sequence[Outcome], thresholds: Mapping[str, float]) -> dict[str, Any]:
    """AUC per value of each group with at least five cases of each class; ages in bands."""
    found: dict[str, Any] = {}
    for name in sorted({g for o in outcomes for g in o.sample.groups}):
        values: dict[str, list[Outcome]] = {}
        for o in outcomes:
            value = o.sample.groups.get(name, "")
            if name == "age":
                value = age_band(value)
            values.setdefault(value or "unknown", []).append(o)
        for value, members in sorted(values.items()):
            positives = sum(o.sample.label >= 0.5 for o in members)
            if min(positives, len(members) - positives) >= 5:
                area = metrics.auc([o.sample.label for o in members], [o.logit for o in members])
                found[f"{name}={value}"] = {
                    "images": len(members),
                    "positive": positives,
                    "auc": _interval(area),
                }
    return found


def age_band(text: str) -> str:
    """Band of an age in years ("63", "63.5"), as DICOM writes it ("063Y", "018M") too; "" for what is no age."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([YyMmWwDd]?)\s*", text)
    if match is None:
        return ""
    years = float(match[1]) / {"": 1, "Y": 1, "M": 12, "W": 52, "D": 365}[match[2].upper()]
    return next(
        (label for limit, label in ((18, "<18"), (40, "18-39"), (65, "40-64")) if years < limit), "65+"
    )


def _interval(value: metrics.Interval) -> list[float | None]:
    return [_number(v) for v in value.as_tuple()]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
