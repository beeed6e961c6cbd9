"""The phantom: planted truth is where it is said to be, its DICOM files are read alike by dcmtk, nothing is random twice."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest

from xai_engine.errors import OutputError, UsageError
from xai_engine.paths import resources_dir
from xai_engine.radiograph import phantom_dicom
from xai_engine.radiograph.phantom import BITS, ZONES, Consolidation, Phantom, main, make, write_dicom

SIZE = {"rows": 256, "columns": 248}
SEEDS = (0, 3, 8, 17, 31, 47)


@pytest.fixture(scope="module")
def normals() -> dict[int, Phantom]:
    return {seed: make(seed, **SIZE) for seed in SEEDS}


def half(mask: np.ndarray, right: bool) -> np.ndarray:
    """The patient's right (image left) or left part of a mask."""
    out = mask.copy()
    middle = mask.shape[1] // 2
    out[:, middle:] &= not right
    out[:, :middle] &= right
    return out


def test_same_seed_same_pixels_other_seed_another_patient() -> None:
    a, b, c = make(5, **SIZE), make(5, **SIZE), make(6, **SIZE)
    assert np.array_equal(a.pixels, b.pixels)
    assert np.array_equal(a.lungs, b.lungs)
    assert (a.lungs ^ c.lungs).mean() > 0.01
    assert a.pixels.dtype == np.uint16
    assert a.pixels.max() < 2**BITS
    assert not a.pixels.flags.writeable


@pytest.mark.parametrize("seed", SEEDS)
def test_anatomy_within_adult_limits(normals: dict[int, Phantom], seed: int) -> None:
    p = normals[seed]
    pixels, lungs = p.pixels.astype(float), p.lungs
    right, left = half(lungs, True), half(lungs, False)
    area = lungs.sum() * p.spacing_mm**2 / 100.0
    assert 300 < area < 700, "projected area of both lungs in cm2"
    assert 0.55 < left.sum() / right.sum() < 1.05, "the heart takes from the left lung"
    count, labels = cv2.connectedComponents(lungs.astype(np.uint8))
    sizes = sorted(np.bincount(labels.ravel())[1:], reverse=True)
    assert count >= 3
    assert sum(sizes[:2]) > 0.98 * lungs.sum(), "two lungs"
    # right hemidiaphragm higher than the left, three quarters of the way from the midline to the side
    used = np.flatnonzero(lungs.any(axis=0))
    middle, reach = (used[0] + used[-1]) / 2, (used[-1] - used[0]) / 2
    bottom = [np.flatnonzero(lungs[:, round(middle + 0.75 * side * reach)]).max() for side in (-1, 1)]
    assert bottom[0] <= bottom[1] + 0.02 * lungs.shape[0]
    # lungs dark, mediastinum and abdomen bright, air beside the neck black
    row = int(np.median(np.nonzero(lungs)[0]))
    columns = np.flatnonzero(lungs[row])
    gap = columns[:-1][np.diff(columns) > 10]
    heart = pixels[row, gap[0] + 4 : gap[0] + int(np.diff(columns).max()) - 4]
    assert np.median(heart) > 1.35 * np.median(pixels[lungs])
    assert np.median(pixels[-12:, 100:148]) > 1.35 * np.median(pixels[lungs])
    assert np.percentile(pixels, 1) < 0.06 * 2**BITS
    assert 0.2 < np.median(pixels[lungs]) / 2**BITS < 0.55
    ratio = np.median(pixels[right]) / np.median(pixels[left])
    assert 0.85 < ratio < 1.18, "lungs of like brightness"
    assert not p.lesion.any()


def test_histogram_is_that_of_real_films(normals: dict[int, Phantom], shared_data: Path) -> None:
    """Quantiles of the phantoms lie within those of real adult films without a finding."""
    import csv

    with (shared_data / "nih" / "manifest.csv").open() as stream:
        rows = [r for r in csv.DictReader(stream) if r["view"] == "PA" and r["label_nih"] == "NORMAL"][:40]
    real = np.array(
        [np.percentile(cv2.imread(str(shared_data / "nih" / r["file"]), 0), [25, 50, 75, 95]) for r in rows]
    )
    ours = np.array([np.percentile(p.pixels / 2 ** (BITS - 8), [25, 50, 75, 95]) for p in normals.values()])
    assert (ours.mean(axis=0) > real.min(axis=0)).all()
    assert (np.abs(ours.mean(axis=0) - real.mean(axis=0)) < 2.0 * real.std(axis=0)).all()


