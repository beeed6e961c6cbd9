"""From trained weights to a shipped bundle: calibration, operating points, map scales, measurement, card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xai_engine.classifier import bundle
from xai_engine.classifier.calibration import Platt
from xai_engine.classifier.gate import GateSpec
from xai_engine.classifier.network import build
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.classifier.types import OperatingPoint
from xai_engine.errors import ModelError, UsageError
from xai_engine.explain import registry
from xai_engine.explain import scales as colour_scales
from xai_engine.runtime.run import Run
from xai_engine.train import calibrate, card, checkpoint, evaluate, gate, lungs
from xai_engine.train.classifier import Trained
from xai_engine.train.export import BundleContent, write_bundle
from xai_engine.train.measure import measure
from xai_engine.train.sample import Sample

CLASSES = ("normal", "pneumonia")
LAYERS = (*(f"stages.{i}" for i in range(7)), "head")
# methods whose colour scale is measured, with few samples: all but those whose unit fixes it
SCALED = colour_scales.settings()
_UNSET = OperatingPoint("none", 0.5, (0.0, 0.0, 1.0), (0.0, 0.0, 1.0), "not measured yet")


def check(config: Mapping[str, Any]) -> None:
    """Whether a bundle can be made of a complete configuration, asked before hours of training.

    Raises UsageError for a network that cannot be built or does not give one logit for a grey image, layers that it
    does not have, limits that no gate has.
    """
    try:
        network = build(config["network"])
    except ModelError as error:
        raise UsageError(f"network: {error}") from None
    have = {name for name, _ in network.named_modules() if name}
    layers, default = tuple(config.get("layers", LAYERS)), config.get("default_layer", "head")
    if strange := [name for name in (*layers, *config["style_layers"]) if name not in have]:
        parts = ", ".join(name for name in sorted(have) if name.count(".") < 2)
        raise UsageError(f"layers: the network has no {', '.join(map(str, strange))}; it has {parts}")
    if default not in layers:
        raise UsageError(f"default_layer {default!r} is not one of the layers {', '.join(layers)}")
    _try(network, max(int(stage["size"]) for stage in config["stages"]))
    known = {f.name for f in fields(GateSpec)}
    if wrong := sorted(set(config.get("gate_limits", {})) - known):
        raise UsageError(f"gate_limits: unknown {', '.join(wrong)}; known are {', '.join(sorted(known))}")


def _try(network: nn.Module, size: int) -> None:
    """Two grey images through it, as training will. Raises UsageError."""
    try:
        with torch.inference_mode():
            out = network.eval()(torch.zeros(2, 1, size, size))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        why = " ".join(str(error).split())[:200]
        raise UsageError(
            f"network: it cannot take grey images (one channel) of {size} x {size} pixels: {why}"
        ) from None
    if not isinstance(out, torch.Tensor) or tuple(out.shape) != (2, 1):
        gives = tuple(out.shape) if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
        raise UsageError(
            f"network: two images must give one logit each, shape (2, 1); this one gives {gives}"
        )


def make_bundle(
    trained: Trained,
    gate_weights: Path,
    config: Mapping[str, Any],
    folder: Path,
    history: Mapping[str, Any],
    run: Run,
    data: Path | None = None,
    quick: bool = False,
) -> dict[str, Any]:
    """Write the bundle, measure it on the test split through the ordinary prediction path, write its card.

    Calibration, operating points and limits of prediction sets come from surely labelled validation images, predicted
    by the bundle itself; each class of each population counts the same, so probabilities hold for a prevalence of one
    half, whatever it was in the data. data, quick: see `measure`. Returns the evaluation. Raises UsageError where the
    validation split lacks a class.
    """
    samples = trained.crops.samples
    gate_network = build(gate.NETWORK)
    checkpoint.load_weights(gate_weights, gate_network)
    of_gate = checkpoint.attribution_of(gate_weights)
    content = BundleContent(
        name=config["name"],
        version=config["version"],
        title=config.get("title", "Pneumonia on frontal chest radiographs of children and adults"),
        architecture=str(config["network"]["_target_"]).rpartition(".")[2],
        network_def=config["network"],
        network=trained.network,
        preprocessing=PreprocessSpec(**config["preprocessing"]),
        calibration=Platt(),
        classes=CLASSES,
        layers=tuple(config.get("layers", LAYERS)),
        default_layer=config.get("default_layer", "head"),
        operating_points=(_UNSET,),
        intended_use=card.INTENDED_USE,
        limitations=card.LIMITATIONS,
        training_data=(*card.training_data(config), *(f"Gate only: {text}" for text in of_gate)),
        lungs_def=lungs.NETWORK,
        lungs=trained.finder.network,
        gate_def=gate.NETWORK,
        gate_network=gate_network,
        gate=GateSpec(**config.get("gate_limits", {})),
        gate_attribution=of_gate,
        provenance={"config": dict(config), **history},
    )
    write_bundle(content, folder)
    validation = [s for s in samples if s.split == "val"]
    outcomes, _ = evaluate.run(bundle.load(bundle.find(folder)), validation, run.part(0.0, 0.2))
    try:
        fitted = calibrate.fit(outcomes)
    except ValueError as error:
        raise UsageError(f"the validation split cannot calibrate a model: {error}") from None
    content = replace(
        content,
        calibration=fitted.calibration,
        operating_points=fitted.points,
        conformal=fitted.limits,
        provenance={
            **content.provenance,
            "calibration": list(fitted.candidates),
            "balanced_threshold": list(fitted.rules),
        },
    )
    write_bundle(content, folder)
    scales = _map_scales(bundle.load(bundle.find(folder)), validation, run.part(0.2, 0.35))
    write_bundle(replace(content, map_scales=scales), folder)
    result = measure(folder, list(samples), run.part(0.35, 1.0), quick=quick, data=data)
    content = replace(content, metrics=summary(result), map_scales=scales)
    final = replace(content, card=card.write(content, result, history))
    result["model"]["sha256"] = write_bundle(final, folder)  # the same model, now with its figures
    return result


def summary(result: Mapping[str, Any]) -> dict[str, str]:
    """The figures of an evaluation that a bundle states by itself: AUC and coverage of prediction sets by population."""
    figures = {f"{name}_auc": card.text_of(found["auc"]) for name, found in result["populations"].items()}
    covered = result.get("conformal", {}).get("populations", {})
    return figures | {f"{name}_coverage": card.text_of(found["coverage"]) for name, found in covered.items()}


def _map_scales(classifier: Any, samples: Sequence[Sample], run: Run) -> dict[str, float]:
    """Absolute colour scales per method, from validation images; methods that the network cannot do are left out."""
    rng = np.random.default_rng(0)
    populations = sorted({s.population for s in samples})
    chosen = []
    for population in populations:  # the same number of each
        members = [s for s in samples if s.population == population]
        chosen += [
            members[i] for i in rng.permutation(len(members))[: colour_scales.IMAGES // len(populations)]
        ]
    inputs = [classifier.prepare(evaluate.read_sample(s)) for s in chosen]
    run.check(0.2, "measuring map scales")
    methods = [registry.create(name, **params) for name, params in SCALED.items()]
    return colour_scales.measure_scales(classifier, inputs, methods, run=run.part(0.2, 1.0))


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
