"""Architectures compared: one recipe, one set of splits, one budget of images; accuracy, cost, and where the maps point.

The choice is made on validation images; the test split is shown beside it and takes no part.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.explain import adapter, registry
from xai_engine.runtime import atomic
from xai_engine.runtime.run import Run
from xai_engine.train import classifier, crops, localisation, metrics
from xai_engine.train.augment import Augment, AugmentSpec

LAST = -1e9  # what the network was not shown ranks last, as in `localisation`
STEPS = 16  # of Integrated Gradients: for a ranking of architectures


@dataclass(frozen=True)
class Row:
    """One architecture. auc: split -> population -> value, lower, upper; auprc: method -> pooled pixel AUPRC on the
    validation and test images with expert boxes; milliseconds: median of one image, fp32."""

    name: str
    parameters: int
    megabytes: float
    milliseconds: float
    auc: Mapping[str, Mapping[str, tuple[float, float, float]]]
    auprc: Mapping[str, float]
    minutes: float


def run(
    config: Mapping[str, Any], base: Mapping[str, Any], root: Path, out: Path, target: Path, job: Run
) -> None:
    """`compare`, and the page of its table in `target`; whole or not at all."""
    rows = compare(config, base, root, out, job)
    with atomic.file(target) as path:
        path.write_text(page(config, rows, str(config.get("note", ""))), encoding="utf-8")


def compare(config: Mapping[str, Any], base: Mapping[str, Any], root: Path, out: Path, run: Run) -> list[Row]:
    """Train and measure every candidate of `config` (see configs/selection.json) with the recipe of `base`.

    Each candidate has its own folder under `out`, from which a stopped run goes on; finished ones are not repeated.
    Raises ManifestError, TrainingFailed, Cancelled.
    """
    candidates = config["candidates"]
    rows = []
    for k, candidate in enumerate(candidates):
        folder = out / f"{k}-{candidate['network']['_target_'].rpartition('.')[2]}"
        done = folder / "row.json"
        if done.is_file():
            rows.append(Row(**json.loads(done.read_text(encoding="utf-8"))))
            continue
        part = run.part(k / len(candidates), (k + 1) / len(candidates))
        recipe = recipe_of(config, base, candidate)
        began = time.monotonic()
        trained = classifier.train(recipe, root, folder, part.part(0.0, 0.9), cache=out)
        minutes = (time.monotonic() - began) / 60
        spec = PreprocessSpec(**recipe["preprocessing"])
        row = measure(candidate, trained.network, trained.crops, spec, minutes, part.part(0.9, 1.0))
        with atomic.file(done) as path:
            path.write_text(json.dumps(asdict(row), indent=1), encoding="utf-8")
        rows.append(row)
    return rows


def recipe_of(
    config: Mapping[str, Any], base: Mapping[str, Any], candidate: Mapping[str, Any]
) -> dict[str, Any]:
    """The shipped model's recipe with the candidate's network and the comparison's size and budget."""
    return {
        **base,
        "network": candidate["network"],
        "imagenet": candidate["imagenet"],
        "lr": candidate["lr"],
        "style_layers": candidate["style_layers"],
        "preprocessing": {**base["preprocessing"], "size": config["size"]},
        "stages": [{"size": config["size"], "epochs": config["epochs"]}],
        "images_per_epoch": config["images_per_epoch"],
        "soup": None,
    }


def measure(
    candidate: Mapping[str, Any],
    network: nn.Module,
    prepared: crops.Crops,
    spec: PreprocessSpec,
    minutes: float,
    run: Run,
) -> Row:
    """AUC on validation and test images, cost of one image, AUPRC of maps against expert boxes."""
    network.eval()
    samples = prepared.samples
    areas: dict[str, dict[str, tuple[float, float, float]]] = {}
    for split in ("val", "test"):
        which = np.array([i for i, s in enumerate(samples) if s.split == split and s.sure])
        logits = classifier.logits_of(network, prepared, which, spec)
        areas[split] = {}
        for population in sorted({samples[i].population for i in which}):
            members = [k for k, i in enumerate(which) if samples[i].population == population]
            found = metrics.auc([samples[which[k]].label for k in members], logits[members])
            areas[split][population] = found.as_tuple()
    parameters = sum(p.numel() for p in network.parameters())
    return Row(
        candidate["name"],
        parameters,
        parameters * 4 / 1e6,
        milliseconds(network, spec.size),
        areas,
        pointing(network, str(candidate["layer"]), prepared, spec, run),
        minutes,
    )


