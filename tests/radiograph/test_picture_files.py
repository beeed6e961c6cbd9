"""PNG, JPEG and TIFF: every depth and colour model, orientation, alpha. Truth is what the test wrote."""

from __future__ import annotations

import hashlib
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from xai_engine.errors import UnreadableImage
from xai_engine.radiograph import display, read

RNG = np.random.default_rng(21)
GREY8 = RNG.integers(0, 256, (17, 23)).astype("u1")
GREY16 = RNG.integers(0, 65536, (17, 23)).astype("u2")
RGB8 = RNG.integers(0, 256, (17, 23, 3)).astype("u1")
RGB16 = RNG.integers(0, 65536, (17, 23, 3)).astype("u2")
WEIGHTS = np.array([0.299, 0.587, 0.114])


def luma(rgb: np.ndarray) -> np.ndarray:
    return np.floor(rgb[..., :3] @ WEIGHTS + 0.5)


def png(pixels: np.ndarray, path: Path, chunks: bytes = b"") -> Path:
    """A PNG written here, independent of the libraries that read it (W3C PNG, filter 0)."""
    channels = pixels.shape[2] if pixels.ndim == 3 else 1
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows, columns = pixels.shape[:2]
    data = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8).reshape(rows, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in data)

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", columns, rows, 8 * pixels.dtype.itemsize, kind, 0, 0, 0)
    content = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunks
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pixels", [GREY8, GREY16], ids=["8", "16"])
def test_png_grey(pixels: np.ndarray, tmp_path: Path) -> None:
    path = png(pixels, tmp_path / "no-suffix")
    r = read.read(path)
    assert np.array_equal(r.pixels, pixels)
    assert (r.pixels.dtype, r.file_format, r.photometric) == (pixels.dtype, "PNG", "MONOCHROME2")
    assert r.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("pixels", [RGB8, RGB16], ids=["8", "16"])
def test_png_colour_keeps_its_depth(pixels: np.ndarray, tmp_path: Path) -> None:
    r = read.read(png(pixels, tmp_path / "c.png"))
    assert r.pixels.dtype == pixels.dtype
    assert np.array_equal(r.pixels, luma(pixels))


@pytest.mark.parametrize("pixels", [GREY8, GREY16, RGB8, RGB16], ids=["grey-8", "grey-16", "rgb-8", "rgb-16"])
def test_transparent_pixels_are_padding(pixels: np.ndarray, tmp_path: Path) -> None:
    alpha = np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)
    alpha[:5] = 0
    r = read.read(png(np.dstack([pixels, alpha]), tmp_path / "a.png"))
    assert r.padding is not None
    assert np.array_equal(r.padding, alpha == 0)
    expected = luma(pixels) if pixels.ndim == 3 else pixels
    assert np.array_equal(r.pixels[5:], expected[5:])
    assert (
        read.read(png(np.dstack([pixels, np.full_like(alpha, alpha.max())]), tmp_path / "b.png")).padding
        is None
    )


def test_png_palette_and_bits(tmp_path: Path) -> None:
    image = Image.fromarray(GREY8 % 4, "P")
    image.putpalette([10, 20, 30, 200, 100, 50, 0, 0, 0, 255, 255, 255])
    image.save(tmp_path / "p.png")
    colours = np.array([[10, 20, 30], [200, 100, 50], [0, 0, 0], [255, 255, 255]])
    assert np.array_equal(read.read(tmp_path / "p.png").pixels, luma(colours[GREY8 % 4]))
    Image.fromarray(GREY8 > 128).save(tmp_path / "b.png")
    assert np.array_equal(read.read(tmp_path / "b.png").pixels, (GREY8 > 128) * 255)


