"""KernelSHAP, occlusion and RISE against enumeration, captum and planted truth; bf16 behind its gate."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.explain.networks import SIDE, classifier, image, network
from tests.explain.test_lime import Additive, blocks, exact_blocks
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.compute import rise, shap, windows
from xai_engine.explain.ranks import rank_correlation
from xai_engine.runtime.device import DevicePolicy
from xai_engine.runtime.run import Run


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000))
def test_exact_shapley_values_by_permutations(players: int, seed: int) -> None:
    """The definition: the mean gain over all orders in which players can come."""
    values = np.random.default_rng(seed).normal(size=2**players)
    expected = np.zeros(players)
    orders = list(permutations(range(players)))
    for order in orders:
        here = 0
        for player in order:
            expected[player] += values[here | 1 << player] - values[here]
            here |= 1 << player
    assert np.allclose(shap.exact(values, players), expected / len(orders), atol=1e-12)


def test_sampled_values_approach_the_exact_ones() -> None:
    """12 players with interactions: paired sampling comes close, adds up exactly, and its standard errors
    are right.
    """
    rng = np.random.default_rng(3)
    players = 12
    sets = shap.every_set(players)
    main, pair = rng.normal(size=players), rng.normal(size=(players, players)) * 0.3
    triple = rng.normal(size=players) * 0.3

    def worth(z: np.ndarray) -> np.ndarray:
        z = z.astype(float)
        third = z * np.roll(z, 1, 1) * np.roll(z, 2, 1) @ triple
        return z @ main + np.einsum("ni,ij,nj->n", z, pair, z) + third

    exact = shap.exact(worth(sets), players)
    scaled = []
    for seed in range(40):
        drawn = shap.paired_sets(np.random.default_rng(seed), 250, players)
        found, errors = shap.regress(
            drawn, worth(drawn), float(worth(sets[:1])[0]), float(worth(sets[-1:])[0])
        )
        assert found.sum() == pytest.approx(worth(sets[-1:])[0] - worth(sets[:1])[0], abs=1e-9)
        assert np.abs(found - exact).max() < 0.15
        scaled.append((found - exact) / errors)
    assert 0.75 < np.std(scaled) < 1.3  # standard errors mean what they say
    assert abs(np.mean(scaled)) < 0.2


def test_pairs_cancel_interactions_of_two() -> None:
    """With pairs, a game with interactions of two players is solved exactly by few samples (Covert & Lee 2021)."""
    rng = np.random.default_rng(1)
    main, pair = rng.normal(size=8), rng.normal(size=(8, 8))

    def worth(z: np.ndarray) -> np.ndarray:
        return z @ main + np.einsum("ni,ij,nj->n", z.astype(float), pair, z.astype(float))

    sets = shap.every_set(8)
    drawn = shap.paired_sets(np.random.default_rng(0), 40, 8)
    found, _ = shap.regress(drawn, worth(drawn), 0.0, float(worth(sets[-1:])[0]))
    assert np.allclose(found, shap.exact(worth(sets), 8), atol=1e-9)


def test_sets_are_drawn_with_the_kernels_probability() -> None:
    drawn = shap.paired_sets(np.random.default_rng(0), 40000, 6)
    assert np.array_equal(drawn[::2], ~drawn[1::2])
    sizes = np.bincount(drawn.sum(1), minlength=7)[1:6] / len(drawn)
    expected = np.array([1 / (k * (6 - k)) for k in range(1, 6)])
    assert np.allclose(sizes, expected / expected.sum(), atol=0.005)
    assert np.allclose(drawn.mean(0), 0.5, atol=0.01)


def test_kernel_shap_of_a_network_is_exact_on_few_superpixels() -> None:
    """Every set is scored; captum's sampling of Shapley values comes close."""
    item = image(padding=0)
    model = classifier("densenet")
    method = registry.create("kernel-shap", segments=9, samples=512, replacement="mean")
    found = method.explain(model, item, "pneumonia", Run())
    n = int(found.extra["superpixels"])
    assert found.extra["samples"] == 2**n
    assert found.completeness_error is not None
    assert found.completeness_error < 1e-6
    captum = pytest.importorskip("captum.attr")
    x = torch.from_numpy(item.array[None].copy())
    mask = torch.from_numpy(found.segments.astype(np.int64))[None, None]  # type: ignore[union-attr]
    np.random.seed(0)  # noqa: NPY002 - captum draws from the global generators
    torch.manual_seed(0)
    attribute = captum.ShapleyValueSampling(network("densenet")).attribute
    mean = float(item.array.mean())
    sampled = attribute(
        x, baselines=mean, target=0, feature_mask=mask, n_samples=60, perturbations_per_eval=8
    )[0, 0].numpy()
    assert np.corrcoef(found.values.ravel(), sampled.ravel())[0, 1] > 0.98


