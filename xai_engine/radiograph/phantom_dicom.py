"""The phantom as a DICOM file (PS3.3 A.2 Computed Radiography Image), and the samples that the program ships.

Every value is a function of the phantom: the same phantom gives the same bytes.
"""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from xai_engine.errors import OutputError

if TYPE_CHECKING:
    from xai_engine.radiograph.phantom import Phantom

_SPACE = uuid.UUID("5f0c3a52-9d0b-5c1e-8a77-52ad10c1e7a1")  # our name space for the UIDs of phantoms
_DATE, _TIME = "20260101", "120000"

SAMPLE_SEED = 11
SAMPLES = ("synthetic-normal.dcm", "synthetic-consolidation.dcm")
SAMPLE_MASK = "synthetic-consolidation-mask.png"


def write_dicom(phantom: Phantom, path: Path | str, *, photometric: str = "MONOCHROME2") -> Path:
    """Write a CR image: 16 bits allocated, 12 stored, explicit VR little endian, "synthetic" in its tags.

    photometric: MONOCHROME2, or MONOCHROME1 for a file whose small values are bright (stored values reversed).
    Raises ValueError for another photometric interpretation, OutputError when the file cannot be written.
    """
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ValueError(f"photometric interpretation {photometric}; expected MONOCHROME1 or MONOCHROME2")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

    from xai_engine.radiograph.phantom import BITS

    top = 2**BITS - 1
    stored = phantom.pixels if photometric == "MONOCHROME2" else (top - phantom.pixels).astype(np.uint16)
    c = phantom.consolidation
    finding = (
        "no finding" if c is None else f"consolidation, {c.zone} zone, {c.radius_mm:g} mm, {c.density:g}"
    )
    digest = hashlib.sha256(stored.tobytes()).hexdigest()
    name = f"{phantom.seed}/{finding}/{phantom.pixels.shape}/{photometric}/{digest}"

    def uid(part: str) -> UID:
        return UID(f"2.25.{uuid.uuid5(_SPACE, part).int}")  # PS3.5 B.2

    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\x00\x01"
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = uid("image/" + name)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    meta.ImplementationVersionName = "RADIOLUCENT"

    d = FileDataset(str(path), {}, file_meta=meta, preamble=b"\x00" * 128)
    d.SpecificCharacterSet = "ISO_IR 192"
    # made by a program, not from an exposure: DERIVED; not acquired from a patient: SECONDARY (PS3.3 C.7.6.1.1.2)
    d.ImageType = ["DERIVED", "SECONDARY"]
    d.InstanceCreationDate = d.StudyDate = d.SeriesDate = d.AcquisitionDate = d.ContentDate = _DATE
    d.InstanceCreationTime = d.StudyTime = d.SeriesTime = d.AcquisitionTime = d.ContentTime = _TIME
    d.SOPClassUID = ComputedRadiographyImageStorage
    d.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    d.AccessionNumber = ""
    d.Modality = "CR"
    d.Manufacturer = "Radiolucent phantom generator"
    d.InstitutionName = "SYNTHETIC"
    d.ReferringPhysicianName = ""
    d.StudyDescription = "SYNTHETIC chest radiograph, no patient"
    d.SeriesDescription = f"SYNTHETIC phantom, {finding}"
    d.ManufacturerModelName = "xai_engine.radiograph.phantom"
    d.DerivationDescription = "Computed from a mathematical phantom; shows no person"
    d.PatientName = "SYNTHETIC^PHANTOM " + ("NORMAL" if c is None else "CONSOLIDATION")
    d.PatientID = f"SYNTHETIC-{phantom.seed:04d}"
    d.PatientBirthDate = ""
    d.PatientSex = "O"
    d.PatientComments = "Synthetic; not a person"
    d.BodyPartExamined = "CHEST"
    d.ViewPosition = "PA"
    d.ImagerPixelSpacing = [f"{phantom.spacing_mm:.6g}"] * 2
    d.StudyInstanceUID = uid(f"study/{phantom.seed}")
    d.SeriesInstanceUID = uid("series/" + name)
    d.StudyID = str(phantom.seed)
    d.SeriesNumber = 1
    d.InstanceNumber = 1
    d.PatientOrientation = ["L", "F"]
    d.Laterality = ""
    d.ImageComments = (
        f"Synthetic radiograph made by Radiolucent's phantom generator (seed {phantom.seed}, {finding})"
    )
    d.SamplesPerPixel = 1
    d.PhotometricInterpretation = photometric
    d.Rows, d.Columns = phantom.pixels.shape
    d.BitsAllocated, d.BitsStored, d.HighBit = 16, BITS, BITS - 1
    d.PixelRepresentation = 0
    d.BurnedInAnnotation = "YES" if phantom.marker.any() else "NO"
    lungs = phantom.pixels[phantom.lungs]
    low, high = np.percentile(lungs, [1, 99]) if lungs.size else (0, top)
    width = round(1.35 * float(high - low))
    centre = round(float(high + low) / 2)
    if photometric == "MONOCHROME1":
        centre = top - centre
    d.WindowCenter = [str((top + 1) // 2), str(centre)]
    d.WindowWidth = [str(top + 1), str(width)]
    d.WindowCenterWidthExplanation = ["NORMAL", "LUNG"]
    d.LossyImageCompression = "00"
    d.PixelData = stored.astype("<u2").tobytes()
    try:
        d.save_as(path, enforce_file_format=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot write the phantom ({error.strerror or error})") from error
    return Path(path)


def write_samples(folder: Path) -> list[Path]:
    """Write the embedded samples: a normal chest (MONOCHROME2), the same seed with a right middle consolidation
    (MONOCHROME1), and the consolidation's mask (8-bit PNG, 255 inside). OutputError when it cannot."""
    from xai_engine.radiograph.phantom import Consolidation, make

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot make the folder ({error.strerror or error})") from error
    ill = make(SAMPLE_SEED, consolidation=Consolidation("right middle", radius_mm=50, density=0.85))
    paths = [
        write_dicom(make(SAMPLE_SEED), folder / SAMPLES[0]),
        write_dicom(ill, folder / SAMPLES[1], photometric="MONOCHROME1"),
        folder / SAMPLE_MASK,
    ]
    if not cv2.imwrite(str(paths[-1]), ill.lesion.astype(np.uint8) * 255):
        raise OutputError(f"{paths[-1]}: cannot write the mask")
    return paths
