"""What the gate is taught to refuse and to read: by what the lungs lose, in closed form on drawn lungs."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from xai_engine.train import gate, gateviews, negatives

SIDE = gate.STORED


def _chest(seed: int = 0) -> np.ndarray:
    """(3, side, side) bytes: texture, valid in a portrait frame, two lungs that are boxes."""
    rng = np.random.default_rng(seed)
    square = np.zeros((3, SIDE, SIDE), np.uint8)
    square[0, :, 24:232] = rng.integers(0, 256, (SIDE, 208))
    square[1, :, 24:232] = 255
    for left in (56, 144):
        square[0, 48:200, left : left + 56] //= 4
        square[2, 48:200, left : left + 56] = 255
    return square


def test_a_window_is_refused_for_what_the_lungs_lose() -> None:
    lungs = _chest()[2, :, 24:232] > 0
    total = 2 * 152 * 56
    shares = []
    for seed in range(300):
        found = gateviews.window(np.random.default_rng(seed), lungs)
        assert found is not None
        top, left, bottom, right = found
        rows = max(0, min(bottom, 200) - max(top, 48))
        columns = sum(max(0, min(right, x + 56) - max(left, x)) for x in (32, 120))
        assert gateviews.kept(lungs, found) == pytest.approx(rows * columns / total)
        shares.append(rows * columns / total)
    assert max(shares) <= gateviews.LOST
    # near the line and far from it, both
    assert np.mean(np.array(shares) > 0.6) > 0.2
    assert np.mean(np.array(shares) < 0.4) > 0.2


def test_without_lungs_there_is_nothing_to_lose() -> None:
    """All windows keep nothing: few are taken, none is said to be a part of a chest that is not there."""
    nothing = np.zeros((64, 64), bool)
    assert gateviews.kept(nothing, (0, 0, 64, 64)) == 0
    chest = _chest()
    chest[2] = 0
    grey = chest[0] / np.float32(255)
    image, valid = negatives._cropped(np.random.default_rng(0), 128, grey, chest[2] > 0)
    assert np.array_equal(
        image, negatives._noise(np.random.default_rng(0), 128)
    )  # noise, and nothing of the chest
    assert valid.all()
    lungs = _chest()[2] > 0
    piece, _ = negatives._cropped(np.random.default_rng(0), 128, grey, lungs)
    assert not np.array_equal(piece, image)


def test_a_whole_chest_keeps_its_lungs_in_sight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The share of the lungs that the last of the draws shows, over all that is taught as readable."""
    lung = np.zeros((SIDE, SIDE), bool)
    lung[12:244, 12:120] = lung[12:244, 136:244] = True  # as in a copy that was cut to the lungs
    inside = np.ones_like(lung)
    grey = np.where(lung, np.float32(0.25), np.float32(0.75))
    shares: list[float] = []
    warp = cv2.warpAffine

    def spy(source: np.ndarray, matrix: np.ndarray, size: tuple[int, int], **more: object) -> np.ndarray:
        out = warp(source, matrix, size, **more)
        if source.dtype == np.uint8 and not source.all():
            shares.append(float(out.sum()) / (source.sum() * abs(np.linalg.det(matrix[:, :2]))))
        return out

    monkeypatch.setattr(gate.cv2, "warpAffine", spy)
    again = 0
    for seed in range(200):
        shares.clear()
        gate.frontal(np.random.default_rng(seed), grey, inside, lung)
        assert shares[-1] >= gateviews.KEPT
        assert all(share < gateviews.KEPT for share in shares[:-1])
        again += len(shares) > 1
    assert again > 20


@pytest.mark.parametrize("seed", range(8))
def test_a_tilted_chest_leans_beyond_what_is_read(seed: int) -> None:
    """A line through the middle of the image is found again at its angle."""
    grey = np.zeros((SIDE, SIDE), np.float32)
    grey[SIDE // 2 - 3 : SIDE // 2 + 3] = 1
    image, _ = gateviews.tilted(np.random.default_rng(seed), grey, np.ones((SIDE, SIDE), bool), 128)
    image = image[44:84, 44:84] - image[44:84, 44:84].min()  # the middle: no border
    y, x = np.mgrid[:40, :40] - 19.5
    moments = [(image * a * b).sum() for a, b in ((x, x), (x, y), (y, y))]
    angle = abs(np.degrees(0.5 * np.arctan2(2 * moments[1], moments[0] - moments[2])))
    assert gateviews.TILT[0] - 2 < angle < gateviews.TILT[1] + 2


def test_a_sheet_shows_several_chests() -> None:
    """White chests in black frames, counted, whatever the paper between them is."""
    chest = np.ones((200, 160), np.float32)
    chest[:10] = chest[-10:] = 0
    chest[:, :10] = chest[:, -10:] = 0
    for seed in range(200):
        out = gateviews.sheet(np.random.default_rng(seed), chest, chest)
        count = cv2.connectedComponents((out > 0.5).astype(np.uint8), connectivity=4)[0] - 1
        assert count >= 2
        height = 110 if out.shape[0] < 260 else 60
        assert out.shape[0] * out.shape[1] >= 2 * height * round(height * 0.8)


def test_noise_has_the_upper_hand() -> None:
    """What is left of a chest under the added noise: its correlation with the original, from the signal to noise ratio."""
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.random((128, 128)).astype(np.float32), (0, 0), 6)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    most = gateviews.SIGNAL[1] / np.hypot(1, gateviews.SIGNAL[1])
    for seed in range(40):
        out = gateviews.drowned(np.random.default_rng(seed), smooth)
        assert np.corrcoef(out.ravel(), smooth.ravel())[0, 1] < most + 0.05


def test_borders_are_even_and_leave_two_fifths() -> None:
    rng = np.random.default_rng(3)
    for _ in range(50):
        image, valid = gateviews.bordered(
            rng, np.full((128, 128), 0.37, np.float32), np.zeros((128, 128), bool)
        )
        inner = np.argwhere(np.isclose(image, 0.37))
        (top, left), (bottom, right) = inner.min(0), inner.max(0) + 1
        assert min(bottom - top, right - left) >= 0.4 * 128
        outside = np.ones_like(valid)
        outside[top:bottom, left:right] = False
        assert len(np.unique(image[outside])) <= 1


def test_an_example_is_drawn_from_its_seed() -> None:
    squares = np.stack([_chest(k) for k in range(3)])
    which = np.array([0, 2, 1] * 8)
    first, again = (gate.batch(squares, which, (5, 6)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert (a == b).all()
    chest = first[1].numpy()
    assert 0.2 < chest.mean() < 0.8
    assert np.isfinite(first[0].numpy()).all()
    assert not np.allclose(gate.batch(squares, which, (5, 7))[0].numpy(), first[0].numpy())
