"""Radiographs changed so that the gate must refuse them (cropped, tilted, several on a sheet, lost in noise), and so
that it must not (borders, letters, tubes, exposure, compression).

How they differ from what measures the gate (`gatecheck`): there windows have fixed shares of the image (a half, a third,
35 %) wherever the lungs lie; here a window is any rectangle, and what the lungs lose decides. Sheets, tilts, pages,
folded chests and noise over chests are not measured there at all. No radiograph is in both: these come from the training split.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
LOST = 0.74  # share of the lungs' area up to which a cropped image shows no whole chest
KEPT = 0.92  # share from which it does; between the two nothing is taught
TILT = (30.0, 60.0)  # degrees that are refused; up to 12° are not
SIGNAL = (0.25, 1.1)  # standard deviation of the chest over that of the noise, where noise has the upper hand


def kept(lungs: Mask, window: tuple[int, int, int, int]) -> float:
    """Share of the lungs' area that lies in a window (top, left, bottom, right)."""
    top, left, bottom, right = window
    return float(lungs[top:bottom, left:right].sum()) / max(int(lungs.sum()), 1)


def _stretch_of(rng: np.random.Generator, length: int) -> tuple[int, int]:
    """From where to where along one side: the whole of it, or a piece at an end, in the middle, or anywhere."""
    if rng.random() < 0.25:
        return 0, length
    size = max(8, int(rng.uniform(0.2, 0.95) * length))
    free = length - size
    start = (0, free, free // 2, int(rng.integers(0, free + 1)))[int(rng.integers(4))]
    return start, start + size


def window(rng: np.random.Generator, lungs: Mask) -> tuple[int, int, int, int] | None:
    """A rectangle (top, left, bottom, right) that keeps at most `LOST` of the lungs; None if none was found.

    Half of them are the one of five that keeps most: near the line is where there is something to learn.
    """
    found: list[tuple[float, tuple[int, int, int, int]]] = []
    wanted = 5 if rng.random() < 0.5 else 1
    zoomed = rng.random() < 0.3
    for _ in range(60):
        if zoomed:
            # into the middle, a little off it: less is lost of each lung, but of both and on all sides
            share, place = rng.uniform(0.25, 0.75), rng.uniform(0.35, 0.65, 2)
            spans = [max(8, int(share * rng.uniform(0.85, 1.15) * n)) for n in lungs.shape]
            starts = [int(p * (n - span)) for p, n, span in zip(place, lungs.shape, spans, strict=True)]
            (top, bottom), (left, right) = ((a, a + span) for a, span in zip(starts, spans, strict=True))
        else:
            (top, bottom), (left, right) = (_stretch_of(rng, n) for n in lungs.shape)
        share = kept(lungs, (top, left, bottom, right))
        if share <= LOST and (share > 0.05 or rng.random() < 0.2):
            found.append((share, (top, left, bottom, right)))
            if len(found) == wanted:
                break
    return max(found)[1] if found else None


def fit(rng: np.random.Generator, image: Image, size: int) -> tuple[Image, Mask]:
    """An image of any proportions on (size, size): mostly in its own with nothing beside it, or squashed, or on black."""
    rows, columns = image.shape
    kind = rng.random()
    if kind < 0.3:
        return _resized(image, size, size), np.ones((size, size), bool)
    proportion = rows / columns * float(np.exp(rng.uniform(-0.2, 0.2)))
    height, width = (size, size / proportion) if proportion >= 1 else (size * proportion, size)
    small = _resized(image, max(4, round(height)), max(4, round(width)))
    out, valid = np.zeros((size, size), np.float32), np.zeros((size, size), bool)
    top, left = (size - small.shape[0]) // 2, (size - small.shape[1]) // 2
    out[top : top + small.shape[0], left : left + small.shape[1]] = small
    valid[top : top + small.shape[0], left : left + small.shape[1]] = True
    return out, (np.ones_like(valid) if kind > 0.85 else valid)


def _resized(image: Image, rows: int, columns: int) -> Image:
    shrinks = rows * columns < image.shape[0] * image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.clip(cv2.resize(np.ascontiguousarray(image), (columns, rows), interpolation=method), 0, 1)


def sheet(rng: np.random.Generator, first: Image, second: Image) -> Image:
    """Two to twelve pictures on one sheet, from two chests; some cells mirrored, inverted, or a part of the chest."""
    rows, columns = ((1, 2), (1, 2), (2, 1), (2, 2), (2, 2), (1, 3), (2, 3), (3, 3), (3, 4))[
        int(rng.integers(9))
    ]
    height = 110 if rows < 3 else 60
    width = round(height * first.shape[1] / first.shape[0])
    gap = int(rng.integers(0, 9)) if rng.random() < 0.6 else 0
    paper = np.float32((0.0, 0.0, 1.0, rng.random())[int(rng.integers(4))])
    out = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap), paper, np.float32)
    same = rng.random() < 0.5
    for row in range(rows):
        for column in range(columns):
            chest = first if same or rng.random() < 0.5 else second
            cell = folded(rng, chest) if rng.random() < 0.1 else chest
            cell = _resized(cell, height, width)
            cell = cell[:, ::-1] if rng.random() < 0.4 else cell
            cell = 1 - cell if rng.random() < 0.08 else cell
            top, left = gap + row * (height + gap), gap + column * (width + gap)
            out[top : top + height, left : left + width] = cell ** np.float32(rng.uniform(0.8, 1.25))
    return out


