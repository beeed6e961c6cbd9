"""What-if on planted networks, whose answer is known beforehand."""

from __future__ import annotations

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.app import cases
from xai_engine.classifier.lungs import LungFields
from xai_engine.errors import Cancelled, RefusedImage, UsageError
from xai_engine.explain import what_if
from xai_engine.explain.adapter import ModuleClassifier
from xai_engine.explain.compute.what_if import ask
from xai_engine.radiograph import mirror
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.run import Run

SIDE = 96
PLANTED = (slice(20, 40), slice(10, 30))
ON = Region("rectangle", np.array([[20.0, 10.0], [40.0, 30.0]]), "On it", "1")
OFF = Region("rectangle", np.array([[60.0, 60.0], [80.0, 80.0]]), "Off it", "2")


class Looks(nn.Module):
    """Mean of the planted square, and of nothing else, times 4."""

    def __init__(self) -> None:
        super().__init__()
        weights = torch.zeros(1, 1, SIDE, SIDE)
        weights[:, :, PLANTED[0], PLANTED[1]] = 4.0 / 400
        self.register_buffer("weights", weights)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weights).sum((1, 2, 3))[:, None]


def image(seed: int = 0, **changes: object) -> Radiograph:
    """Dim grey with little noise (the gate refuses much) and a bright square where the network looks."""
    pixels = np.random.default_rng(seed).integers(290, 310, (SIDE, SIDE))
    pixels[PLANTED] += 500
    values = {"sha256": f"{seed} {changes}", "voi": (), "spacing": None, **changes}
    return cases.radiograph(pixels.astype(np.uint16), **values)


@pytest.fixture(scope="module")
def classifier() -> ModuleClassifier:
    return ModuleClassifier(Looks(), (1, SIDE, SIDE), policy=None)


@pytest.mark.parametrize("fill", what_if.FILLS)
def test_a_region_that_the_network_ignores_changes_nothing_at_all(
    classifier: ModuleClassifier, fill: str
) -> None:
    found = ask(classifier, image(), OFF, fill, Run(), samples=0)
    assert found.after == found.before
    assert found.change.logit == 0.0
    # read from the start, its grey scale moves even with a change elsewhere: why the original's is kept
    assert found.anew is not None
    bright = replace(image(3), pixels=np.where(np.arange(SIDE) > 55, 4000, image(3).pixels).astype(np.uint16))
    other = ask(classifier, bright, OFF, "mirror", Run(), samples=0)
    assert other.change.logit == 0.0
    assert other.anew is not None
    assert abs(other.anew.logit - other.before.logit) > 0.01


def test_the_mean_fill_gives_the_logit_worked_out_by_hand(classifier: ModuleClassifier) -> None:
    r = image()
    found = ask(classifier, r, ON, "mean", Run(), samples=0)
    grey = r.pixels.astype(np.float64)
    low, high = np.percentile(grey, (0.1, 99.9))
    grey = np.clip((grey - low) / (high - low), 0, 1)
    a, b = np.percentile(grey, (0.5, 99.5))
    scaled = np.clip((grey - a) / (b - a), 0, 1)
    middle, deviation = scaled.mean(), scaled.std()
    assert found.before.logit == pytest.approx(
        4 * np.clip((scaled[PLANTED] - middle) / deviation, -3, 3).mean(), abs=1e-4
    )
    # what is around the square is uniform noise 290 … 309: mean 299.5, give or take its sampling error
    around = ((299.5 - low) / (high - low) - a) / (b - a)
    assert found.after.logit == pytest.approx(4 * (around - middle) / deviation, abs=0.15)
    assert found.before.probability == pytest.approx(1 / (1 + math.exp(-found.before.logit)), abs=1e-6)
    assert found.forwards == 3


def test_random_regions_tell_a_region_that_counts_from_one_that_does_not(
    classifier: ModuleClassifier,
) -> None:
    on = ask(classifier, image(), ON, "inpaint", Run(seed=4))
    assert len(on.reference) == 20
    assert on.as_strong == 0
    assert on.stands_out is True
    assert on.reference_range is not None
    low, high = on.reference_range
    assert abs(low - on.before.probability) < 0.05
    assert abs(high - on.before.probability) < 0.05
    assert on.change.probability < -0.4
    off = ask(classifier, image(), OFF, "inpaint", Run(seed=4))
    assert off.as_strong == len(off.reference)
    assert off.stands_out is False
    assert any("No lung fields" in note for note in on.notes)