def test_planted_interaction_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Additive blocks and one pair that counts only together: each gets its own part and half of the pair's."""
    worth, array = blocks()
    exact_blocks(monkeypatch)
    model = ModuleClassifier(Additive(worth, 8, pair=1.0), (1, SIDE, SIDE))
    method = registry.create(
        "kernel-shap", segmentation="felzenszwalb", segments=16, samples=600, replacement="mean"
    )
    found = method.explain(model, input_of(array), "pneumonia", Run())
    means = array[0].reshape(4, 8, 4, 8).mean((1, 3))
    expected = worth * (means - array.mean())
    assert abs(array.mean()) < 1e-6  # so a hidden block makes the product vanish
    expected[0, 0] += 0.5 * means[0, 0] * means[-1, -1]
    expected[-1, -1] += 0.5 * means[0, 0] * means[-1, -1]
    assert np.allclose(found.values[4::8, 4::8], expected, atol=1e-3)


@pytest.mark.parametrize("padding", [0, 4])
def test_occlusion_by_brute_force(padding: int) -> None:
    item = image(padding=padding)
    net = network("resnet-in-place")
    mean = item.array[0][item.valid].mean()
    whole = float(net(torch.from_numpy(item.array[None].copy())))
    total, covered = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for r in [0, 7, 14, 21, 22]:
        for c in [0, 7, 14, 21, 22]:
            changed = item.array.copy()
            here = np.zeros((SIDE, SIDE), bool)
            here[r : r + 10, c : c + 10] = True
            changed[0][here & item.valid] = mean
            total[here] += whole - float(net(torch.from_numpy(changed[None])))
            covered[here] += 1
    expected = np.where(item.valid, total / covered, 0)
    method = registry.create("occlusion", window=10, stride=7)
    found = method.explain(classifier("resnet-in-place"), item, "pneumonia", Run())
    assert np.allclose(found.values, expected, atol=1e-5)