@pytest.mark.parametrize("zone", ZONES)
def test_consolidation_lies_where_it_says(normals: dict[int, Phantom], zone: str) -> None:
    seed = SEEDS[ZONES.index(zone)]
    normal = normals[seed]
    ill = make(seed, consolidation=Consolidation(zone), **SIZE)
    assert np.array_equal(ill.lungs, normal.lungs), "the same patient"
    lesion = ill.lesion
    assert lesion.any()
    assert not (lesion & ~ill.lungs).any()
    side = half(lesion, "right" in zone)
    assert side.sum() == lesion.sum(), "on the side that it names"
    rows = np.nonzero(ill.lungs)[0]
    at = (np.nonzero(lesion)[0].mean() - rows.min()) / (rows.max() - rows.min())
    expected = {"upper": (0.05, 0.45), "middle": (0.45, 0.75), "lower": (0.55, 0.95)}[zone.split()[1]]
    assert expected[0] < at < expected[1]
    change = ill.pixels.astype(float) - normal.pixels
    assert change[lesion].mean() > 0.12 * 2**BITS, "air replaced by fluid is brighter"
    other = half(ill.lungs, "right" not in zone)
    assert abs(np.median(change[other])) < 0.005 * 2**BITS, "the other lung stays"
    assert change[lesion].sum() > 0.75 * change[ill.lungs].clip(min=0).sum(), (
        "the mask holds most of the change"
    )


def test_density_and_size_do_what_they_say(normals: dict[int, Phantom]) -> None:
    def change(c: Consolidation) -> tuple[float, int]:
        p = make(3, consolidation=c, **SIZE)
        return float((p.pixels[p.lesion] - normals[3].pixels[p.lesion].astype(float)).mean()), int(
            p.lesion.sum()
        )

    faint, dense = change(Consolidation(density=0.2)), change(Consolidation(density=0.9))
    assert dense[0] > 2.0 * faint[0]
    small, large = change(Consolidation(radius_mm=15)), change(Consolidation(radius_mm=40))
    assert large[1] > 3.0 * small[1]


def test_planted_shortcuts() -> None:
    plain = make(8, side="", **SIZE)
    assert not plain.marker.any()
    for side, right in (("L", False), ("R", True)):
        p = make(8, side=side, **SIZE)
        assert p.marker.any()
        assert half(p.marker, right).sum() == p.marker.sum(), "the patient's left is right in the image"
        assert p.pixels[p.marker].min() > 0.6 * 2**BITS
        far = cv2.dilate(p.marker.astype(np.uint8), np.ones((9, 9))) == 0
        assert np.array_equal(p.pixels[far], plain.pixels[far]), "nothing but the letter changes"
    text = make(8, side="", text="PORTABLE", **SIZE)
    assert (text.pixels[text.marker] == 2**BITS - 1).all()
    framed = make(8, side="", collimated=True, **SIZE)
    assert framed.pixels[:, :3].max() == framed.pixels[-3:].max() == 0
    assert np.array_equal(framed.pixels[60:-60, 60:-60], plain.pixels[60:-60, 60:-60])


def test_intensities_follow_their_parameters(normals: dict[int, Phantom]) -> None:
    base = normals[3]
    bright, flat = make(3, brightness=0.1, **SIZE), make(3, contrast=0.6, **SIZE)
    assert np.median(bright.pixels[bright.lungs]) > np.median(base.pixels[base.lungs]) + 0.05 * 2**BITS
    assert flat.pixels[flat.lungs].std() < 0.8 * base.pixels[base.lungs].std()
    quiet, loud = make(3, noise=0.0, **SIZE), make(3, noise=4.0, **SIZE)
    dark = base.pixels > 0.8 * 2**BITS
    assert np.std(loud.pixels[dark] - quiet.pixels[dark].astype(float)) > 3.0


def test_one_seed_is_one_patient_at_any_size() -> None:
    small, large = make(17, rows=256, columns=256), make(17, rows=512, columns=512)
    shrunk = cv2.resize(large.lungs.astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA) > 0.5
    assert (shrunk & small.lungs).sum() / (shrunk | small.lungs).sum() > 0.97
    assert small.spacing_mm == 2 * large.spacing_mm


