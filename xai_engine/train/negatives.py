"""Pictures that are no frontal chest radiograph, for the gate: photographs, drawn sections, text, noise, parts of chests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
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


def draw(rng: np.random.Generator, size: int, chest: Image) -> Image:
    """One negative, float32 (size, size) in [0, 1]. `chest`: a radiograph (side, side) that some kinds are made from."""
    kinds: tuple[tuple[float, Callable[[], Image]], ...] = (
        (0.26, lambda: _photograph(rng, size)),
        (0.12, lambda: _noise(rng, size)),
        (0.14, lambda: _section(rng, size)),
        (0.10, lambda: _limb(rng, size)),
        (0.08, lambda: _text(rng, size)),
        (0.06, lambda: _shapes(rng, size)),
        (0.16, lambda: _part(rng, size, chest)),
        (0.22, lambda: _half(rng, size, chest)),
        (0.08, lambda: _shuffled(rng, size, chest)),
    )
    weights = np.array([k[0] for k in kinds])
    image = kinds[int(rng.choice(len(kinds), p=weights / weights.sum()))][1]()
    if rng.random() < 0.3:
        image = 1.0 - image
    return np.clip(image, 0, 1).astype(np.float32) ** np.float32(rng.uniform(0.6, 1.6))


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


def _part(rng: np.random.Generator, size: int, chest: Image) -> Image:
    """A piece of a chest: at most a quarter of its area."""
    side = int(rng.uniform(0.18, 0.48) * chest.shape[0])
    top, left = (int(rng.integers(0, chest.shape[0] - side + 1)) for _ in range(2))
    window = chest[top : top + side, left : left + side]
    if float(window.std()) < 0.02:
        return _noise(rng, size)
    return cv2.resize(np.ascontiguousarray(window), (size, size), interpolation=cv2.INTER_CUBIC)


def _half(rng: np.random.Generator, size: int, chest: Image) -> Image:
    """One side, or the lower or upper third, of a chest: what a film cropped to a part shows."""
    side = chest.shape[0]
    kind = int(rng.integers(4))
    share = rng.uniform(0.36, 0.46)
    part = {
        0: chest[:, : int(share * side)],
        1: chest[:, side - int(share * side) :],
        2: chest[side - int((share - rng.uniform(0.02, 0.12)) * side) :],
        3: chest[: int((share - rng.uniform(0.06, 0.14)) * side)],
    }[kind]
    if float(part.std()) < 0.02:
        return _noise(rng, size)
    if rng.random() < 0.5:  # in its own proportions, on black
        out = np.zeros((side, side), np.float32)
        top, left = (side - part.shape[0]) // 2, (side - part.shape[1]) // 2
        out[top : top + part.shape[0], left : left + part.shape[1]] = part
        part = out
    return cv2.resize(np.ascontiguousarray(part), (size, size), interpolation=cv2.INTER_AREA)


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
