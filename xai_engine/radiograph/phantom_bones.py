"""Bones of the phantom: spine, ribs, clavicles, shoulder girdle. Each returns extra attenuation (mu x
thickness).
"""

from __future__ import annotations

import numpy as np

from xai_engine.radiograph.phantom_shapes import Frame, Map, Points, mirror, smooth


def spine(frame: Frame, rng: np.random.Generator, curve: float) -> Map:
    """Vertebral bodies with end plates, pedicles and spinous processes from the neck to the upper lumbar
    spine.

    curve: sideways bow in mm (a slight scoliosis is normal).
    """
    out = np.zeros(frame.shape, np.float32)
    y, height = -212.0, 15.0
    number = 0
    while y < 215.0:
        centre = curve * np.sin((y + 60.0) / 120.0)
        half = 12.0 + 0.022 * (y + 212.0) + rng.normal(0, 0.4)
        waist = half - 2.2
        body = smooth(
            [
                (centre - half, y), (centre - half, y), (centre, y + 0.8), (centre + half, y), (centre +
                half, y), (centre + waist, y + height / 2), (centre + half, y + height), (centre + half, y +
                height), (centre, y + height - 0.8), (centre - half, y + height), (centre - half, y + height),
                (centre - waist, y + height / 2),
            ],
            3,
        )  # fmt: skip
        mask = frame.fill(body)
        edge = np.exp(-frame.depth(mask) / 1.6) * mask
        out += mask * np.float32(0.15) + edge.astype(np.float32) * np.float32(0.14)
        for side in (-1.0, 1.0):
            pedicle = centre + side * half * 0.62
            ring = [
                (pedicle + 2.6 * np.cos(a), y + height * 0.36 + 4.0 * np.sin(a))
                for a in np.linspace(0, 6.1, 14)
            ]
            oval = frame.fill(np.array(ring))
            out += (np.exp(-frame.depth(oval) / 0.9) * oval).astype(np.float32) * np.float32(0.22)
            tip = centre + side * (half + 15.0)
            line = np.array([(centre + side * half * 0.8, y + 6.0), (tip, y + 3.5)])
            place, path = frame.tube(np.linspace(line[0], line[1], 8), 8.0, 1.2)
            out[place] += path * np.float32(0.035)
        spinous = smooth([(centre - 3.0, y + height * 0.55), (centre, y + height * 0.5),
                          (centre + 3.0, y + height * 0.55), (centre + 2.4, y + height * 1.1),
                          (centre, y + height * 1.2), (centre - 2.4, y + height * 1.1)], 2)  # fmt: skip
        process = frame.fill(spinous)
        out += (0.35 + np.exp(-frame.depth(process) / 0.8)).astype(np.float32) * process * np.float32(0.16)
        y += height + 3.4 + 0.006 * number
        height = min(27.0, height + 0.85)
        number += 1
    return out


def rib_lines(rng: np.random.Generator, half_width: float) -> list[tuple[Points, Points]]:
    """(posterior, anterior) centre lines in mm of the patient's left ribs 1 to 11; mirrored for the right.

    A rib is an inclined ring: theta runs from the spine (0) over the side (90 degrees) to the front.
    """
    reach = (
        np.array([0.50, 0.69, 0.82, 0.905, 0.96, 0.995, 1.015, 1.02, 1.01, 0.98, 0.92]) * 0.975 * half_width
    )
    lines = []
    y = -150.0
    for number in range(11):
        drop = 34.0 + 7.6 * number if number < 8 else 95.0 - 4.0 * (number - 8)
        end = np.radians((158, 152, 150, 147, 144, 140, 136, 128, 118, 108, 98)[number])
        theta = np.linspace(np.radians(5), end, 72)
        x = reach[number] * np.abs(np.sin(theta)) ** 0.80
        x = np.maximum(x, 14.0)
        rise = -5.0 * np.sin(np.clip(2.6 * theta, 0, np.pi)) * (1 if number > 1 else 0.4)
        line = np.stack([x, y + rise + drop * 0.5 * (1.0 - np.cos(theta)) + rng.normal(0, 0.5)], axis=1)
        split = int(np.searchsorted(theta, np.radians(92)))
        lines.append((line[: split + 1], line[split:]))
        y += 19.5 + 0.55 * number + rng.normal(0, 0.5)
    return lines