def test_bad_parameters() -> None:
    with pytest.raises(UsageError, match="64 x 64"):
        make(0, rows=10, columns=500)
    for bad in ({"zone": "left middle"}, {"radius_mm": 0.0}, {"density": 0.0}, {"density": float("nan")}):
        with pytest.raises(UsageError):
            Consolidation(**bad)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_file_is_valid_and_synthetic(tmp_path: Path, photometric: str) -> None:
    p = make(3, consolidation=Consolidation("left lower"), **SIZE)
    a, b = (write_dicom(p, tmp_path / name, photometric=photometric) for name in ("a.dcm", "b.dcm"))
    assert a.read_bytes() == b.read_bytes()
    d = pydicom.dcmread(a)
    assert d.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert d.SOPClassUID == d.file_meta.MediaStorageSOPClassUID == pydicom.uid.ComputedRadiographyImageStorage
    assert (d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation) == (16, 12, 11, 0)
    stored = d.pixel_array if photometric == "MONOCHROME2" else 2**BITS - 1 - d.pixel_array
    assert np.array_equal(stored, p.pixels)
    assert d.ImagerPixelSpacing == [pytest.approx(350 / 256, rel=1e-5)] * 2
    assert "PixelSpacing" not in d, "the size in the patient is not known"
    assert "SYNTHETIC" in str(d.PatientName)
    assert "Synthetic" in d.ImageComments
    assert "seed 3" in d.ImageComments
    assert d.ImageType[0] == "DERIVED"
    for uid in (
        d.SOPInstanceUID,
        d.StudyInstanceUID,
        d.SeriesInstanceUID,
        d.file_meta.ImplementationClassUID,
    ):
        assert pydicom.uid.UID(uid).is_valid
    # text fits its value representation (PS3.5 6.2)
    assert all(len(str(d[k].value)) <= 64 for k in ("SeriesDescription", "StudyDescription", "Manufacturer"))
    other = write_dicom(make(8, **SIZE), tmp_path / "c.dcm")
    assert pydicom.dcmread(other).SOPInstanceUID != d.SOPInstanceUID
    with pytest.raises(ValueError, match="RGB"):
        write_dicom(p, a, photometric="RGB")
    with pytest.raises(OutputError, match="nowhere"):
        write_dicom(p, tmp_path / "nowhere" / "x.dcm")


@pytest.mark.parametrize("name", phantom_dicom.SAMPLES)
def test_samples_read_by_dcmtk(tmp_path: Path, dcm2pnm: str, name: str) -> None:
    dcmdump = shutil.which("dcmdump")
    assert dcmdump is not None
    path = resources_dir() / "samples" / name
    dump = subprocess.run([dcmdump, path], capture_output=True, text=True, check=True)
    assert "W:" not in dump.stderr
    assert "E:" not in dump.stderr
    out = tmp_path / "x.pgm"
    done = subprocess.run([dcm2pnm, "+Wi", "1", path, out], capture_output=True, text=True, check=True)
    assert "W:" not in done.stderr
    shown = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    d = pydicom.dcmread(path)
    dense = d.pixel_array if d.PhotometricInterpretation == "MONOCHROME2" else 4095 - d.pixel_array
    assert np.abs(shown - dense / 4095.0 * 255.0).max() <= 1.5
    assert np.median(shown[-100:]) > 200 > 20 > np.median(shown[:20, -40:]), (
        "the abdomen is bright, the air dark"
    )


def test_samples_are_what_the_generator_writes(tmp_path: Path) -> None:
    """Lesion mask and pixels as shipped. The bytes may differ in a few last bits between processors, no more."""
    main(["--out", str(tmp_path)])
    shipped = resources_dir() / "samples"
    for name in (*phantom_dicom.SAMPLES, phantom_dicom.SAMPLE_MASK):
        assert (shipped / name).stat().st_size < 2_500_000
        if (
            hashlib.sha256((shipped / name).read_bytes()).digest()
            != hashlib.sha256((tmp_path / name).read_bytes()).digest()
        ):
            if name.endswith(".png"):
                a, b = (cv2.imread(str(f / name), 0) for f in (shipped, tmp_path))
                assert (a != b).mean() < 1e-4
            else:
                a, b = (pydicom.dcmread(f / name).pixel_array.astype(int) for f in (shipped, tmp_path))
                assert np.abs(a - b).max() <= 2
    mask = cv2.imread(str(shipped / phantom_dicom.SAMPLE_MASK), 0)
    normal, ill = (pydicom.dcmread(shipped / n).pixel_array.astype(float) for n in phantom_dicom.SAMPLES)
    brighter = (4095 - ill) - normal
    assert brighter[mask > 0].mean() > 500
    assert abs(np.median(brighter[mask == 0])) < 20
