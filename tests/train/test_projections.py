"""Radiographs computed from CT: against chords of a ball, boxes, volumes written in every orientation."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from tests.train.test_gate_views import _chest
from xai_engine.errors import UnreadableImage, UsageError
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint, gate, projections, volumes
from xai_engine.train.projections import FIELD, View, integrals
from xai_engine.train.volumes import STEP, WATER

DISTANCE = 1500.0


def _ball(radius: float, points: int = 96) -> volumes.Volume:
    """Water in a ball of `radius` mm about the volume's middle."""
    place = (np.arange(points) - (points - 1) / 2) * STEP
    z, y, x = np.meshgrid(place, place, place, indexing="ij")
    return np.where(z**2 + y**2 + x**2 <= radius**2, WATER, 0).astype(np.float32)


@pytest.mark.parametrize("yaw", [0.0, 37.0, -90.0])
def test_rays_through_a_ball_measure_its_chords(yaw: float) -> None:
    radius, side, field = 60.0, 48, 160.0
    found = integrals(_ball(radius), View(yaw, 5.0, -3.0, DISTANCE), side=side, field=field)
    place = ((np.arange(side) + 0.5) / side - 0.5) * field
    r = np.hypot(*np.meshgrid(place, place))
    nearest = r * DISTANCE / np.hypot(DISTANCE, r)  # of the ray to the middle
    chord = 2 * np.sqrt(np.clip(radius**2 - nearest**2, 0, None))
    inner = nearest < radius - 2 * STEP
    np.testing.assert_allclose(found[inner], WATER * chord[inner], rtol=0.03, atol=2.5 * STEP * WATER)
    assert not found[nearest > radius + 2 * STEP].any()


def test_a_box_is_as_deep_as_it_is_seen_from_there() -> None:
    mu = np.zeros((60, 80, 100), np.float32)
    mu[10:50, 20:40, 10:90] = 0.01  # 60 mm high, 30 deep, 120 wide
    far = 1e6
    for view, depth in (
        (View(0, distance=far), 30.0),
        (View(90, distance=far), 120.0),
        (View(0, pitch=90, distance=far), 60.0),
        (View(0, distance=far, stretch=(1.0, 1.5, 1.0)), 45.0),
    ):
        found = integrals(mu, view, side=64, field=200.0)
        assert np.median(found[found > 0.05]) == pytest.approx(0.01 * depth, rel=0.05)


def test_what_is_nearer_to_the_source_looks_larger() -> None:
    def width(y: int) -> int:
        mu = np.zeros((40, 120, 120), np.float32)
        mu[:, y : y + 4, 40:80] = 0.05
        line = integrals(mu, View(0, distance=600.0), side=256, field=200.0)
        return int((line[128] > 0.1).sum())

    scale = 200.0 / 256
    for y in (0, 116):  # the source is behind the back: y grows towards it
        depth = (y + 2 - 60) * STEP
        assert width(y) * scale == pytest.approx(40 * STEP * 600 / (600 - depth), abs=3)
    assert width(116) > width(0)


def _numbers() -> volumes.Volume:
    return np.random.default_rng(0).integers(-1000, 1000, (4, 5, 6)).astype(np.float32)


@given(
    st.sampled_from(list(itertools.permutations(range(3)))), st.tuples(*[st.booleans()] * 3), st.booleans()
)
@settings(max_examples=20, deadline=None)
def test_a_nifti_volume_is_read_the_same_however_it_is_stored(
    tmp_path_factory: pytest.TempPathFactory,
    order: tuple[int, int, int],
    flips: tuple[bool, bool, bool],
    packed: bool,
) -> None:
    nibabel = pytest.importorskip("nibabel")
    wanted, spacing = _numbers(), (2.0, 0.5, 0.75)
    ras = wanted[::-1, ::-1, ::-1].transpose(2, 1, 0)  # grows to the right, the front, the head
    image = nibabel.Nifti1Image(np.ascontiguousarray(ras), np.diag([*spacing[::-1], 1.0]))
    turned = image.as_reoriented(
        np.array([[axis, -1 if f else 1] for axis, f in zip(order, flips, strict=True)])
    )
    path = tmp_path_factory.mktemp("nifti") / ("v.nii.gz" if packed else "v.nii")
    nibabel.save(turned, path)
    values, found = volumes.read(path)
    np.testing.assert_array_equal(values, wanted)
    assert found == pytest.approx(spacing)


