"""A DICOM file becomes a Radiograph. Bounds are checked before anything large is allocated."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset, read_file_meta_info

from xai_engine.errors import UnreadableImage
from xai_engine.radiograph import luts
from xai_engine.radiograph.luminance import luminance
from xai_engine.radiograph.pixels import Stored, read_stored
from xai_engine.radiograph.spacing import read_spacing
from xai_engine.radiograph.study import clean, study_info, tag_lines
from xai_engine.radiograph.types import Radiograph, Tag, Voi, Window

# Objects that hold something else than a picture, by SOP class, in words for the message.
_NOT_A_PICTURE = {
    "1.2.840.10008.1.3.10": "a DICOMDIR (an index of files); open one of the images it lists",
    "1.2.840.10008.5.1.4.1.1.104.1": "an encapsulated PDF; open it with a PDF reader",
    "1.2.840.10008.5.1.4.1.1.66.4": "a segmentation, not a radiograph; open the image it belongs to",
    "1.2.840.10008.5.1.4.1.1.481.2": "a radiotherapy dose grid, not a radiograph",
    "1.2.840.10008.5.1.4.1.1.481.3": "a radiotherapy structure set, not an image",
    "1.2.840.10008.5.1.4.1.1.481.5": "a radiotherapy plan, not an image",
    "1.2.840.10008.5.1.4.1.1.11.1": "a presentation state; open the image it belongs to",
    "1.2.840.10008.5.1.4.1.1.91.1": "a set of annotations; open the image it belongs to",
}
_BY_MODALITY = {
    "SR": "a structured report, not an image", "PR": "a presentation state; open the image it belongs to",
    "KO": "a key object note, not an image", "RTPLAN": "a radiotherapy plan, not an image",
    "RTSTRUCT": "a radiotherapy structure set, not an image", "DOC": "a document, not an image",
    "RTDOSE": "a radiotherapy dose grid, not a radiograph", "SEG": "a segmentation, not a radiograph",
    "ANN": "a set of annotations; open the image it belongs to", "AU": "a sound recording, not an image",
    "ECG": "a waveform, not an image", "REG": "a registration, not an image",
}  # fmt: skip
_VIDEO = ("MPEG", "HEVC", "H.264")


def looks_like_dicom(head: bytes) -> bool:
    """True for a preamble with DICM, or a bare data set that starts in group 0002, 0004 or 0008."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    little, big = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
    element = head[2:4]
    if little in (2, 4, 8):
        return element[1] == 0 or head[4:6].isalpha()
    return big in (2, 8) and (element[0] == 0 or head[4:6].isalpha())


def _inflate(f: BinaryIO, start: int, max_pixels: int) -> BinaryIO:
    """The deflated data set from `start` on, inflated (PS3.5 A.5), refusing what grows beyond any picture."""
    f.seek(start)
    limit = min(max_pixels * 8, 1 << 31) + (64 << 20)
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    out = io.BytesIO()
    while not inflater.eof:
        chunk = inflater.unconsumed_tail or f.read(1 << 20)
        if not chunk:
            raise UnreadableImage("its deflated data are cut short; fetch the file again")
        data = inflater.decompress(chunk, 16 << 20)
        out.write(data)
        if out.tell() > limit:
            raise UnreadableImage("it inflates beyond the size of any picture; the file is damaged")
    out.seek(0)
    return out


@dataclass(frozen=True, slots=True)
class _Parsed:
    item: Dataset
    stream: BinaryIO
    syntax: uid.UID
    little_endian: bool
    meta: Dataset


def _at_pixels(tag: int, vr: str | None, length: int) -> bool:
    return tag in (0x7FE00008, 0x7FE00009, 0x7FE00010)


