"""From the pixel data element of a DICOM file to stored values: bounds, then decoders, first frame only."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.pixels import apply_color_lut, get_decoder
from pydicom.pixels.utils import as_pixel_options

from xai_engine.errors import UnreadableImage
from xai_engine.radiograph.luts import number, text
from xai_engine.radiograph.quiet import quiet_c_library

_KEYWORDS = {0x7FE00010: "PixelData", 0x7FE00008: "FloatPixelData", 0x7FE00009: "DoubleFloatPixelData"}
_ITEM, _UNDEFINED = 0xFFFEE000, 0xFFFFFFFF
# Retired processes that pydicom does not know; GDCM's 12-bit libjpeg decodes them.
_JPEG_RETIRED = {
    "1.2.840.10008.1.2.4.52", "1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.54", "1.2.840.10008.1.2.4.55",
}  # fmt: skip
_JPEG_2000 = {uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2K, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL}
# Which decoders to ask, in this order. "" leaves it to pydicom.
_PLUGINS: dict[str, tuple[str, ...]] = {
    uid.JPEGBaseline8Bit: ("pillow", "gdcm"),
    uid.JPEGExtended12Bit: ("pillow", "gdcm"),
    uid.JPEGLossless: ("gdcm",),
    uid.JPEGLosslessSV1: ("gdcm",),
    uid.JPEGLSLossless: ("pyjpegls", "gdcm"),
    uid.JPEGLSNearLossless: ("pyjpegls", "gdcm"),
    uid.RLELossless: ("pylibjpeg", "pydicom"),
    **dict.fromkeys(_JPEG_2000, ("pylibjpeg", "pillow")),
}


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Pixels as stored, before any transformation. `values`: (rows, columns) or (rows, columns, 3) for RGB."""

    values: npt.NDArray[Any]
    signed: bool
    bits_stored: int
    frames: int
    source_photometric: str


def _unreadable(sentence: str) -> UnreadableImage:
    return UnreadableImage(sentence)


def _integer(item: Dataset, keyword: str, default: int | None = None) -> int:
    value = number(item, keyword)
    if value is None or not value.is_integer():
        if default is None:
            raise _unreadable(f"the header lacks a valid {keyword}; the file is damaged or holds no image")
        return default
    return int(value)


def check_size(rows: int, columns: int, max_pixels: int) -> None:
    """Refuse from the header what is no picture or too large to hold, before anything is allocated."""
    if rows < 1 or columns < 1:
        raise _unreadable(f"the header says {rows} × {columns} pixels; the file is damaged")
    if rows * columns > max_pixels:
        raise _unreadable(
            f"it claims {rows} × {columns} pixels, above the limit of {max_pixels:,}; export a smaller picture"
        )
    if rows * columns == 1:
        raise _unreadable("it is 1 × 1 pixels, which is no radiograph; choose another file")


def codestream_size(frame: bytes) -> tuple[int, int, int] | None:
    """(rows, columns, bits per sample) that a JPEG, JPEG-LS or JPEG 2000 stream states; None where it states none.

    Sources: ITU-T T.81 B.2.2 (SOFn), T.87 C.2.2 (SOF55), T.800 A.5.1 (SIZ).
    """
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)  # raw, or inside a JP2 container
    if start >= 0 and len(frame) >= start + 43:
        width, height, left, top = struct.unpack(">4I", frame[start + 8 : start + 24])
        return height - top, width - left, (frame[start + 42] & 0x7F) + 1
    if frame[:2] != b"\xff\xd8":
        return None
    at = 2
    while at + 9 < len(frame):
        if frame[at] != 0xFF:
            return None
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0xF7 or (0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC)):
            bits, rows, columns = struct.unpack(">BHH", frame[at + 4 : at + 9])
            return rows, columns, bits
        at += 2 + struct.unpack(">H", frame[at + 2 : at + 4])[0]
    return None


