"""A synthetic frontal chest radiograph: seeded, with known lungs, lesion and markers. It shows no person.

The picture is a simplified projection. Thicknesses of soft tissue, air, blood and bone along parallel rays are
added up as attenuation (mu x thickness), turned into intensity, given scatter, detector blur and quantum noise, and
turned back by logarithm, detail enhancement and a tone curve, as a CR or DX system does before presentation.
Geometry and exposure are drawn from the seed within adult limits. It is made to look right and to carry planted
truth, not for dosimetry.

    phantom = make(7)                                              # normal
    phantom = make(7, consolidation=Consolidation("right lower"))  # the same patient with a lobar pneumonia
    phantom.pixels, phantom.lungs, phantom.lesion, phantom.marker
    write_dicom(phantom, "phantom.dcm")

`python -m xai_engine.radiograph.phantom --out resources/samples` writes the embedded samples again, byte
for byte.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import numpy.typing as npt

from xai_engine.errors import UsageError
from xai_engine.radiograph import phantom_bones, phantom_chest
from xai_engine.radiograph.phantom_dicom import write_dicom
from xai_engine.radiograph.phantom_shapes import Frame, Map

__all__ = ["BITS", "Consolidation", "Phantom", "make", "write_dicom"]

Zone = Literal["right upper", "right middle", "right lower", "left upper", "left lower"]
ZONES: tuple[str, ...] = get_args(Zone)
BITS = 12
HEIGHT_MM = 350.0

# attenuation of soft tissue per cm at about 75 keV (water: 0.206 at 60 keV, 0.184 at 80 keV; NIST XCOM)
_SOFT = 0.19
_LUNG = 0.25  # density of aerated lung against water
_CENTRES: dict[str, tuple[float, float]] = {
    "right upper": (-72.0, -96.0),
    "right middle": (-66.0, 4.0),
    "right lower": (-84.0, 38.0),
    "left upper": (72.0, -90.0),
    "left lower": (96.0, 44.0),
}


@dataclass(frozen=True, slots=True)
class Consolidation:
    """A lobar pneumonia. zone: where; radius_mm: its size; density: share of the air that is replaced, 0 …
    1.
    """

    zone: Zone = "right lower"
    radius_mm: float = 42.0
    density: float = 0.7

    def __post_init__(self) -> None:
        if self.zone not in ZONES:
            raise UsageError(f"no zone '{self.zone}'; choose one of {', '.join(ZONES)}")
        if not 5.0 <= self.radius_mm <= 120.0:
            raise UsageError(f"radius is {self.radius_mm} mm; it must lie between 5 and 120")
        if not 0.0 < self.density <= 1.0:
            raise UsageError(f"density is {self.density}; it must lie above 0 and at most at 1")


@dataclass(frozen=True, slots=True, eq=False)
class Phantom:
    """pixels: uint16 (rows, columns), 0 … 2**BITS - 1, MONOCHROME2 (bone bright). Masks: bool, same shape.

    lungs: aerated lung that projects beside heart, mediastinum and diaphragm. lesion: where at least a
    third of the lesion's full density lies; inside `lungs`; empty without a lesion. marker: side letter and
    burned-in text. spacing_mm: at the detector. side: the letter drawn, "" for none.
    """

    pixels: npt.NDArray[np.uint16]
    lungs: npt.NDArray[np.bool_]
    lesion: npt.NDArray[np.bool_]
    marker: npt.NDArray[np.bool_]
    spacing_mm: float
    seed: int
    consolidation: Consolidation | None
    side: str


def make(
    seed: int,
    *,
    consolidation: Consolidation | None = None,
    rows: int = 1120,
    columns: int = 1080,
    side: Literal["L", "R", ""] = "L",
    text: str = "",
    collimated: bool = False,
    brightness: float = 0.0,
    contrast: float = 1.0,
    noise: float = 1.0,
) -> Phantom:
    """One radiograph. The same arguments give the same pixels.

    A seed is a patient and an exposure: the lesion, the letters and the size of the image change nothing
    else. side: the lead letter (at the patient's side that it names); text: burned-in letters, upper left;
    collimated: an unexposed border; with these a shortcut can be planted. brightness: added to the tone
    curve, in fractions of the full range; contrast, noise: factors on what the seed draws. Image height
    stands for 350 mm. Raises UsageError below 64 pixels a side.
    """
    if min(rows, columns) < 64:
        raise UsageError(f"a phantom of {rows} x {columns} pixels is too small; at least 64 x 64")
    spacing = HEIGHT_MM / rows
    draw = np.random.default_rng([seed, 0])
    build = phantom_chest.Build.draw(draw)
    frame = Frame(
        rows,
        columns,
        spacing,
        scale=(float(draw.normal(1.0, 0.02)), float(draw.normal(1.0, 0.03))),
        tilt=float(draw.normal(0.0, 0.012)),
        shift=(float(draw.normal(0, 5)), float(draw.normal(17, 8))),
    )
    attenuation, added, lungs, lesion = _attenuation(frame, build, seed, consolidation)
    lead = _letter(frame, side, seed)
    burned = _burned(frame, text)
    values = _expose(frame, attenuation, added, lungs, seed, brightness, contrast, noise)
    if collimated:
        edge = max(2, round(11.0 / spacing))
        shade = np.zeros((rows, columns), np.float32)
        shade[edge : rows - edge, edge : columns - edge] = 1.0
        values = values * frame.blur(shade, 0.8)
    values = np.maximum(values, 0.97 * frame.blur(lead.astype(np.float32), 0.3))
    values[burned] = 1.0
    marker = lead | burned
    pixels = np.rint(np.clip(values, 0.0, 1.0) * (2**BITS - 1)).astype(np.uint16)
    for array in (pixels, lungs, lesion, marker):
        array.flags.writeable = False
    return Phantom(pixels, lungs, lesion, marker, spacing, seed, consolidation, side)


def _attenuation(
    frame: Frame, build: phantom_chest.Build, seed: int, consolidation: Consolidation | None
) -> tuple[Map, Map, npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Attenuation, how much of it the lesion adds, the lungs' mask and the lesion's."""

    def rng(stream: int) -> np.random.Generator:
        return np.random.default_rng([seed, stream])

    thick = phantom_chest.body(frame, build, rng(1))
    outlines = phantom_chest.lung_outlines(build, rng(2))
    right, left = (frame.fill(outline) for outline in outlines)
    heart = frame.fill(phantom_chest.heart_outline(build, rng(3)))
    middle = frame.fill(phantom_chest.mediastinum_outline(build, rng(4)))
    lung = right | left
    x, y = frame.coordinates()

    # cm of aerated lung along the ray; deepest in the middle of each lung
    deep = np.interp(y, [-165, -120, -60, 20, 110], [0.30, 0.55, 0.72, 0.76, 0.70]).astype(np.float32)
    # (towards the diaphragm it ends short, everywhere else round)
    air = np.zeros(frame.shape, np.float32)
    for outline, mask in zip(outlines, (right, left), strict=True):
        tall = (
            mask | frame.fill(outline + np.array([0.0, 45.0])) | frame.fill(outline + np.array([0.0, 90.0]))
        )
        air += build.depth * deep * frame.dome(tall, 50.0) * frame.dome(mask, 7.0)
    # what heart and mediastinum leave of it
    solid = 0.80 * frame.dome(heart, 34.0) * np.interp(y, [-80, -15], [0.2, 1.0]).astype(np.float32)
    solid = np.maximum(solid, 0.86 * frame.dome(middle, 11.0))
    solid = frame.blur(np.asarray(solid, np.float32), 0.9)
    air = air * (1.0 - solid)
    air = frame.blur(np.asarray(air, np.float32), 0.9)

    lungs = np.asarray((lung > 0) & (solid < 0.25))
    blood = np.zeros(frame.shape, np.float32)
    for stream, sign, mask in ((5, -1.0, right), (6, 1.0, left)):
        inside = frame.blur(frame.dome(mask, 9.0), 1.0)
        blood += 2.0 * phantom_chest.vessels(frame, rng(stream), sign) * inside
    texture = frame.noise(rng(7), 8.0, 5) * 0.9 + frame.noise(rng(8), 60.0, 2)
    air *= 1.0 + 0.022 * texture

    lesion = np.zeros(frame.shape, np.bool_)
    filled = np.zeros(frame.shape, np.float32)
    if consolidation is not None:
        filled, lesion = _consolidate(
            frame, consolidation, right if "right" in consolidation.zone else left, rng(9)
        )
        lesion &= lungs
    blood *= 1.0 - 0.8 * solid
    added = ((1.0 - _LUNG) * air - 0.8 * blood) * filled  # vessels vanish in what surrounds them
    soft = thick - (1.0 - _LUNG) * air + blood + added
    soft -= phantom_chest.airways(frame, rng(10))
    gas = rng(11)
    bubble = ((x - gas.normal(66, 8)) / gas.uniform(20, 32)) ** 2 + (
        (y - build.dome_left - gas.normal(24, 3)) / gas.uniform(9, 13)
    ) ** 2
    soft -= gas.uniform(1.0, 3.2) * frame.blur(
        np.sqrt(np.clip(1.0 - bubble, 0, None)).astype(np.float32), 1.2
    )
    total = _SOFT * np.clip(soft, 0.0, None)
    bones = frame.blur(phantom_bones.spine(frame, rng(12), float(rng(13).normal(0, 2.0))), 0.8)
    bones += phantom_bones.ribs(frame, rng(14), build.half_width)
    bones += phantom_bones.girdle(frame, rng(15), build.half_width)
    total += frame.blur(bones, 0.5) * (thick > 0.5)
    return np.asarray(total, np.float32), np.asarray(_SOFT * added, np.float32), lungs, lesion


def _consolidate(
    frame: Frame, lesion: Consolidation, lung: npt.NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Map, npt.NDArray[np.bool_]]:
    """Share of the air that is replaced (0 … 1) and the mask of where that is at least a third of its full
    amount.

    An ellipse with an irregular, soft rim inside the lung; patchy; branching bronchi in it stay open.
    """
    x, y = frame.coordinates()
    cx, cy = np.array(_CENTRES[lesion.zone]) + rng.normal(0, 4.0, 2)
    angle = rng.uniform(-0.5, 0.5)
    u = ((x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)) / (lesion.radius_mm * 1.12)
    v = ((y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)) / (lesion.radius_mm * 0.92)
    radius = np.sqrt(u * u + v * v) + 0.12 * frame.noise(rng, 32.0, 2)
    share = 1.0 / (1.0 + np.exp((radius - 1.0) / 0.16))
    share = share * (0.92 + 0.08 * np.clip(frame.noise(rng, 14.0, 3), -2.0, 1.0)) * (lung > 0)
    mask = share > 1.0 / 3.0
    bronchi = phantom_chest.tree(rng, 1.0 if "left" in lesion.zone else -1.0, 7, (2.8, 3.8), 1.3, 0.5)
    open_ = np.clip(3.0 * phantom_chest.draw_tree(frame, bronchi), 0, 1)
    share = share * lesion.density * (1.0 - 0.22 * open_)
    return np.asarray(frame.blur(np.asarray(share, np.float32), 1.0), np.float32), np.asarray(mask)


def _expose(
    frame: Frame,
    attenuation: Map,
    added: Map,
    lungs: npt.NDArray[np.bool_],
    seed: int,
    brightness: float,
    contrast: float,
    noise: float,
) -> Map:
    """Attenuation to presentation values in 0 … 1. added: the part of it that the lesion adds."""
    rng = np.random.default_rng([seed, 20])
    amount = 0.30 * float(rng.uniform(0.7, 1.3))
    heel = 1.0 + 0.06 * float(rng.normal()) * np.linspace(-1, 1, frame.rows, dtype=np.float32)[:, None]

    def detected(x: Map) -> Map:
        primary = np.exp(-x)
        # scatter comes from the patient, not from the open beam beside it
        source = np.minimum(primary * (1.0 - np.exp(-1.5 * x)), 0.25).astype(np.float32)
        return frame.blur(np.asarray((primary + amount * frame.blur(source, 32.0)) * heel, np.float32), 0.12)

    intensity = detected(attenuation)
    # automatic exposure, as a CR reader does: the lungs come to lie at one brightness. It is taken from the healthy
    # lungs, so that a lesion changes nothing outside itself but its scatter
    healthy = detected(attenuation - added) if added.any() else intensity
    middle = float(-np.log(np.median(healthy[lungs]))) if lungs.any() else 2.0
    grain = np.random.default_rng([seed, 21]).standard_normal(frame.shape, dtype=np.float32)
    grain = np.asarray(cv2.GaussianBlur(grain, (0, 0), 0.6), np.float32)
    photons = 2.2e5 * (frame.spacing / 0.31) ** 2  # per pixel without a patient
    intensity += grain / float(grain.std()) * np.sqrt(intensity / photons) * noise
    signal = -np.log(np.maximum(intensity, 1e-5))
    # detail processing of CR and DX systems: fine structures raised against broad ones, inside the body
    fine = signal - frame.blur(signal, 6.0)
    signal += 0.22 * np.tanh(fine / 0.22) * np.clip(signal / middle, 0, 1)

    # tone curve: a logistic, with a longer toe for thin parts
    target = 0.54 + float(rng.normal(0, 0.035)) + brightness
    slope = 1.6 * float(rng.normal(1.0, 0.06)) * contrast

    def curve(x: Map | float) -> Map:
        d = np.asarray(x, np.float32) - middle
        toe = np.where(d < 0, 0.45 * slope * d, slope * d)
        return np.asarray(1.0 / (1.0 + np.exp(-toe - np.log(target / (1.0 - target)))), np.float32)

    floor = curve(0.0)
    return np.asarray(0.02 + 0.92 * (curve(signal) - floor) / (1.0 - floor), np.float32)


def _letter(frame: Frame, side: str, seed: int) -> npt.NDArray[np.bool_]:
    """The lead letter, in the upper corner of the side that it names (the patient's left is right in the
    image).
    """
    mask = np.zeros(frame.shape, np.uint8)
    if side:
        rng = np.random.default_rng([seed, 22])
        x = frame.columns * (0.905 if side == "L" else 0.045) + rng.normal(0, 4) / frame.spacing
        y = frame.rows * 0.12 + rng.normal(0, 6) / frame.spacing
        _put(mask, side, (x, y), 15.0 / frame.spacing, 2.6 / frame.spacing)
    return mask.astype(np.bool_)


def _burned(frame: Frame, text: str) -> npt.NDArray[np.bool_]:
    """Text in the pixels, as an annotation station burns it in."""
    mask = np.zeros(frame.shape, np.uint8)
    if text:
        _put(mask, text, (frame.columns * 0.03, frame.rows * 0.045), 8.0 / frame.spacing, 1.1 / frame.spacing)
    return mask.astype(np.bool_)


def _put(mask: npt.NDArray[np.uint8], text: str, at: tuple[float, float], height: float, pen: float) -> None:
    origin = (round(at[0]), round(at[1]))
    cv2.putText(
        mask, text, origin, cv2.FONT_HERSHEY_SIMPLEX, height / 21.0, 1, max(1, round(pen)), cv2.LINE_8
    )


def main(arguments: list[str] | None = None) -> None:
    """Write the embedded samples."""
    parser = argparse.ArgumentParser(description="Write Radiolucent's synthetic sample radiographs.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the samples")
    options = parser.parse_args(arguments)
    from xai_engine.radiograph.phantom_dicom import write_samples

    for path in write_samples(options.out):
        print(path)


if __name__ == "__main__":
    main()
