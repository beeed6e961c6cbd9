"""Seconds of each explanation beside the same explanation by other packages, and how the two maps compare.

Peers get the network as their users have it: fp32, in torch's default memory layout, their own batch sizes. Ours runs
as it ships, with the precision that it picks for this machine. One uncounted call first, then the median.
"""

from __future__ import annotations

import copy
import importlib.util
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from xai_engine.bench import peers
from xai_engine.bench.figures import Figure, Peer, median, timed
from xai_engine.explain import registry
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier
    from xai_engine.classifier.types import ModelInput

STEPS = 64
SAMPLES = 1000
SEED = 0
LIMITS = {"grad-cam": 0.5, "integrated-gradients": 5.0, "lime": 20.0}


def measure_shipped(model: str | None, image: Path, repeats: int, with_peers: bool) -> list[Figure]:
    """`measure` with an installed bundle on an image file, and the seconds of a prediction."""
    from xai_engine.classifier import bundle
    from xai_engine.radiograph import read
    from xai_engine.runtime import device

    classifier = bundle.load(bundle.find(model), device.choose())
    radiograph = read.read(image)
    unseen = (replace(radiograph, sha256=str(n)) for n in count())  # a file that was seen is prepared already
    samples, _ = timed(lambda: classifier.predict([next(unseen)]), repeats, _clock)
    figures = [
        Figure("predict", "Prediction with uncertainty, one image", median(samples), "s", samples=samples)
    ]
    return figures + measure(classifier, classifier.prepare(radiograph), repeats, with_peers)


def measure(classifier: Classifier, shown: ModelInput, repeats: int, with_peers: bool) -> list[Figure]:
    """Figures of Grad-CAM, Integrated Gradients and LIME on one prepared image."""
    target = classifier.info.classes[-1]
    size = f"{shown.array.shape[1]}×{shown.array.shape[2]}"
    jobs: tuple[tuple[str, str, dict[str, Any], Callable[..., list[Peer]]], ...] = (
        ("grad-cam", f"Grad-CAM, {size}", {}, _grad_cam_peers),
        (
            "integrated-gradients",
            f"Integrated Gradients, {STEPS} steps, {size}",
            {"steps": STEPS, "max_steps": STEPS},
            _integrated_gradients_peers,
        ),
        ("lime", f"LIME, {SAMPLES} samples, {size}", {"samples": SAMPLES}, _lime_peers),
    )
    figures = []
    for name, title, params, beside in jobs:
        method = registry.create(name, **params)
        work = partial(method.explain, classifier, shown, target, Run(seed=SEED))
        samples, ours = timed(work, repeats, _clock)
        others = beside(classifier, shown, target, ours, repeats) if with_peers else []
        note = f"{ours.forwards} forward passes, {ours.precision}"
        figures.append(
            Figure(
                name,
                title,
                median(samples),
                "s",
                LIMITS[name],
                samples=samples,
                peers=tuple(others),
                note=note,
            )
        )
    return figures


def _clock() -> float:
    return time.perf_counter()


def _plain(classifier: Classifier, target: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """The network as its users have it, and its score of `target`, fp32."""
    network = copy.deepcopy(classifier.network).to(memory_format=torch.contiguous_format)
    return network, lambda batch: classifier.score_of(network(batch).float(), target)


def _compare(
    name: str, work: Callable[[], peers.Map], ours: peers.Map, repeats: int, *, factor: bool = False
) -> Peer:
    """repeats 0: once, the first call counted, for what takes minutes. factor: the maps' units differ by a factor."""
    samples, theirs = timed(work, repeats, _clock)
    agreement = {
        "rank correlation": peers.spearman(ours, theirs),
        "largest difference, share of the maximum": peers.largest_difference(ours, theirs, factor=factor),
    }
    return Peer(name, median(samples), agreement)


def _there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _grad_cam_peers(
    classifier: Classifier, shown: ModelInput, target: str, ours: Explanation, repeats: int
) -> list[Peer]:
    network, score = _plain(classifier, target)
    layer = str(ours.params["layer"] or classifier.info.default_layer)
    module, x = network.get_submodule(layer), classifier.tensor(shown)
    index = classifier.target_index(target) if network(x).shape[1] > 1 else 0  # one logit is the target's own
    # theirs lie each cell over its own area, and two of them leave out what speaks against the target
    signed, positive = (
        registry.create("grad-cam", layer=layer, alignment="cells", relu=relu)
        .explain(classifier, shown, target, Run(seed=SEED))
        .values
        for relu in (False, True)
    )
    works: tuple[tuple[str, str, peers.Map, Callable[[], peers.Map]], ...] = (
        ("captum", "captum LayerGradCam", signed, partial(peers.captum_grad_cam, score, module, x)),
        ("monai", "MONAI GradCAM", positive, partial(peers.monai_grad_cam, network, layer, x, index)),
        (
            "pytorch_grad_cam",
            "grad-cam package",
            positive,
            partial(peers.pytorch_grad_cam, network, module, x, index),
        ),
    )
    return [
        _compare(name, work, reference, repeats, factor=True)
        for needs, name, reference, work in works
        if _there(needs)
    ]


def _integrated_gradients_peers(
    classifier: Classifier, shown: ModelInput, target: str, ours: Explanation, repeats: int
) -> list[Peer]:
    if not _there("captum"):
        return []
    _, score = _plain(classifier, target)
    session = Session(classifier, shown, target, Run())
    reference = baseline(session, str(ours.params["baseline"]), float(ours.params["blur"]))
    work = partial(peers.captum_integrated_gradients, score, classifier.tensor(shown), reference, STEPS)
    return [_compare("captum IntegratedGradients", work, ours.values, repeats)]


def _lime_peers(
    classifier: Classifier, shown: ModelInput, target: str, ours: Explanation, repeats: int
) -> list[Peer]:
    if not _there("lime") or ours.segments is None:
        return []
    _, score = _plain(classifier, target)
    work = partial(peers.lime_weights, score, classifier.tensor(shown), ours.segments, SAMPLES, SEED)
    return [_compare("lime package, our superpixels", work, ours.values, 0)]
