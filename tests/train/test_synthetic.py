"""Painted opacities, chests without lungs, mixed styles: what they change, and what they must leave alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from xai_engine.classifier.preprocess import chest_field  # noqa: E402
from xai_engine.radiograph import phantom  # noqa: E402
from xai_engine.train import style, synthetic  # noqa: E402


@pytest.fixture(scope="module")
def chest() -> tuple[np.ndarray, np.ndarray]:
    made = phantom.make(3, rows=256, columns=256)
    grey = made.pixels.astype(np.float32)
    grey = (grey - grey.min()) / (grey.max() - grey.min())
    return grey, made.lungs.astype(np.float32)


@pytest.mark.parametrize("seed", range(6))
def test_an_opacity_brightens_the_lung_it_lies_in_and_nothing_far_away(chest, seed: int) -> None:
    grey, lungs = chest
    out, mask = synthetic.add_opacities(grey, lungs, np.random.default_rng(seed))
    painted = mask > 0
    assert painted.any()
    assert not (painted & (lungs < 0.5)).any()
    assert (out - grey)[painted].mean() > 0.02
    rows, columns = np.nonzero(lungs)
    reach = int(0.4 * max(np.ptp(rows), np.ptp(columns)))
    far = np.ones_like(painted)
    for r, c in np.argwhere(painted)[::7]:
        far[max(0, r - reach) : r + reach, max(0, c - reach) : c + reach] = False
    far |= lungs == 0
    far[np.abs(out - grey) > 0] &= (
        lungs[np.abs(out - grey) > 0] > 0
    )  # the soft edge of the lung may be touched
    assert np.abs(out - grey)[far].mean() < 0.01
    again, _ = synthetic.add_opacities(grey, lungs, np.random.default_rng(seed))
    np.testing.assert_array_equal(out, again)


def test_without_lungs_to_paint_in_nothing_is_painted(chest) -> None:
    grey, lungs = chest
    out, mask = synthetic.add_opacities(grey, np.zeros_like(lungs), np.random.default_rng(0))
    assert out is grey
    assert not mask.any()


def test_the_lungs_are_gone_and_the_rest_stays(chest) -> None:
    grey, lungs = chest
    distance = 0.06 * 256 + 10
    outside = cv2.distanceTransform((lungs < 0.5).astype(np.uint8), cv2.DIST_L2, 5) > distance
    for seed in range(12):
        out = synthetic.without_lungs(grey, lungs, np.random.default_rng(seed))
        assert np.abs(out - grey)[outside].max() < 0.02
        inside = lungs > 0.5
        # whatever the fill, the vessels and ribs inside are no longer those of the image
        a, b = out[inside] - out[inside].mean(), grey[inside] - grey[inside].mean()
        fine_a = out - cv2.GaussianBlur(out, (0, 0), 3)
        fine_b = grey - cv2.GaussianBlur(grey, (0, 0), 3)
        if a.std() > 1e-3 and b.std() > 1e-3:
            core = cv2.erode(inside.astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
            assert abs(np.corrcoef(fine_a[core], fine_b[core])[0, 1]) < 0.5 or fine_a[core].std() < 1e-3


def test_the_chest_field_covers_both_lungs_and_what_lies_between(chest) -> None:
    _, lungs = chest
    field = chest_field(lungs, 0.0)
    assert field[lungs > 0.5].mean() > 0.999
    rows, columns = np.nonzero(lungs)
    assert field[int(rows.mean()), int(columns.mean())]  # the mediastinum
    assert not field[0].any()
    assert not field[:, 0].any()


def test_a_lung_cut_short_is_covered_as_far_as_its_partner_reaches(chest) -> None:
    _, lungs = chest
    rows, columns = np.nonzero(lungs)
    middle = int(columns.mean())
    short = lungs.copy()
    low = int(np.percentile(rows, 50))
    short[low:, middle:] = 0  # the lower half of one lung is dense and was not found
    field = chest_field(short, 0.02)
    missing = (lungs > 0.5) & (short < 0.5)
    assert field[missing].mean() > 0.9


def test_growth_is_a_share_of_the_side_and_no_lungs_mean_no_field() -> None:
    lungs = np.zeros((200, 200), np.float32)
    lungs[80:120, 60:90] = lungs[80:120, 110:140] = 1.0
    tight, wide = chest_field(lungs, 0.0), chest_field(lungs, 0.05)
    assert tight.sum() == 40 * 80  # the rectangle around both
    assert wide[70, 100]
    assert not wide[69, 100]
    assert wide[100, 50]
    assert not wide[100, 49]
    assert chest_field(np.zeros((50, 50), np.float32), 0.04).all()


def test_mixed_styles_keep_the_pattern_and_trade_the_statistics() -> None:
    torch.manual_seed(0)
    x = torch.randn(6, 3, 8, 8) * torch.rand(6, 3, 1, 1) * 5 + torch.randn(6, 3, 1, 1)
    mixed = style.mix(x, 0.1)
    for a, b in zip(x.flatten(2).reshape(-1, 64), mixed.flatten(2).reshape(-1, 64), strict=True):
        assert np.corrcoef(a.numpy(), b.numpy())[0, 1] == pytest.approx(1.0, abs=1e-4)
    means, given = mixed.mean((2, 3)), x.mean((2, 3))
    assert (means.amax(0) <= given.amax(0) + 1e-4).all()
    assert (means.amin(0) >= given.amin(0) - 1e-4).all()
    assert not torch.allclose(means, given)


def test_mixing_ends_with_its_block_and_leaves_evaluation_alone() -> None:
    layer = torch.nn.Conv2d(1, 2, 3)
    torch.manual_seed(1)
    x = torch.randn(32, 1, 8, 8) * torch.arange(1, 33)[:, None, None, None]
    plain = layer(x)
    with style.mixing([layer], 1.0):
        assert not torch.allclose(layer.train()(x), plain)
        assert torch.equal(layer.eval()(x), plain)
    assert torch.equal(layer.train()(x), plain)
    assert not layer._forward_hooks
