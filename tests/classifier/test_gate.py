"""Where lungs lie in a whole frontal image, and even borders: rules in closed form, then on phantoms with the shipped model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from xai_engine.classifier import bundle, gate, lungs, preprocess
from xai_engine.classifier.predict import Classifier
from xai_engine.radiograph.phantom import make
from xai_engine.radiograph.read import read
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime import device

SHAPE = (128, 128)


def _fields(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = SHAPE) -> lungs.LungFields:
    """Lungs that are boxes (top, left, bottom, right) on the grid of a letterboxed image of `shape`."""
    probability = np.zeros(SHAPE, np.float32)
    for top, left, bottom, right in boxes:
        probability[top:bottom, left:right] = 1
    transform = preprocess.letterbox(shape, lungs.SIZE)
    return lungs.tidy(probability, transform, transform.inside())


# a radiograph has contrast and little noise: waves of 32 pixels
GREY = np.asarray(0.5 + 0.3 * np.sin(np.add.outer(*[np.arange(128) * math.pi / 16] * 2)), np.float32)


def _judge(fields: lungs.LungFields) -> str:
    return gate.judge(GREY, np.ones(SHAPE, bool), fields, gate.GateSpec())


GOOD = ((30, 20, 100, 55), (30, 70, 100, 105))


def test_two_lungs_within_the_image_pass() -> None:
    assert _judge(_fields(*GOOD)) == ""
    # the left lung alone reaches the upper edge: 35 of 70 columns, less than what the rule allows
    assert _judge(_fields((0, 20, 100, 55), GOOD[1])) == ""


@pytest.mark.parametrize(
    ("boxes", "shape", "word"),
    [
        (((0, 20, 100, 55), (0, 70, 100, 105)), SHAPE, "cut off"),
        (((30, 20, 128, 55), (30, 70, 128, 105)), SHAPE, "cut off"),
        # the upper edge alone, through 35 and 15 of 70 columns: a film is never cut there as far as below
        (((0, 20, 100, 55), (30, 70, 100, 105), (0, 90, 40, 105)), SHAPE, "cut off"),
        # the left edge through 30 of 70 rows
        (((30, 0, 60, 45), (30, 10, 100, 45), (30, 60, 100, 95)), SHAPE, "cut off"),
        # half the columns above, half below
        (((0, 20, 100, 55), (30, 70, 128, 105)), SHAPE, "cut off"),
        # the edge of the image, not of the grid: a wide image ends at row 32 of the letterbox
        (((32, 20, 80, 55), (32, 70, 80, 105)), (64, 128), "cut off"),
        (((45, 5, 85, 60), (45, 66, 85, 120)), SHAPE, "too wide"),
        (((3, 2, 125, 40), (3, 80, 125, 126)), SHAPE, "fill the whole"),
    ],
)
def test_lungs_that_no_whole_chest_has(
    boxes: tuple[tuple[int, int, int, int], ...], shape: tuple[int, int], word: str
) -> None:
    assert word in _judge(_fields(*boxes, shape=shape))


def test_one_lung_or_two_very_unequal_ones_may_be_a_lateral_view() -> None:
    """Lungs of 70 × 35 and 70 × w pixels: the limit is a share of the larger lung's area, whichever side it is on."""
    assert "Only one lung field" in _judge(_fields(GOOD[0]))
    for width, sentence in ((6, "One lung field is much smaller"), (8, "")):
        smaller = (30, 70, 100, 70 + width)
        mirrored = tuple(
            (top, 128 - right, bottom, 128 - left) for top, left, bottom, right in (GOOD[0], smaller)
        )
        for boxes in ((GOOD[0], smaller), mirrored):
            refusal = _judge(_fields(*boxes))
            assert refusal.startswith(sentence)
            assert bool(refusal) == (width / 35 < gate.GateSpec().balance)
            assert ("lateral" in refusal) == bool(refusal)


def test_the_tilt_is_the_angle_between_the_lungs() -> None:
    low = (60, 70, 110, 105)  # centres: (64.5, 37) and (84.5, 87)
    tilted = _fields((40, 20, 90, 55), low)
    assert _judge(tilted) == ""
    degrees = math.degrees(math.atan2(20, 50))
    words = gate.judge(GREY, np.ones(SHAPE, bool), tilted, gate.GateSpec(tilt=degrees - 0.1))
    assert words == f"The chest seems to be tilted by about {degrees:.0f}°; turn it upright."


