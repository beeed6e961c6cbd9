"""What the window shows against dcmtk's dcm2pnm, on every real file that dcmtk supports, window by window."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.radiograph.dicom_files import dataset, lut, save
from xai_engine.errors import UnreadableImage
from xai_engine.radiograph import display, read
from xai_engine.radiograph.types import Radiograph, VoiLut

# dcmtk is not the yardstick here, and why. What we show is compared with dcmtk another way, or with the standard.
NO_PADDING = "dcmtk ignores Pixel Padding Value: its min-max window counts padding, and padding is drawn grey"
WHOLE_NUMBERS = (
    "dcmtk cuts modality values to whole numbers: values between 0 and 0.218 all become 0, a black picture"
)
DOSE = "a dose grid is no radiograph; we refuse it"
EXCEPTIONS = {
    "corrupt/pylibjpeg_JPEGLossless_bad.dcm": NO_PADDING,
    "format/fodicom_GH1308_CT_padding63536.dcm": NO_PADDING,
    "format/pydicom_693_UNCI.dcm": NO_PADDING,
    "radiograph/fodicom_GH133_MG_3windows_voilut.dcm": NO_PADDING,
    "radiograph/fodicom_RTIMAGE_float_rescale.dcm": WHOLE_NUMBERS,
    "nonimage/pydicom_rtdose.dcm": DOSE,
    "corrupt/pydicom_badVR.dcm": DOSE,
}
MEMORY_BOMBS = ("oob_46341", "oob_65535")


def dcmtk(tool: str, path: Path, out: Path, *options: str) -> np.ndarray | None:
    """dcm2pnm's picture, tried with the JPEG and JPEG-LS builds too; None where none of them reads the file."""
    for name in ("dcm2pnm", "dcmj2pnm", "dcml2pnm"):
        program = Path(tool).with_name(name)
        out.unlink(missing_ok=True)
        if program.exists():
            done = subprocess.run(
                [program, "-q", "-O", *options, path, out], capture_output=True, timeout=120
            )
            if done.returncode == 0 and out.exists():
                with Image.open(out) as image:
                    return np.asarray(image)
    return None


def decompressed(path: Path, folder: Path) -> Path:
    """The file without compression: lets dcmtk judge the grayscale pipeline where it lacks the decoder."""
    d = pydicom.dcmread(path)
    image_pixel = {e.keyword: e.value for e in d.group_dataset(0x0028) if e.keyword}
    return save(dataset(d.pixel_array, **image_pixel), folder / "plain.dcm")


def worst(a: np.ndarray, b: np.ndarray) -> int:
    return int(np.abs(a.astype(int) - b.astype(int)).max())


def check(r: Radiograph, tool: str, path: Path, out: Path, exception: str | None) -> None:
    full = display.full_window(r)
    # +Wfl: without it dcmtk bends its min-max window too where the file's VOI LUT Function is SIGMOID.
    reference = dcmtk(tool, path, out, "+Wm", "+Wfl")
    assert reference is not None
    if reference.ndim == 3:
        weights = np.array([0.299, 0.587, 0.114])
        shown = display.picture(r, display.select(r, "default"))
        assert worst(shown, np.floor(reference @ weights + 0.5)) <= 1
        return
    if exception == NO_PADDING:
        assert r.padding is not None
        reference = dcmtk(tool, path, out, "+Ww", repr(full.center), repr(full.width), "+Wfl")
        assert reference is not None
        assert worst(display.picture(r, full)[~r.padding], reference[~r.padding]) <= 1
        assert not display.picture(r, full)[r.padding].any()
    else:
        assert worst(display.picture(r, full), reference) <= 1
    seen = {"+Wl": 0, "+Wi": 0}
    for voi in r.voi:
        option = "+Wl" if isinstance(voi, VoiLut) else "+Wi"
        seen[option] += 1
        reference = dcmtk(tool, path, out, option, str(seen[option]))
        assert reference is not None
        assert worst(display.picture(r, voi), reference) <= 1, f"{option} {seen[option]}"


@pytest.mark.parametrize(
    ("group", "at_least"), [("chest", 8), ("radiograph", 10), ("format", 27), ("corrupt", 2), ("nonimage", 0)]
)
def test_every_file_that_dcmtk_supports(
    group: str, at_least: int, shared_data: Path, dcm2pnm: str, tmp_path: Path
) -> None:
    folder = shared_data / "dicom"
    checked, failures = 0, []
    for path in sorted(folder.glob(f"{group}/*")):
        name = path.relative_to(folder).as_posix()
        if any(bomb in name for bomb in MEMORY_BOMBS):
            continue
        exception = EXCEPTIONS.get(name)
        supported = dcmtk(dcm2pnm, path, tmp_path / "o.pnm", "+Wm") is not None
        try:
            r = read.read(path)
        except UnreadableImage:
            if supported and exception != DOSE:
                failures.append(f"{name}: dcmtk reads it, we do not")
            continue
        if exception == WHOLE_NUMBERS:
            continue
        try:
            if not supported:
                if r.pixels.dtype.kind == "f" or name.startswith("corrupt/") or r.source_photometric == "RGB":
                    continue
                path = decompressed(path, tmp_path)
            check(r, dcm2pnm, path, tmp_path / "o.pnm", exception)
            checked += 1
        except AssertionError as error:
            failures.append(f"{name}: {error}")
    assert not failures, "\n".join(failures)
    assert checked >= at_least


