"""Small real training runs: resumed to the bit, NaN stopped, shortcuts drawn as described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.train import small  # noqa: E402
from xai_engine.classifier import bundle  # noqa: E402
from xai_engine.classifier.network import build  # noqa: E402
from xai_engine.classifier.preprocess import PreprocessSpec  # noqa: E402
from xai_engine.errors import Cancelled  # noqa: E402
from xai_engine.runtime.run import Progress, Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, gate, settings, standing  # noqa: E402
from xai_engine.train.augment import Augment, AugmentSpec  # noqa: E402


def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    small.images(tmp_path)
    config = small.config(tmp_path)
    whole = classifier.train(config, tmp_path, tmp_path / "whole", Run())

    class Stop:
        def __init__(self) -> None:
            self.now = False

        def is_set(self) -> bool:
            return self.now

    stop = Stop()

    def watch(progress: Progress) -> None:
        stop.now = stop.now or "epoch 3/3" in progress.message

    with pytest.raises(Cancelled):
        classifier.train(
            config, tmp_path, tmp_path / "parts", Run(cancel=stop, report=watch, min_interval_s=0)
        )
    resumed = classifier.train(config, tmp_path, tmp_path / "parts", Run())
    for a, b in zip(whole.network.state_dict().values(), resumed.network.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    np.testing.assert_array_equal(whole.logits, resumed.logits)
    log = (tmp_path / "parts" / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["epoch", "1", "2", "3"]


def test_a_loss_that_is_no_number_stops_and_names_the_batch(tmp_path: Path) -> None:
    small.images(tmp_path, 4)
    config = small.config(tmp_path) | {"lr": 1e30}  # the first step throws the weights out of range
    with pytest.raises(classifier.TrainingFailed, match=r"epoch 1, batch [23] \(.*png"):
        classifier.train(config, tmp_path, tmp_path / "run", Run())


def test_the_checkpoint_before_a_loss_that_is_no_number_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss and, where the loss looks well, gradient: the batch is named before the weights are touched."""
    small.images(tmp_path, 4)
    config = small.config(tmp_path, images_per_epoch=8)
    good, calls = classifier.loss_of, [0]

    def poisoned(*arguments: Any) -> tuple[Any, Any]:
        loss, logits = good(*arguments)
        calls[0] += 1
        # the root of nothing is nothing, its slope is not a number
        return (loss + ((logits - logits) ** 0.5).sum(), logits) if calls[0] == 4 else (loss, logits)

    monkeypatch.setattr(classifier, "loss_of", poisoned)
    with pytest.raises(
        classifier.TrainingFailed, match=r"epoch 2, batch 2 \(.*png, …\); the last checkpoint is kept"
    ):
        classifier.train(config, tmp_path, tmp_path / "run", Run())
    state = checkpoint.peek(tmp_path / "run")
    assert state is not None
    assert (state["epoch"], state["step"]) == (1, 0)
    assert all(torch.isfinite(v).all() for v in state["network"].values())
    monkeypatch.setattr(classifier, "loss_of", good)
    classifier.train(config, tmp_path, tmp_path / "run", Run())
    assert len(checkpoint.read_log(tmp_path / "run")) == 3


