"""The shortcut check on models of known cause: one that reads planted letters, one that reads the lungs."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.helpers.tiny_bundle import make_bundle  # noqa: E402
from xai_engine.classifier import bundle, lungs, preprocess  # noqa: E402
from xai_engine.classifier.network import SmallNet  # noqa: E402
from xai_engine.radiograph import phantom  # noqa: E402
from xai_engine.radiograph.read import read  # noqa: E402
from xai_engine.runtime.run import Run  # noqa: E402
from xai_engine.train import evaluate, metrics, shortcuts  # noqa: E402
from xai_engine.train.evaluate import Outcome  # noqa: E402
from xai_engine.train.sample import Sample  # noqa: E402

COUNT, TRAINED, PATIENTS = 56, 32, 6


class TrueLungs:
    """A lung finder that knows the phantoms."""

    network = torch.nn.Linear(1, 1)

    def __init__(self, masks: dict[str, np.ndarray]) -> None:
        self.masks = masks

    def find(self, images: list[tuple[np.ndarray, np.ndarray, float]]) -> list[lungs.LungFields]:
        out = []
        for grey, valid, aspect in images:
            transform = preprocess.letterbox((grey.shape[0], grey.shape[1]), lungs.SIZE, aspect)
            mask = self.masks[hashlib.sha256(grey.tobytes()).hexdigest()].astype(np.float32)
            probability, inside = preprocess.sample(mask, valid, transform)
            out.append(lungs.tidy(probability, transform, inside))
        return out


def study(folder: Path, planted: bool) -> tuple[list[Sample], TrueLungs]:
    """Phantoms of both classes, a few patients moved about. planted: the sick differ by burned-in letters alone; else by
    a bright disc in one lung alone."""
    samples, masks = [], {}
    patients = [phantom.make(k, rows=112, columns=108, side="") for k in range(PATIENTS)]
    rng = np.random.default_rng(0)
    for k in range(COUNT):
        sick = k % 2 == 1
        made = patients[int(rng.integers(PATIENTS))]
        pixels, top = made.pixels.copy(), int(made.pixels.max())
        if sick and planted:
            letters = np.zeros(pixels.shape, np.uint8)
            pixels[cv2.putText(letters, "AP", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 1, 2) > 0] = top
        elif sick:
            rows, columns = np.nonzero(made.lungs)
            centre = int(rng.integers(len(rows)))
            disc = cv2.circle(
                np.zeros(pixels.shape, np.uint8), (int(columns[centre]), int(rows[centre])), 13, 1, -1
            )
            pixels[(disc > 0) & made.lungs] = round(0.8 * top)
        shift = tuple(int(v) for v in rng.integers(-4, 5, 2))
        pixels = np.roll(pixels, shift, (0, 1))
        path = folder / f"{k}.png"
        cv2.imwrite(str(path), pixels)
        grey, _ = preprocess.upright_grey(read(path))
        masks[hashlib.sha256(grey.tobytes()).hexdigest()] = np.roll(made.lungs, shift, (0, 1))
        split = "train" if k < TRAINED else "test"
        samples.append(Sample(path, float(sick), 1.0, True, str(k), split, "phantoms", 1.0))
    return samples, TrueLungs(masks)


def trained(folder: Path, planted: bool) -> list[Outcome]:
    """Outcomes of the test split by a small network trained as the shipped one is: whole and lungs alone."""
    samples, finder = study(folder, planted)
    model = bundle.load(make_bundle(folder / "tiny"))
    model.finder = finder  # type: ignore[assignment]
    model.preprocessing = replace(model.preprocessing, margin=0.4)
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(1)
        network = SmallNet(width=8).train()
        prepared = [
            p for s in samples if s.split == "train" for p in model.prepared([evaluate.read_sample(s)])
        ]
        views: list[Any] = [p.input.array for p in prepared]
        labels = [s.label for s in samples if s.split == "train"]
        if not planted:
            views += [evaluate.erased(p, model)[0] for p in prepared]
            labels *= 2
        x, y = torch.from_numpy(np.stack(views)), torch.tensor(labels)
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = 0.3  # few steps: the running figures must keep up
        optimiser = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(120):
            moved = torch.roll(x, tuple(int(v) for v in torch.randint(-3, 4, (2,))), (2, 3))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(network(moved)[:, 0], y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.network = network.eval().requires_grad_(False)
    outcomes, problems = evaluate.run(model, [s for s in samples if s.split == "test"], Run())
    assert problems == []
    return outcomes


def test_a_model_that_reads_planted_letters_is_flagged(tmp_path: Path) -> None:
    found = shortcuts.check(trained(tmp_path, planted=True))["phantoms"]
    assert found["auc"][0] > 0.9
    assert found["auc_lungs_only"][0] < 0.75
    assert (found["verdict"], found["certain"], found["outside_suspicious"]) == ("flagged", True, True)


def test_a_model_that_reads_the_lungs_passes(tmp_path: Path) -> None:
    found = shortcuts.check(trained(tmp_path, planted=False))["phantoms"]
    assert found["auc"][0] > 0.75
    assert found["verdict"] == "pass"


def test_fall_and_its_interval_are_those_of_paired_delong() -> None:
    rng = np.random.default_rng(5)
    labels = np.tile([0.0, 1.0], 40)
    whole, inside = labels + rng.normal(size=80), 0.6 * labels + rng.normal(size=80)
    outcomes = [
        Outcome(Sample(Path("x"), y, 1, True, "p", "test", "all", 1.0), w, 0.5, 0.0, "", i, -i, np.zeros(1, np.float32))
        for y, w, i in zip(labels, whole, inside, strict=True)
    ]  # fmt: skip
    found = shortcuts.check(outcomes)["all"]

    def placements(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = scores[labels == 1], scores[labels == 0]
        psi = (a[:, None] > b[None, :]).astype(float)
        return psi.mean(1), psi.mean(0)

    (u10, u01), (v10, v01) = placements(whole), placements(inside)
    fall = u10.mean() - v10.mean()
    error = np.sqrt((u10 - v10).var(ddof=1) / 40 + (u01 - v01).var(ddof=1) / 40)
    assert found["fall"] == pytest.approx([fall, fall - metrics.Z95 * error, fall + metrics.Z95 * error])
    assert found["auc_outside_only"][0] == pytest.approx(1 - v10.mean())


def test_images_without_lungs_are_left_out() -> None:
    sample = Sample(Path("x"), 1.0, 1, True, "p", "test", "all", 1.0)
    thumb = np.zeros(1, np.float32)
    assert shortcuts.check([Outcome(sample, 0, 0.5, 0, "", np.nan, np.nan, thumb)]) == {}