@pytest.mark.parametrize("side", [128, 448])
def test_grain_is_noise_over_signal(side: int) -> None:
    """White noise on a slow wave, both of known deviation; from a finer image only what averaging leaves of it counts."""
    rng = np.random.default_rng(3)
    phase = np.arange(side) * 2 * math.pi / side
    wave = 0.5 + 0.3 * np.sin(np.add.outer(phase, phase))
    there = np.ones(wave.shape, bool)
    assert gate.grain_of(wave.astype(np.float32), there) < 0.01
    for sigma in (0.02, 0.1, 0.3):
        noisy = (wave + rng.normal(0, sigma, wave.shape)).astype(np.float32)
        left = sigma / (
            side / 224 if side > 224 else 1
        )  # the mean of n × n pixels has 1 / n of the deviation
        signal = 0.3 / math.sqrt(2)
        assert gate.grain_of(noisy, there) == pytest.approx(left / signal, rel=0.08)
    there[:, : side // 2] = False
    half = np.where(there, wave, rng.random(wave.shape)).astype(np.float32)
    assert gate.grain_of(half, there) < 0.05  # what is not real does not count
    assert gate.grain_of(half, np.zeros_like(there)) == 0.0


def test_an_image_lost_in_noise_is_refused_and_a_grainy_one_is_not() -> None:
    rng = np.random.default_rng(0)
    fields, there = _fields(*GOOD), np.ones(SHAPE, bool)
    signal = float(GREY.std())
    for share, refused in ((0.1, False), (0.2, False), (0.5, True)):
        grainy = (GREY + rng.normal(0, share * signal, SHAPE)).astype(np.float32)
        assert ("lost in noise" in gate.judge(grainy, there, fields, gate.GateSpec())) == refused


def test_even_borders_are_found_to_the_pixel() -> None:
    rng = np.random.default_rng(1)
    inner = rng.random((60, 50)).astype(np.float32)
    image = np.zeros((100, 120), np.float32)
    image[:7] = 1.0  # white above, black elsewhere
    image[10:70, 40:90] = inner
    valid = np.ones(image.shape, bool)
    assert preprocess.content(image, valid) == (slice(10, 70), slice(40, 90))
    assert preprocess.content(inner, np.ones(inner.shape, bool)) is None
    assert preprocess.content(np.zeros((50, 50), np.float32), np.ones((50, 50), bool)) is None
    padded = valid.copy()
    padded[:10] = padded[70:] = False
    assert preprocess.content(np.where(padded, image, 0.7).astype(np.float32), padded) == (
        slice(10, 70),
        slice(40, 90),
    )


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return bundle.load(bundle.find(None), device.choose("cpu", "fp32"))


@pytest.fixture
def picture(tmp_path: Any) -> Callable[[npt.NDArray[np.uint8]], Radiograph]:
    from PIL import Image

    def write(pixels: npt.NDArray[np.uint8]) -> Radiograph:
        Image.fromarray(pixels).save(tmp_path / "x.png")
        return read(tmp_path / "x.png")

    return write


def _phantom() -> npt.NDArray[np.uint8]:
    pixels = make(4, rows=400, columns=380).pixels.astype(np.float64)
    return np.round(255 * (pixels - pixels.min()) / np.ptp(pixels)).astype(np.uint8)


def test_parts_of_a_chest_are_refused(
    shipped: Classifier, picture: Callable[[npt.NDArray[np.uint8]], Radiograph]
) -> None:
    whole = _phantom()
    assert shipped.prepared([picture(whole)])[0].refusal == ""
    for part in (whole[200:], whole[133:267], whole[267:], np.hstack([whole, whole[:, ::-1]])):
        assert shipped.prepared([picture(np.ascontiguousarray(part))])[0].refusal


def test_a_wide_even_border_does_not_hide_a_chest(
    shipped: Classifier, picture: Callable[[npt.NDArray[np.uint8]], Radiograph]
) -> None:
    """With a border of 60 % the chest was not known; lungs and their box lie where they are without it, moved."""
    whole = _phantom()
    alone = shipped.prepared([picture(whole)])[0]
    margin = 240
    inside = shipped.prepared([picture(np.pad(whole, margin))])[0]
    assert inside.refusal == ""
    assert alone.lungs is not None and inside.lungs is not None  # noqa: PT018
    assert alone.lungs.box is not None and inside.lungs.box is not None  # noqa: PT018
    np.testing.assert_allclose(np.subtract(inside.lungs.box, alone.lungs.box), margin, atol=8)
    moved = inside.input.transform
    np.testing.assert_allclose(
        (moved.origin_row - margin, moved.origin_column - margin, moved.scale_row),
        (alone.input.transform.origin_row, alone.input.transform.origin_column, alone.input.transform.scale_row),
        atol=8,
    )  # fmt: skip
    again = replace(inside.lungs, transform=alone.lungs.transform)
    shared = (again.mask & alone.lungs.mask).sum() / (again.mask | alone.lungs.mask).sum()
    assert shared > 0.9
