"""Further targets: read from tables, weighed as defined, resumed to the bit, and gone once training is over."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.train import small  # noqa: E402
from xai_engine.classifier.network import build  # noqa: E402
from xai_engine.errors import Cancelled, UsageError  # noqa: E402
from xai_engine.runtime.run import Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, crops, further, manifest, steps  # noqa: E402
from xai_engine.train.augment import Augment, AugmentSpec  # noqa: E402
from xai_engine.train.distributed import Group  # noqa: E402
from xai_engine.train.sample import ManifestError  # noqa: E402

RULES = {
    "effusion": {"column": "labels", "word": "Effusion"},
    "opaque": {"column": "class", "values": {"Normal": 0, "Lung Opacity": 1, "unclear": 0.5}},
}


@pytest.mark.parametrize(
    ("labels", "verdict", "expected"),
    [
        ("Effusion|Mass", "Normal", {"effusion": 1, "opaque": 0}),
        ("Mass | Effusion ", "unclear", {"effusion": 1, "opaque": 0.5}),
        ("Pleural Effusion", "Lung Opacity", {"effusion": 0, "opaque": 1}),  # another word
        ("", "something else", {}),
    ],
)
def test_what_a_line_says(labels: str, verdict: str, expected: dict[str, float]) -> None:
    assert further.read({"labels": labels, "class": verdict}, further.rules({"targets": RULES})) == expected


@pytest.mark.parametrize(
    "rule",
    ["labels", {"column": "a"}, {"column": "a", "word": "b", "values": {}}, {"column": "a", "values": {"x": 2}},
     {"column": "a", "values": {"x": True}}, {"column": "a", "values": ["x"]}],
)  # fmt: skip
def test_rules_that_say_nothing_are_refused(rule: Any) -> None:
    with pytest.raises(UsageError, match="target 'odd' needs"):
        further.rules({"targets": {"odd": rule}})


def learner(count: int, weight: float = 0.3) -> steps.Learner:
    torch.manual_seed(0)
    config = {"dense_weight": 0.0, "targets_weight": weight, "weight_decay": 0.1, "lr": 0.01}
    return steps.Learner(
        build(small.SMALL), classifier.loss_of, config, 4, steps.Precision("fp32"), Group(), count
    )


def batch() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "image": torch.randn(4, 1, 32, 32, generator=generator),
        "label": torch.tensor([0.0, 1, 1, 0]),
        "weight": torch.ones(4),
        "targets": torch.tensor([[0.0, math.nan], [math.nan, math.nan], [1, 0.25], [math.nan, 1]]),
    }


def test_loss_is_the_mean_over_what_is_known() -> None:
    ours, given = learner(2), batch()
    assert ours.heads is not None
    ours.network.eval()
    seen: list[torch.Tensor] = []
    _, last = further.last_linear(ours.network)
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    with torch.no_grad():
        total = float(ours.model(given))
        plain = float(classifier.loss_of(ours.network, given, 0.0, False)[0])
    hook.remove()
    weight, bias = (p.detach().double().numpy() for p in ours.heads.linear.parameters())
    z = seen[0].double().numpy() @ weight.T + bias
    t = given["targets"].double().numpy()
    each = -(t * np.log(1 / (1 + np.exp(-z))) + (1 - t) * np.log(1 / (1 + np.exp(z))))
    assert total - plain == pytest.approx(0.3 * np.nanmean(each), rel=1e-5)
    assert all(not m._forward_pre_hooks for m in ours.network.modules())


def test_features_learn_and_the_network_stays_as_configured() -> None:
    with_targets, without = learner(2), learner(2, weight=0.0)
    assert without.heads is None
    before = list(with_targets.network.state_dict())
    with_targets.step(batch(), 0), without.step(batch(), 0)
    assert list(with_targets.network.state_dict()) == before == list(with_targets.average.state_dict())
    first, other = (next(x.network.parameters()).detach() for x in (with_targets, without))
    assert not torch.equal(first, other)


def test_a_batch_that_knows_nothing_changes_nothing() -> None:
    ours, plain, given = learner(2), learner(0), batch()
    given["targets"] = torch.full((4, 2), math.nan)
    assert ours.step(given, 0) == plain.step(given, 0)


def test_a_network_without_a_linear_layer_is_refused() -> None:
    with pytest.raises(UsageError, match="linear last layer, which Conv2d has not"):
        further.Heads(nn.Conv2d(1, 1, 3), 2)


def table(folder: Path, **changes: Any) -> dict[str, Any]:
    """The small images as a CSV whose training lines name the level of grey as a further target, every third one nothing."""
    small.images(folder)
    with (folder / "set.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "patient", "split", "label", "labels"])
        for k, path in enumerate(sorted((folder / "set").rglob("*.png"))):
            sick = path.parent.name == "sick"
            words = "" if k % 3 == 0 else "bright|round" if sick else "round"
            writer.writerow([path.relative_to(folder), path.stem, path.parts[-3], int(sick), words])
    source = {"manifest": "set.csv", "targets": {"bright": {"column": "labels", "word": "bright"}}}
    return small.config(folder, data=[source], **changes)


def test_a_column_that_is_missing_is_named(tmp_path: Path) -> None:
    config = table(tmp_path)
    source = config["data"][0] | {"targets": {"x": {"column": "gone", "word": "y"}}}
    with pytest.raises(ManifestError, match=r"column 'gone' \(target 'x'\) is missing"):
        manifest.load(source, tmp_path)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"column": "labels", "word": "brihgt"}, "'x' is 0 in all training images that know it"),
        ({"column": "labels", "values": {"brihgt": 1}}, "'x' is known in no training image"),
    ],
)
def test_a_target_that_teaches_nothing_is_named(tmp_path: Path, rule: dict[str, Any], said: str) -> None:
    config = table(tmp_path)
    source = config["data"][0]
    with pytest.raises(ManifestError, match=said):
        manifest.load_all([source | {"targets": source["targets"] | {"x": rule}}], tmp_path)
    assert len(manifest.load_all([source], tmp_path)) == 36


def test_painted_views_say_nothing_of_their_targets(tmp_path: Path) -> None:
    config = table(tmp_path)
    samples = tuple(manifest.load_all(config["data"], tmp_path))
    count = len(samples)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (count, 4, 64, 64)).astype(np.uint8)
    pixels[:, crops.LUNGS] = 255
    made = crops.Crops(samples, pixels, np.ones(count, bool), 1.0)
    spec = classifier.PreprocessSpec(size=48)
    for p_neutral in (0.0, 1.0):
        views = crops.Views(
            made, np.arange(count), Augment(AugmentSpec(), 48, spec, 1.0), 0, 0, True, 0.0, p_neutral
        )
        for view, sample in zip((views[k] for k in range(count)), samples, strict=True):
            expected = sample.targets.get("bright", math.nan) if p_neutral == 0 else math.nan
            assert torch.equal(torch.isnan(view["targets"]), torch.tensor([math.isnan(expected)]))
            if not math.isnan(expected):
                assert float(view["targets"][0]) == expected


def test_training_is_resumed_to_the_bit_and_leaves_the_layer_behind(tmp_path: Path) -> None:
    config = table(tmp_path)
    whole = classifier.train(config, tmp_path, tmp_path / "whole", Run())
    assert set(whole.network.state_dict()) == set(build(small.SMALL).state_dict())

    class Stop:
        left = 7

        def is_set(self) -> bool:
            self.left -= 1
            return self.left < 0

    with pytest.raises(Cancelled):
        classifier.train(config, tmp_path, tmp_path / "parts", Run(cancel=Stop()))
    state = checkpoint.peek(tmp_path / "parts")
    assert state is not None
    assert state["heads"]["linear.weight"].shape[0] == 1
    classifier.train(config, tmp_path, tmp_path / "parts", Run())
    small.assert_same_bits(small.weights(tmp_path / "whole"), small.weights(tmp_path / "parts"))

    changed = [config["data"][0] | {"targets": {}}]
    with pytest.raises(UsageError, match="another configuration"):
        classifier.train(config | {"data": changed}, tmp_path, tmp_path / "parts", Run())
