"""The same explanations by other packages, called as their documentation says, on the same network and input.

Each takes the network (eval mode, one pneumonia logit or several classes), the prepared input (1, channels, rows,
columns) float32 and returns a float32 or float64 map in the classifier's grid.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Map = npt.NDArray[np.floating[Any]]
Score = Callable[[Tensor], Tensor]


def captum_integrated_gradients(score: Score, x: Tensor, baseline: Tensor, steps: int) -> Map:
    """captum.attr.IntegratedGradients with its defaults (Gauss-Legendre); channels summed."""
    from captum.attr import IntegratedGradients

    attribution = IntegratedGradients(score).attribute(
        x, baselines=baseline, n_steps=steps, internal_batch_size=16
    )
    return np.asarray(attribution.detach().sum(1)[0].cpu().numpy())


def captum_grad_cam(score: Score, layer: nn.Module, x: Tensor) -> Map:
    """captum.attr.LayerGradCam, without the rectifier so that signs can be compared, upsampled bilinearly."""
    from captum.attr import LayerAttribution, LayerGradCam

    attribution = LayerGradCam(score, layer).attribute(x, relu_attributions=False)
    grid = LayerAttribution.interpolate(attribution, tuple(x.shape[2:]), interpolate_mode="bilinear")
    return np.asarray(grid.detach()[0, 0].cpu().numpy())


def monai_grad_cam(network: nn.Module, layer: str, x: Tensor, index: int) -> Map:
    """monai.visualize.GradCAM, its inverting normaliser switched off (Project-MONAI/tutorials#1796)."""
    from monai.visualize import GradCAM

    # a copy, for it leaves its hooks behind; our weights are frozen, so the graph has to start at the input
    cam = GradCAM(nn_module=copy.deepcopy(network), target_layers=layer, postprocessing=lambda grid: grid)
    return np.asarray(cam(x=x.clone().requires_grad_(), class_idx=index)[0, 0].detach().cpu().numpy())


def pytorch_grad_cam(network: nn.Module, layer: nn.Module, x: Tensor, index: int) -> Map:
    """The grad-cam package. It divides every map by its own maximum: only the order of its values means something."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with GradCAM(model=network, target_layers=[layer]) as cam:
        return np.asarray(
            cam(input_tensor=x.clone().requires_grad_(), targets=[ClassifierOutputTarget(index)])[0]
        )


def lime_weights(
    score: Callable[[Tensor], Tensor],
    x: Tensor,
    segments: npt.NDArray[np.int32],
    samples: int,
    seed: int,
    coins: npt.NDArray[np.bool_] | None = None,
) -> Map:
    """lime.lime_image.LimeImageExplainer on superpixels given, otherwise as it ships (batches of ten, a hidden part
    takes its mean colour). The weight of each superpixel at its pixels; 0 where `segments` is negative (padding).

    coins: (samples, superpixels) what to show, in place of its own draw, so that two results can be compared digit by digit.
    Its classifier function must return a column per class; the score goes in as it is, so weights are in its unit.
    """
    from lime.lime_image import LimeImageExplainer
    from scipy.spatial.distance import cosine

    def classify(images: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        batch = np.ascontiguousarray(np.moveaxis(images, -1, 1)[:, : x.shape[1]], dtype=np.float32)
        with torch.inference_mode():
            values = score(torch.from_numpy(batch).to(x.device)).double().cpu().numpy()
        return np.stack([-values, values], axis=1)

    labels, inverse = np.unique(segments, return_inverse=True)  # lime wants 0 … n - 1, padding counts as one
    numbers = inverse.reshape(segments.shape)
    # three channels, last: what it takes
    image = np.moveaxis(x[0].cpu().numpy().astype(np.float64), 0, -1)
    if image.shape[-1] == 1:
        image = np.repeat(image, 3, axis=-1)
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar cannot be switched off
        explainer = LimeImageExplainer(random_state=seed)
        if coins is not None:
            # padding, its superpixel 0 where there is any, is always shown
            given = np.ones((samples, len(labels)), bool)
            given[:, labels >= 0] = coins
            explainer.random_state = _Given(given)
        explanation = explainer.explain_instance(
            image,
            classify,
            labels=(1,),
            top_labels=None,
            num_features=len(labels),
            num_samples=samples,
            segmentation_fn=lambda _: numbers,
            # padding is no superpixel: counted as one that is never hidden, it moves every weight (by 7e-4 of the largest)
            distance_metric=lambda a, b: (
                cosine(a[labels >= 0], b[labels >= 0]) if a[labels >= 0].any() else 1.0
            ),
        )
    weights = np.zeros(len(labels))
    for number, weight in explanation.local_exp[1]:
        weights[number] = weight if labels[number] >= 0 else 0.0
    return np.asarray(weights[numbers])


class _Given:
    """A random state that gives prepared coins."""

    def __init__(self, shown: npt.NDArray[np.bool_]) -> None:
        self.shown = shown

    def randint(self, low: int, high: int, size: int = 0) -> npt.NDArray[np.int_] | int:
        if not size:  # a seed for the segmentation, which is given, too
            return 0
        return self.shown.astype(int).ravel()[:size]


def _numbered(segments: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int64], int]:
    """Labels with the padding as one more number at the end, and how many superpixels there are."""
    count = int(segments.max()) + 1
    return np.where(segments < 0, count, segments).astype(np.int64), count


@dataclass(slots=True)
class Coalitions:
    """What a package drew: sets (n, superpixels) that were shown, and the weight of each in its regression."""

    sets: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros((0, 0), bool))
    weights: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))


def shap_kernel(
    score: Score,
    x: Tensor,
    behind: Tensor,
    segments: npt.NDArray[np.int32],
    samples: int,
    seed: int,
    drawn: Coalitions | None = None,
) -> Map:
    """shap.KernelExplainer over superpixels as its image example does it, without feature selection, batches of ten.

    drawn: gets the coalitions that it drew, so that two results can be compared digit by digit.
    """
    import shap

    numbers, count = _numbered(segments)
    index = torch.from_numpy(numbers)

    def worth(rows: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
        out = []
        for start in range(0, len(rows), 10):
            shown = torch.from_numpy(np.asarray(rows[start : start + 10]) > 0.5)
            mask = torch.cat([shown, torch.ones(len(shown), 1, dtype=torch.bool)], 1)[:, index]
            with torch.inference_mode():
                out.append(score(torch.where(mask[:, None], x, behind)).double().numpy())
        return np.concatenate(out)

    state = np.random.get_state()  # noqa: NPY002 - shap draws from the global generator
    try:
        np.random.seed(seed)  # noqa: NPY002
        explainer = shap.KernelExplainer(worth, np.zeros((1, count)))
        values = explainer.shap_values(np.ones((1, count)), nsamples=samples, l1_reg=False, silent=True)
    finally:
        np.random.set_state(state)  # noqa: NPY002
    if drawn is not None:
        used = explainer.nsamplesAdded
        drawn.sets = np.array(explainer.maskMatrix[:used] > 0.5)
        drawn.weights = np.array(explainer.kernelWeights[:used], np.float64)
    return np.append(np.asarray(values, np.float64).ravel(), 0.0)[numbers]


def captum_kernel_shap(
    score: Score, x: Tensor, behind: Tensor, segments: npt.NDArray[np.int32], samples: int, seed: int
) -> Map:
    """captum.attr.KernelShap, ten images at a time; the padding is a feature that changes nothing."""
    from captum.attr import KernelShap

    numbers, _ = _numbered(segments)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(seed)
        values = KernelShap(score).attribute(
            x,
            baselines=behind,
            feature_mask=torch.from_numpy(numbers)[None, None].expand_as(x),
            n_samples=samples,
            perturbations_per_eval=10,
        )
    return np.asarray(values[0, 0].numpy())


def captum_occlusion(score: Score, x: Tensor, grey: float, window: int, stride: int) -> Map:
    """captum.attr.Occlusion with its defaults: one window at a time. The fall of the score, mean over windows."""
    from captum.attr import Occlusion

    channels = x.shape[1]
    with torch.inference_mode():
        values = Occlusion(score).attribute(
            x, (channels, window, window), strides=(channels, stride, stride), baselines=grey
        )
    return np.asarray(values[0, 0].numpy())


def monai_occlusion(network: nn.Module, x: Tensor, index: int, window: int, stride: int) -> Map:
    """monai.visualize.OcclusionSensitivity, mean of the image behind the window, logits, windows as dense as ours.

    It gives the score that is left, so its negative is returned, without the constant.
    """
    from monai.visualize import OcclusionSensitivity

    occlusion = OcclusionSensitivity(
        network,
        mask_size=window,
        n_batch=16,
        verbose=False,
        mode="mean_img",
        overlap=1 - stride / window,
        activate=False,
    )
    with contextlib.redirect_stderr(io.StringIO()):
        values, _ = occlusion(x)
    return -np.asarray(values[0, index].numpy())


def rise_loop(score: Score, x: Tensor, behind: Tensor, masks: Callable[[int], Map], count: int) -> Map:
    """RISE as its authors' code does it: all masks in a loop of batches of ten, fp32; contrast of shown and hidden."""
    weighted, mass, total = np.zeros(x.shape[2:]), np.zeros(x.shape[2:]), 0.0
    with torch.inference_mode():
        for start in range(0, count, 10):
            seen = np.stack([masks(i) for i in range(start, min(start + 10, count))])
            scores = score(behind + torch.from_numpy(seen)[:, None] * (x - behind)).double().numpy()
            weighted += np.einsum("n,nij->ij", scores, seen.astype(np.float64))
            mass += seen.sum(0, dtype=np.float64)
            total += float(scores.sum())
    return weighted / np.maximum(mass, 1e-9) - (total - weighted) / np.maximum(count - mass, 1e-9)


def spearman(first: Map, second: Map) -> float:
    """Rank correlation of two maps; 0 where one of them is constant."""
    from scipy.stats import spearmanr

    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first.ravel(), second.ravel()).statistic)


def largest_difference(first: Map, second: Map, *, factor: bool = False) -> float:
    """Largest absolute difference, as a share of the first map's largest absolute value.

    factor: after the second map was multiplied by what brings it closest, for maps in other units.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if factor and (square := float((b * b).sum())) > 0:
        b = b * (float((a * b).sum()) / square)
    return float(np.abs(a - b).max()) / (float(np.abs(a).max()) or 1.0)
