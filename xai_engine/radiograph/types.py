"""What a file becomes once it is read: pixels in full depth and everything needed to show and measure them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

SpacingSource = Literal["detector", "calibrated", "unknown"]
VoiFunction = Literal["LINEAR", "LINEAR_EXACT", "SIGMOID"]


@dataclass(frozen=True, slots=True)
class PixelSpacing:
    """Distance between pixel centres, with where it comes from (DICOM PS3.3 section 10.7.1.3).

    `source`: `detector` = at the image receptor (Imager Pixel Spacing), not in the patient;
    `calibrated` = corrected for magnification or in the patient's plane; `unknown` = the file does not say.
    """

    row_mm: float
    column_mm: float
    source: SpacingSource
    note: str = ""


@dataclass(frozen=True, slots=True)
class Window:
    """VOI window (PS3.3 C.11.2.1.2) in modality units."""

    center: float
    width: float
    function: VoiFunction = "LINEAR"
    label: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class VoiLut:
    """VOI LUT (PS3.3 C.11.2.1.1). `data`: 1-D unsigned integers; input `first` maps to `data[0]`; below and above clip.
    `bits`: bits of an output value (the LUT's range is 0 … 2**bits - 1)."""

    first: int
    data: npt.NDArray[np.uint16]
    bits: int
    label: str = ""


Voi = Window | VoiLut


@dataclass(frozen=True, slots=True)
class Tag:
    """One line of the tag browser. `path` like `0008,0060` or `0040,0275[0].0008,1150`; `value` is text, cut to 1,000 characters."""

    path: str
    keyword: str
    vr: str
    value: str
    depth: int = 0


@dataclass(frozen=True, slots=True)
class StudyInfo:
    """What a report prints of the study. Empty strings where the file says nothing. Never written to a log."""

    patient_name: str = ""
    patient_id: str = ""
    birth_date: str = ""
    sex: str = ""
    age: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    series_description: str = ""
    accession_number: str = ""
    institution: str = ""
    manufacturer: str = ""
    model_name: str = ""
    body_part: str = ""
    view_position: str = ""
    laterality: str = ""
    study_uid: str = ""
    series_uid: str = ""
    sop_uid: str = ""
    synthetic: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Radiograph:
    """A decoded image.

    pixels: (rows, columns), after the modality LUT, read-only; integer dtype where the file's values are whole
        numbers, else float32. Never inverted: MONOCHROME1 is undone at display and in preprocessing, once.
    photometric: MONOCHROME1 or MONOCHROME2, after colour was converted to luminance (MONOCHROME2).
    padding: (rows, columns) bool, True where the file marks pixels as padding; None where it marks none.
    voi: every VOI LUT and window the file offers, in the file's order, VOI LUTs first.
    unit: modality unit as shown to users ("HU", "OD", …; "" = unspecified pixel value).
    orientation: letters at the right and bottom edges (Patient Orientation), e.g. ("L", "F"); empty where unknown.
    corrections: what `radiograph.correct` did to the file's image, in order; empty for the image as it is in the file.
    sha256: names these very pixels: the file's digest, or one of its own where the image was corrected.
    """

    path: Path
    sha256: str
    file_format: str
    pixels: npt.NDArray[np.generic]
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    source_photometric: str
    bits_stored: int
    modality: str
    unit: str
    voi: tuple[Voi, ...]
    padding: npt.NDArray[np.bool_] | None
    spacing: PixelSpacing | None
    orientation: tuple[str, str]
    frames: int
    transfer_syntax: str
    study: StudyInfo
    tags: tuple[Tag, ...]
    notices: tuple[str, ...]
    corrections: tuple[str, ...] = ()
    source_sha256: str = ""

    @property
    def file_sha256(self) -> str:
        """SHA-256 of the file, whatever was corrected."""
        return self.source_sha256 or self.sha256

    @property
    def rows(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def columns(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def inverted(self) -> bool:
        """True where small values are bright (MONOCHROME1)."""
        return self.photometric == "MONOCHROME1"
