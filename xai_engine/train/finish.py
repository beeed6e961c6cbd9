"""From trained weights to a shipped bundle: calibration, operating points, map scales, measurement, card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.classifier import bundle
from xai_engine.classifier.calibration import fit_platt
from xai_engine.classifier.gate import GateSpec
from xai_engine.classifier.network import build
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.classifier.types import OperatingPoint
from xai_engine.runtime.run import Run
from xai_engine.train import (
    card,
    checkpoint,
    conformal,
    evaluate,
    gate,
    localisation,
    lungs,
    metrics,
    robustness,
)
from xai_engine.train.classifier import Trained
from xai_engine.train.export import BundleContent, write_bundle
from xai_engine.train.manifest import Sample

ERROR_RATE = 0.1  # of conformal sets
CLASSES = ("normal", "pneumonia")
LAYERS = (*(f"stages.{i}" for i in range(7)), "head")
# methods whose colour scale is measured; fewer samples than for reading change a percentile little
SCALED: dict[str, dict[str, Any]] = {"grad-cam": {}, "integrated-gradients": {}, "lime": {"samples": 300}}


def make_bundle(
    trained: Trained,
    gate_weights: Path,
    config: Mapping[str, Any],
    folder: Path,
    history: Mapping[str, Any],
    run: Run,
) -> dict[str, Any]:
    """Write the bundle, measure it on the test split through the ordinary prediction path, write its card.

    Calibration and operating points come from surely labelled validation images; each class of each population counts
    the same, so probabilities hold for a prevalence of one half, whatever it was in the data. Returns the evaluation.
    """
    samples = trained.crops.samples
    validation = np.array([i for i, s in enumerate(samples) if s.split == "val" and s.sure])
    labels = np.array([float(samples[i].label >= 0.5) for i in validation])
    weights = population_weights([samples[i] for i in validation])
    logits = trained.logits[validation]
    calibration = fit_platt(logits, labels, weights)
    points = operating_points([samples[i] for i in validation], labels, calibration(logits), weights)
    gate_network = build(gate.NETWORK)
    checkpoint.load_weights(gate_weights, gate_network)
    content = BundleContent(
        name=config["name"],
        version=config["version"],
        title="Pneumonia on frontal chest radiographs of children and adults",
        architecture=str(config["network"]["_target_"]).rpartition(".")[2],
        network_def=config["network"],
        network=trained.network,
        preprocessing=PreprocessSpec(**config["preprocessing"]),
        calibration=calibration,
        classes=CLASSES,
        layers=tuple(config.get("layers", LAYERS)),
        default_layer=config.get("default_layer", "head"),
        operating_points=points,
        intended_use=card.INTENDED_USE,
        limitations=card.LIMITATIONS,
        training_data=card.TRAINING_DATA,
        lungs_def=lungs.NETWORK,
        lungs=trained.finder.network,
        gate_def=gate.NETWORK,
        gate_network=gate_network,
        gate=GateSpec(**config.get("gate_limits", {})),
        provenance={"config": dict(config), **history},
    )
    write_bundle(content, folder)
    classifier = bundle.load(bundle.find(folder))
    scales = _map_scales(classifier, [s for s in samples if s.split == "val"], run.part(0.0, 0.3))
    result = measure(folder, list(samples), run.part(0.3, 1.0))
    summary = {
        f"{population}_auc": _text(figures["auc"]) for population, figures in result["populations"].items()
    }
    final = replace(content, metrics=summary, map_scales=scales, card=card.write(content, result, history))
    write_bundle(final, folder)
    return result


def population_weights(samples: Sequence[Sample]) -> npt.NDArray[np.float64]:
    """Weights that let every class of every population count the same; they sum to the number of samples."""
    names = [(s.population, s.label >= 0.5) for s in samples]
    counts = {name: names.count(name) for name in set(names)}
    return np.array([len(names) / len(counts) / counts[name] for name in names])


def operating_points(
    samples: Sequence[Sample],
    labels: npt.NDArray[np.float64],
    probabilities: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
) -> tuple[OperatingPoint, ...]:
    """Balanced, screening and confirming thresholds with what they gave on these images (unweighted, Wilson)."""
    counts = {
        name: sum(s.population == name for s in samples) for name in sorted({s.population for s in samples})
    }
    whom = "validation images: " + ", ".join(f"{n} {name}" for name, n in counts.items())
    points = []
    for name, threshold in metrics.thresholds(labels, probabilities, weights).items():
        sensitivity, specificity = metrics.sensitivity_specificity(labels, probabilities, threshold)
        points.append(OperatingPoint(name, threshold, sensitivity.as_tuple(), specificity.as_tuple(), whom))
    return tuple(points)


def measure(
    folder: Path, samples: Sequence[Sample], run: Run, split: str = "test", quick: bool = True
) -> dict[str, Any]:
    """`evaluate` on one split, with the thumbnail floor trained on the train split. JSON-ready.

    quick: prediction figures only; else conformal sets, robustness and localisation too. Raises Cancelled.
    """
    classifier = bundle.load(bundle.find(folder))
    chosen = [s for s in samples if s.split == split]
    outcomes, problems = evaluate.run(classifier, chosen, run if quick else run.part(0.0, 0.2))
    thresholds = {p.name: p.threshold for p in classifier.info.operating_points}
    naive = _naive(samples, outcomes)
    result: dict[str, Any] = {
        "schema": 1,
        "model": {
            "name": classifier.info.name,
            "version": classifier.info.version,
            "sha256": classifier.info.sha256,
        },
        "split": split,
        "unreadable": problems,
        "populations": evaluate.summarise(outcomes, thresholds, naive),
        "rows": [
            {
                "file": o.sample.path.name,
                "population": o.sample.population,
                "label": o.sample.label,
                "sure": o.sample.sure,
                "logit": o.logit,
                "probability": o.probability,
                "uncertainty": o.uncertainty,
                "refusal": o.refusal,
            }
            for o in outcomes
        ],
    }
    if not quick:
        tuning = [s for s in samples if s.split == "val"]
        if split != "val":  # limits and coverage from the same images would prove nothing
            result["conformal"] = _conformal(classifier, tuning, outcomes, run.part(0.2, 0.3))
        result["robustness"] = robustness.measure(classifier, chosen, run.part(0.3, 0.6))
        result["localisation"] = localisation.measure(classifier, tuning, chosen, run.part(0.6, 1.0))
    return result


def _conformal(
    classifier: Any, tuning: Sequence[Sample], outcomes: Sequence[evaluate.Outcome], run: Run
) -> dict[str, Any]:
    """Limits from validation images of each population, coverage on the outcomes; {} where none can be fitted."""
    fitted, _ = evaluate.run(classifier, [s for s in tuning if s.sure], run)
    found: dict[str, Any] = {}
    for population in sorted({o.sample.population for o in outcomes}):
        val = [o for o in fitted if o.sample.population == population]
        test = [o for o in outcomes if o.sample.population == population and o.sample.sure]
        if not val or not test:
            continue
        limits = conformal.fit([o.sample.label for o in val], [o.probability for o in val], ERROR_RATE)
        found[population] = conformal.measure(
            [o.sample.label for o in test], [o.probability for o in test], limits
        )
        found[population]["limits"] = [v if np.isfinite(v) else None for v in limits]
    return {"error_rate": ERROR_RATE, "populations": found} if found else {}


def _naive(
    samples: Sequence[Sample], outcomes: Sequence[evaluate.Outcome]
) -> dict[str, npt.NDArray[np.float64]]:
    """Thumbnail scores per population; empty where no training images are at hand (a foreign manifest)."""
    from xai_engine.train.images import map_images

    scores: dict[str, npt.NDArray[np.float64]] = {}
    for population in sorted({s.population for s in samples}):
        train = [
            s
            for s in samples
            if s.population == population and s.split == "train" and not 0.05 < s.label < 0.95
        ]
        sure = [o for o in outcomes if o.sample.population == population and o.sample.sure]
        labels = np.array([float(s.label >= 0.5) for s in train])
        if len(train) < 50 or labels.min() == labels.max() or not sure:
            continue
        x = np.stack(map_images(_thumbnail, train, train[0].path.parent))
        thumbs = np.stack([o.thumbnail for o in sure])
        scores[population] = evaluate.naive_floor((x, labels), thumbs)
    return scores


def _thumbnail(sample: Sample) -> npt.NDArray[np.float32]:
    import cv2

    from xai_engine.train.images import read_grey

    grey, _, _ = read_grey(sample)
    return (
        cv2.resize(grey, (evaluate.THUMB, evaluate.THUMB), interpolation=cv2.INTER_AREA)
        .ravel()
        .astype(np.float32)
    )


def _map_scales(classifier: Any, samples: Sequence[Sample], run: Run) -> dict[str, float]:
    """Absolute colour scales per method, from validation images."""
    try:
        from xai_engine.explain import registry
        from xai_engine.explain.scales import measure_scales
    except ImportError:
        return {}
    rng = np.random.default_rng(0)
    populations = sorted({s.population for s in samples})
    chosen = []
    for population in populations:  # the same number of each
        members = [s for s in samples if s.population == population]
        chosen += [members[i] for i in rng.permutation(len(members))[: 20 // len(populations)]]
    inputs = [classifier.prepare(evaluate.read_sample(s)) for s in chosen]
    run.check(0.2, "measuring map scales")
    methods = [registry.create(name, **params) for name, params in SCALED.items()]
    return measure_scales(classifier, inputs, methods, run=run.part(0.2, 1.0))


def _text(interval: Sequence[float | None]) -> str:
    value, lower, upper = interval
    if value is None:
        return "not measurable"
    return f"{value:.3f}" if lower is None else f"{value:.3f} ({lower:.3f}–{upper:.3f})"


def save_evaluation(result: Mapping[str, Any], folder: Path) -> None:
    """evaluation.json, rows.csv, summary.csv, PNG figures, evaluation.html and evaluation.pdf in `folder`.

    Whole or not at all; without matplotlib (the `train` extra) the figures are left out.
    """
    import csv
    from importlib.util import find_spec

    from xai_engine.runtime import atomic
    from xai_engine.train import figures, pages

    pictures = figures.draw(result) if find_spec("matplotlib") else {}

    with atomic.folder(folder) as building:
        (building / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        with (building / "rows.csv").open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(
                stream, fieldnames=list(result["rows"][0]) if result["rows"] else ["file"]
            )
            writer.writeheader()
            writer.writerows(result["rows"])
        with (building / "summary.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerow(["population", "figure", "value", "lower", "upper"])
            table.writerows(card.flat(result))
        for name, data in pictures.items():
            (building / name).write_bytes(data)
        (building / "evaluation.html").write_text(pages.page(result, pictures), encoding="utf-8")
        pages.pdf(result, pictures, building / "evaluation.pdf")
