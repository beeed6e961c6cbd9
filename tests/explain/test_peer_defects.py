"""Defects of other packages, read in their threads or measured: each test shows that we are free of it, then that they are not.

Where a newer version of a peer is free of its defect, its half is skipped with a word; ours must hold regardless. Defects whose
tests stand beside the method that they belong to are listed in `ELSEWHERE`.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.explain.networks import KINDS, SIDE, classifier, image, network
from tests.explain.test_contract import hooks, small
from xai_engine.classifier.types import ModelInput
from xai_engine.explain import registry
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

ROOT = Path(__file__).resolve().parents[2]

ELSEWHERE = {
    "MONAI GradCAM turns the map upside down (tutorials#1796)": "test_cam.py::test_grad_cam_is_not_inverted_as_monais",
    "captum LRP loses or creates relevance": "test_propagation.py::test_captum_loses_or_creates_relevance",
    "captum DeepLIFT is off on DenseNet-121": "test_deep_lift.py::test_captum_deep_lift_is_off_on_densenet",
    "captum#538: IG runs out of memory": "test_integrated_gradients.py::test_memory_does_not_grow_with_the_steps",
    "guided backprop on reused and functional rectifiers": "test_gradients.py::test_guided_backprop_sees_functions_and_reused_modules",
    "captum#359: no sanity checks": "../assess/test_card.py::test_map_that_ignores_the_weights_is_flagged",
    "CheXlocalize drops empty predictions": "../train/test_localisation.py::test_both_slices_of_an_empty_prediction",
}  # fmt: skip


def peer_has(defect: bool, what: str) -> None:
    """Documents the peer's half without tying our tests to its version."""
    if not defect:
        pytest.skip(f"the installed version is free of it: {what}")


def ours(name: str, model: ModuleClassifier, item: ModelInput, seed: int = 7, **params: Any) -> Explanation:
    return small(name, **params).explain(model, item, model.info.classes[-1], Run(seed))


def tensor(item: ModelInput) -> torch.Tensor:
    return torch.from_numpy(item.array[None].copy())


