"""The same explanations by other packages, called as their documentation says, on the same network and input.

Each takes the network (eval mode, one pneumonia logit or several classes), the prepared input (1, channels, rows,
columns) float32 and returns a float32 or float64 map in the classifier's grid.
"""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Callable
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
    score: Callable[[Tensor], Tensor], x: Tensor, segments: npt.NDArray[np.int32], samples: int, seed: int
) -> Map:
    """lime.lime_image.LimeImageExplainer on superpixels given, otherwise as it ships (batches of ten, a hidden part
    takes its mean colour). The weight of each superpixel at its pixels; 0 where `segments` is negative (padding).

    Its classifier function must return a column per class; the score goes in as it is, so weights are in its unit.
    """
    from lime.lime_image import LimeImageExplainer

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
        explanation = LimeImageExplainer(random_state=seed).explain_instance(
            image,
            classify,
            labels=(1,),
            top_labels=None,
            num_features=len(labels),
            num_samples=samples,
            segmentation_fn=lambda _: numbers,
        )
    weights = np.zeros(len(labels))
    for number, weight in explanation.local_exp[1]:
        weights[number] = weight if labels[number] >= 0 else 0.0
    return np.asarray(weights[numbers])


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