def test_random_regions_lie_in_the_lungs_and_leave_the_region_alone(
    classifier: ModuleClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xai_engine.explain.compute import what_if as compute

    r = image(7)
    lungs = np.zeros((SIDE, SIDE), np.float32)
    lungs[10:90, 5:45] = 1.0
    grid = GridTransform(0.0, 0.0, 1.0, 1.0, (SIDE, SIDE), (SIDE, SIDE))
    fields = LungFields(lungs, lungs > 0.5, grid, (10.0, 5.0, 90.0, 45.0), (0.3, 0.3))
    where = compute._Where(replace(classifier.prepared([r])[0], lungs=fields), r)
    mask = where.mask(ON)
    places, note = where.places(mask, 20, Run(seed=1), None)
    assert len(places) == 20
    assert note == ""
    for place in places:
        assert place.sum() == mask.sum()
        assert lungs[place].mean() >= 0.9
        assert (place & mask).sum() <= 0.1 * mask.sum()
    tall = Region("rectangle", np.array([[12.0, 6.0], [88.0, 44.0]]))
    places, note = where.places(where.mask(tall), 20, Run(seed=1), None)
    assert places == []
    assert "Only 0 other places" in note
    line = mirror.of_image((SIDE, SIDE))
    symmetric = replace(
        fields, probability=np.maximum(lungs, lungs[:, ::-1]), mask=(lungs + lungs[:, ::-1]) > 0.5
    )
    where = compute._Where(replace(classifier.prepared([r])[0], lungs=symmetric), r)
    for place in where.places(mask, 20, Run(seed=1), line)[0]:
        assert (place[:, ::-1] & mask).sum() <= 0.1 * mask.sum()


def test_mirroring_a_symmetric_picture_changes_nothing(classifier: ModuleClassifier) -> None:
    half = np.linspace(0, 800, SIDE // 2) + np.random.default_rng(1).integers(0, 100, (SIDE, SIDE // 2))
    pixels = np.concatenate([half, half[:, ::-1]], axis=1).astype(np.uint16)
    r = cases.radiograph(pixels, sha256="s" * 64, voi=(), spacing=None)
    line = mirror.of_image((SIDE, SIDE))
    same = ask(classifier, r, ON, "mirror", Run(), line=line, samples=0)
    assert same.change.logit == pytest.approx(0.0, abs=1e-6)
    lopsided = image(2)
    swapped = ask(classifier, lopsided, ON, "mirror", Run(), line=line, samples=0)
    assert swapped.change.probability < -0.3  # the bright square goes, the dim other side comes
    assert swapped.patch is not None
    picture = swapped.patch.on(lopsided.pixels).astype(int)
    # but for the darkest and brightest thousandth, which the grey scale cuts off
    assert np.abs(picture - lopsided.pixels[:, ::-1])[PLANTED].max() <= 2


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_the_preview_is_the_picture_that_was_scored(classifier: ModuleClassifier, photometric: str) -> None:
    r = image(5, photometric=photometric)
    found = ask(classifier, r, ON, "blur", Run(), samples=0)
    assert found.patch is not None
    picture = found.patch.on(r.pixels)
    outside = np.ones((SIDE, SIDE), bool)
    outside[PLANTED] = False
    assert np.array_equal(picture[outside], r.pixels[outside])
    assert picture.dtype == r.pixels.dtype
    # a picture with the patch in it, in the original's grey scale, is what gave `after`
    values = picture.astype(np.float64)
    low, high = np.percentile(r.pixels, (0.1, 99.9))
    grey = np.clip((values - low) / (high - low), 0, 1)
    original = np.clip((r.pixels - low) / (high - low), 0, 1)
    if photometric == "MONOCHROME1":
        grey, original = 1 - grey, 1 - original
    a, b = np.percentile(original, (0.5, 99.5))
    scaled, stretched = (np.clip((x - a) / (b - a), 0, 1) for x in (grey, original))
    logit = 4 * np.clip((scaled[PLANTED] - stretched.mean()) / stretched.std(), -3, 3).mean()
    assert found.after.logit == pytest.approx(logit, abs=0.02)


def test_one_seed_one_answer(classifier: ModuleClassifier) -> None:
    first, second, other = (ask(classifier, image(), ON, "inpaint", Run(seed=s)) for s in (3, 3, 4))
    assert first.after == second.after
    assert first.reference == second.reference
    assert first.reference != other.reference
    assert first.patch is not None
    assert second.patch is not None
    assert np.array_equal(first.patch.values, second.patch.values)


def test_stopped_early_it_says_what_it_has(classifier: ModuleClassifier) -> None:
    stop = threading.Event()
    run = Run(cancel=stop, min_interval_s=0.0)
    run.report = lambda p: stop.set() if p.fraction > 0.2 and "random" in p.message else None
    found = ask(classifier, image(), ON, "mean", run)
    assert found.partial
    assert len(found.reference) < 20
    assert any("Stopped" in note for note in found.notes)
    stop.set()
    with pytest.raises(Cancelled):
        ask(classifier, image(), ON, "mean", run)


def test_what_cannot_be_asked_is_one_line(classifier: ModuleClassifier) -> None:
    with pytest.raises(UsageError, match="erase"):
        ask(classifier, image(), ON, "erase", Run())  # type: ignore[arg-type]
    beyond = replace(ON, points=ON.points + 500)
    with pytest.raises(UsageError, match="On it: no pixel"):
        ask(classifier, image(), beyond, "mean", Run())
    length = replace(ON, kind="line", points=ON.points[:2])
    with pytest.raises(UsageError, match="On it: a line has no area"):
        ask(classifier, image(), length, "mean", Run())
    flat = cases.radiograph(np.full((SIDE, SIDE), 7, np.uint16), sha256="f" * 64, voi=())
    with pytest.raises(RefusedImage, match="blank"):
        ask(classifier, flat, ON, "mean", Run())


def test_json_comes_back(classifier: ModuleClassifier) -> None:
    found = ask(classifier, image(), ON, "blur", Run(seed=9), samples=5)
    text = json.dumps(found.to_json(), allow_nan=False)
    back = what_if.from_json(
        json.loads(text), ON, found.image_sha256, found.model_sha256, found.engine_version
    )
    assert replace(back, patch=None).to_json() == found.to_json()
    assert (back.change, back.reference_range, back.as_strong) == (
        found.change,
        found.reference_range,
        found.as_strong,
    )
    with pytest.raises(ValueError, match="erase"):
        what_if.from_json({**found.to_json(), "fill": "erase"}, ON, "", "", "")
