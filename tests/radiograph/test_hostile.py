"""Bad input: one clear line of UnreadableImage, without patient data, without anything on standard error."""

from __future__ import annotations

import functools
import io
import logging
import os
import struct
import tracemalloc
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom import uid

from tests.radiograph.dicom_files import dataset, save
from xai_engine.errors import UnreadableImage
from xai_engine.radiograph import read

PIXELS = np.random.default_rng(31).integers(0, 4096, (24, 20)).astype("u2")


def refused(path: Path, capfd: pytest.CaptureFixture[str] | None = None, **options: Any) -> str:
    """The message of the refusal, checked to be one line that names the file and no patient."""
    with pytest.raises(UnreadableImage) as caught:
        read.read(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert "secret" not in message.lower().replace(str(path).lower(), "")
    assert caught.value.exit_code == 3
    if capfd is not None:
        assert capfd.readouterr() == ("", "")
    return message.removeprefix(f"{path}: ")


NOT_IMAGES = {
    "empty": b"", "text": b"This is a text file, not an image.\n" * 20, "one byte": b"D", "zeros": bytes(4096),
    "html": b"<!DOCTYPE html><html></html>", "pdf": b"%PDF-1.7 \n" * 20, "gif": b"GIF89a" + bytes(200),
    "only a preamble": bytes(128) + b"DICM", "png signature": b"\x89PNG\r\n\x1a\n", "jpeg signature": b"\xff\xd8\xff\xe0",
    "tiff signature": b"II*\0", "tiff to nowhere": b"II*\0\xff\xff\xff\x7f", "group 8": b"\x08\x00" + bytes(1000),
    "group 2": b"\x02\x00\x00\x00UL\x04\x00\xff\xff\xff\xff" + b"\xff" * 100,
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_IMAGES)
def test_not_an_image(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(NOT_IMAGES[name])
    refused(path, capfd)


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "missing.dcm")
    assert "folder" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "a" / "b")
    (tmp_path / "file").write_bytes(b"x")
    refused(tmp_path / "file" / "below")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert "not a regular file" in refused(tmp_path / "pipe")
    with pytest.raises(UnreadableImage):
        read.read("nul\0byte")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = save(dataset(PIXELS), tmp_path / "p.dcm")
    path.chmod(0)
    assert "no permission" in refused(path)


def test_permission_error_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(dataset(PIXELS), tmp_path / "p.dcm")

    def deny(*_: Any) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr("builtins.open", deny)
    assert "no permission" in refused(path)


OBJECTS = [
    ("RTPLAN", "1.2.840.10008.5.1.4.1.1.481.5", "plan"), ("SR", "1.2.840.10008.5.1.4.1.1.88.11", "report"),
    ("PR", "1.2.840.10008.5.1.4.1.1.11.1", "presentation state"), ("DOC", "1.2.840.10008.5.1.4.1.1.104.1", "PDF"),
    ("", "1.2.840.10008.1.3.10", "DICOMDIR"), ("ECG", "1.2.840.10008.5.1.4.1.1.9.1.1", "waveform"),
    ("CR", "1.2.840.10008.5.1.4.1.1.1", "no pixel data"),
]  # fmt: skip


@pytest.mark.parametrize(("modality", "sop_class", "word"), OBJECTS)
def test_objects_without_pixels(modality: str, sop_class: str, word: str, tmp_path: Path) -> None:
    d = dataset(PIXELS, Modality=modality, SOPClassUID=sop_class)
    del d.PixelData
    assert word in refused(save(d, tmp_path / "o.dcm"))