def tilted(rng: np.random.Generator, grey: Image, inside: Mask, size: int) -> tuple[Image, Mask]:
    """A chest (side, side) that leans by an angle of `TILT` to one side, on black, on white, or with nothing beside it."""
    side = grey.shape[0]
    angle = rng.uniform(*TILT) * (1 if rng.random() < 0.5 else -1)
    matrix = cv2.getRotationMatrix2D((side / 2, side / 2), angle, rng.uniform(0.7, 1.15) * size / side)
    matrix[:, 2] += (size - side) / 2
    paper = float(rng.random() < 0.25)
    image = cv2.warpAffine(grey, matrix, (size, size), flags=cv2.INTER_AREA, borderValue=paper)
    there = cv2.warpAffine(inside.astype(np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST) > 0
    if not there.any() or rng.random() < 0.7:
        return image, np.ones_like(there)
    return image, there


def drowned(rng: np.random.Generator, image: Image) -> Image:
    """Noise over a chest with a signal of `SIGNAL`: even, coarse, or lost pixels (salt and pepper)."""
    signal = float(rng.uniform(*SIGNAL))
    if rng.random() < 0.3:
        lost = rng.random(image.shape) < 1 - signal / 3
        return np.where(lost, (rng.random(image.shape) < 0.5).astype(np.float32), image).astype(np.float32)
    field = rng.normal(size=image.shape).astype(np.float32)
    if rng.random() < 0.4:
        field = cv2.GaussianBlur(field, (0, 0), rng.uniform(0.4, 1.6))
    field *= np.float32(image.std() / signal / max(float(field.std()), 1e-6))
    return np.clip(image + field, 0, 1) if rng.random() < 0.5 else image + field


def folded(rng: np.random.Generator, chest: Image) -> Image:
    """A chest folded at its middle, one lung over the other with the spine at the side: much of what a lateral view is."""
    half = chest.shape[1] // 2
    left, right = chest[:, :half], chest[:, ::-1][:, :half]
    share = np.float32(rng.uniform(0.35, 0.65))
    out = share * left + (1 - share) * np.roll(right, int(rng.integers(-8, 9)), axis=0)
    out = _resized(out, chest.shape[0], round(half * rng.uniform(1.1, 1.7)))
    return out[:, ::-1] if rng.random() < 0.5 else out


def on_page(rng: np.random.Generator, chest: Image, page: Image) -> Image:
    """A chest on an uneven page or picture (size, size) that shows more than it; half of them seen at an angle."""
    size = page.shape[0]
    height = rng.uniform(0.3, 0.68) * size
    width = min(0.9 * size, height * chest.shape[1] / chest.shape[0])
    corner = rng.uniform(0, (size - width, size - height))
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
    target = corner + square * (width, height)
    if rng.random() < 0.5:
        target = target + rng.uniform(-0.07, 0.07, (4, 2)) * size
    source = square * (chest.shape[1], chest.shape[0])
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    soft = cv2.GaussianBlur(np.ascontiguousarray(chest), (0, 0), max(0.3, 0.4 * chest.shape[0] / height))
    there = cv2.warpPerspective(np.ones_like(soft), matrix, (size, size))
    return page * (1 - there) + cv2.warpPerspective(soft, matrix, (size, size))


def bordered(rng: np.random.Generator, image: Image, valid: Mask) -> tuple[Image, Mask]:
    """The image within an even border of up to 30 % of the result on each side, black, white or grey."""
    size = image.shape[0]
    shares = rng.uniform(0, 0.3, 4) if rng.random() < 0.5 else np.full(4, rng.uniform(0, 0.3))
    top, left, bottom, right = (int(s * size) for s in shares)
    paper = (0.0, 0.0, 1.0, rng.random())[int(rng.integers(4))]
    out, there = np.full_like(image, paper), np.ones_like(valid)
    area = np.s_[top : size - bottom, left : size - right]
    out[area] = _resized(image, size - bottom - top, size - right - left)
    return out, there


def exposed(rng: np.random.Generator, image: Image) -> Image:
    """Exposure, sharpness, a little noise, compression: what differs between radiographs and says nothing of their kind."""
    image = np.clip(image, 0, 1) ** np.float32(rng.uniform(0.5, 1.9))
    if rng.random() < 0.3:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.5))
    if rng.random() < 0.4:
        image = image + rng.normal(0, rng.uniform(0.01, 0.06), image.shape).astype(np.float32)
    if rng.random() < 0.15:
        grey = (np.clip(image, 0, 1) * 255).astype(np.uint8)
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))]
        read = cv2.imdecode(cv2.imencode(".jpg", grey, quality)[1], cv2.IMREAD_GRAYSCALE)
        image = np.asarray(read, np.float32) / np.float32(255)
    return image