def _element_at(f: BinaryIO, little_endian: bool) -> tuple[int, str, int]:
    """Tag, VR ("" if implicit) and length of the element at the file's position, which moves on to the value."""
    order = "<" if little_endian else ">"
    head = f.read(8)
    if len(head) < 8:
        raise _unreadable("it holds no pixel data")
    group, element = struct.unpack(f"{order}HH", head[:4])
    if head[4:6] in (b"OB", b"OW", b"OF", b"OD", b"UN"):  # read as an implicit length, these would be odd
        length = struct.unpack(f"{order}L", f.read(4))[0]
        return group << 16 | element, head[4:6].decode("ascii"), length
    return group << 16 | element, "", struct.unpack(f"{order}L", head[4:])[0]


def _remaining(f: BinaryIO) -> int:
    here = f.tell()
    end = f.seek(0, 2)
    f.seek(here)
    return end - here


def _check_fragments(f: BinaryIO) -> None:
    """Raise where the first fragments run past the end of the file: some decoders would fill in grey instead."""
    here = f.tell()
    for _ in range(10_000):
        head = f.read(8)
        if len(head) < 8:
            break
        tag_group, tag_element, length = struct.unpack("<HHL", head)
        if tag_group << 16 | tag_element != _ITEM:
            break
        if length > _remaining(f):
            raise _unreadable("its pixel data are cut short; fetch the file again")
        f.seek(length, 1)
    f.seek(here)


def _gdcm_frame(frame: bytes, opts: dict[str, Any], bits: int) -> npt.NDArray[Any]:
    """Decode one JPEG frame of more than 8 bits with GDCM, which pydicom does not let do it."""
    import gdcm

    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    allocated = 8 if bits <= 8 else 16
    rows, columns, samples = opts["rows"], opts["columns"], opts["samples_per_pixel"]
    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((columns, rows, 1))
    image.SetDataElement(element)
    kind = gdcm.PhotometricInterpretation.GetPIType(opts["photometric_interpretation"])
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(kind))
    if samples > 1:
        image.SetPlanarConfiguration(0)
    syntax = gdcm.TransferSyntax.GetTSType(str(uid.JPEGExtended12Bit))
    image.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    image.SetPixelFormat(gdcm.PixelFormat(samples, allocated, bits, bits - 1, opts["pixel_representation"]))
    decoded = image.GetBuffer().encode("utf-8", "surrogateescape")
    dtype = np.dtype(f"<{'i' if opts['pixel_representation'] else 'u'}{allocated // 8}")
    shape = (rows, columns) if samples == 1 else (rows, columns, samples)
    array = np.frombuffer(decoded, dtype).reshape(shape)
    # Bits above Bits Stored are no part of the value (PS3.5 8.1.1). Lossy coding may overshoot into them; pydicom,
    # GDCM and dcmtk all drop them, and so do we.
    spare = allocated - opts["bits_stored"]
    return (array << spare) >> spare if spare > 0 else array


def _decode(f: BinaryIO, syntax: uid.UID, opts: dict[str, Any]) -> tuple[npt.NDArray[Any], str]:
    """First frame and its photometric interpretation after decoding. Raises whatever the decoders raise."""
    if not syntax.is_encapsulated:
        array, meta = get_decoder(syntax).as_array(f, index=0, raw=False, **opts)
        return array, str(meta["photometric_interpretation"])
    retired = str(syntax) in _JPEG_RETIRED
    if not retired:
        get_decoder(syntax)  # NotImplementedError where there is none at all
    start = f.tell()
    _check_fragments(f)
    frame = get_frame(
        f, 0, number_of_frames=opts["number_of_frames"], extended_offsets=opts.get("extended_offsets")
    )
    f.seek(start)
    stated = codestream_size(frame)
    if stated is not None and stated[:2] != (opts["rows"], opts["columns"]):
        raise _unreadable("its compressed picture has another size than its header says; the file is damaged")
    if stated is None and syntax != uid.RLELossless:
        raise _unreadable("its compressed pixel data are damaged; fetch the file again")
    if retired or (syntax == uid.JPEGExtended12Bit and stated is not None and stated[2] > 8):
        assert stated is not None
        with quiet_c_library():
            return _gdcm_frame(frame, opts, stated[2]), str(opts["photometric_interpretation"])
    del frame
    failure: Exception | None = None
    for plugin in _PLUGINS.get(syntax, ("",)):
        f.seek(start)
        try:
            with quiet_c_library():
                array, meta = get_decoder(syntax).as_array(
                    f, index=0, raw=False, decoding_plugin=plugin, **opts
                )
            return array, str(meta["photometric_interpretation"])
        except Exception as error:
            failure = failure or error
    raise failure or NotImplementedError()