def test_eight_bit_pictures_are_shown_as_stored(tmp_path: Path) -> None:
    r = read.read(png(GREY8 // 3 + 20, tmp_path / "s.png"))
    assert np.array_equal(display.picture(r, display.select(r, "default")), GREY8 // 3 + 20)


def test_jpeg(tmp_path: Path) -> None:
    smooth = np.add.outer(np.arange(40) * 3, np.arange(50)).astype("u1")
    Image.fromarray(smooth).save(tmp_path / "g.jpg", quality=95)
    with Image.open(tmp_path / "g.jpg") as image:
        assert np.array_equal(read.read(tmp_path / "g.jpg").pixels, np.asarray(image))
    Image.fromarray(np.dstack([smooth, smooth // 2, smooth // 3])).save(tmp_path / "c.jpg", quality=95)
    with Image.open(tmp_path / "c.jpg") as image:
        assert np.array_equal(read.read(tmp_path / "c.jpg").pixels, luma(np.asarray(image)))
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "k.jpg", quality=95)
    assert np.abs(read.read(tmp_path / "k.jpg").pixels.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_exif_orientation(orientation: int, suffix: str, tmp_path: Path) -> None:
    from PIL import ImageOps

    stored = np.kron(np.array([[20, 90, 160], [230, 60, 120]], "u1"), np.ones((16, 16), "u1"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"o.{suffix}"
    Image.fromarray(stored).save(path, exif=exif)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read.read(path).pixels, upright)


TIFFS: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "grey-8": (GREY8, {}),
    "grey-16": (GREY16, {}),
    "big-endian": (GREY16, {"byteorder": ">"}),
    "bigtiff": (GREY16, {"bigtiff": True}),
    "signed": ((GREY16 // 4).astype("i2") - 5000, {}),
    "float": ((GREY16 / 7).astype("f4"), {}),
    "deflate": (GREY16, {"compression": "zlib", "predictor": False}),
    "tiled": (np.tile(GREY16, (3, 3)), {"tile": (32, 32)}),
}


@pytest.mark.parametrize("name", TIFFS)
@pytest.mark.parametrize("white", [False, True], ids=["minisblack", "miniswhite"])
def test_tiff_grey(name: str, white: bool, tmp_path: Path) -> None:
    pixels, options = TIFFS[name]
    tifffile.imwrite(tmp_path / "t", pixels, photometric="miniswhite" if white else "minisblack", **options)
    r = read.read(tmp_path / "t")
    assert np.array_equal(r.pixels, pixels)
    assert r.inverted is white
    assert r.pixels.dtype.isnative


@pytest.mark.parametrize(
    "pixels", [GREY8, GREY16, (GREY16 / 7).astype("f4"), RGB8], ids=["8", "16", "float", "rgb"]
)
def test_tiff_lzw(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "t.tif", compression="tiff_lzw")
    assert np.array_equal(read.read(tmp_path / "t.tif").pixels, luma(pixels) if pixels.ndim == 3 else pixels)


@pytest.mark.parametrize("pixels", [GREY8, GREY16], ids=["8", "16"])
def test_tiff_lzw_with_white_as_zero_is_inverted_once(pixels: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(pixels).save(tmp_path / "t.tif", compression="tiff_lzw")
    with tifffile.TiffFile(tmp_path / "t.tif", mode="r+") as file:
        file.pages[0].tags["PhotometricInterpretation"].overwrite(0)
    r = read.read(tmp_path / "t.tif")
    assert np.array_equal(r.pixels, pixels)
    assert r.inverted


def test_tiff_lzw_colour_of_16_bits(tmp_path: Path) -> None:
    import cv2

    assert cv2.imwrite(str(tmp_path / "t.tif"), RGB16[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])
    assert np.array_equal(read.read(tmp_path / "t.tif").pixels, luma(RGB16))


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_tiff_colour(planar: str, tmp_path: Path) -> None:
    data = RGB16 if planar == "contig" else np.moveaxis(RGB16, -1, 0)
    tifffile.imwrite(tmp_path / "t.tif", data, photometric="rgb", planarconfig=planar)
    assert np.array_equal(read.read(tmp_path / "t.tif").pixels, luma(RGB16))


def test_tiff_palette_pages_and_orientation(tmp_path: Path) -> None:
    table = RNG.integers(0, 256, (3, 256)).astype("u2") * 257
    tifffile.imwrite(tmp_path / "p.tif", GREY8, photometric="palette", colormap=table)
    assert np.array_equal(read.read(tmp_path / "p.tif").pixels, luma(np.moveaxis(table >> 8, 0, -1)[GREY8]))
    tifffile.imwrite(tmp_path / "m.tif", np.stack([GREY16, GREY16[::-1]]), photometric="minisblack")
    r = read.read(tmp_path / "m.tif")
    assert np.array_equal(r.pixels, GREY16)
    assert r.frames == 2
    assert any("2 pages" in notice for notice in r.notices)
    tifffile.imwrite(tmp_path / "o.tif", GREY16, extratags=[(274, "H", 1, 6, True)])
    assert np.array_equal(read.read(tmp_path / "o.tif").pixels, np.rot90(GREY16, -1))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_in_floats(bad: float, tmp_path: Path) -> None:
    pixels = np.ones((5, 6), "f4")
    pixels[2, 3] = bad
    tifffile.imwrite(tmp_path / "n.tif", pixels)
    with pytest.raises(UnreadableImage, match="NaN or infinite"):
        read.read(tmp_path / "n.tif")