def test_early_stopping_keeps_the_best_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripted validation: the best epoch lies in the first stage, and patience is counted in the last."""
    areas = iter([0.6, 0.9, 0.7, 0.9, 0.8, 0.99])
    means: list[dict[str, Any]] = []

    def figures(*_: Any) -> dict[str, float]:
        return {"val_loss": 0.5, "val_auc": next(areas), "val_auc_all": 0.5}

    end = standing.Standing.end

    def watched(self: Any, epoch: int, row: Any, average: Any) -> None:
        means.append({k: v.clone() for k, v in average.state_dict().items()})
        end(self, epoch, row, average)

    small.images(tmp_path, 4)
    stages = [{"size": 32, "epochs": 2}, {"size": 48, "epochs": 6}]
    config = small.config(tmp_path, images_per_epoch=8, stages=stages, patience=3)
    monkeypatch.setattr(classifier, "_figures", figures)
    monkeypatch.setattr(standing.Standing, "end", watched)
    trained = classifier.train(config, tmp_path, tmp_path / "run", Run())
    assert len(means) == 5  # epochs 3, 4, 5 brought nothing above 0.9
    for name, value in trained.network.state_dict().items():
        assert torch.equal(value, means[1][name])
    again = classifier.train(config, tmp_path, tmp_path / "run", Run())  # a run that has stopped stays so
    assert len(means) == 5
    assert torch.equal(again.network.fc.weight, trained.network.fc.weight)


def test_the_whole_way_to_a_bundle_that_can_be_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xai_engine.train import finish

    small.measure_little(monkeypatch)
    from xai_engine.train.measure import measure

    small.images(tmp_path, 5)
    config = settings.complete(small.config(tmp_path))
    trained = classifier.train(config, tmp_path, tmp_path / "run", Run())
    checkpoint.export(tmp_path / "gate.safetensors", build(gate.NETWORK), ("A CT, CC BY",))
    result = finish.make_bundle(
        trained, tmp_path / "gate.safetensors", config, tmp_path / "bundle", {}, Run(), quick=True
    )
    figures = result["populations"]["all"]
    assert (figures["labelled"], figures["positive"]) == (10, 5)
    info = bundle.info(tmp_path / "bundle")
    assert [p.name for p in info.operating_points] == ["balanced", "screening", "confirming"]
    card = (tmp_path / "bundle" / "docs" / "README.md").read_text()
    assert "- Gate only: A CT, CC BY\n" in card
    assert checkpoint.attribution_of(tmp_path / "bundle" / "models" / "gate.safetensors") == ("A CT, CC BY",)
    assert f"{figures['auc'][0]:.3f}" in card
    # the measurement went through the ordinary path: a second one gives the same numbers
    samples = list(trained.crops.samples)
    again = measure(tmp_path / "bundle", samples, Run())
    assert [r["logit"] for r in again["rows"]] == pytest.approx([r["logit"] for r in result["rows"]])


def test_augmentation_depends_on_its_seed_alone() -> None:
    rng = np.random.default_rng(0)
    grey = cv2.GaussianBlur(rng.random((80, 80)).astype(np.float32), (0, 0), 3)
    lungs_map = np.zeros((80, 80), np.float32)
    lungs_map[20:60, 20:60] = 1
    augment = Augment(AugmentSpec(), 64, PreprocessSpec(size=64), zoom=1.2)
    views = []
    for seed in (5, 5, 6):
        augment.set_random_state(seed)
        views.append(augment(grey, np.ones((80, 80), bool), lungs_map))
    np.testing.assert_array_equal(views[0][0], views[1][0])
    assert np.abs(views[0][0] - views[2][0]).max() > 0.1


def test_expert_boxes_travel_with_the_image() -> None:
    grey = np.zeros((80, 80), np.float32)
    grey[30:40, 45:60] = 1
    boxes = grey.copy()
    spec = AugmentSpec(
        p_outside=0, p_erase=0, p_marker=0, p_noise=0, p_blur=0, p_bias=0, p_histogram=0, p_contrast=0
    )
    augment = Augment(spec, 64, PreprocessSpec(size=64, low=0, high=100), zoom=1.1)
    for seed in range(5):
        augment.set_random_state(seed)
        image, _, _, moved = augment(grey, np.ones((80, 80), bool), np.zeros_like(grey), extra=boxes)
        bright = (image - image.min()) / (image.max() - image.min())
        assert np.corrcoef(bright.ravel(), moved.ravel())[0, 1] > 0.95


def test_gate_examples_say_how_they_were_turned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate.gateviews, "bordered", lambda rng, image, valid: (image, valid))
    square = np.zeros((3, 160, 160), np.uint8)
    square[0, :, :80] = np.linspace(40, 255, 160).astype(np.uint8)[
        :, None
    ]  # bright at the bottom, left half only
    square[1] = 255
    seen = set()
    for seed in range(60):
        image, chest, turns, inverted = gate.example(np.random.default_rng(seed), square, square)
        if not chest or inverted:
            continue
        upright = np.rot90(image, -turns)
        assert upright[90:, 10:50].mean() > upright[90:, 80:].mean()
        assert upright[90:120, 20:50].mean() > upright[10:40, 20:50].mean()
        seen.add(turns)
    assert len(seen) >= 3
