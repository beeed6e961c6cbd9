"""One small file of each kind, written here and read back: which decoders of this installation work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xai_engine.errors import RadiolucentError

if TYPE_CHECKING:
    from pydicom import Dataset

Pixels = npt.NDArray[np.uint16]


def check(folder: Path) -> str:
    """Names of the kinds that were read back as written. Raises RadiolucentError naming those that were not."""
    from xai_engine.radiograph.read import read

    ramp = np.add.outer(np.arange(64) * 40, np.arange(48) * 12).astype(
        np.uint16
    )  # 12 bits, no two rows alike
    good, bad = [], []
    for name, (write, tolerance) in _KINDS.items():
        path = folder / name.replace(" ", "-")
        try:
            expected = write(path, ramp)
            found = read(path).pixels.astype(np.int64)
            close = found.shape == expected.shape and int(np.abs(found - expected).max()) <= tolerance
            if close:
                good.append(name)
            else:
                bad.append(f"{name} (wrong values)")
        except RadiolucentError as error:
            bad.append(f"{name} ({str(error).rpartition(': ')[2]})")
        except Exception as error:  # an encoder that is missing or broken
            bad.append(f"{name} ({type(error).__name__})")
    if bad:
        raise RadiolucentError(f"not read: {', '.join(bad)}; read: {', '.join(good) or 'none'}")
    return ", ".join(good)


def _dataset(pixels: npt.NDArray[Any], bits: int) -> Dataset:
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["radiolucent selftest"])
    ds = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.Modality, ds.PhotometricInterpretation = "CR", "MONOCHROME2"
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PixelRepresentation = 1, 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = pixels.dtype.itemsize * 8, bits, bits - 1
    ds.PixelData = pixels.tobytes()
    ds["PixelData"].VR = "OB" if pixels.dtype == np.uint8 else "OW"
    return ds


def _plain(path: Path, ramp: Pixels) -> npt.NDArray[np.int64]:
    _dataset(ramp, 12).save_as(path)
    return ramp.astype(np.int64)


def _compressed(uid: str) -> Callable[[Path, Pixels], npt.NDArray[np.int64]]:
    def write(path: Path, ramp: Pixels) -> npt.NDArray[np.int64]:
        ds = _dataset(ramp, 12)
        ds.compress(uid, generate_instance_uid=False)
        ds.save_as(path)
        return ramp.astype(np.int64)

    return write


def _jpeg_baseline(path: Path, ramp: Pixels) -> npt.NDArray[np.int64]:
    import io

    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    grey = (ramp >> 4).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(grey).save(stream, format="JPEG", quality=95)
    ds = _dataset(grey, 8)
    ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    ds.PixelData = encapsulate([stream.getvalue()])
    ds["PixelData"].is_undefined_length = True
    ds.save_as(path)
    return grey.astype(np.int64)


def _jpeg_lossless(path: Path, ramp: Pixels) -> npt.NDArray[np.int64]:
    import gdcm

    source = path.with_name(path.name + "-plain")
    _dataset(ramp, 12).save_as(source)
    reader = gdcm.ImageReader()
    reader.SetFileName(str(source))
    if not reader.Read():
        raise OSError("gdcm")
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
    change.SetInput(reader.GetImage())
    if not change.Change():
        raise OSError("gdcm")
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    if not writer.Write():
        raise OSError("gdcm")
    return ramp.astype(np.int64)


def _picture(kind: str, deep: bool) -> Callable[[Path, Pixels], npt.NDArray[np.int64]]:
    def write(path: Path, ramp: Pixels) -> npt.NDArray[np.int64]:
        from PIL import Image

        pixels = ramp if deep else (ramp >> 4).astype(np.uint8)
        Image.fromarray(pixels).save(path, format=kind, **({"quality": 95} if kind == "JPEG" else {}))
        return pixels.astype(np.int64)

    return write


# What is written, and how far a value may be off: lossy JPEG of a smooth ramp stays within a few levels.
_KINDS: dict[str, tuple[Callable[[Path, Pixels], npt.NDArray[np.int64]], int]] = {
    "DICOM": (_plain, 0),
    "RLE": (_compressed("1.2.840.10008.1.2.5"), 0),
    "JPEG baseline": (_jpeg_baseline, 6),
    "JPEG lossless": (_jpeg_lossless, 0),
    "JPEG-LS": (_compressed("1.2.840.10008.1.2.4.80"), 0),
    "JPEG 2000": (_compressed("1.2.840.10008.1.2.4.90"), 0),
    "PNG": (_picture("PNG", True), 0),
    "TIFF": (_picture("TIFF", True), 0),
    "JPEG file": (_picture("JPEG", False), 6),
}
