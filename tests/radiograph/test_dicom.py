"""Reading DICOM: syntaxes, depths, signs, tables, padding, windows, names. Truth is what the test wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate

from tests.radiograph.dicom_files import dataset, lut, save
from xai_engine.radiograph import read
from xai_engine.radiograph.types import VoiLut, Window

RNG = np.random.default_rng(11)
UNCOMPRESSED = [
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
    uid.DeflatedExplicitVRLittleEndian,
]


@st.composite
def images(draw: Any) -> tuple[np.ndarray, int]:
    """Pixels and bits stored: any depth from 1 to 16, unsigned or signed."""
    bits = draw(st.integers(1, 16))
    signed = draw(st.booleans()) and bits > 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    kind = np.dtype(("i" if signed else "u") + ("1" if bits <= 8 and draw(st.booleans()) else "2"))
    if bits > 8 * kind.itemsize:
        kind = np.dtype(kind.kind + "2")
    shape = draw(st.tuples(st.integers(1, 9), st.integers(2, 9)))
    return draw(arrays.arrays(kind, shape, elements=st.integers(low, high))), bits


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(images())
@pytest.mark.parametrize("syntax", UNCOMPRESSED, ids=["implicit", "explicit", "big-endian", "deflated"])
def test_round_trip(syntax: uid.UID, tmp_path: Path, image: tuple[np.ndarray, int]) -> None:
    pixels, bits = image
    d = dataset(pixels, big_endian=syntax == uid.ExplicitVRBigEndian, BitsStored=bits, HighBit=bits - 1)
    if pixels.dtype.itemsize == 1:
        d["PixelData"].VR = "OB"
    r = read.read(save(d, tmp_path / "i.dcm", syntax))
    assert np.array_equal(r.pixels, pixels)
    assert r.pixels.dtype.isnative
    assert not r.pixels.flags.writeable
    assert (r.bits_stored, r.transfer_syntax, r.frames) == (bits, syntax.name, 1)


@pytest.mark.parametrize("dtype", ["f4", "f8", "u4", "i4"])
def test_wide_pixels(dtype: str, tmp_path: Path) -> None:
    pixels = (RNG.random((6, 7)) * 1e6 - 5e5 * (dtype[0] != "u")).astype(dtype)
    r = read.read(save(dataset(pixels), tmp_path / "w.dcm"))
    assert np.allclose(r.pixels, pixels, rtol=1e-6)
    assert r.pixels.dtype == {"f4": np.float32, "f8": np.float32, "u4": np.uint32, "i4": np.int32}[dtype]


def test_unused_and_overlay_bits_are_not_part_of_the_value(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 4096, (8, 8)).astype("u2")
    junk = pixels | np.uint16(0xA000)
    assert np.array_equal(
        read.read(save(dataset(junk, BitsStored=12, HighBit=11), tmp_path / "a")).pixels, pixels
    )
    shifted = (pixels << 4) | np.uint16(0x5)
    assert np.array_equal(
        read.read(save(dataset(shifted, BitsStored=12, HighBit=15), tmp_path / "b")).pixels, pixels
    )


COMPRESSED = [uid.RLELossless, uid.JPEGLSLossless, uid.JPEG2000Lossless]


@pytest.mark.parametrize("syntax", COMPRESSED, ids=["rle", "jpeg-ls", "jpeg-2000"])
@pytest.mark.parametrize(("dtype", "bits"), [("u1", 8), ("u2", 12), ("u2", 16), ("i2", 16)])
def test_compressed_without_loss(syntax: uid.UID, dtype: str, bits: int, tmp_path: Path) -> None:
    low = -(2 ** (bits - 1)) if dtype[0] == "i" else 0
    pixels = (np.linspace(0, 2**bits - 1, 64 * 48).round() + low).astype(dtype).reshape(64, 48)
    d = dataset(pixels, BitsStored=bits, HighBit=bits - 1)
    path = save(d, tmp_path / "c.dcm")
    import pydicom

    d = pydicom.dcmread(path)
    d.compress(syntax)
    d.save_as(path)
    assert np.array_equal(read.read(path).pixels, pixels)


def test_without_preamble_meta_and_suffix(tmp_path: Path) -> None:
    pixels = RNG.integers(0, 60000, (9, 5)).astype("u2")
    for implicit in (True, False):
        path = tmp_path / f"bare{implicit}"
        dataset(pixels).save_as(path, implicit_vr=implicit, little_endian=True)
        assert np.array_equal(read.read(path).pixels, pixels)
    dataset(pixels, big_endian=True).save_as(tmp_path / "big", implicit_vr=False, little_endian=False)
    assert np.array_equal(read.read(tmp_path / "big").pixels, pixels)


def test_first_frame_with_a_notice(tmp_path: Path) -> None:
    frames = RNG.integers(0, 255, (5, 6, 7)).astype("u1")
    r = read.read(save(dataset(frames, NumberOfFrames=5), tmp_path / "m.dcm"))
    assert np.array_equal(r.pixels, frames[0])
    assert r.frames == 5
    assert any("5 frames" in notice for notice in r.notices)


@pytest.mark.parametrize(
    ("slope", "intercept", "dtype"),
    [
        (1, -1024, np.int16),
        (2, 0, np.uint16),
        (1, 100000, np.int32),
        (0.5, 0, np.float32),
        (-1, 4095, np.uint16),
    ],
)
def test_rescale(slope: float, intercept: float, dtype: type, tmp_path: Path) -> None:
    pixels = np.arange(4096, dtype="u2").reshape(64, 64)
    d = dataset(pixels, RescaleSlope=slope, RescaleIntercept=intercept, RescaleType="HU")
    r = read.read(save(d, tmp_path / "r.dcm"))
    assert r.pixels.dtype == dtype
    assert np.array_equal(r.pixels, pixels * np.float64(slope) + intercept)
    assert r.unit == "HU"


def test_units(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype="u2").reshape(4, 4)

    def unit(**attributes: Any) -> str:
        return read.read(save(dataset(pixels, **attributes), tmp_path / "u.dcm")).unit

    assert unit() == ""
    assert unit(RescaleSlope=1, RescaleIntercept=0, RescaleType="US") == ""
    assert unit(RescaleSlope=1, RescaleIntercept=-1024, Modality="CT") == "HU"
    table = lut(0, np.arange(16, dtype="u2"), 16, ModalityLUTType="OD")
    assert unit(ModalityLUTSequence=[table]) == "mOD"


def test_unusable_rescale_is_ignored_with_a_notice(tmp_path: Path) -> None:
    pixels = np.arange(16, dtype="u2").reshape(4, 4)
    r = read.read(save(dataset(pixels, RescaleSlope=0, RescaleIntercept=5), tmp_path / "z.dcm"))
    assert np.array_equal(r.pixels, pixels)
    assert any("rescale slope" in notice for notice in r.notices)


def test_modality_lut_wins_over_rescale_and_clips(tmp_path: Path) -> None:
    pixels = np.array([[-3, -2, 0, 1, 2, 300]], dtype="i2")
    table = lut(-2, np.array([50, 40, 30, 20], "u2"), 16, ModalityLUTType="X")
    d = dataset(pixels, ModalityLUTSequence=[table], RescaleSlope=7, RescaleIntercept=7)
    r = read.read(save(d, tmp_path / "l.dcm"))
    assert r.pixels.tolist() == [[50, 50, 30, 20, 20, 20]]
    assert r.unit == "X"


def _voi_lut(item: Dataset, tmp_path: Path, dtype: str = "u2", **attributes: Any) -> VoiLut:
    pixels = np.array([[0, 1]], dtype)
    d = dataset(pixels, VOILUTSequence=[item], **attributes)
    voi = read.read(save(d, tmp_path / "v.dcm")).voi[0]
    assert isinstance(voi, VoiLut)
    return voi


def test_voi_lut_forms(tmp_path: Path) -> None:
    whole = _voi_lut(lut(0, np.arange(65536, dtype="u2"), 16), tmp_path)
    assert whole.data.size == 65536

    packed = Dataset()
    packed.add_new("LUTDescriptor", "US", [5, 3, 8])
    packed.add_new("LUTData", "OW", bytes([10, 20, 30, 40, 50, 0]))
    assert _voi_lut(packed, tmp_path).data.tolist() == [10, 20, 30, 40, 50]

    listed = Dataset()
    listed.add_new("LUTDescriptor", "US", [3, 0, 12])
    listed.add_new("LUTData", "US", [1, 2, 4095])
    voi = _voi_lut(listed, tmp_path)
    assert (voi.data.tolist(), voi.bits) == ([1, 2, 4095], 12)

    too_deep = lut(0, np.array([0, 5000], "u2"), 12)  # 5000 does not fit in 12 bits
    assert _voi_lut(too_deep, tmp_path).bits == 13

    positive = lut(
        -900, np.arange(1000, dtype="u2"), 10
    )  # no negative pixel at all, yet a negative first value
    assert _voi_lut(positive, tmp_path, "i2").first == -900
    assert _voi_lut(positive, tmp_path, "u2").first == -900
    high = lut(40000, np.arange(9, dtype="u2"), 10)
    assert _voi_lut(high, tmp_path, "u2", RescaleSlope=1, RescaleIntercept=40000).first == 40000

    unsigned_code = Dataset()  # -2 written as US in an image with negative values
    unsigned_code.add_new("LUTDescriptor", "US", [4, 0xFFFE, 8])
    unsigned_code.add_new("LUTData", "US", [0, 1, 2, 3])
    d = {"RescaleSlope": 1, "RescaleIntercept": -1}
    assert _voi_lut(unsigned_code, tmp_path, "i2", **d).first == -2


def test_a_damaged_lut_is_left_out_with_a_notice(tmp_path: Path) -> None:
    broken = Dataset()
    broken.add_new("LUTDescriptor", "US", [1000, 0, 8])
    broken.add_new("LUTData", "US", [0, 1, 2, 3])
    d = dataset(np.array([[0, 1]], "u2"), VOILUTSequence=[broken], WindowCenter=5, WindowWidth=9)
    r = read.read(save(d, tmp_path / "d.dcm"))
    assert r.voi == (Window(5, 9),)
    assert any("VOI LUT 0" in notice for notice in r.notices)


def test_windows_keep_order_and_drop_the_invalid(tmp_path: Path) -> None:
    d = dataset(
        np.array([[0, 1]], "u2"), WindowCenter=[1, 2, 3, 4], WindowWidth=[10, 0, -5, 40],
        WindowCenterWidthExplanation=["A", "B", "C", "D"],
    )  # fmt: skip
    r = read.read(save(d, tmp_path / "w.dcm"))
    assert r.voi == (Window(1, 10, "LINEAR", "A"), Window(4, 40, "LINEAR", "D"))
    assert sum("invalid centre or width" in notice for notice in r.notices) == 2
    exact = dataset(
        np.array([[0, 1]], "u2"), WindowCenter=0.5, WindowWidth=0.25, VOILUTFunction="LINEAR_EXACT"
    )
    assert read.read(save(exact, tmp_path / "e.dcm")).voi == (Window(0.5, 0.25, "LINEAR_EXACT"),)
    sigmoid = dataset(np.array([[0, 1]], "u2"), WindowCenter=5, WindowWidth=9, VOILUTFunction="SIGMOID")
    assert read.read(save(sigmoid, tmp_path / "s.dcm")).voi == (Window(5, 9, "SIGMOID"),)


@pytest.mark.parametrize(
    ("dtype", "vr", "value", "limit", "expected"),
    [
        ("i2", "SS", -2000, None, [-2000]),
        ("i2", "US", 63536, None, [-2000]),  # the unsigned code of -2000
        ("u2", "SS", -2000, None, [63536]),
        ("u2", "US", 0, None, [0]),
        ("u2", "US", 5, 3, [3, 4, 5]),
        ("i2", "SS", -2000, -1998, [-2000, -1999, -1998]),
        ("u1", "US", 255, None, [255]),
        ("u2", "US", 77, None, []),
    ],
)
def test_padding(
    dtype: str, vr: str, value: int, limit: int | None, expected: list[int], tmp_path: Path
) -> None:
    numbers = [-2001, -2000, -1999, -1998, 0, 1, 2, 3, 4, 5, 6, 63536, 255]
    info = np.iinfo(dtype)
    pixels = np.array([[n for n in numbers if info.min <= n <= info.max]], dtype)
    d = dataset(pixels)
    d.add_new("PixelPaddingValue", vr, value)
    if limit is not None:
        d.add_new("PixelPaddingRangeLimit", vr, limit)
    r = read.read(save(d, tmp_path / "p.dcm"))
    if expected:
        assert r.padding is not None
        assert pixels[r.padding].tolist() == expected
    else:
        assert r.padding is None


def test_float_padding_of_zero(tmp_path: Path) -> None:
    pixels = np.array([[0, 1.5, 0]], "f4")
    r = read.read(save(dataset(pixels, FloatPixelPaddingValue=0.0), tmp_path / "p.dcm"))
    assert r.padding is not None
    assert r.padding.tolist() == [[True, False, True]]


def test_padding_is_found_before_the_modality_lut(tmp_path: Path) -> None:
    pixels = np.array([[0, 1, 2, 0]], "u2")
    d = dataset(pixels, PixelPaddingValue=0, RescaleSlope=-1, RescaleIntercept=2)
    r = read.read(save(d, tmp_path / "p.dcm"))
    assert r.padding is not None
    assert r.padding.tolist() == [[True, False, False, True]]


def test_colour_becomes_luminance(tmp_path: Path) -> None:
    rgb = RNG.integers(0, 256, (12, 13, 3)).astype("u1")
    expected = np.floor(rgb @ np.array([0.299, 0.587, 0.114]) + 0.5)
    r = read.read(save(dataset(rgb), tmp_path / "c.dcm"))
    assert np.array_equal(r.pixels, expected)
    assert (r.photometric, r.source_photometric) == ("MONOCHROME2", "RGB")
    planar = dataset(rgb, PlanarConfiguration=1)
    planar.PixelData = np.moveaxis(rgb, -1, 0).tobytes()
    assert np.array_equal(read.read(save(planar, tmp_path / "p.dcm")).pixels, expected)
    deep = dataset(rgb.astype("u2") * 257)
    assert np.abs(read.read(save(deep, tmp_path / "d.dcm")).pixels / 257 - expected).max() <= 0.51


def test_palette(tmp_path: Path) -> None:
    index = RNG.integers(0, 256, (9, 9)).astype("u1")
    d = dataset(index, PhotometricInterpretation="PALETTE COLOR")
    table = RNG.integers(0, 65536, (3, 256)).astype("<u2")
    for name, channel in zip(("Red", "Green", "Blue"), table, strict=True):
        setattr(d, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
        setattr(d, f"{name}PaletteColorLookupTableData", channel.tobytes())
    r = read.read(save(d, tmp_path / "p.dcm"))
    expected = 0.299 * table[0][index] + 0.587 * table[1][index] + 0.114 * table[2][index]
    assert np.abs(r.pixels - expected).max() <= 0.51


def test_enhanced_multi_frame_takes_the_first_frames_transformation(tmp_path: Path) -> None:
    frames = np.arange(24, dtype="u2").reshape(2, 3, 4)
    d = dataset(frames, NumberOfFrames=2)
    rescale, voi, shared, first, second = (Dataset() for _ in range(5))
    rescale.RescaleIntercept, rescale.RescaleSlope, rescale.RescaleType = -10, 3, "US"
    voi.WindowCenter, voi.WindowWidth = 11, 22
    shared.PixelValueTransformationSequence = [rescale]
    first.FrameVOILUTSequence = [voi]
    d.SharedFunctionalGroupsSequence = [shared]
    d.PerFrameFunctionalGroupsSequence = [first, second]
    r = read.read(save(d, tmp_path / "e.dcm"))
    assert np.array_equal(r.pixels, frames[0] * 3.0 - 10)
    assert r.voi == (Window(11, 22),)


NAMES = [
    ("ISO_IR 100", "Buc^Jérôme", "Buc, Jérôme"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东=", "Wang, XiaoDong (王, 小东)"),
    ("GB18030", "Wang^XiaoDong=王^小东=", "Wang, XiaoDong (王, 小东)"),
    (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田, 太郎)"),
    (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", "Hong, Gildong (洪, 吉洞)"),
    ("ISO_IR 144", "Люкceмбypг", "Люкceмбypг"),
    ("ISO_IR 100", "Doe^John^Q^Dr.^Jr.", "Doe, Dr. John Q Jr."),
    ("ISO_IR 100", "", ""),
]


@pytest.mark.parametrize(("charset", "written", "shown"), NAMES)
def test_names(charset: Any, written: str, shown: str, tmp_path: Path) -> None:
    d = dataset(np.array([[0, 1]], "u2"), SpecificCharacterSet=charset, PatientName=written)
    r = read.read(save(d, tmp_path / "n.dcm"))
    assert r.study.patient_name == shown
    assert not r.study.synthetic


def test_study_and_tags(tmp_path: Path) -> None:
    deep = Dataset()
    deep.LongCodeValue = "x" * 3000
    item = Dataset()
    item.ConceptCodeSequence = [deep]
    d = dataset(
        np.array([[0, 1]], "u2"), StudyDate="20200131", StudyTime="091502.123", PatientOrientation=["L", "F"],
        AcquisitionContextSequence=[item], PatientComments="a\nb\x07c",
    )  # fmt: skip
    block = d.private_block(0x0009, "MAKER", create=True)
    block.add_new(1, "LO", "private value")
    block.add_new(2, "OB", b"\0" * 5000)
    r = read.read(save(d, tmp_path / "t.dcm"))
    assert (r.study.study_date, r.study.study_time) == ("2020-01-31", "09:15:02")
    assert r.orientation == ("L", "F")
    tags = {tag.path: tag for tag in r.tags}
    assert tags["0010,0010"].value == "Secret^Person"
    assert tags["0009,1001"].value == "private value"
    assert tags["0009,1002"].value == "binary, 5,000 bytes"
    nested = tags["0040,0555[0].0040,A168[0].0008,0119"]
    assert (nested.depth, nested.keyword, len(nested.value)) == (2, "LongCodeValue", 1000)
    assert tags["0010,4000"].value == "a b c"
    assert tags["0002,0010"].keyword == "TransferSyntaxUID"


def test_synthetic(tmp_path: Path) -> None:
    from xai_engine.radiograph import phantom

    made = phantom.make(1, rows=256, columns=256)
    path = tmp_path / "phantom.dcm"
    phantom.write_dicom(made, path)
    r = read.read(path)
    assert r.study.synthetic
    assert r.pixels.shape == (256, 256)


def test_overlay_and_missing_photometric_are_noted(tmp_path: Path) -> None:
    d = dataset(np.array([[0, 1]], "u2"))
    d.add_new(0x60003000, "OW", b"\0\0")
    del d.PhotometricInterpretation
    r = read.read(save(d, tmp_path / "o.dcm"))
    assert any("overlay" in notice for notice in r.notices)
    assert any("photometric" in notice for notice in r.notices)


def test_encapsulated_stream_of_another_size_is_refused(tmp_path: Path) -> None:
    """A small header over a large stream would make a decoder write past its buffer, or fill the memory."""
    import io

    from PIL import Image

    from xai_engine.errors import UnreadableImage

    jpeg = io.BytesIO()
    Image.fromarray(RNG.integers(0, 255, (80, 90)).astype("u1")).save(jpeg, "JPEG")
    d = dataset(np.zeros((8, 9), "u1"))
    d.PixelData = encapsulate([jpeg.getvalue()])
    d["PixelData"].is_undefined_length = True
    with pytest.raises(UnreadableImage, match="another size"):
        read.read(save(d, tmp_path / "j.dcm", uid.JPEGBaseline8Bit))
    d.Rows, d.Columns = 80, 90
    with Image.open(jpeg) as image:
        assert np.array_equal(
            read.read(save(d, tmp_path / "j.dcm", uid.JPEGBaseline8Bit)).pixels, np.asarray(image)
        )
