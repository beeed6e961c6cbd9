"""Every measure against a closed form, brute force or a reference implementation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import gaussian_filter

from tests.assess import planted
from xai_engine.assess import areas, findings, perturbation, random_maps, similarity
from xai_engine.assess.blocks import Blocks
from xai_engine.assess.imputation import impute
from xai_engine.radiograph import phantom

RNG = np.random.default_rng(0)
VALID = np.ones((20, 16), bool)
VALID[:3] = False


def test_likeness_equals_scipy_and_skimage() -> None:
    from skimage.metrics import structural_similarity

    a, b = RNG.normal(size=(2, 20, 16))
    b = np.round(a + b, 1)  # ties
    assert similarity.spearman(a, b, VALID) == pytest.approx(
        stats.spearmanr(a[VALID], b[VALID]).statistic, abs=1e-12
    )
    assert similarity.pearson(a, b, VALID) == pytest.approx(stats.pearsonr(a[VALID], b[VALID])[0], abs=1e-12)
    everywhere = np.ones((20, 16), bool)
    scaled = [v / np.abs(v).max() for v in (a, b)]
    assert similarity.ssim(a, b, everywhere) == pytest.approx(
        structural_similarity(*scaled, data_range=2.0, full=True)[1].mean()
    )
    assert similarity.ssim(a, 7.0 * a, everywhere) == pytest.approx(1.0)  # size does not count
    assert similarity.spearman(a, np.zeros_like(a), VALID) == 0.0
    assert similarity.relative_change(a, 1.5 * a, VALID) == pytest.approx(0.5)


def test_top_overlap_by_hand() -> None:
    everywhere = np.ones((2, 10), bool)
    a = np.arange(20.0).reshape(2, 10)
    b = np.where(a == 19, -1.0, a)
    assert similarity.top_overlap(a, a, everywhere) == 1.0
    assert similarity.top_overlap(a, b, everywhere) == pytest.approx(1 / 3)  # {18, 19} and {17, 18}
    flat = np.zeros((2, 10))  # every pixel belongs to the top two with probability 0.1
    assert similarity.top_overlap(a, flat, everywhere) == pytest.approx(0.2 / 3.8)


def test_gini_against_the_mean_difference() -> None:
    values = RNG.exponential(size=(20, 16))
    inside = values[VALID]
    n = inside.size
    expected = np.abs(inside[:, None] - inside[None]).sum() / (2 * n * n * inside.mean())
    assert areas.gini(values, VALID) == pytest.approx(expected, abs=1e-12)
    single = np.zeros((20, 16))
    single[10, 10] = -3.0
    assert areas.gini(single, VALID) == pytest.approx(1 - 1 / n)
    assert areas.gini(np.zeros((20, 16)), VALID) is None


def test_border_band_by_brute_force() -> None:
    valid = np.zeros((40, 40), bool)
    valid[4:38, 10:40] = True
    padded = np.pad(valid, 1)
    outside = np.argwhere(~padded) - 1
    expected = np.zeros_like(valid)
    for r, c in np.argwhere(valid):
        expected[r, c] = np.hypot(*(outside - (r, c)).T).min() <= 2.0  # 5 % of 40
    assert np.array_equal(areas.border_band(valid), expected)


@pytest.mark.parametrize("seed", [0, 1])
def test_text_is_found_on_the_phantom(seed: int) -> None:
    import cv2

    made = phantom.make(seed, rows=448, columns=448, side="LR"[seed])
    grey, marker, lungs = (
        cv2.resize(v.astype(np.float32), (224, 224), interpolation=cv2.INTER_AREA)
        for v in (made.pixels, made.marker, made.lungs)
    )
    found = areas.text(grey, np.ones((224, 224), bool), lungs > 0.5)
    assert found[marker > 0.5].mean() > 0.9
    assert found.mean() < 0.01
    clean = np.where(cv2.dilate(marker, np.ones((9, 9))) > 0, np.median(grey), grey)
    assert not areas.text(clean, np.ones((224, 224), bool), lungs > 0.5)[marker > 0.5].any()


def test_random_maps_keep_the_spectrum_and_lose_the_place() -> None:
    values = gaussian_filter(RNG.normal(size=(32, 32)), 3).astype(np.float32)
    everywhere = np.ones((32, 32), bool)
    made = random_maps.of_same_smoothness(values, everywhere, 30, np.random.default_rng(1))
    for surrogate in made:
        assert np.allclose(np.abs(np.fft.fft2(surrogate)), np.abs(np.fft.fft2(values)), atol=1e-4)
    correlation = [np.corrcoef(values.ravel(), m.ravel())[0, 1] for m in made]
    assert abs(np.mean(correlation)) < 4 * np.std(correlation) / np.sqrt(30)
    again = random_maps.of_same_smoothness(values, everywhere, 30, np.random.default_rng(1))
    assert np.array_equal(made, again)
    part = np.zeros((32, 32), bool)
    part[:, 8:] = True
    assert not random_maps.of_same_smoothness(values, part, 2, np.random.default_rng(1))[:, ~part].any()


def test_imputation_solves_its_equations_and_keeps_planes() -> None:
    rows, columns = np.mgrid[:20, :16]
    hidden = RNG.random((20, 16)) < 0.5
    hidden[8:12, 6:10] = True
    image = RNG.normal(size=(2, 20, 16)).astype(np.float32)
    hidden &= VALID
    out = impute(image, hidden, VALID)
    assert np.array_equal(out[:, ~hidden], image[:, ~hidden])
    inside = np.pad(VALID, 1)
    for channel in out:
        padded = np.pad(channel.astype(float), 1)
        for r, c in np.argwhere(hidden) + 1:
            total = weight = 0.0
            for dr in (-1, 0, 1):
                for dc in (-1, 0, 1):
                    if (dr or dc) and inside[r + dr, c + dc]:
                        w = 1 / 12 if dr and dc else 1 / 6
                        total, weight = total + w * padded[r + dr, c + dc], weight + w
            assert padded[r, c] == pytest.approx(total / weight, abs=1e-3)
    plane = (0.3 * rows - 0.2 * columns).astype(np.float32)[None]
    middle = np.zeros((20, 16), bool)
    middle[8:12, 5:11] = True
    assert np.allclose(impute(plane, middle, VALID), plane, atol=1e-3)  # harmonic: a plane stays
    assert np.allclose(
        impute(image, VALID, VALID)[:, VALID], image[:, VALID].mean(1, keepdims=True), atol=1e-6
    )
    noisy = impute(plane, middle, VALID, np.random.default_rng(3))
    assert (noisy - plane)[0][middle].std() == pytest.approx(0.01 * plane[0][VALID].std(), rel=0.5)


def test_blocks_partition_the_valid_pixels() -> None:
    blocks = Blocks(VALID, along_side=5)
    assert blocks.size == 4
    values = RNG.normal(size=(20, 16))
    for index in range(blocks.count):
        where = blocks.labels == index
        assert np.ptp(np.argwhere(where), axis=0).max() < 4
        assert blocks.sums(values)[index] == pytest.approx(values[where].sum())
    assert blocks.sizes.sum() == VALID.sum()
    sets = np.zeros((1, blocks.count), bool)
    sets[0, 2] = True
    assert np.array_equal(blocks.expand(sets)[0], blocks.labels == 2)
    order = blocks.order(blocks.means(values), np.random.default_rng(0))
    assert np.all(np.diff(blocks.means(values)[order]) <= 0)


def test_infidelity_is_one_minus_the_explained_share() -> None:
    predicted, falls = RNG.normal(size=(2, 50))
    scale = np.linspace(0, 2, 200001)[:, None]
    best = ((scale * predicted - falls) ** 2).mean(1).min() / (falls**2).mean()  # brute force over the scale
    assert perturbation.infidelity(predicted, falls) == pytest.approx(best, abs=1e-8)
    assert perturbation.infidelity(3.0 * falls, falls) == pytest.approx(0.0, abs=1e-12)
    assert perturbation.infidelity(-falls, falls) == 1.0


def test_foretelling_is_the_partial_correlation() -> None:
    sets = RNG.random((60, 30)) < 0.4
    sums, sizes = RNG.normal(size=30), np.full(30, 4.0)
    falls = sets @ RNG.normal(size=30)
    amount = sets.sum(1)
    told = sets @ sums
    r = np.corrcoef([told, falls, amount])
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / np.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert perturbation.foretelling(sets, sums, sizes, falls) == pytest.approx(expected, abs=1e-10)
    assert perturbation.foretelling(sets, np.ones(30), sizes, falls) == 0.0  # an even map foretells nothing


def test_z_scores_by_hand() -> None:
    gains = RNG.normal(size=(3, 21))
    gains[:, 0] += 4.0
    z, better = findings.against_random(gains)
    assert z == pytest.approx((gains[:, 0] - gains[:, 1:].mean(1)) / gains[:, 1:].std(1, ddof=1))
    assert better == [int((row[0] > row[1:]).sum()) for row in gains]
    standard = (
        (gains - gains[:, 1:].mean(1, keepdims=True)) / gains[:, 1:].std(1, ddof=1, keepdims=True)
    ).mean(0)
    assert findings.combined(gains) == pytest.approx(standard[0] / standard[1:].std(ddof=1))
    assert findings.combined(np.ones((3, 21))) == 0.0  # a score that never moves


def test_lungs_share_on_a_known_map() -> None:
    p = planted.chest(np.random.default_rng(1), True, True)
    found = areas.find(p.image, VALID_64, p.lungs.astype(np.float32))
    values = np.where(p.lungs, 1.0, -1.0)
    assert areas.share(values, found.lungs) == pytest.approx(p.lungs.mean())
    assert found.text[p.marker].all()
    assert areas.share(np.zeros((64, 64)), p.lungs) is None


VALID_64 = np.ones((64, 64), bool)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("(rank correlation -0.01)", "(rank correlation −0.01)"),
        ("Use another map (z = −0.0).", "Use another map (z = 0.0)."),
        ("correlation -0.00, with samples 30", "correlation 0.00, with samples 30"),
        ("1 %: -0.05, 51 %: −0.004, 100 %: 0.40.", "1 %: −0.05, 51 %: −0.004, 100 %: 0.40."),
        ("with seed-to-seed grad-cam-2 and 10-12", "with seed-to-seed grad-cam-2 and 10-12"),
        ("z = −0.05 and −10", "z = −0.05 and −10"),
    ],
)
def test_numbers_in_sentences_have_a_true_minus_and_zero_has_none(given: str, said: str) -> None:
    assert findings.finding("agreement", -0.01, given).sentence == said