def milliseconds(network: nn.Module, size: int, repeats: int = 20) -> float:
    """Median time of one image, fp32, batch 1, channels last."""
    x = torch.zeros(1, 1, size, size).contiguous(memory_format=torch.channels_last)
    times = []
    with torch.inference_mode():
        for _ in range(repeats + 3):
            began = time.perf_counter()
            network(x)
            times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times[3:])


def pointing(
    network: nn.Module, layer: str, prepared: crops.Crops, spec: PreprocessSpec, run: Run
) -> dict[str, float]:
    """Pooled pixel AUPRC of Grad-CAM (where there is a layer) and Integrated Gradients, and of the centre prior."""
    which = np.array([i for i, s in enumerate(prepared.samples) if s.boxes and s.split in ("val", "test")])
    if not len(which):
        return {}
    methods: dict[str, Any] = {"integrated-gradients": registry.create("integrated-gradients", steps=STEPS)}
    if layer:
        methods["grad-cam"] = registry.create("grad-cam")
    wrapped = adapter.ModuleClassifier(network, (1, spec.size, spec.size), default_layer=layer)
    views = crops.Views(
        prepared, which, Augment(AugmentSpec(), spec.size, spec, prepared.zoom), 0, 0, train=False
    )
    pooled: dict[str, list[npt.NDArray[np.float32]]] = {name: [] for name in (*methods, "centre-prior")}
    truth = []
    for k in range(len(views)):
        run.check(k / len(views), f"maps {k}/{len(views)}")
        view = views[k]
        mask = view["boxes"].numpy() > 0.5
        truth.append(mask.ravel())
        shown = view["valid"].numpy()
        item = adapter.input_of(view["image"].numpy(), shown)
        for name, method in methods.items():
            values = method.explain(wrapped, item, "pneumonia", Run()).values
            pooled[name].append(np.where(shown, values, LAST).ravel().astype(np.float32))
        pooled["centre-prior"].append(localisation.centre_prior(mask.shape).ravel())
    network.requires_grad_(True)
    labels = np.concatenate(truth)
    return {name: metrics.average_precision(labels, np.concatenate(v)) for name, v in pooled.items()}


def page(config: Mapping[str, Any], rows: Sequence[Row], note: str) -> str:
    """docs/model-selection.md: the table, generated. note: why the shipped one was chosen."""
    populations = sorted(rows[0].auc["val"])
    heads = [f"AUC {p}, {s}" for p in populations for s in ("val", "test")]
    maps = sorted({name for row in rows for name in row.auprc})
    lines = [
        "# Which architecture",
        "",
        f"Written by `radiolucent train selection`. Every candidate had the shipped model's recipe and splits, "
        f"{config['epochs']} epochs of {config['images_per_epoch']} images at {config['size']} px; only the learning "
        "rate is its own. AUC with DeLong 95 % intervals on images with a sure label. Time: one image, fp32, "
        f"{torch.get_num_threads()} threads, median. Map AUPRC: pixels against the expert boxes of the adults' validation "
        "and test images, pooled. The choice is made on validation; test columns took no part in it.",
        "",
        "| architecture | " + " | ".join(heads) + " | ms/image | MB | "
        + " | ".join(f"AUPRC {m}" for m in maps) + " | minutes of training |",
        "|---|" + "---|" * (len(heads) + len(maps) + 3),
    ]  # fmt: skip
    for row in rows:
        cells = [_interval(row.auc[s][p]) for p in populations for s in ("val", "test")]
        cells += [f"{row.milliseconds:.1f}", f"{row.megabytes:.1f}"]
        cells += [f"{row.auprc[m]:.3f}" if m in row.auprc else "–" for m in maps]
        lines.append(f"| {row.name} | " + " | ".join(cells) + f" | {row.minutes:.0f} |")
    return "\n".join([*lines, "", note, ""])


def _interval(value: Sequence[float]) -> str:
    return f"{value[0]:.3f} ({value[1]:.3f}–{value[2]:.3f})"
