"""Training images whose truth is known by construction: opacities painted into normal lungs, chests without lungs.

The first teach the network what an opacity does to a lung, independent of how its image was made, and where it is (each
comes with its own mask). The second carry every shortcut and no finding: their target is "cannot know".
Both work on the stored planes, before geometry and intensity are augmented.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
LUNG = 0.4  # probability from which a pixel counts as lung
NEUTRAL = 0.5  # target of a chest without lungs


def smooth_field(rng: np.random.Generator, side: int, grain: float) -> Plane:
    """(side, side) random field of mean 0 and deviation 1 whose structures measure about `grain` pixels."""
    coarse = max(2, round(side / grain))
    noise = rng.normal(size=(coarse, coarse)).astype(np.float32)
    field = cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.mean()) / max(float(field.std()), 1e-6), np.float32)


def add_opacities(grey: Plane, lungs: Plane, rng: np.random.Generator) -> tuple[Plane, Plane]:
    """Paint one to three airspace opacities of random size, density and edge into the lungs.

    grey in [0, 1], lung probability: (side, side). Returns the image and the mask of the opacities, float32 0/1; the
    mask is empty where there is no lung to paint in. An opacity pulls the lung towards the grey of soft tissue, as
    consolidation does, keeps part of the vessels' texture, and may reach over the lung's edge into nothing.
    """
    side = grey.shape[0]
    inside = lungs > LUNG
    mask = np.zeros_like(grey)
    if int(inside.sum()) < 0.02 * side * side:
        return grey, mask
    rows, columns = np.nonzero(inside)
    extent = float(max(np.ptp(rows), np.ptp(columns)))
    tissue = float(np.percentile(grey[inside], rng.uniform(85, 99))) + float(rng.uniform(0.0, 0.12))
    soft_lungs = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), max(1.0, 0.008 * side))
    out = grey.copy()
    y, x = np.mgrid[:side, :side].astype(np.float32)
    for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1]))):
        k = int(rng.integers(len(rows)))
        long, ratio = extent * float(rng.uniform(0.08, 0.32)), float(rng.uniform(0.5, 1.0))
        turn = float(rng.uniform(0, np.pi))
        dy, dx = y - rows[k], x - columns[k]
        u, v = dx * np.cos(turn) + dy * np.sin(turn), -dx * np.sin(turn) + dy * np.cos(turn)
        distance = np.sqrt((u / long) ** 2 + (v / (long * ratio)) ** 2)
        distance += float(rng.uniform(0.1, 0.35)) * smooth_field(rng, side, long)
        softness = float(rng.uniform(0.06, 0.45))
        shape = (1.0 / (1.0 + np.exp(np.clip((distance - 1.0) / softness, -30, 30)))).astype(np.float32)
        texture = 1.0 + float(rng.uniform(0.05, 0.3)) * smooth_field(rng, side, max(2.0, 0.015 * side))
        alpha = np.clip(float(rng.uniform(0.25, 0.8)) * shape * texture, 0.0, 0.95) * soft_lungs
        out += alpha * (tissue - out) * (out < tissue)
        mask = np.maximum(mask, ((shape > 0.5) & inside).astype(np.float32))
    return np.clip(out, 0.0, 1.0).astype(np.float32), mask


def without_lungs(grey: Plane, lungs: Plane, rng: np.random.Generator) -> Plane:
    """The chest with both lungs replaced: by a flat grey, noise, a smooth field, or what surrounds them.

    grey in [0, 1], lung probability: (side, side). The replaced part is the lung mask grown by up to 6 % of the side.
    """
    side = grey.shape[0]
    width = 2 * int(rng.integers(0, max(2, round(0.06 * side)))) + 1
    hole = cv2.dilate((lungs > LUNG).astype(np.uint8), np.ones((width, width), np.uint8)).astype(bool)
    if not hole.any() or hole.all():
        return grey
    kind = int(rng.integers(5))
    around = grey[~hole]
    if kind == 0:
        fill = np.full_like(grey, float(rng.choice([0.0, float(around.mean()), float(rng.uniform()), 1.0])))
    elif kind == 1:
        fill = rng.normal(around.mean(), around.std(), grey.shape).astype(np.float32)
    elif kind == 2:
        fill = float(around.mean()) + float(around.std()) * smooth_field(rng, side, float(rng.uniform(4, 60)))
    elif kind == 3:
        fill = cv2.GaussianBlur(grey, (0, 0), float(rng.uniform(0.06, 0.15)) * side)
    else:
        small = (cv2.resize(np.clip(grey, 0, 1), (64, 64)) * 255).astype(np.uint8)
        tight = (cv2.resize(hole.astype(np.uint8), (64, 64)) > 0).astype(np.uint8)
        fill = (
            cv2.resize(cv2.inpaint(small, tight, 3, cv2.INPAINT_TELEA), (side, side)).astype(np.float32) / 255
        )
    out = np.where(hole, fill, grey)
    if rng.random() < 0.5:
        soft = cv2.GaussianBlur(hole.astype(np.float32), (0, 0), max(1.0, 0.01 * side))
        out = soft * fill + (1 - soft) * out
    return np.clip(out, 0.0, 1.0).astype(np.float32)
