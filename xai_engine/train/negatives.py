"""Pictures that are no frontal chest radiograph, for the gate: photographs, drawn sections, text, noise, parts of chests.

None comes from where the measured ones come from: see `pictures` (other packages' photographs, typeset pages, files of
sections) and `gateviews` for those that are made from radiographs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.train import gateviews, projections
from xai_engine.train.projections import Projections

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
FOREIGN = 7  # the first kinds of `draw` are no chests
PHOTOS = (
    "astronaut", "brick", "camera", "cat", "cell", "checkerboard", "clock", "coffee", "coins", "colorwheel", "grass", "gravel",
    "horse", "hubble_deep_field", "immunohistochemistry", "logo", "moon", "page", "rocket", "text", "retina", "microaneurysms",
)  # fmt: skip


@cache
def photographs() -> tuple[Image, ...]:
    """The pictures that the scikit-image package carries, grey in [0, 1]; those that need a download are left out."""
    import skimage.data
    from skimage.color import rgb2gray, rgba2rgb

    out = []
    for name in PHOTOS:
        try:
            picture = np.asarray(getattr(skimage.data, name)())
        except Exception:  # not in this package version, or only on the network
            continue
        if picture.dtype == bool:
            picture = picture.astype(np.uint8) * 255
        if picture.ndim == 3:
            picture = rgb2gray(rgba2rgb(picture) if picture.shape[2] == 4 else picture)
        picture = picture.astype(np.float32)
        out.append((picture - picture.min()) / max(float(np.ptp(picture)), 1e-6))
    return tuple(out)


def draw(
    rng: np.random.Generator,
    size: int,
    grey: Image,
    inside: Mask,
    lungs: Mask,
    other: Image,
    projected: Projections | None = None,
) -> tuple[Image, Mask]:
    """One negative: float32 (size, size) in [0, 1] and where it is real.

    grey, inside, lungs: a radiograph (side, side) on its letterboxed grid, where it is real, and its lung fields; other:
    a second radiograph. Half of the negatives are foreign pictures, half are made from these. projected: lateral views
    to draw as well.
    """
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    part = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    kinds: tuple[tuple[float, Callable[[], Image | tuple[Image, Mask]]], ...] = (
        (0.17, lambda: _photograph(rng, size)),
        (0.09, lambda: _noise(rng, size)),
        (0.10, lambda: _section(rng, size)),
        (0.07, lambda: _limb(rng, size)),
        (0.05, lambda: _text(rng, size)),
        (0.04, lambda: _shapes(rng, size)),
        (0.06, lambda: _lateral(rng, size)),
        (0.40, lambda: _cropped(rng, size, grey[part], lungs[part])),
        (0.14, lambda: gateviews.fit(rng, gateviews.sheet(rng, grey[part], other), size)),
        (0.10, lambda: gateviews.tilted(rng, grey, inside, size)),
        (0.06, lambda: gateviews.drowned(rng, _shrunk(grey[part], size))),
        (0.05, lambda: gateviews.fit(rng, gateviews.folded(rng, grey[part]), size)),
        (0.07, lambda: gateviews.on_page(rng, grey[part], _page(rng, size))),
        (0.04, lambda: _shuffled(rng, size, grey)),
    )
    if projected is not None:
        lines, share = projected.lateral, projected.laterals
        total = sum(k[0] for k in kinds) * share / (1 - share)
        kinds += ((total, lambda: projections.lateral(rng, size, lines)),)
    weights = np.array([k[0] for k in kinds])
    number = int(rng.choice(len(kinds), p=weights / weights.sum()))
    made = kinds[number][1]()
    image, valid = made if isinstance(made, tuple) else (made, np.ones((size, size), bool))
    if number >= FOREIGN and rng.random() < 0.7:  # what is done to chests tells nothing
        image = gateviews.exposed(rng, gateviews.equipped(rng, image) if rng.random() < 0.4 else image)
        if rng.random() < 0.15:
            image, valid = gateviews.bordered(rng, image, valid)
    if rng.random() < 0.3:
        image = 1.0 - image
    if number >= FOREIGN and rng.random() < 0.25:
        turns = int(rng.integers(1, 4))
        image, valid = np.rot90(image, turns), np.rot90(valid, turns)
    image = np.clip(image, 0, 1).astype(np.float32) ** np.float32(rng.uniform(0.6, 1.6))
    return np.ascontiguousarray(image), np.ascontiguousarray(valid)


def _photograph(rng: np.random.Generator, size: int) -> Image:
    photos = photographs()
    photo = photos[int(rng.integers(len(photos)))]
    side = int(rng.uniform(0.3, 1.0) * min(photo.shape))
    top, left = (int(rng.integers(0, n - side + 1)) for n in photo.shape)
    window = np.ascontiguousarray(np.rot90(photo[top : top + side, left : left + side], int(rng.integers(4))))
    return cv2.resize(window, (size, size), interpolation=cv2.INTER_AREA if side > size else cv2.INTER_LINEAR)


def _noise(rng: np.random.Generator, size: int) -> Image:
    """1/f^a noise, from white to clouds."""
    spectrum = np.fft.rfft2(rng.normal(size=(size, size)))
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    f[0, 0] = 1
    field = np.fft.irfft2(spectrum / f ** rng.uniform(0, 2.2), s=(size, size))
    return ((field - field.min()) / max(float(np.ptp(field)), 1e-9)).astype(np.float32)


def _ellipse(
    image: Image,
    rng: np.random.Generator,
    centre: tuple[float, float],
    axes: tuple[float, float],
    value: float,
) -> None:
    size = image.shape[0]
    mask = np.zeros((size, size), np.uint8)
    point = (int(centre[0] * size), int(centre[1] * size))
    cv2.ellipse(
        mask,
        point,
        (max(1, int(axes[0] * size)), max(1, int(axes[1] * size))),
        float(rng.uniform(-20, 20)),
        0,
        360,
        255,
        -1,
    )
    soft = cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.5, 2.0))).astype(np.float32) / 255
    image += soft * (value - image)


def _section(rng: np.random.Generator, size: int) -> Image:
    """Like an axial slice: a body on black with organs, two dark lungs or a skull."""
    image = np.zeros((size, size), np.float32)
    width, height = rng.uniform(0.3, 0.48), rng.uniform(0.25, 0.42)
    centre = (0.5 + rng.uniform(-0.04, 0.04), 0.5 + rng.uniform(-0.04, 0.04))
    if rng.random() < 0.35:  # head
        _ellipse(image, rng, centre, (height, height * rng.uniform(1.0, 1.25)), 0.95)
        _ellipse(image, rng, centre, (height * 0.9, height * rng.uniform(0.9, 1.1)), rng.uniform(0.4, 0.6))
    else:
        _ellipse(image, rng, centre, (width, height), rng.uniform(0.45, 0.6))
        if rng.random() < 0.5:
            for side in (-1, 1):
                _ellipse(
                    image,
                    rng,
                    (centre[0] + side * width * 0.5, centre[1]),
                    (width * 0.32, height * 0.6),
                    0.08,
                )
        _ellipse(image, rng, (centre[0], centre[1] + height * 0.62), (0.05, 0.045), 0.9)
    for _ in range(int(rng.integers(2, 9))):
        spot = (centre[0] + rng.uniform(-0.6, 0.6) * width, centre[1] + rng.uniform(-0.6, 0.6) * height)
        _ellipse(image, rng, spot, (rng.uniform(0.01, 0.09), rng.uniform(0.01, 0.09)), rng.uniform(0.2, 0.9))
    return image + rng.normal(0, rng.uniform(0.005, 0.05), image.shape).astype(np.float32)


def _limb(rng: np.random.Generator, size: int) -> Image:
    """Like a limb or hand: soft-tissue bars with brighter bones on a dark field."""
    image = np.full((size, size), rng.uniform(0, 0.12), np.float32)
    for _ in range(int(rng.integers(1, 6))):
        start = rng.uniform(0, size, 2)
        angle, length = rng.uniform(0, np.pi), rng.uniform(0.4, 1.4) * size
        end = start + length * np.array([np.cos(angle), np.sin(angle)])
        thick = rng.uniform(0.06, 0.3) * size
        for share, value in (
            (1.0, rng.uniform(0.25, 0.5)),
            (0.45, rng.uniform(0.6, 1.0)),
            (0.2, rng.uniform(0.4, 0.8)),
        ):
            mask = np.zeros((size, size), np.uint8)
            first, second = (tuple(int(v) for v in p) for p in (start, end))
            cv2.line(mask, first, second, 255, max(1, int(thick * share)))
            soft = cv2.GaussianBlur(mask, (0, 0), max(0.6, 0.04 * thick)).astype(np.float32) / 255
            image = np.maximum(image, soft * np.float32(value))
    return image + rng.normal(0, 0.02, image.shape).astype(np.float32)


def _text(rng: np.random.Generator, size: int) -> Image:
    paper = np.full((size, size), 235, np.uint8)
    step = int(rng.integers(7, 16))
    for row in range(step, size, step):
        words = "".join(rng.choice(list("abcdefghilmnoprstuv     "), 40))
        cv2.putText(
            paper,
            words,
            (int(rng.integers(0, 12)), row),
            cv2.FONT_HERSHEY_SIMPLEX,
            step / 32,
            20,
            1,
            cv2.LINE_AA,
        )
    return np.asarray(paper / 255, np.float32)


def _shapes(rng: np.random.Generator, size: int) -> Image:
    y, x = np.mgrid[:size, :size].astype(np.float32) / size
    kind = int(rng.integers(4))
    if kind == 0:
        return (np.cos(rng.uniform(-1, 1) * 6 * x + rng.uniform(-1, 1) * 6 * y) / 2 + 0.5).astype(np.float32)
    if kind == 1:
        n = int(rng.integers(2, 12))
        return ((np.floor(x * n) + np.floor(y * n)) % 2).astype(np.float32)
    if kind == 2:
        return np.hypot(x - 0.5, y - 0.5).astype(np.float32) * np.float32(1.4)
    image = np.full((size, size), rng.random(), np.float32)
    for _ in range(int(rng.integers(1, 7))):
        _ellipse(image, rng, tuple(rng.random(2)), tuple(rng.uniform(0.03, 0.3, 2)), float(rng.random()))
    return image


def _shrunk(image: Image, size: int) -> Image:
    return cv2.resize(np.ascontiguousarray(image), (size, size), interpolation=cv2.INTER_AREA)


def _cropped(rng: np.random.Generator, size: int, chest: Image, lungs: Mask) -> tuple[Image, Mask]:
    """A window of a chest that loses an essential part of its lungs."""
    coarse = lungs[::4, ::4]
    where = gateviews.window(rng, coarse) if coarse.any() else None
    if where is not None:
        top, left, bottom, right = (4 * v for v in where)
        piece = chest[top:bottom, left:right]
        if float(piece.std()) >= 0.02:
            return gateviews.fit(rng, piece, size)
    return _noise(rng, size), np.ones((size, size), bool)


def _page(rng: np.random.Generator, size: int) -> Image:
    """What a chest may lie on that is no part of a radiograph."""
    return (_text, _photograph, _limb, _shapes)[int(rng.integers(4))](rng, size)


def _blob(rng: np.random.Generator, size: int, points: Sequence[tuple[float, float]], soft: float) -> Image:
    """A smooth outline through shaken points (x, y as shares of the side), filled with 1."""
    ring = np.array(points) + rng.normal(0, 0.012, (len(points), 2))
    for _ in range(3):  # Chaikin's corner cutting (1974)
        following = np.roll(ring, -1, axis=0)
        ring = np.stack([0.75 * ring + 0.25 * following, 0.25 * ring + 0.75 * following], 1).reshape(-1, 2)
    mask = np.zeros((size, size), np.float32)
    cv2.fillPoly(mask, [np.round(ring * size).astype(np.int32)], 1.0)
    return cv2.GaussianBlur(mask, (0, 0), max(0.5, soft * size))


def _lateral(rng: np.random.Generator, size: int) -> Image:
    """Like a lateral chest: one lung field over the other, the spine at one side, breastbone, heart, two diaphragms.

    Outlines through points, where the lateral views that measure the gate elsewhere are made of ellipsoids.
    """
    trunk = _blob(
        rng,
        size,
        ((0.12, 0.05), (0.5, 0.0), (0.9, 0.08), (0.95, 0.6), (0.9, 1.05), (0.1, 1.05), (0.05, 0.5)),
        0.01,
    )
    lung = _blob(
        rng,
        size,
        ((0.4, 0.08), (0.62, 0.1), (0.82, 0.45), (0.8, 0.82), (0.5, 0.68), (0.2, 0.72), (0.2, 0.35)),
        0.012,
    )
    heart = _blob(rng, size, ((0.22, 0.5), (0.42, 0.42), (0.52, 0.6), (0.4, 0.74), (0.2, 0.72)), 0.02)
    image = rng.uniform(0.55, 0.8) * trunk - rng.uniform(0.3, 0.5) * lung + rng.uniform(0.15, 0.35) * heart
    bend, step = rng.uniform(-0.05, 0.08), rng.uniform(0.07, 0.1)
    for number in range(int(1 / step) + 1):
        y = number * step
        x = 0.77 + bend * np.sin(np.pi * y)
        corners = np.array(
            [(-0.05, -0.36 * step), (0.05, -0.36 * step), (0.05, 0.36 * step), (-0.05, 0.36 * step)]
        )
        bone = np.zeros((size, size), np.float32)
        cv2.fillPoly(bone, [np.round((corners + np.array((x, y))) * size).astype(np.int32)], 1.0)
        cv2.ellipse(
            bone, (int(x * size), int(y * size)), (int(0.6 * size), int(0.25 * size)), 0, 120, 172, 0.35, 1
        )
        image += np.float32(rng.uniform(0.1, 0.25)) * cv2.GaussianBlur(bone, (0, 0), 0.8)
    image = np.asarray(image + 0.06 * (_noise(rng, size) - 0.5), np.float32)
    image = image if rng.random() < 0.5 else image[:, ::-1]
    width = round(size * rng.uniform(0.75, 1.0))
    out = np.zeros((size, size), np.float32)
    out[:, (size - width) // 2 : (size - width) // 2 + width] = cv2.resize(
        np.ascontiguousarray(image), (width, size)
    )
    return np.clip(out, 0, 1)


def _shuffled(rng: np.random.Generator, size: int, chest: Image) -> Image:
    """A chest cut into tiles and put together wrongly."""
    n = int(rng.integers(2, 5))
    image = cv2.resize(chest, (size // n * n, size // n * n), interpolation=cv2.INTER_AREA)
    step = image.shape[0] // n
    tiles = [image[r * step : (r + 1) * step, c * step : (c + 1) * step] for r in range(n) for c in range(n)]
    order = rng.permutation(n * n)
    if np.array_equal(order, np.arange(n * n)):
        order = order[::-1]
    rows = [np.hstack([tiles[order[r * n + c]] for c in range(n)]) for r in range(n)]
    return cv2.resize(np.vstack(rows), (size, size), interpolation=cv2.INTER_LINEAR)
