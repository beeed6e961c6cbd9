"""Reads any radiograph file: DICOM, PNG, JPEG, TIFF, told apart by content and never by name."""

from __future__ import annotations

import hashlib
import os
import stat
from io import BufferedReader
from pathlib import Path

from xai_engine.errors import UnreadableImage
from xai_engine.radiograph.quiet import quiet_libraries
from xai_engine.radiograph.types import Radiograph

_OTHER_FORMATS = {
    b"%PDF": "a PDF document", b"GIF8": "a GIF picture", b"BM": "a BMP picture", b"PK\x03\x04": "a ZIP archive",
    b"\x1f\x8b": "a gzip archive", b"\x00\x00\x00\x0cjP": "a JPEG 2000 picture", b"RIFF": "a RIFF file (WebP, video)",
}  # fmt: skip


def _open(path: Path) -> BufferedReader:
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableImage("it is a folder; name an image file in it")
        if not stat.S_ISREG(mode):
            raise UnreadableImage("it is not a regular file; name an image file")
        return open(path, "rb")
    except FileNotFoundError as error:
        raise UnreadableImage("no such file; check the name") from error
    except PermissionError as error:
        raise UnreadableImage("no permission to read it; ask for access or copy it") from error
    except (OSError, ValueError) as error:
        raise UnreadableImage("it cannot be opened; check the name and the disk") from error


def _read(f: BufferedReader, path: Path, max_pixels: int) -> Radiograph:
    from xai_engine.radiograph.dicom import looks_like_dicom, read_dicom
    from xai_engine.radiograph.picture_files import read_jpeg, read_png, read_tiff

    head = f.read(132)
    if not head:
        raise UnreadableImage("the file is empty; fetch it again")
    f.seek(0)
    sha256 = hashlib.file_digest(f, "sha256").hexdigest()
    f.seek(0)
    # DICOM first: its preamble may hold a TIFF header.
    if head[128:132] == b"DICM":
        return read_dicom(f, path, sha256, max_pixels)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(f, path, sha256, max_pixels)
    if head.startswith(b"\xff\xd8\xff"):
        return read_jpeg(f, path, sha256, max_pixels)
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return read_tiff(f, path, sha256, max_pixels)
    if looks_like_dicom(head):
        return read_dicom(f, path, sha256, max_pixels)
    for signature, name in _OTHER_FORMATS.items():
        if head.startswith(signature):
            raise UnreadableImage(f"it is {name}; save it as DICOM, PNG, JPEG or TIFF")
    raise UnreadableImage("it is neither DICOM nor a picture; choose a DICOM, PNG, JPEG or TIFF file")


def read(path: str | os.PathLike[str], *, max_pixels: int = 400_000_000) -> Radiograph:
    """Read an image file in full depth.

    path: any file; the first frame or page is read. max_pixels: rows × columns above which it is refused from its
    header. Raises UnreadableImage, and nothing else, with one line that names the file and holds no patient data.
    """
    path = Path(path)
    try:
        with quiet_libraries(), _open(path) as f:
            return _read(f, path, max_pixels)
    except UnreadableImage as error:
        raise UnreadableImage(f"{path}: {error}") from error.__cause__
    except MemoryError as error:
        raise UnreadableImage(f"{path}: not enough memory for this image; close other programs") from error
    except RecursionError as error:
        raise UnreadableImage(f"{path}: its data are nested too deep; the file is damaged") from error
    except NotImplementedError as error:
        sentence = "its compression is not supported; export it uncompressed, as JPEG or as JPEG 2000"
        raise UnreadableImage(f"{path}: {sentence}") from error
    except Exception as error:  # decoders raise anything on damaged data; their messages may quote the data
        raise UnreadableImage(
            f"{path}: the file is damaged or not supported; fetch or export it again"
        ) from error
