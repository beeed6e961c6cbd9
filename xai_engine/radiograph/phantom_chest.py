"""Soft tissue and lungs of the phantom: outlines in millimetres, thicknesses in centimetres of water."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.radiograph.phantom_shapes import Frame, Map, Points, smooth


@dataclass(frozen=True, slots=True)
class Build:
    """One patient. Lengths in mm, thicknesses in cm, all drawn from the seed."""

    half_width: float  # of the rib cage
    depth: float  # front to back, cm
    heart: float  # transverse scale of the heart
    dome_right: float  # top of the right hemidiaphragm, y
    dome_left: float
    breast: float  # thickness in cm, 0 for none
    fat: float  # chest wall beside the ribs, mm
    shoulder: float  # y of the shoulder line

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Build:
        right = rng.normal(66.0, 9.0)
        return cls(
            half_width=float(np.clip(rng.normal(138.0, 6.0), 124.0, 150.0)),
            depth=float(np.clip(rng.normal(21.5, 1.8), 18.0, 26.0)),
            heart=float(np.clip(rng.normal(1.0, 0.07), 0.85, 1.15)),
            dome_right=float(np.clip(right, 46.0, 88.0)),
            dome_left=float(np.clip(right + rng.normal(11.0, 4.0), 52.0, 102.0)),
            breast=float(max(0.0, rng.normal(2.4, 1.2))) if rng.random() < 0.5 else 0.0,
            fat=float(np.clip(rng.normal(19.0, 6.0), 10.0, 36.0)),
            shoulder=float(rng.normal(-163.0, 6.0)),
        )


def body(frame: Frame, build: Build, rng: np.random.Generator) -> Map:
    """Front-to-back thickness of the whole body as if the lungs were solid."""
    w = build.half_width + build.fat
    s = build.shoulder
    neck = 56.0 + rng.normal(0, 3)
    half: list[tuple[float, float]] = [
        (neck, -260), (neck, -225), (neck + 4, -202), (neck + 20, -184), (w * 0.72, s - 4),
        (w + 20, s + 2), (w + 62, s + 22), (w + 88, s + 80), (w + 100, s + 180), (w + 104, 250), (w + 62,
        250), (w + 46, 120), (w + 30, 20), (w + 11, -34), (w + 4, -48), (w + 1, -34), (w - 1, 0), (w - 3, 60),
        (w - 7, 130), (w - 4, 260),
    ]  # fmt: skip
    gap = rng.normal(0, 6.0)
    other = [(-x - (gap if x > w + 20 and y > -30 else 0), y) for x, y in half]
    mask = frame.fill(smooth(half + other[::-1], 4))
    x, y = frame.coordinates()
    trunk = frame.fill(np.array([(-w - 3, -260.0), (w + 3, -260.0), (w + 3, 260.0), (-w - 3, 260.0)]))
    wide = frame.dome(mask, 50.0, 0.45)
    thin = frame.dome(mask, 34.0)
    level = np.interp(y, [-230, -190, -150, -90, 0, 220], [0.66, 0.66, 0.76, 0.94, 1.0, 0.98]).astype(
        np.float32
    )
    side = frame.blur(np.where(trunk > 0, 1.0, 0.0).astype(np.float32), 5.0)
    thick = build.depth * level * wide * side + 14.0 * thin * (1.0 - side) * mask
    if build.breast:
        for sign in (-1.0, 1.0):
            sx, sy = 68.0 + rng.normal(0, 4), 44.0 + rng.normal(0, 7)
            u = (x * sign - sx) / 62.0
            v = (y - sy) / np.where(y > sy, 44.0, 95.0)
            thick += np.float32(build.breast) * np.sqrt(np.clip(1.0 - u * u - v * v, 0, None)).astype(
                np.float32
            )
    return np.asarray(frame.blur(np.asarray(thick * mask, np.float32), 1.2), np.float32)


def lung_outlines(build: Build, rng: np.random.Generator) -> tuple[Points, Points]:
    """(right, left) lungs as far as they reach behind heart and mediastinum; right is at negative x."""
    w = build.half_width - 5.0

    def side(dome: float, angle: float, sign: float) -> Points:
        j = rng.normal(0, 1.5, 12)
        points = [
            (20.0, -128 + j[0]), (33.0, -152 + j[1]), (52.0, -160 + j[1]), (74.0, -150 + j[2]), (0.72 * w,
            -122 + j[3]), (0.87 * w, -80 + j[4]), (0.965 * w, -30 + j[5]), (1.0 * w, 20 + j[6]), (1.012 * w,
            66 + j[7]), (1.0 * w, angle), (0.992 * w, angle + 3), (0.985 * w, angle + 2), (0.90 * w, 0.45 *
            angle + 0.55 * dome), (0.74 * w, dome + 7), (0.55 * w, dome - 2), (0.37 * w, dome + 1), (0.22 *
            w, dome + 12), (8.0, dome + 26), (7.0, dome + 24), (7.0, -40),
        ]  # fmt: skip
        return smooth(points, 4) * (sign, 1.0)

    right = side(build.dome_right, build.dome_right + 44 + rng.normal(0, 3), -1.0)
    left = side(build.dome_left, build.dome_left + 36 + rng.normal(0, 3), 1.0)
    return right, left


def heart_outline(build: Build, rng: np.random.Generator) -> Points:
    """Cardiac silhouette: right atrium, apex, left atrial appendage; its base fades into the mediastinum."""
    k = build.heart
    floor = build.dome_left + 26.0
    j = rng.normal(0, 1.5, 8)
    return smooth(
        [
            (-14, -84), (-25, -40), (-37 * k, 2 + j[0]), (-43 * k, 30 + j[1]), (-41 * k, 58), (-30 * k,
            floor - 4), (0, floor + 14), (45 * k, floor + 10), (78 * k, floor - 4 + j[2]), (88 * k, floor -
            26 + j[3]), (83 * k, 32 + j[4]), (68 * k, 4 + j[5]), (51, -21), (38, -46), (22, -84),
        ]
    )  # fmt: skip


def mediastinum_outline(build: Build, rng: np.random.Generator) -> Points:
    """Upper mediastinum: vena cava on the right; arch, pulmonary trunk and descending aorta on the left."""
    knob = 31.0 + rng.normal(0, 3.0)
    top = -86.0 + rng.normal(0, 4.0)
    floor = build.dome_left + 60.0
    return smooth(
        [
            (-26, -260), (26, -260), (23, -150), (20, top - 26), (knob - 4, top - 17), (knob, top - 8),
            (knob, top + 8), (knob - 5, top + 18), (25, top + 26), (35, -50), (36, -38), (27, -10), (23,
            60), (20, floor), (-18, floor), (-19, 40), (-22, -10), (-24, -55), (-23, -84), (-20, -112),
            (-23, -150),
        ]
    )  # fmt: skip


def airways(frame: Frame, rng: np.random.Generator) -> Map:
    """Air in trachea and main bronchi, cm."""
    out = np.zeros(frame.shape, np.float32)
    lean = rng.normal(-2.5, 1.5)
    carina = (lean - 1.0, -72.0)
    trachea = smooth([(0, -230), (lean * 0.3, -170), (lean, -120), (lean - 1, -80), carina], 4, closed=False)
    for line, start, end, amount in (
        (trachea, 16.0, 17.0, 1.7),
        (smooth([carina, (-16, -56), (-30, -38), (-36, -22)], 3, closed=False), 13.5, 8.0, 1.1),
        (smooth([carina, (18, -60), (38, -46), (48, -34)], 3, closed=False), 11.5, 7.0, 0.9),
    ):
        place, path = frame.tube(line, np.linspace(start, end, len(line)), 30.0)
        out[place] = np.maximum(
            out[place], np.sqrt(np.clip(path / max(1e-6, float(path.max())), 0, 1)) * amount
        )
    return out


def tree(
    rng: np.random.Generator,
    sign: float,
    stems: int,
    calibre: tuple[float, float],
    thinnest: float,
    fork: float,
) -> list[tuple[Points, float]]:
    """Segments (line in mm, calibre in mm) of trees that fork from the hilum of one side and taper to the
    periphery.
    """
    hilum = np.array([sign * 27.0, -38.0 if sign < 0 else -48.0])
    queue: list[tuple[npt.NDArray[np.float64], float, float]] = []
    for stem in range(stems):
        # evenly fanned, more and larger ones downwards (gravity)
        heading = -1.35 + 2.95 * ((stem + rng.uniform(0.1, 0.9)) / stems) ** 0.85
        size = rng.uniform(*calibre) * (1.25 if heading > 0.6 else 0.85)
        queue.append((hilum + rng.normal(0, (4.0, 12.0)), heading, size))
    segments: list[tuple[Points, float]] = []
    for point, heading, size in queue:  # grows while it is walked: breadth first
        if len(segments) >= 1100:
            break
        x, y = point[0] * sign, point[1]
        if size < thinnest or not (8.0 < x < 142.0 and -165.0 < y < 135.0):
            continue
        length = rng.uniform(2.2, 4.4) * size**0.7 + 4.0
        bend = heading + rng.normal(0, 0.17)
        way = heading + (bend - heading) * np.linspace(0.25, 1, 4)
        steps = np.stack([sign * np.cos(way), np.sin(way)], axis=1) * (length / 4.0)
        line = point + np.concatenate([[[0.0, 0.0]], np.cumsum(steps, axis=0)])
        segments.append((line, size))
        if rng.random() < fork:
            turn = rng.uniform(0.3, 0.8) * rng.choice([-1.0, 1.0])
            queue.append((line[-1], bend + turn, size * rng.uniform(0.5, 0.8)))
            queue.append((line[-1], bend - 0.3 * turn, size * 0.90))
        else:
            queue.append((line[-1], bend, size * 0.94))
    return segments


def draw_tree(frame: Frame, segments: list[tuple[Points, float]]) -> Map:
    """Thickness in cm of the tubes of a tree, as seen from the front."""
    sheet = np.zeros(frame.shape, np.uint8)
    grey_per_mm = 240.0 / 9.0
    for line, size in sorted(segments, key=lambda item: item[1]):
        wide = size / frame.spacing
        points = np.rint((frame.pixels(line) - 0.5) * 16).astype(np.int32).reshape(-1, 1, 2)
        grey = min(255.0, grey_per_mm * size * min(1.0, wide))
        cv2.polylines(sheet, [points], False, grey, max(1, round(wide)), cv2.LINE_AA, 4)
    return frame.blur(sheet.astype(np.float32), 0.4) / np.float32(grey_per_mm * 10.0)


def vessels(frame: Frame, rng: np.random.Generator, sign: float) -> Map:
    """Blood in the pulmonary vessels of one side, cm.

    Three sheets in depth are drawn separately and summed, since shadows of crossing vessels add. The hilum
    is their common root.
    """
    total = np.zeros(frame.shape, np.float32)
    for _sheet in range(3):
        total += draw_tree(frame, tree(rng, sign, 8, (3.6, 6.2), 0.6, 0.46))
    x, y = frame.coordinates()
    middle = -36.0 if sign < 0 else -46.0
    root = np.exp(-(((x - sign * 35) / 11) ** 2) - (((y - middle) / 24) ** 2))
    return np.asarray(total + 0.9 * root, np.float32)