def equipped(rng: np.random.Generator, image: Image) -> Image:
    """Tubes, leads, electrodes, letters and a pacemaker's box, as they lie over chests of the intensive care unit."""
    out = np.array(image, np.float32, order="C")
    size = out.shape[0]
    for _ in range(int(rng.integers(0, 4))):
        steps = rng.normal(0, 0.12 * size, (5, 2)).cumsum(0) + rng.uniform(0.2, 0.8, 2) * size
        over = np.zeros_like(out)
        cv2.polylines(over, [steps.astype(np.int32)], False, 1.0, int(rng.integers(1, 3)), cv2.LINE_AA)
        out += over * np.float32(rng.uniform(0.15, 0.5)) * (1 - out)
    for _ in range(int(rng.integers(0, 4))):
        spot = tuple(int(v) for v in rng.uniform(0.05, 0.95, 2) * size)
        cv2.circle(out, spot, int(rng.integers(1, 4)), float(rng.uniform(0.7, 1)), -1, cv2.LINE_AA)
    if rng.random() < 0.6:
        spot = tuple(int(v) for v in rng.uniform(0.02, 0.9, 2) * size)
        word = ("L", "R", "AP", "PORTABLE", "SUPINE 12:40")[int(rng.integers(5))]
        over8 = np.zeros(out.shape, np.uint8)  # OpenCV 5 writes on bytes only
        cv2.putText(over8, word, spot, cv2.FONT_HERSHEY_SIMPLEX, rng.uniform(0.2, 0.5), 255, 1, cv2.LINE_AA)
        share = over8.astype(np.float32) / 255
        out += share * (np.float32(rng.random() < 0.85) - out)
    if rng.random() < 0.1:
        spot = tuple(int(v) for v in rng.uniform(0.1, 0.8, 2) * size)
        cv2.rectangle(
            out, spot, (spot[0] + int(rng.integers(5, 16)), spot[1] + int(rng.integers(5, 14))), 0.95, -1
        )
    return out