def test_occlusion_equals_captum_and_keeps_the_sign_of_one_channel_logits() -> None:
    """MONAI picks sigmoid or softmax from the channels of the *input*; here the score is the logit, always."""
    captum = pytest.importorskip("captum.attr")
    item = image(padding=0)
    x = torch.from_numpy(item.array[None].copy())
    mean = float(item.array.mean())
    theirs = captum.Occlusion(network("lite")).attribute(
        x, (1, 8, 8), strides=(1, 8, 8), baselines=mean, target=0
    )
    for target, sign in (("pneumonia", 1), ("normal", -1)):
        method = registry.create("occlusion", window=8, stride=8)
        found = method.explain(classifier("lite"), item, target, Run()).values
        assert np.allclose(found, sign * theirs[0, 0].detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("padding", [0, 4])
def test_overlapping_windows_equal_captum_in_fp32(padding: int) -> None:
    """Where the image lies; in the padding ours is 0, where captum paints what windows reaching into it did."""
    captum = pytest.importorskip("captum.attr")
    item = image(padding=padding)
    x = torch.from_numpy(item.array[None].copy())
    valid = torch.from_numpy(item.valid.copy())
    behind = torch.where(valid, x[..., valid].mean(), x)
    theirs = captum.Occlusion(network("lite")).attribute(
        x, (1, 8, 8), strides=(1, 6, 6), baselines=behind, target=0
    )
    found = registry.create("occlusion", window=8, stride=6).explain(
        classifier("lite"), item, "pneumonia", Run()
    )
    assert found.precision == "fp32"
    inside = theirs[0, 0].detach().numpy()[item.valid]
    assert np.allclose(found.values[item.valid], inside, atol=1e-5 * max(1.0, float(np.abs(inside).max())))
    assert not found.values[~item.valid].any()


def test_windows_that_replace_nothing_are_not_scored() -> None:
    """An image that is even on its right half: the mean there is the image, and the fall is exactly 0."""
    array = np.zeros((1, SIDE, SIDE), np.float32)
    array[0, ::2, : SIDE // 2], array[0, 1::2, : SIDE // 2] = 1.0, -1.0
    method = registry.create("occlusion", window=8, stride=8)
    found = method.explain(classifier("lite"), input_of(array), "pneumonia", Run())
    assert found.extra["windows"] == (SIDE // 8) ** 2 / 2
    assert not found.values[:, SIDE // 2 :].any()
    assert found.values[:, : SIDE // 2].any()


def test_windows_cover_every_pixel() -> None:
    for length, window, stride in ((32, 10, 7), (10, 10, 3), (5, 9, 2), (33, 8, 8), (7, 1, 3)):
        starts = windows.positions(length, window, stride)
        assert starts[0] == 0
        assert starts[-1] + min(window, length) == length
        assert starts == sorted(set(starts))


def test_rise_masks_show_the_share_that_was_asked() -> None:
    masks = np.stack([rise.soft_mask(np.random.default_rng(i), (40, 56), 7, 0.3) for i in range(3000)])
    assert masks.min() >= 0
    assert masks.max() <= 1
    assert np.allclose(masks.mean(0), 0.3, atol=0.05)  # everywhere, also at the border


@pytest.mark.parametrize(("shape", "cells"), [((40, 56), 7), (((33, 30)), 4)])
def test_soft_masks_by_their_parts_are_the_soft_masks(shape: tuple[int, int], cells: int) -> None:
    """Images, block means, sums and weighted means against the masks one by one; asked for out of order."""
    rng, run = np.random.default_rng(1), Run(seed=9)
    whole = np.stack([rise.soft_mask(run.rng(50, i), shape, cells, 0.4) for i in range(300)]).astype(
        np.float64
    )
    parts = rise.SoftMasks(run, 300, shape, cells, 0.4)
    behind, front = (torch.from_numpy(rng.normal(size=(1, 2, *shape)).astype(np.float32)) for _ in range(2))
    for start, stop in ((5, 9), (0, 4), (250, 300)):
        expected = behind.numpy() + whole[start:stop, None] * front.numpy()
        assert np.allclose(parts.images(start, stop, behind, front).numpy(), expected, atol=2e-6)
        blocks = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(whole[start:stop]), cells)
        assert np.allclose(parts.pooled(start, stop), blocks.flatten(1).numpy(), atol=1e-6)
    plane, weights = rng.normal(size=shape), rng.normal(size=270)
    assert np.allclose(parts.sums(plane, 270), (whole[:270] * plane).sum((1, 2)), atol=1e-4)
    assert np.allclose(parts.weighted(weights), np.einsum("n,nij->ij", weights, whole[:270]), atol=1e-4)


def test_rise_by_brute_force_and_on_the_lesion() -> None:
    """The definition with a loop; and the map of a score that sees one disc is highest in it."""

    class Disc(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :, 8:17, 7:16].mean((1, 2, 3))[:, None]

    item = image(padding=0)
    model = ModuleClassifier(Disc(), (1, SIDE, SIDE))
    method = registry.create("rise", masks=400, cells=6, replacement="mean")
    found = method.explain(model, item, "pneumonia", Run(seed=4))
    masks = np.stack(
        [rise.soft_mask(Run(seed=4).rng(50, i), (SIDE, SIDE), 6, 0.5) for i in range(400)]
    ).astype(np.float64)
    behind = item.array[0].mean()
    pictures = behind + masks * (item.array[0] - behind)
    scores = pictures[:, 8:17, 7:16].mean((1, 2))
    seen = np.einsum("n,nij->ij", scores, masks) / masks.sum(0)
    unseen = np.einsum("n,nij->ij", scores, 1 - masks) / (1 - masks).sum(0)
    assert np.allclose(found.values, seen - unseen, atol=1e-4)
    row, column = np.unravel_index(found.values.argmax(), found.values.shape)
    assert 7 <= row <= 17
    assert 6 <= column <= 16


@pytest.mark.parametrize(
    "name", ["occlusion", "lime", "kernel-shap", "rise", "integrated-gradients", "gradient-shap"]
)
def test_maps_peak_on_the_lesion(name: str) -> None:
    """A network that answers to bright discs: the disc's part of the map is positive and far above the rest."""

    class Lesion(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            local = nn.functional.avg_pool2d(x, 7, 1, 3)
            return nn.functional.softplus(4 * (local - 1.0)).mean((1, 2, 3))[:, None] * 20

    item = image(padding=0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    disc = (rows - SIDE * 0.4) ** 2 + (columns - SIDE * 0.35) ** 2 < (SIDE / 6) ** 2
    small = {"occlusion": {"window": 8, "stride": 4}, "lime": {"segments": 16, "samples": 300}, "kernel-shap": {"segments": 16, "samples": 300}, "rise": {"masks": 400}}  # fmt: skip
    extra = {"replacement": "mean"} if name in ("lime", "kernel-shap", "rise") else {}
    method = registry.create(name, **small.get(name, {}), **extra)
    values = method.explain(ModuleClassifier(Lesion(), (1, SIDE, SIDE)), item, "pneumonia", Run()).values
    assert values[disc].mean() > 4 * np.abs(values[~disc]).mean()


# ---- reduced precision ---------------------------------------------------------------------------------------------


def bf16_model(kind: str) -> ModuleClassifier:
    from tests.explain.networks import KINDS

    about = KINDS[kind]
    policy = DevicePolicy("cpu", "bf16", torch.get_num_threads())
    return ModuleClassifier(network(kind), (1, SIDE, SIDE), about.classes, about.layer, policy=policy)


def test_bf16_only_where_the_ranks_agree() -> None:
    item = image()
    exact = registry.create("lime", samples=600, segments=20, replacement="mean")
    reference = exact.explain(classifier("functional-relu"), item, "pneumonia", Run())
    found = exact.explain(bf16_model("functional-relu"), item, "pneumonia", Run())
    if found.precision == "bf16":
        assert np.corrcoef(found.values.ravel(), reference.values.ravel())[0, 1] > 0.995
    else:
        assert "fp32" in found.notes[0]

    class Fine(nn.Module):
        """Differences between images that bf16 cannot hold; wild: and that no sum over superpixels tells."""

        def __init__(self, wild: bool) -> None:
            super().__init__()
            self.wild = wild
            self.conv = nn.Conv2d(1, 1, 1)
            nn.init.constant_(self.conv.weight, 1e-4)
            nn.init.constant_(self.conv.bias, 1.0)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            score = self.conv(x).mean((2, 3))
            return torch.sin(1e6 * (score.float() - 1.0)) if self.wild else score

    policy = DevicePolicy("cpu", "bf16", torch.get_num_threads())
    refused = exact.explain(
        ModuleClassifier(Fine(wild=True), (1, SIDE, SIDE), policy=policy), item, "pneumonia", Run()
    )
    assert refused.precision == "fp32"
    assert "fp32" in refused.notes[0]
    plain = exact.explain(ModuleClassifier(Fine(wild=True), (1, SIDE, SIDE)), item, "pneumonia", Run())
    assert np.array_equal(refused.values, plain.values)
    # bf16 alone sees no difference between these images; the images in both precisions tell all of it
    corrected = exact.explain(
        ModuleClassifier(Fine(wild=False), (1, SIDE, SIDE), policy=policy), item, "pneumonia", Run()
    )
    plain = exact.explain(ModuleClassifier(Fine(wild=False), (1, SIDE, SIDE)), item, "pneumonia", Run())
    assert rank_correlation(corrected.values, plain.values) >= 0.995
    gradient = registry.create("integrated-gradients").explain(bf16_model("lite"), item, "pneumonia", Run())
    assert gradient.precision == "fp32"
