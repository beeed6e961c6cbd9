"""Pixel spacing with its provenance (DICOM PS3.3 section 10.7.1.3)."""

from __future__ import annotations

import math

from pydicom.dataset import Dataset

from xai_engine.radiograph.luts import numbers, text
from xai_engine.radiograph.types import PixelSpacing

# Projection radiography: the pixel grid lies at the detector, the anatomy in front of it, magnified.
PROJECTION = frozenset(
    (
        "CR",
        "DX",
        "MG",
        "XA",
        "RF",
        "PX",
        "IO",
        "RG",
        "DR",
        "RTIMAGE",
        "SC",
        "OT",
        "XC",
        "HC",
        "US",
        "ES",
        "GM",
        "OP",
    )
)
_LOWEST_MM, _HIGHEST_MM = 0.001, 50.0


def _pair(item: Dataset, keyword: str, notices: list[str]) -> tuple[float, float] | None:
    """Row and column spacing in mm; None where absent, or nonsense (then with a notice)."""
    found = numbers(item, keyword)
    if not found:
        return None
    if len(found) != 2 or any(math.isnan(v) or not _LOWEST_MM <= v <= _HIGHEST_MM for v in found):
        notices.append(f"{keyword} is not a plausible distance and was ignored: lengths are given in pixels.")
        return None
    return found[0], found[1]


def _same(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return all(math.isclose(x, y, rel_tol=1e-3) for x, y in zip(a, b, strict=True))


def read_spacing(item: Dataset, modality: str) -> tuple[PixelSpacing | None, list[str]]:
    """The spacing of an image and what it refers to.

    Projection images: Imager Pixel Spacing is at the detector. Pixel Spacing that differs from it, or comes with
    a Pixel Spacing Calibration Type, is calibrated; equal to it, it is the detector's; alone, nobody says what it
    is. Cross-sections (CT, MR, PT, …) have theirs in the patient's plane.
    """
    notices: list[str] = []
    pixel = _pair(item, "PixelSpacing", notices)
    imager = _pair(item, "ImagerPixelSpacing", notices)
    kind = text(item, "PixelSpacingCalibrationType").upper()
    if modality and modality not in PROJECTION:
        if pixel is None:
            return None, notices
        return PixelSpacing(*pixel, source="calibrated", note="in the patient's plane"), notices
    if pixel is not None and kind:
        how = {"GEOMETRY": "geometry", "FIDUCIAL": "a fiducial object"}.get(kind, "the acquiring device")
        return PixelSpacing(
            *pixel, source="calibrated", note=f"corrected for magnification by {how}"
        ), notices
    if pixel is not None and imager is not None and not _same(pixel, imager):
        return PixelSpacing(*pixel, source="calibrated", note="differs from the detector's spacing"), notices
    if imager is not None:
        note = "at the detector, not corrected for magnification"
        return PixelSpacing(*imager, source="detector", note=note), notices
    plane = _pair(item, "ImagePlanePixelSpacing", notices)
    if plane is not None:
        note = "at the image receptor, not corrected for magnification"
        return PixelSpacing(*plane, source="detector", note=note), notices
    if pixel is not None:
        note = "the file does not say whether at the detector or in the patient"
        return PixelSpacing(*pixel, source="unknown", note=note), notices
    film = _pair(item, "NominalScannedPixelSpacing", notices)
    if film is not None:
        return PixelSpacing(
            *film, source="detector", note="on the scanned film, not corrected for magnification"
        ), notices
    return None, notices