def _parse(f: BinaryIO, path: Path, max_pixels: int) -> _Parsed:
    """Everything before the pixel data; the stream stands at the pixel data element."""
    f.seek(128)
    if f.read(4) == b"DICM":
        meta = read_file_meta_info(path)
        if meta.get("TransferSyntaxUID") == uid.DeflatedExplicitVRLittleEndian:
            # pydicom would inflate without a bound.
            stream = _inflate(f, 144 + int(meta.FileMetaInformationGroupLength), max_pixels)
            item = read_dataset(stream, False, True, stop_when=_at_pixels)
            return _Parsed(item, stream, uid.ExplicitVRLittleEndian, True, meta)
    f.seek(0)
    whole = dcmread(f, force=True, stop_before_pixels=True)
    implicit, little = whole.original_encoding
    syntax = whole.file_meta.get("TransferSyntaxUID")
    if not syntax:
        explicit = uid.ExplicitVRLittleEndian if little else uid.ExplicitVRBigEndian
        syntax = uid.ImplicitVRLittleEndian if implicit else explicit
    return _Parsed(whole, f, uid.UID(syntax), little is not False, whole.file_meta)


def _frame_view(item: Dataset) -> Dataset:
    """The data set with the first frame's functional groups laid over it (PS3.3 C.7.6.16): enhanced multi-frame."""
    groups = luts.items(item, "SharedFunctionalGroupsSequence")[:1]
    groups += luts.items(item, "PerFrameFunctionalGroupsSequence")[:1]
    if not groups:
        return item
    view = Dataset()
    view.update(item)
    for group in groups:
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence", "PixelMeasuresSequence"):
            for entry in luts.items(group, keyword)[:1]:
                view.update(entry)
    return view


def _padding(item: Dataset, stored: Stored, notices: list[str]) -> npt.NDArray[np.bool_] | None:
    """Where stored values are Pixel Padding (C.7.5.1.1.2), None where no pixel is.

    Signed images with the value coded unsigned, and the reverse, are common: the bits count, not the VR.
    """
    array = stored.values
    if array.ndim != 2:
        return None
    if np.issubdtype(array.dtype, np.floating):
        double = array.dtype.itemsize > 4
        value = luts.number(item, "DoubleFloatPixelPaddingValue" if double else "FloatPixelPaddingValue")
        mask = None if value is None else array == value
    else:
        found = luts.numbers(item, "PixelPaddingValue")
        if not found:
            return None
        size = 8 * array.dtype.itemsize
        limit = luts.number(item, "PixelPaddingRangeLimit")
        ends = [found[0], found[0] if limit is None else limit]
        if len(found) > 1 or not all(float(end).is_integer() for end in ends):
            notices.append("The pixel padding value is not valid and was ignored.")
            return None
        coded = [int(end) & ((1 << size) - 1) for end in ends]
        if stored.signed:
            coded = [end - (1 << size) if end >> (size - 1) else end for end in coded]
        low, high = min(coded), max(coded)
        mask = array == low if low == high else (array >= low) & (array <= high)
    if mask is None or not mask.any():
        return None
    if mask.all():
        notices.append("Every pixel is marked as padding; the mark was ignored.")
        return None
    mask.setflags(write=False)
    return mask


def _voi(item: Dataset, pixels: npt.NDArray[Any], little: bool) -> tuple[tuple[Voi, ...], list[str]]:
    low, high = (float(pixels.min()), float(pixels.max())) if "VOILUTSequence" in item else (0.0, 0.0)
    tables, notices = luts.voi_luts(item, low, high, little)
    windows, more = luts.windows(item)
    return tuple(tables + windows), notices + more


def _overlay_notice(item: Dataset) -> list[str]:
    planes = [group for group in range(0x6000, 0x6020, 2) if (group, 0x3000) in item]
    return ["The file holds overlay planes, which are not drawn."] if planes else []


def _refuse_other_objects(parsed: _Parsed) -> None:
    sop_class = luts.text(parsed.item, "SOPClassUID") or luts.text(parsed.meta, "MediaStorageSOPClassUID")
    modality = luts.text(parsed.item, "Modality").upper()
    what = _NOT_A_PICTURE.get(sop_class) or _BY_MODALITY.get(modality)
    if what is not None:
        raise UnreadableImage(f"it is {what}")
    if parsed.syntax.is_private:
        raise UnreadableImage("its transfer syntax is private to a manufacturer; export it as standard DICOM")
    if any(word in parsed.syntax.name for word in _VIDEO):
        raise UnreadableImage("it is a video; export a single frame")