@pytest.mark.parametrize("where", ELSEWHERE.values())
def test_the_tests_that_stand_elsewhere_are_there(where: str) -> None:
    file, name = where.split("::")
    tree = ast.parse((Path(__file__).parent / file).resolve().read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


# ---- MONAI -------------------------------------------------------------------------------------------------------


def test_a_second_call_on_the_same_image_gives_the_same_map() -> None:
    """MONAI VanillaGrad adds to the gradient that the first call left on the tensor: the map doubles."""
    model, item = classifier("lite"), image(padding=0)
    first, second = (ours("saliency", model, item, magnitude=False).values for _ in range(2))
    assert np.array_equal(first, second)
    visualize = pytest.importorskip("monai.visualize")
    x = tensor(item)
    vanilla = visualize.VanillaGrad(model.network)
    before = vanilla(x, index=0).detach().numpy().copy()
    assert np.allclose(before[0, 0], first, atol=1e-6 * np.abs(first).max())
    after = vanilla(x, index=0).detach().numpy()
    peer_has(bool(np.allclose(after, 2 * before)), "VanillaGrad doubles")


def test_more_samples_of_smooth_grad_do_not_shrink_the_map() -> None:
    """MONAI SmoothGrad's scale falls as 1/√n: it squares what a mean has no reason to square."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 1))
    model, item = ModuleClassifier(net, (1, SIDE, SIDE)), image(padding=0)
    sizes = [float(np.abs(ours("smooth-grad", model, item, samples=n).values).mean()) for n in (4, 64)]
    assert sizes[0] == pytest.approx(
        sizes[1], rel=1e-5
    )  # the gradient of a linear model is its weight, whatever n
    visualize = pytest.importorskip("monai.visualize")
    theirs = [
        float(visualize.SmoothGrad(net, n_samples=n, verbose=False)(tensor(item), index=0).abs().mean())
        for n in (4, 64)
    ]
    peer_has(theirs[1] < 0.5 * theirs[0], "SmoothGrad shrinks with its samples")


def test_guided_backprop_does_not_depend_on_the_name_of_the_rectifier() -> None:
    """MONAI's is silently the plain gradient unless the activation is an attribute called "relu"."""
    model, item = classifier("reused-relu"), image(padding=0)  # its rectifier is called "act"
    guided = ours("guided-backprop", model, item).values
    plain = ours("saliency", model, item, magnitude=False).values
    assert np.abs(guided - plain).max() > 1e-3 * np.abs(plain).max()
    visualize = pytest.importorskip("monai.visualize")
    theirs = visualize.GuidedBackpropGrad(model.network)(tensor(item), index=0).detach().numpy()[0, 0]
    peer_has(bool(np.allclose(theirs, plain, atol=1e-6)), "GuidedBackpropGrad misses the rectifier")


def test_occlusion_takes_the_score_of_the_head_and_not_of_the_number_of_channels() -> None:
    """MONAI OcclusionSensitivity applies a sigmoid where the *image* has one channel, a softmax where it has more."""

    class Sum(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 5.0 * x.mean((1, 2, 3))[:, None]

    plane = np.linspace(1.0, 3.0, SIDE * SIDE, dtype=np.float32).reshape(1, SIDE, SIDE)
    maps = []
    for channels in (1, 3):
        item = input_of(np.repeat(plane, channels, 0))
        model = ModuleClassifier(Sum(), (channels, SIDE, SIDE))
        maps.append(ours("occlusion", model, item, window=8, stride=8).values)
    assert np.allclose(maps[0], maps[1], atol=1e-4)
    # a linear score falls by what the window holds above the mean that replaces it: exactly antisymmetric here
    assert maps[0].mean() == pytest.approx(0.0, abs=1e-4)
    assert maps[0].max() > 0.1
    visualize = pytest.importorskip("monai.visualize")
    out = []
    for channels in (1, 3):
        sensitivity = visualize.OcclusionSensitivity(Sum(), mask_size=8, overlap=0.0, verbose=False)
        out.append(sensitivity(torch.from_numpy(np.repeat(plane, channels, 0)[None].copy()))[0].numpy())
    peer_has(not np.allclose(out[0], out[1], atol=1e-3), "OcclusionSensitivity depends on the channels")


# ---- captum ------------------------------------------------------------------------------------------------------


class Weak(nn.Module):
    """A valid model of small effects: each of 16 tiles that is brighter than nought adds up to two per cent."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(0.02 * torch.linspace(-1, 1, 16).reshape(1, 1, 4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles = nn.functional.adaptive_avg_pool2d(x.mean(1, keepdim=True), 4)
        return (tiles * self.weight).sum((1, 2, 3))[:, None]


def test_lime_tells_small_effects(monkeypatch: pytest.MonkeyPatch) -> None:
    """captum's Lime is a Lasso with a penalty of 0.01: on a score whose parts move it by less than 0.04 it gives nought."""
    tiles = np.kron(np.arange(16).reshape(4, 4), np.ones((SIDE // 4, SIDE // 4))).astype(np.int32)
    monkeypatch.setattr("xai_engine.explain.compute.superpixels.segment", lambda *_: tiles)
    item = input_of(np.where(tiles % 2, 2.0, 0.0).astype(np.float32)[None])
    model = ModuleClassifier(Weak(), (1, SIDE, SIDE))
    found = ours("lime", model, item, samples=400, replacement="mean", kernel_width=10.0, ridge=0.0)
    truth = 0.02 * np.linspace(-1, 1, 16) * np.where(np.arange(16) % 2, 1.0, -1.0)  # tile less the mean of 1
    assert np.allclose(found.values, truth[tiles], atol=1e-4)
    captum = pytest.importorskip("captum.attr")
    mask = torch.from_numpy(tiles)[None, None]
    with torch.random.fork_rng():
        theirs = captum.Lime(Weak()).attribute(
            tensor(item), torch.ones_like(tensor(item)), target=0, feature_mask=mask, n_samples=200
        )
    peer_has(float(theirs.abs().max()) == 0.0, "Lime gives all zeros")


def test_integrated_gradients_add_up_or_say_so() -> None:
    """captum's 50 steps are off by up to a third on a ResNet with a small change of the score, without a word."""

    class Late(nn.Module):
        """The score moves only near the end of the path."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(300.0 * (x.mean((1, 2, 3)) - 0.98))[:, None]

    item = input_of(np.ones((1, 8, 8), np.float32) * np.linspace(0.0, 2.0, 8, dtype=np.float32))
    model = ModuleClassifier(Late(), (1, 8, 8))
    for most in (4, 512):
        found = registry.create("integrated-gradients", baseline="black", steps=4, max_steps=most).explain(
            model, item, "pneumonia", Run()
        )
        assert found.completeness_error is not None
        assert found.converged == (found.completeness_error <= 0.01)
        assert found.converged or any("Not converged" in note for note in found.notes)
    assert found.converged


def test_rectifiers_in_any_form_give_one_answer() -> None:
    """Hooks on modules miss functions and trip over reused and in-place modules: shap#3466, pytorch-grad-cam#147, captum#1082."""
    item = image(padding=0)
    functional, reused = classifier("functional-relu"), classifier("reused-relu")
    reused.network.load_state_dict(functional.network.state_dict())
    for name in ("guided-backprop", "lrp", "deep-lift", "grad-cam", "integrated-gradients"):
        a, b = (ours(name, m, item).values for m in (functional, reused))
        assert np.allclose(a, b, atol=1e-5 * np.abs(a).max()), name
    captum = pytest.importorskip("captum.attr")
    x = tensor(item).requires_grad_(True)
    (gradient,) = torch.autograd.grad(functional.network(x).sum(), x)
    theirs = captum.GuidedBackprop(functional.network).attribute(tensor(item).requires_grad_(True), target=0)
    peer_has(bool(torch.allclose(theirs, gradient)), "GuidedBackprop overlooks functional rectifiers")


# ---- shap --------------------------------------------------------------------------------------------------------


def test_deep_shap_explains_a_densenet_and_leaves_nothing_behind() -> None:
    """shap's DeepExplainer crashes on torchvision's DenseNet (rectifiers in place) and leaves its hooks on the model."""
    model, item = classifier("torchvision-densenet"), image(3)
    found = ours("deep-shap", model, item)
    assert np.abs(found.values).max() > 0
    assert found.completeness_error is not None
    assert found.completeness_error <= 0.01
    assert hooks(model.network) == 0
    shap = pytest.importorskip("shap")
    net = network("torchvision-densenet")
    x = tensor(item)
    try:
        shap.DeepExplainer(net, torch.zeros_like(x)).shap_values(x)
    except Exception:
        peer_has(hooks(net) > 0, "DeepExplainer leaves hooks behind")
    else:
        peer_has(False, "DeepExplainer works on DenseNet")


@pytest.mark.parametrize("name", ["kernel-shap", "lime", "rise", "occlusion"])
def test_batches_bound_the_memory(name: str) -> None:
    """KernelSHAP scores all samples at once, or one by one: shap#1977, #1910."""
    sizes: list[int] = []

    class Watch(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sizes.append(len(x))
            return x.mean((1, 2, 3))[:, None]

    model = ModuleClassifier(Watch(), (1, SIDE, SIDE), batch_size=16)
    more = {"stride": 2} if name == "occlusion" else {"masks" if name == "rise" else "samples": 200}
    if name == "kernel-shap":  # or all coalitions are listed, which are fewer
        more["segments"] = 30
    found = ours(name, model, image(), **more)
    assert max(sizes) <= 16
    del sizes[:4]  # what a pass costs, and whether images are scored independently: once per network
    assert np.mean(sizes) > 8  # and batches are used
    assert sum(sizes) == found.forwards


# ---- lime --------------------------------------------------------------------------------------------------------


def test_one_seed_is_one_map() -> None:
    """ "An obstacle for doctors": lime#67, #477. Its `random_seed` seeds the segmentation only; the samples come from elsewhere."""
    model, item = classifier("lite"), image(padding=0)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    first = ours("lime", model, item, seed=3)
    np.random.seed(99)  # noqa: NPY002
    torch.manual_seed(99)
    again = ours("lime", model, item, seed=3)
    other = ours("lime", model, item, seed=4)
    assert np.array_equal(first.values, again.values)
    assert not np.array_equal(first.values, other.values)
    assert state is not None
    lime_image = pytest.importorskip("lime.lime_image")
    picture = np.repeat(item.array[0][:, :, None].astype(np.float64), 3, 2)

    def scores(batch: np.ndarray) -> np.ndarray:
        return model.scores(torch.from_numpy(batch[..., :1].transpose(0, 3, 1, 2).astype(np.float32)), "pneumonia").numpy()[:, None]  # fmt: skip

    weights = []
    for _ in range(2):
        # the seed as its documentation offers it: at the call
        found = lime_image.LimeImageExplainer().explain_instance(
            picture, scores, labels=(0,), top_labels=None, num_samples=60, random_seed=5
        )
        weights.append(dict(found.local_exp[0]))
    peer_has(weights[0] != weights[1], "lime gives one map for one random_seed")


# ---- others ------------------------------------------------------------------------------------------------------


def test_road_is_not_nought() -> None:
    """Quantus ROAD returned 0 whatever the map (quantus#333)."""
    from tests.assess import planted
    from xai_engine.assess import card
    from xai_engine.assess.options import preset

    rows, columns = np.mgrid[:64, :64]
    bump = np.exp(-((rows - 20) ** 2 + (columns - 40) ** 2) / 50).astype(np.float32)

    class Bump(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.from_numpy(bump))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[:, 0] * self.weight).sum((1, 2))[:, None]

    noise = planted.chest(np.random.default_rng(3), False, False).image
    item = input_of((0.3 * noise + 2 * bump)[None].astype(np.float32))
    model = ModuleClassifier(Bump(), (1, 64, 64))
    right = registry.create("input-x-gradient").explain(model, item, "pneumonia", Run())
    from dataclasses import replace

    wrong = replace(right, values=-right.values)
    found = card.assess(model, item, [right, wrong], None, preset("quick"), Run(1))
    values = [c.finding("road").value for c in found]
    assert values[0] > 1.0
    assert values[1] == pytest.approx(-values[0], rel=0.05)


@pytest.mark.parametrize("name", ["alibi", "quantus", "zennit", "pylibjpeg-libjpeg"])
def test_no_dependence_on_packages_of_unfit_licence(name: str) -> None:
    """alibi is BSL, Quantus and zennit are (L)GPL, pylibjpeg-libjpeg is GPLv3."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    needed = [entry.lower().replace("_", "-") for entry in project["dependencies"]]
    assert not any(entry.split(">")[0].split("=")[0].split("[")[0].strip() == name for entry in needed)
    taken = re.compile(rf"^\s*(?:import|from) {name.replace('-', '_')}\b", re.M)
    assert not any(taken.search(p.read_text(encoding="utf-8")) for p in (ROOT / "xai_engine").rglob("*.py"))


def test_every_kind_of_network_is_in_the_table() -> None:
    """The contract is proven over at least ten architectures."""
    assert len(KINDS) >= 10
