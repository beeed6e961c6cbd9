"""PNG, JPEG and TIFF files in full depth. Sizes come from the headers, before anything is decoded."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from xai_engine.errors import UnreadableImage
from xai_engine.radiograph.luminance import luminance
from xai_engine.radiograph.luts import smallest
from xai_engine.radiograph.pixels import check_size, codestream_size
from xai_engine.radiograph.quiet import quiet_c_library
from xai_engine.radiograph.types import Radiograph, StudyInfo, Voi, Window

_DAMAGED = "the picture is damaged or cut short; fetch the file again"
_TURN = {  # EXIF orientation (JEITA CP-3451, tag 0x0112): how to turn the stored array upright
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a.swapaxes(0, 1)[:, ::-1],
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a.swapaxes(0, 1)[::-1],
}


def _finish(
    array: npt.NDArray[Any],
    path: Path,
    sha256: str,
    file_format: str,
    compression: str,
    *,
    bits: int | None = None,
    inverted: bool = False,
    orientation: int = 1,
    pages: int = 1,
    notices: tuple[str, ...] = (),
) -> Radiograph:
    """Make a Radiograph of (rows, columns[, channels]) pixels: grey, grey+alpha, RGB or RGBA."""
    said = list(notices)
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype == np.bool_:
        array = array.astype(np.uint8)
    array = _TURN[orientation](array) if orientation in _TURN else array
    if orientation in _TURN:
        said.append("Turned upright as its EXIF orientation says.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    alpha = array[..., -1] if array.ndim == 3 and array.shape[2] in (2, 4) else None
    colour = array.ndim == 3 and array.shape[2] >= 3
    floating = np.issubdtype(array.dtype, np.floating)
    if floating and not np.isfinite(array).all():
        raise UnreadableImage("its pixels hold NaN or infinite values; export it again without them")
    if colour:
        grey = luminance(array[..., :3])
        is_grey = bool((array[..., 0] == array[..., 1]).all() and (array[..., 0] == array[..., 2]).all())
        if not is_grey:
            said.append("Colour (RGB) was converted to luminance (Rec. 601).")
    else:
        grey = array[..., 0] if array.ndim == 3 else array
    padding = None
    if alpha is not None and not floating:
        full = np.iinfo(array.dtype).max
        clear = alpha == 0
        if clear.any() and not clear.all():
            padding = np.ascontiguousarray(clear)
            padding.setflags(write=False)
        if ((alpha > 0) & (alpha < full)).any():
            said.append("Partial transparency was ignored.")
    if floating:
        with np.errstate(over="ignore"):
            grey = grey.astype(np.float32)
        if not np.isfinite(grey).all():
            raise UnreadableImage("its pixel values are too large to be shown; export it again with 16 bits")
    elif grey.dtype.itemsize > 2 or (
        grey.dtype.itemsize == 1 and np.issubdtype(grey.dtype, np.signedinteger)
    ):
        grey = smallest(grey)
        if grey.dtype.itemsize > 4:
            grey = grey.astype(np.float32)
    if bits is None:
        bits = 8 * grey.dtype.itemsize
    # Eight-bit and colour pictures are ready for display: shown as they are, as every viewer does.
    voi: tuple[Voi, ...] = ()
    if grey.dtype == np.uint8 or (colour and grey.dtype == np.uint16):
        depth = 8 * grey.dtype.itemsize if bits >= 8 else bits
        voi = (Window(2.0 ** (depth - 1), 2.0**depth, "LINEAR", "as stored"),)
    if pages > 1:
        said.append(f"The file holds {pages} pages; this is the first.")
    pixels = np.ascontiguousarray(grey)
    pixels.setflags(write=False)
    return Radiograph(
        path=path,
        sha256=sha256,
        file_format=file_format,
        pixels=pixels,
        photometric="MONOCHROME1" if inverted and not colour else "MONOCHROME2",
        source_photometric="RGB" if colour else "MONOCHROME1" if inverted else "MONOCHROME2",
        bits_stored=bits,
        modality="",
        unit="",
        voi=voi,
        padding=padding,
        spacing=None,  # resolution tags of pictures speak of paper or of nothing
        orientation=("", ""),
        frames=pages,
        transfer_syntax=compression,
        study=StudyInfo(),
        tags=(),
        notices=tuple(said),
    )


def _pillow(f: BinaryIO, header_only: bool = False) -> tuple[npt.NDArray[Any], int]:
    """(array, EXIF orientation). Palettes and CMYK become RGB."""
    from PIL import Image

    f.seek(0)
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None  # the size has been checked against our own limit
    try:
        with Image.open(f, formats=("PNG", "JPEG", "TIFF")) as image:
            orientation = int(image.getexif().get(0x0112, 1) or 1)
            if header_only:
                return np.empty(0), orientation
            image.load()
            if image.mode in ("P", "PA"):
                transparent = "transparency" in image.info or image.mode == "PA"
                return np.asarray(image.convert("RGBA" if transparent else "RGB")), orientation
            if image.mode in ("CMYK", "YCbCr", "LAB", "HSV", "RGBX", "RGBa", "La"):
                return np.asarray(image.convert("RGB")), orientation
            if image.mode == "1":
                return np.asarray(image.convert("L")), orientation
            return np.asarray(image), orientation
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _opencv(f: BinaryIO) -> npt.NDArray[Any]:
    """Pictures of 16 bits in colour, which Pillow would cut to 8. Channels as RGB(A)."""
    import cv2

    f.seek(0)
    with quiet_c_library():
        array = cv2.imdecode(np.frombuffer(f.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise UnreadableImage(_DAMAGED)
    if array.ndim == 3 and array.shape[2] in (3, 4):
        array = array[..., [2, 1, 0, *range(3, array.shape[2])]]
    return array


def _png_is_whole(f: BinaryIO) -> bool:
    """True when the chunks end in IEND: OpenCV fills a cut picture with black and says nothing."""
    end = f.seek(0, 2)
    at = 8
    while at + 12 <= end:
        f.seek(at)
        length, kind = struct.unpack(">I4s", f.read(8))
        if kind == b"IEND":
            return True
        at += 12 + length
    return False


def read_png(f: BinaryIO, path: Path, sha256: str, max_pixels: int) -> Radiograph:
    f.seek(0)
    head = f.read(33)
    if len(head) < 33 or head[12:16] != b"IHDR":
        raise UnreadableImage(_DAMAGED)
    columns, rows, depth, kind = struct.unpack(">IIBB", head[16:26])
    check_size(rows, columns, max_pixels)
    if not _png_is_whole(f):
        raise UnreadableImage(_DAMAGED)
    orientation = 1
    try:
        if depth == 16 and kind != 0:
            array = _opencv(f)
            orientation = _pillow(f, header_only=True)[1]
        else:
            array, orientation = _pillow(f)
    except (MemoryError, UnreadableImage):
        raise
    except Exception as error:
        raise UnreadableImage(_DAMAGED) from error
    return _finish(array, path, sha256, "PNG", "deflate", orientation=orientation)


def read_jpeg(f: BinaryIO, path: Path, sha256: str, max_pixels: int) -> Radiograph:
    f.seek(0)
    stated = codestream_size(f.read(1 << 22))
    if stated is None:
        raise UnreadableImage(_DAMAGED)
    rows, columns, bits = stated
    check_size(rows, columns, max_pixels)
    if bits != 8:
        raise UnreadableImage(f"JPEG files of {bits} bits are not supported; save it as PNG, TIFF or DICOM")
    try:
        array, orientation = _pillow(f)
    except MemoryError:
        raise
    except Exception as error:
        raise UnreadableImage(_DAMAGED) from error
    return _finish(array, path, sha256, "JPEG", "JPEG", orientation=orientation)


def _tiff_palette(page: Any, indices: npt.NDArray[Any]) -> npt.NDArray[Any]:
    table = np.asarray(page.colormap, np.uint16)  # (3, 2**bits)
    if (table[:, : 1 << page.bitspersample] & 0xFF == table[:, : 1 << page.bitspersample] >> 8).all():
        table = (table >> 8).astype(np.uint8)
    return np.moveaxis(table, 0, -1)[indices]


def _through_libtiff(f: BinaryIO, page: Any) -> npt.NDArray[Any]:
    """LZW, JPEG, fax and other compressions that tifffile alone lacks. Grey values come as stored, never inverted."""
    f.seek(0)
    data = bytearray(f.read())
    tag = page.tags["PhotometricInterpretation"]
    if page.photometric.name == "MINISWHITE" and tag.dtype == 3:
        # Libraries differ in what they invert when small values are white: call it MINISBLACK, invert once, later.
        data[tag.valueoffset : tag.valueoffset + 2] = (1).to_bytes(
            2, "little" if page.parent.byteorder == "<" else "big"
        )
    copy = io.BytesIO(data)
    if page.samplesperpixel >= 3 and page.bitspersample == 16:
        return _opencv(copy)
    return _pillow(copy)[0]


def _tiff_pixels(f: BinaryIO, page: Any, size: int) -> npt.NDArray[Any]:
    """(rows, columns[, channels]) of one page, values as stored."""
    if any(start + count > size for start, count in zip(page.dataoffsets, page.databytecounts, strict=False)):
        raise UnreadableImage(_DAMAGED)
    if page.photometric.name not in ("MINISBLACK", "MINISWHITE", "RGB", "PALETTE"):
        return _through_libtiff(f, page)
    try:
        array = page.asarray()
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        return _through_libtiff(f, page)
    if page.photometric.name == "PALETTE":
        return _tiff_palette(page, array)
    if page.planarconfig == 2 and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    return array


def read_tiff(f: BinaryIO, path: Path, sha256: str, max_pixels: int) -> Radiograph:
    import tifffile

    size = f.seek(0, 2)
    f.seek(0)
    try:
        with tifffile.TiffFile(f) as file:
            page: Any = file.pages[0]
            pages = len(file.pages)
            check_size(int(page.imagelength), int(page.imagewidth), max_pixels)
            if page.imagedepth > 1 or not 1 <= page.samplesperpixel <= 4:
                raise UnreadableImage(
                    "volumes and many-channel TIFF files are not supported; save one grey image"
                )
            if page.dtype is None or page.dtype.kind not in "buif":
                raise UnreadableImage("its pixel type is not supported; save it as 8 or 16 bit grey")
            orientation = int(page.tags["Orientation"].value) if "Orientation" in page.tags else 1
            bits = (
                int(page.bitspersample)
                if page.samplesperpixel == 1 and page.photometric.name != "PALETTE"
                else None
            )
            array = _tiff_pixels(f, page, size)
            inverted = page.photometric.name == "MINISWHITE"
            compression = str(getattr(page.compression, "name", page.compression)).lower()
    except (MemoryError, UnreadableImage):
        raise
    except Exception as error:
        raise UnreadableImage(_DAMAGED) from error
    if bits == 1 and array.dtype == np.uint8 and array.max() > 1:
        bits = None  # Pillow has spread black and white to 0 and 255
    return _finish(
        array,
        path,
        sha256,
        "TIFF",
        compression,
        bits=bits,
        inverted=inverted,
        orientation=orientation,
        pages=pages,
    )