def read_dicom(f: BinaryIO, path: Path, sha256: str, max_pixels: int) -> Radiograph:
    """Read an open DICOM file. Raises UnreadableImage (sentence without the file's name) or whatever pydicom raises."""
    parsed = _parse(f, path, max_pixels)
    if len(parsed.item) == 0 and len(parsed.meta) == 0:
        raise UnreadableImage("it is neither DICOM nor a picture; choose a DICOM, PNG, JPEG or TIFF file")
    _refuse_other_objects(parsed)
    stored, notices = read_stored(parsed.stream, parsed.item, parsed.syntax, max_pixels)
    item = _frame_view(parsed.item)
    if stored.frames > 1:
        notices.append(f"The file holds {stored.frames} frames; this is the first.")
    modality_name = clean(luts.text(item, "Modality"), 16)
    padding = _padding(item, stored, notices)

    voi: tuple[Voi, ...]
    photometric = stored.source_photometric
    if stored.values.ndim == 3:
        pixels: npt.NDArray[Any] = luminance(stored.values)
        unit = ""
        bits = stored.bits_stored
        # Colour is shown as stored (C.11.2 applies to monochrome only).
        voi = (Window(2.0 ** (bits - 1), 2.0**bits, "LINEAR", "as stored"),)
        notices.append(f"Colour ({photometric}) was converted to luminance (Rec. 601).")
        photometric = "MONOCHROME2"
    else:
        transform, more = luts.modality(
            item, stored.signed, stored.bits_stored, parsed.little_endian, modality_name
        )
        notices += more
        if np.issubdtype(stored.values.dtype, np.floating) and not np.isfinite(stored.values).all():
            raise UnreadableImage("its pixels hold NaN or infinite values; export it again without them")
        pixels = transform.apply(stored.values)
        if pixels.dtype == np.float64 or (pixels.dtype.itemsize > 4):
            pixels = pixels.astype(np.float32)
        if np.issubdtype(pixels.dtype, np.floating) and not np.isfinite(pixels).all():
            raise UnreadableImage("its pixel values are too large to be shown; the rescale slope is damaged")
        unit = transform.unit
        voi, more = _voi(item, pixels, parsed.little_endian)
        notices += more
        if photometric not in ("MONOCHROME1", "MONOCHROME2"):
            notices.append(f"Photometric interpretation {clean(photometric, 16)} is taken as MONOCHROME2.")
            photometric = "MONOCHROME2"
    spacing, more = read_spacing(item, modality_name.upper())
    notices += more + _overlay_notice(item)
    pixels = np.ascontiguousarray(pixels)
    pixels.setflags(write=False)
    direction = [clean(str(v), 4) for v in luts.values(item, "PatientOrientation")]
    meta_tags = tag_lines(parsed.meta)
    pixel_line = Tag(
        "7FE0,0010",
        "PixelData",
        "",
        f"{stored.values.shape[0]} × {stored.values.shape[1]} pixels, not listed",
    )
    syntax = luts.text(parsed.meta, "TransferSyntaxUID") or str(parsed.syntax)
    return Radiograph(
        path=path,
        sha256=sha256,
        file_format="DICOM",
        pixels=pixels,
        photometric="MONOCHROME1" if photometric == "MONOCHROME1" else "MONOCHROME2",
        source_photometric=clean(stored.source_photometric, 16),
        bits_stored=stored.bits_stored,
        modality=modality_name,
        unit=clean(unit, 16),
        voi=voi,
        padding=padding,
        spacing=spacing,
        orientation=(direction[0], direction[1]) if len(direction) == 2 else ("", ""),
        frames=stored.frames,
        transfer_syntax=clean(uid.UID(syntax).name, 64),
        study=study_info(parsed.item),
        tags=(*meta_tags, *tag_lines(parsed.item), pixel_line),
        notices=tuple(notices),
    )