def ribs(frame: Frame, rng: np.random.Generator, half_width: float) -> Map:
    """Both rib cages: posterior arcs narrow and clear, anterior arcs broad and fainter, brightest seen side
    on.
    """
    out = np.zeros(frame.shape, np.float32)
    left = rib_lines(rng, half_width)
    right = [(mirror(p), mirror(a)) for p, a in rib_lines(rng, half_width)]
    for side in (left, right):
        for number, (posterior, anterior) in enumerate(side):
            fade = 1.0 if number < 8 else (0.8, 0.45, 0.25)[number - 8]
            n = len(posterior)
            width = np.linspace(8.2, 10.8, n) * (1.12 if number < 2 else 1.0)
            at = np.linspace(0, 1, n)
            tangent = (1.0 + 0.25 * at**6) * np.interp(at, [0, 0.16], [0.25, 1.0])
            place, path = frame.tube(posterior, width, 1.15, tangent)
            out[place] += path * np.float32(0.25 * fade)
            n = len(anterior)
            width = np.linspace(10.0, 14.0, n)
            tangent = (1.0 + 0.25 * np.linspace(1, 0, n) ** 6) * np.interp(
                np.linspace(0, 1, n), [0, 0.75, 1], [1.0, 0.8, 0.15]
            )
            place, path = frame.tube(anterior, width, 1.0, tangent)
            out[place] += path * np.float32(0.16 * fade)
    return out


def girdle(frame: Frame, rng: np.random.Generator, half_width: float) -> Map:
    """Clavicles, scapulae, humeral heads and shafts."""
    out = np.zeros(frame.shape, np.float32)
    for side in (1.0, -1.0):
        rise = rng.normal(0, 4.0)
        s = half_width / 140.0
        medial = [(13.0, -117.0), (30.0, -121.0), (62.0, -129.0 + 0.3 * rise), (98.0 * s, -149.0 + rise),
                  (126.0 * s, -160.0 + rise), (156.0 * s, -158.0 + rise)]  # fmt: skip
        line = smooth(medial, 4, closed=False) * (side, 1.0)
        n = len(line)
        width = np.interp(np.linspace(0, 1, n), [0, 0.1, 0.35, 0.7, 1.0], [17.0, 14.0, 10.5, 11.5, 15.0])
        place, path = frame.tube(
            line, width, 1.7, np.interp(np.linspace(0, 1, n), [0, 0.2, 0.8, 1], [0.75, 1.0, 0.8, 0.3])
        )
        out[place] += path * np.float32(0.40)

        dx = rng.normal(0, 4.0)
        blade = smooth(
            [
                (150 * s + dx, -142), (163 * s + dx, -128), (158 * s + dx, -108), (153 * s + dx, -60), (143
                * s + dx, -2), (136 * s + dx, 6), (129 * s + dx, -4), (117 * s + dx, -50), (106 * s + dx,
                -110), (108 * s + dx, -134), (128 * s + dx, -138),
            ]
        ) * (side, 1.0)  # fmt: skip
        plate = frame.fill(blade)
        rim = np.exp(-frame.depth(plate) / 1.3) * plate
        out += plate * np.float32(0.065) + rim.astype(np.float32) * np.float32(0.10)
        border = smooth([(160 * s + dx, -112), (152 * s + dx, -62), (142 * s + dx, -6)], 4, closed=False) * (
            side,
            1.0,
        )
        at = np.linspace(0, 1, len(border))
        place, path = frame.tube(
            border, 6.5 - 3.0 * at, 1.6, np.interp(at, [0, 0.2, 0.7, 1], [0.2, 1, 0.8, 0.1])
        )
        out[place] += path * np.float32(0.20)
        ridge = smooth(
            [(108 * s + dx, -112), (138 * s + dx, -138), (168 * s + dx, -163)], 4, closed=False
        ) * (side, 1.0)
        place, path = frame.tube(
            ridge,
            np.linspace(4, 13, len(ridge)),
            1.4,
            np.interp(np.linspace(0, 1, len(ridge)), [0, 0.3, 0.7, 1], [0.1, 1, 0.8, 0.1]),
        )
        out[place] += path * np.float32(0.13)

        centre = np.array([184 * s + dx, -127.0])
        angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        head = frame.fill((centre + 23.5 * np.stack([np.cos(angle), np.sin(angle)], 1)) * (side, 1.0))
        out += frame.dome(head, 20.0) * np.float32(0.42) + (np.exp(-frame.depth(head) / 1.4) * head).astype(
            np.float32
        ) * np.float32(0.2)
        shaft = smooth(
            [(190 * s + dx, -120), (204 * s + dx, -70), (216 * s + dx, 20), (224 * s + dx, 110)],
            4,
            closed=False,
        )
        fade_in = np.clip(np.linspace(0, 6, len(shaft)), 0, 1)
        place, path = frame.tube(shaft * (side, 1.0), np.linspace(34, 23, len(shaft)), 4.0, fade_in)
        out[place] += path * np.float32(0.42)
    return out