def test_fractional_modality_values(shared_data: Path) -> None:
    """The file that dcmtk draws black, against the formulas of PS3.3 C.11.1 and C.11.2.1.3.2 on its stored values."""
    path = shared_data / "dicom/radiograph/fodicom_RTIMAGE_float_rescale.dcm"
    d = pydicom.dcmread(path)
    values = d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept)
    expected = np.clip((values - float(d.WindowCenter)) / float(d.WindowWidth) + 0.5, 0, 1) * 255
    r = read.read(path)
    assert worst(display.picture(r, display.select(r, "0")), np.floor(expected + 0.5)) <= 1


def _ramp(dtype: str, low: int, high: int) -> np.ndarray:
    return np.linspace(low, high, 64 * 64).round().astype(dtype).reshape(64, 64)


RNG = np.random.default_rng(5)
CASES = {
    "sigmoid": (_ramp("u2", 0, 4095), {"BitsStored": 12, "HighBit": 11, "WindowCenter": [1800, 900],
        "WindowWidth": [1200, 300], "VOILUTFunction": "SIGMOID"}),
    "signed-rescale": (_ramp("i2", -2048, 2047), {"RescaleSlope": 3, "RescaleIntercept": -1024, "WindowCenter": -40,
        "WindowWidth": 4000}),
    "negative-slope": (_ramp("u2", 0, 4095), {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2000,
        "WindowWidth": 1500}),
    "mono1-window": (_ramp("u2", 0, 65535), {"PhotometricInterpretation": "MONOCHROME1", "WindowCenter": 30000,
        "WindowWidth": 20000}),
    "width-1": (_ramp("u1", 0, 255), {"WindowCenter": 100, "WindowWidth": 1}),
    "high-bit-15": (_ramp("u2", 0, 4095) << 4, {"BitsStored": 12, "HighBit": 15}),
    "voi-lut": (_ramp("u2", 0, 4095), {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2000, "WindowWidth": 1000,
        "VOILUTSequence": [lut(500, (np.arange(2000) ** 2 // 1000).astype("u2"), 12)]}),
    "voi-lut-mono1": (_ramp("u2", 0, 1023), {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 10,
        "HighBit": 9, "VOILUTSequence": [lut(0, np.arange(1024)[::-1].astype("u2") * 64, 16)]}),
    "voi-lut-65536": (_ramp("u2", 0, 65535), {"VOILUTSequence": [lut(0, (np.arange(65536) // 2).astype("u2"), 16)]}),
    "voi-lut-signed": (_ramp("i2", -1000, 1000), {"VOILUTSequence": [lut(-900, np.arange(1800).astype("u2"), 11)]}),
    "voi-lut-8-bit": (_ramp("u1", 0, 255), {"VOILUTSequence": [lut(0, np.arange(256)[::-1].astype("u2"), 8)]}),
    "modality-lut": (_ramp("u2", 0, 1023), {"BitsStored": 10, "HighBit": 9, "WindowCenter": 20000, "WindowWidth": 30000,
        "ModalityLUTSequence": [lut(100, np.linspace(60000, 3, 800).astype("u2"), 16, ModalityLUTType="OD")]}),
    "modality-lut-signed": (_ramp("i2", -512, 511), {"BitsStored": 10, "HighBit": 9,
        "ModalityLUTSequence": [lut(-512, np.arange(1024).astype("u2"), 10, ModalityLUTType="US")]}),
    "constant": (np.full((8, 8), 77, "u2"), {}),
    "12-in-16-signed": (RNG.integers(-2048, 2048, (64, 64)).astype("i2"), {"BitsStored": 12, "HighBit": 11}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_made_cases(name: str, dcm2pnm: str, tmp_path: Path) -> None:
    pixels, attributes = CASES[name]
    path = save(dataset(pixels, **attributes), tmp_path / "case.dcm")
    check(read.read(path), dcm2pnm, path, tmp_path / "o.pnm", None)


def test_padding_is_black_in_monochrome1_too(dcm2pnm: str, tmp_path: Path) -> None:
    pixels = RNG.integers(100, 4000, (32, 32)).astype("u2")
    pixels[:8] = 4095
    attributes = {
        "BitsStored": 12,
        "HighBit": 11,
        "PhotometricInterpretation": "MONOCHROME1",
        "PixelPaddingValue": 4095,
    }
    path = save(dataset(pixels, WindowCenter=2000, WindowWidth=3000, **attributes), tmp_path / "p.dcm")
    r = read.read(path)
    assert r.padding is not None
    assert np.array_equal(r.padding, pixels == 4095)
    check(r, dcm2pnm, path, tmp_path / "o.pnm", NO_PADDING)
