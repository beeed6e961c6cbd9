"""Small DICOM files made in the tests: never real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

CR = "1.2.840.10008.5.1.4.1.1.1"


def dataset(pixels: npt.NDArray[Any], *, big_endian: bool = False, **attributes: Any) -> Dataset:
    """A CR image of (rows, columns[, 3]) or, with NumberOfFrames, (frames, rows, columns) pixels."""
    d = Dataset()
    d.SOPClassUID = CR
    d.SOPInstanceUID = "1.2.3.4"
    d.Modality = "CR"
    d.PatientName = "Secret^Person"
    d.PatientID = "SECRET-1"
    frames = int(attributes.get("NumberOfFrames", 0))
    shape = pixels.shape[1:] if frames else pixels.shape
    d.Rows, d.Columns = shape[:2]
    d.SamplesPerPixel = shape[2] if len(shape) == 3 else 1
    if d.SamplesPerPixel == 3:
        d.PlanarConfiguration = 0
    d.PhotometricInterpretation = "RGB" if d.SamplesPerPixel == 3 else "MONOCHROME2"
    d.BitsAllocated = 8 * pixels.dtype.itemsize
    d.BitsStored = d.BitsAllocated
    d.HighBit = d.BitsStored - 1
    if pixels.dtype.kind in "iu":
        d.PixelRepresentation = int(pixels.dtype.kind == "i")
    for keyword, value in attributes.items():
        setattr(d, keyword, value)
    order = ">" if big_endian else "<"
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    keyword = {"f4": "FloatPixelData", "f8": "DoubleFloatPixelData"}.get(pixels.dtype.str[1:], "PixelData")
    setattr(d, keyword, data + b"\0" * (len(data) % 2))
    if keyword == "PixelData":
        d["PixelData"].VR = "OW" if pixels.dtype.itemsize > 1 else "OB"
    return d


def save(d: Dataset, path: Path, syntax: UID = ExplicitVRLittleEndian) -> Path:
    d.file_meta = FileMetaDataset()
    d.file_meta.TransferSyntaxUID = syntax
    d.save_as(path, enforce_file_format=True, little_endian=None, implicit_vr=None)
    return path


def lut(first: int, data: npt.NDArray[Any], bits: int, **attributes: Any) -> Dataset:
    """An item of a Modality or VOI LUT Sequence, data as 16-bit words."""
    item = Dataset()
    descriptor = [data.size % 65536, first, bits]
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", descriptor)
    if first < 0 and descriptor[0] > 32767:
        raise ValueError("descriptor does not fit")
    item.add_new("LUTData", "OW", data.astype("<u2").tobytes())
    for keyword, value in attributes.items():
        setattr(item, keyword, value)
    return item