@pytest.mark.parametrize(
    ("rows", "columns"), [(65535, 65535), (30000, 30000), (1, 1), (0, 100), (46341, 46341)]
)
def test_sizes_are_judged_by_the_header(rows: int, columns: int, tmp_path: Path) -> None:
    d = dataset(PIXELS)
    d.Rows, d.Columns = rows, columns
    path = save(d, tmp_path / "s.dcm")
    tracemalloc.start()
    message = refused(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert f"{rows} × {columns}" in message
    assert peak < 20e6


def _png_claims(rows: int, columns: int) -> bytes:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 16, 0, 0, 0, 0))
    data = zlib.compress(bytes(min(rows * (2 * columns + 1), 1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_memory_bombs_in_pictures(tmp_path: Path) -> None:
    path = tmp_path / "x"
    tracemalloc.start()
    path.write_bytes(_png_claims(30000, 30000))
    assert "30000 × 30000" in refused(path)
    path.write_bytes(_png_claims(1, 1))
    assert "1 × 1 pixels" in refused(path)
    out = io.BytesIO()
    Image.fromarray(np.zeros((8, 8), "u1")).save(out, "JPEG")
    jpeg = bytearray(out.getvalue())
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65000, 65000)
    path.write_bytes(jpeg)
    assert "65000 × 65000" in refused(path)
    tifffile.imwrite(path, PIXELS, photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages[0].tags["ImageLength"].overwrite(60000)
        file.pages[0].tags["ImageWidth"].overwrite(60000)
    assert "60000 × 60000" in refused(path)
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()


def test_max_pixels_is_the_callers(tmp_path: Path) -> None:
    path = save(dataset(PIXELS), tmp_path / "s.dcm")
    assert read.read(path, max_pixels=PIXELS.size).pixels.shape == PIXELS.shape
    assert "above the limit of 479" in refused(path, max_pixels=PIXELS.size - 1)


def test_a_deflated_bomb_is_stopped(tmp_path: Path) -> None:
    path = save(dataset(PIXELS), tmp_path / "z.dcm", uid.DeflatedExplicitVRLittleEndian)
    whole = path.read_bytes()
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = deflater.compress(bytes(200 << 20)) + deflater.flush()
    path.write_bytes(whole[:start] + bomb)
    assert "inflates beyond" in refused(path, max_pixels=1_000_000)
    path.write_bytes(whole[:-10])
    refused(path)


def test_truncated_pixel_data(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for syntax in (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian):
        d = dataset(PIXELS, big_endian=syntax == uid.ExplicitVRBigEndian)
        path = save(d, tmp_path / "t.dcm", syntax)
        path.write_bytes(path.read_bytes()[:-100])
        assert "cut short" in refused(path, capfd)


@pytest.mark.parametrize(
    "syntax", [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless], ids=["rle", "jls", "j2k"]
)
def test_truncated_compressed_pixel_data(
    syntax: uid.UID, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import pydicom

    pixels = np.random.default_rng(1).integers(0, 4096, (64, 64)).astype("u2")
    path = save(dataset(pixels), tmp_path / "t.dcm")
    d = pydicom.dcmread(path)
    d.compress(syntax)
    d.save_as(path)
    whole = path.read_bytes()
    for cut in (20, len(whole) // 3, len(whole) // 2):
        path.write_bytes(whole[:-cut])
        refused(path, capfd)


def test_truncated_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (90, 80, 3)).astype("u1")
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    Image.fromarray(pixels).save(tmp_path / "b.tif", compression="tiff_lzw")
    tifffile.imwrite(tmp_path / "c.tif", pixels, compression="zlib")
    import cv2

    cv2.imwrite(str(tmp_path / "d.png"), pixels.astype("u2") * 257)
    for name in ("a.png", "a.jpg", "a.tif", "b.tif", "c.tif", "d.png"):
        path = tmp_path / name
        whole = path.read_bytes()
        for part in (0.1, 0.5, 0.9):
            path.write_bytes(whole[: int(len(whole) * part)])
            refused(path, capfd)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_in_float_pixel_data(bad: float, tmp_path: Path) -> None:
    pixels = np.ones((4, 5), "f4")
    pixels[1, 1] = bad
    assert "NaN or infinite" in refused(save(dataset(pixels), tmp_path / "f.dcm"))


def test_unsupported_syntaxes_are_named_as_such(tmp_path: Path) -> None:
    d = dataset(PIXELS.astype("u1"))
    from pydicom.encaps import encapsulate

    d.PixelData = encapsulate([b"\0" * 100])
    d["PixelData"].is_undefined_length = True
    assert "video" in refused(save(d, tmp_path / "v.dcm", uid.MPEG2MPML))
    assert "damaged" in refused(save(d, tmp_path / "v.dcm", uid.JPEG2000))
    whole = save(d, tmp_path / "v.dcm", uid.MPEG2MPML).read_bytes()
    (tmp_path / "v.dcm").write_bytes(whole.replace(b"1.2.840.10008.1.2.4.100\0", b"1.2.840.113619.5.2.99999"))
    assert "private" in refused(tmp_path / "v.dcm")


def test_deep_nesting(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    inner = b""
    for _ in range(5000):
        item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + inner + b"\xfe\xff\x0d\xe0\0\0\0\0"
        inner = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0"
        if len(inner) > 300_000:
            break
    head = save(dataset(PIXELS), tmp_path / "h.dcm")
    whole = head.read_bytes()
    start = 144 + struct.unpack("<I", whole[140:144])[0]
    head.write_bytes(whole[:start] + inner)
    refused(head, capfd)


def test_every_exception_becomes_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever pydicom or a decoder raises, its text (which may quote the file) stays out of the message."""
    path = save(dataset(PIXELS), tmp_path / "e.dcm")
    for kind in (ValueError, TypeError, AttributeError, KeyError, RecursionError, MemoryError, NotImplementedError,
                 OSError, RuntimeError, struct.error, OverflowError, AssertionError, EOFError):  # fmt: skip

        def fail(*_: Any, kind: type[Exception] = kind, **__: Any) -> None:
            raise kind("Secret^Person")

        monkeypatch.setattr("xai_engine.radiograph.dicom.read_stored", fail)
        refused(path)


def test_library_warnings_stay_inside(tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: Any) -> None:
    """pydicom quotes values in its warnings: neither standard error nor a log may see them."""
    d = dataset(PIXELS)
    path = save(d, tmp_path / "w.dcm")
    data = path.read_bytes().replace(b"SECRET-1", b"SECRET-\\")
    data = data.replace(b"1.2.3.4\0", b"Secret.\0")  # an invalid UID
    path.write_bytes(data)
    with warnings.catch_warnings(record=True) as caught, caplog.at_level(logging.DEBUG):
        warnings.simplefilter("always")
        read.read(path)
    assert not caught
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_real_files_that_are_no_images(shared_data: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = shared_data / "dicom"
    good = {"corrupt/pydicom_bad_sequence.dcm", "corrupt/pylibjpeg_JPEGLossless_bad.dcm",
            "corrupt/fodicom_GH1339_missing_tags.dcm"}  # fmt: skip
    for path in sorted([*folder.glob("nonimage/*"), *folder.glob("corrupt/*")]):
        if path.relative_to(folder).as_posix() in good:
            read.read(path)
        else:
            refused(path)
    assert capfd.readouterr() == ("", "")


@functools.cache
def _originals() -> dict[str, bytes]:
    import tempfile

    import pydicom

    found: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        for syntax in (
            uid.ImplicitVRLittleEndian,
            uid.ExplicitVRLittleEndian,
            uid.DeflatedExplicitVRLittleEndian,
        ):
            d = dataset(
                PIXELS, WindowCenter=2000, WindowWidth=100, PixelPaddingValue=3, PixelSpacing=[0.1, 0.1]
            )
            found[syntax.name] = save(d, base / "f", syntax).read_bytes()
        for syntax in (uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless):
            d = pydicom.dcmread(save(dataset(np.tile(PIXELS, (3, 3))), base / "f"))
            d.compress(syntax)
            d.save_as(base / "f")
            found[syntax.name] = (base / "f").read_bytes()
        Image.fromarray(PIXELS).save(base / "f", "PNG")
        found["PNG"] = (base / "f").read_bytes()
        Image.fromarray((PIXELS >> 4).astype("u1")).save(base / "f", "JPEG")
        found["JPEG"] = (base / "f").read_bytes()
        tifffile.imwrite(base / "f", PIXELS, compression="zlib")
        found["TIFF"] = (base / "f").read_bytes()
    return found


@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_random_damage_never_raises_anything_else(data: st.DataObject, tmp_path: Path) -> None:
    originals = _originals()
    content = bytearray(originals[data.draw(st.sampled_from(sorted(originals)))])
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, min(len(content), 1200) - 1) | st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(1, len(content))) :]
    path = tmp_path / "f"
    path.write_bytes(content)
    message = ""
    try:
        r = read.read(path, max_pixels=10_000_000)
    except UnreadableImage as error:
        message = str(error)
    else:
        assert r.pixels.ndim == 2
        assert np.isfinite(r.pixels).all()
    assert "\n" not in message


def test_threads_that_read_at_once_leave_standard_error_and_logs_alone(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import pydicom

    d = pydicom.dcmread(save(dataset(np.tile(PIXELS, (3, 3))), tmp_path / "t.dcm"))
    d.compress(uid.JPEGLSLossless)
    d.save_as(tmp_path / "t.dcm")
    level, filters = logging.getLogger("pydicom").level, list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: read.read(tmp_path / "t.dcm").pixels, range(60)))
    assert all(np.array_equal(result, results[0]) for result in results)
    os.write(2, b"still heard")
    assert capfd.readouterr().err == "still heard"
    assert logging.getLogger("pydicom").level == level
    assert list(warnings.filters) == filters