def _series(folder: Path, values: volumes.Volume, heights: list[float], **tags: object) -> None:
    folder.mkdir()
    for number in np.random.default_rng(1).permutation(len(values)):
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        d = pydicom.Dataset()
        d.file_meta = meta
        d.SOPClassUID, d.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        d.Rows, d.Columns = values.shape[1:]
        d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
        d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = 16, 16, 15, 0
        d.RescaleSlope, d.RescaleIntercept = 2, -1024
        d.PixelSpacing = [0.5, 0.75]
        d.ImageOrientationPatient, d.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, heights[number]]
        for name, value in tags.items():
            setattr(d, name, value)
        d.PixelData = ((values[number] + 1024) / 2).astype(np.uint16).tobytes()
        d.save_as(folder / f"{number}.dcm", enforce_file_format=True)
    (folder / "LICENSE").write_text("of the slices")


def test_a_series_is_read_from_head_to_foot(tmp_path: Path) -> None:
    wanted = np.round(_numbers() / 2) * 2
    _series(tmp_path / "ct", wanted, [30.0, 25.0, 20.0, 15.0])
    values, spacing = volumes.read(tmp_path / "ct")
    np.testing.assert_array_equal(values, wanted)
    assert spacing == (5.0, 0.5, 0.75)


@pytest.mark.parametrize(
    ("heights", "tags", "said"),
    [
        ([30.0, 25.0, 20.0, 10.0], {}, "even distances"),
        ([30.0, 25.0, 25.0, 20.0], {}, "even distances"),
        ([30.0, 25.0, 20.0, 15.0], {"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "not axial"),
        ([30.0, 25.0, 20.0, 15.0], {"PixelSpacing": None}, "cannot be read as a CT series"),
    ],
)
def test_what_is_no_axial_series_is_named(
    tmp_path: Path, heights: list[float], tags: dict[str, object], said: str
) -> None:
    _series(tmp_path / "ct", _numbers(), heights, **tags)
    with pytest.raises(UnreadableImage, match=said):
        volumes.read(tmp_path / "ct")


def test_what_is_no_volume_is_named(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "bad.nii").write_bytes(b"not a volume")
    for name, said in (("none", "no series"), ("absent.nii", "no such volume"), ("bad.nii", "NIfTI")):
        with pytest.raises(UnreadableImage, match=said):
            volumes.read(tmp_path / name)


def _trunk() -> volumes.Volume:
    """HU at 3 mm: a trunk of 150 × 240 × 240 mm with two lungs, and a table below it, apart."""
    hu = np.full((50, 80, 80), -1000.0, np.float32)
    y, x = np.mgrid[:80, :80]
    hu[:, ((y - 35) / 25) ** 2 + ((x - 40) / 33) ** 2 <= 1] = 40
    for middle in (25, 55):
        hu[10:40, ((y - 35) / 15) ** 2 + ((x - middle) / 9) ** 2 <= 1] = -850
    hu[:, 70:73] = 100
    return hu


def test_the_table_goes_and_the_lungs_stay() -> None:
    found = volumes.even(_trunk(), (3.0, 3.0, 3.0))
    assert found.shape == (100, 160, 160)
    assert (found[:, 138:] == -1000).all()
    assert found[50, 70, 50] == pytest.approx(-850, abs=5)
    assert found[50, 70, 80] == pytest.approx(40, abs=5)
    with pytest.raises(UnreadableImage, match="no body"):
        volumes.even(np.full((8, 20, 20), -1000.0, np.float32), (3.0, 3.0, 3.0))


def test_attenuation_of_air_water_and_bone() -> None:
    found = volumes.attenuation(np.array([-1000.0, 0.0, 1150.0], np.float32))
    assert found == pytest.approx([0.0, WATER, WATER * (2.15 + 0.25)], rel=1e-6)


@pytest.fixture(scope="module")
def views() -> projections.Projections:
    mu = volumes.attenuation(volumes.even(_trunk(), (3.0, 3.0, 3.0)))
    lateral, frontal = projections.library(mu, np.random.default_rng(3), 4, Run())
    assert (len(lateral), len(frontal)) == (4, 1)
    return projections.Projections(
        lateral.astype(np.float16), frontal.astype(np.float16), 0.2, 0.1, ("a CT",)
    )


def test_a_film_is_cut_to_the_body_and_dense_is_bright(views: projections.Projections) -> None:
    line = views.frontal[0].astype(np.float32)
    scale = FIELD / len(line)
    for seed in range(6):
        film = projections.film(line, np.random.default_rng(seed))
        assert film.dtype == np.float32
        assert film.min() >= 0
        assert film.max() <= 1
        assert film.shape[0] * scale == pytest.approx(150, rel=0.25)  # of 440 mm that were projected
        middle = film[film.shape[0] // 2]
        spine, lung = middle[len(middle) // 2], middle[int(0.32 * len(middle))]
        assert spine > lung + 0.1


def test_an_arm_adds_what_it_holds() -> None:
    rng = np.random.default_rng(2)
    for _ in range(5):
        added = projections.arm(np.zeros((288, 288), np.float32), rng)
        assert (
            WATER * 2 * 35 + 0.6 * WATER * 24 - 0.1 < added.max() < WATER * 2 * 50 + 0.6 * WATER * 24 + 0.01
        )


def test_lateral_views_are_drawn_from_their_seed(views: projections.Projections) -> None:
    for seed in range(8):
        (a, inside), (b, _) = (
            projections.lateral(np.random.default_rng(seed), 128, views.lateral) for _ in range(2)
        )
        assert a.shape == inside.shape == (128, 128)
        assert (a == b).all()
        assert a.std() > 0.02


def test_projections_are_drawn_among_what_is_refused_and_what_is_read(
    views: projections.Projections, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = []
    real = projections.lateral
    monkeypatch.setattr(
        projections, "lateral", lambda rng, size, lines: drawn.append(size) or real(rng, size, lines)
    )
    squares = np.stack([_chest(k) for k in range(3)])
    marked = squares.copy()
    marked[:, 0] = 0
    which = np.zeros(400, np.intp)
    _, chest, _, _ = gate.batch(squares, which, (7,), gate.Projected(views, marked))
    refused = int((chest == 0).sum())
    assert len(drawn) == pytest.approx(0.2 * refused, abs=4 * np.sqrt(refused * 0.16))
    dark = [
        [
            not gate.example(np.random.default_rng(k), squares[0], squares[1], given)[0].any()
            for k in range(300)
        ]
        for given in (gate.Projected(views, marked), None)
    ]
    assert sum(dark[0]) >= sum(dark[1]) + 5  # a black square is what stands in for a projected chest


def test_a_missing_volume_says_what_brings_it(tmp_path: Path) -> None:
    wanted = {
        "get": "pip install --target {runs}/ct x",
        "volumes": [{"file": "ct/a.nii", "attribution": "A"}],
    }
    with pytest.raises(
        UsageError, match=rf"a\.nii: not there; `pip install --target {tmp_path}/ct x` brings it"
    ):
        projections.load(wanted, tmp_path, tmp_path, 0, Run())


def test_views_are_computed_once_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _series(
        tmp_path / "ct",
        np.repeat(np.repeat(_trunk()[:, ::2, ::2], 2, 1), 2, 2)[:20],
        list(100 - 3.0 * np.arange(20)),
        PixelSpacing=[3.0, 3.0],
    )
    wanted = {
        "get": "",
        "volumes": [{"file": "ct", "attribution": "whose"}],
        "views": 4,
        "laterals": 0.1,
        "frontals": 0.05,
    }
    first = projections.load(wanted, tmp_path, tmp_path, 5, Run())
    monkeypatch.setattr(projections, "library", None)
    again = projections.load(wanted, tmp_path, tmp_path, 5, Run())
    np.testing.assert_array_equal(first.lateral, again.lateral)
    assert first.lateral.shape == (4, projections.SIDE, projections.SIDE)
    assert len(projections.fronts(first, 5)) == 4
    assert first.attribution == ("whose",)
    (tmp_path / "ct" / "0.dcm").touch()  # another volume in its place
    with pytest.raises(TypeError, match="not callable"):  # the library that was taken away above
        projections.load(wanted, tmp_path, tmp_path, 5, Run())


def test_weights_carry_whom_their_data_is_owed_to(tmp_path: Path) -> None:
    from xai_engine.classifier.network import build

    network = build(gate.NETWORK)
    checkpoint.export(tmp_path / "plain.safetensors", network)
    checkpoint.export(tmp_path / "owed.safetensors", network, ("LIDC, CC BY 3.0", "another"))
    assert checkpoint.attribution_of(tmp_path / "plain.safetensors") == ()
    assert checkpoint.attribution_of(tmp_path / "owed.safetensors") == ("LIDC, CC BY 3.0", "another")