def read_stored(f: BinaryIO, item: Dataset, syntax: uid.UID, max_pixels: int) -> tuple[Stored, list[str]]:
    """Decode the first frame. `f` stands at the pixel data element; `item` is the data set before it.

    Colour comes back as RGB. Raises UnreadableImage for what the header rules out, and whatever a decoder raises.
    """
    notices: list[str] = []
    tag, vr, length = _element_at(f, syntax.is_little_endian)
    if tag not in _KEYWORDS:
        raise _unreadable("it holds no pixel data")
    rows, columns = _integer(item, "Rows"), _integer(item, "Columns")
    check_size(rows, columns, max_pixels)
    frames = max(_integer(item, "NumberOfFrames", 1), 1)
    samples = _integer(item, "SamplesPerPixel", 1)
    allocated = _integer(item, "BitsAllocated", {0x7FE00008: 32, 0x7FE00009: 64}.get(tag))
    if allocated not in (1, 8, 16, 32, 64):
        raise _unreadable(f"{allocated} bits allocated per pixel are not supported; export it with 8 or 16")
    if allocated == 1 and syntax.is_encapsulated:
        raise _unreadable("it is a compressed bit mask, no radiograph")
    bits = _integer(item, "BitsStored", allocated)
    if not 1 <= bits <= allocated:
        bits = allocated
        notices.append("Bits Stored is not valid; all allocated bits are used.")
    high = _integer(item, "HighBit", bits - 1)
    shift = high + 1 - bits if tag == 0x7FE00010 and not syntax.is_encapsulated else 0
    if not 0 <= shift <= allocated - bits:
        shift = 0
        notices.append("High Bit is not valid and was ignored.")
    photometric = text(item, "PhotometricInterpretation").upper()
    if not photometric:
        photometric = "MONOCHROME2" if samples == 1 else "RGB"
        notices.append(f"The file does not state its photometric interpretation; {photometric} is assumed.")
    if samples not in (1, 3):
        raise _unreadable(f"{samples} samples per pixel are not supported; export it as grey or RGB")

    opts = as_pixel_options(item)
    opts |= {
        "rows": rows, "columns": columns, "number_of_frames": frames, "samples_per_pixel": samples,
        "bits_allocated": allocated, "bits_stored": bits + shift, "photometric_interpretation": photometric,
        "pixel_keyword": _KEYWORDS[tag], "transfer_syntax_uid": syntax, "pixel_vr": vr or "OW",
    }  # fmt: skip
    signed = tag == 0x7FE00010 and _integer(item, "PixelRepresentation", 0) == 1
    opts["pixel_representation"] = int(signed)
    if samples > 1:
        opts["planar_configuration"] = _integer(item, "PlanarConfiguration", 0)
    if not syntax.is_encapsulated:
        subsampled = 2 / 3 if photometric == "YBR_FULL_422" else 1
        needed = int(rows * columns * samples * allocated / 8 * subsampled)
        if length == _UNDEFINED:
            raise _unreadable("its pixel data are compressed in a way that the header does not name")
        if needed > min(length, _remaining(f)):
            raise _unreadable("its pixel data are cut short; fetch the file again")
    array, photometric_now = _decode(f, syntax, opts)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    if shift:
        array = array >> shift
    if photometric == "PALETTE COLOR":
        array = apply_color_lut(array, item)[..., :3]
        bits = 8 * array.dtype.itemsize
    elif array.ndim == 3 and photometric_now not in ("RGB", "YBR_ICT", "YBR_RCT"):
        raise _unreadable("its colour model is not supported; export it as grey or RGB")
    return Stored(array, signed, bits, frames, photometric), notices
