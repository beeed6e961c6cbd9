"""Pixel spacing and its provenance, rule by rule from PS3.3 section 10.7.1.3."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.radiograph.dicom_files import dataset, save
from xai_engine.radiograph import read

RULES = {
    "nothing": ("CR", {}, None),
    "detector only": ("DX", {"ImagerPixelSpacing": [0.14, 0.15]}, (0.14, 0.15, "detector")),
    "both equal": ("DX", {"ImagerPixelSpacing": [0.14, 0.14], "PixelSpacing": [0.14, 0.14]}, (0.14, 0.14, "detector")),
    "both different": ("CR", {"ImagerPixelSpacing": [0.2, 0.2], "PixelSpacing": [0.17, 0.17]}, (0.17, 0.17, "calibrated")),
    "calibration type": (
        "CR", {"PixelSpacing": [0.17, 0.17], "PixelSpacingCalibrationType": "FIDUCIAL"}, (0.17, 0.17, "calibrated"),
    ),
    "type and equal": (
        "CR", {"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2], "PixelSpacingCalibrationType": "GEOMETRY"},
        (0.2, 0.2, "calibrated"),
    ),
    "pixel spacing alone": ("CR", {"PixelSpacing": [0.17, 0.18]}, (0.17, 0.18, "unknown")),
    "secondary capture": ("SC", {"PixelSpacing": [0.17, 0.18]}, (0.17, 0.18, "unknown")),
    "film": ("SC", {"NominalScannedPixelSpacing": [0.1, 0.1]}, (0.1, 0.1, "detector")),
    "CT": ("CT", {"PixelSpacing": [0.7, 0.7]}, (0.7, 0.7, "calibrated")),
    "portal image": ("RTIMAGE", {"ImagePlanePixelSpacing": [0.39, 0.39]}, (0.39, 0.39, "detector")),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_rules(name: str, tmp_path: Path) -> None:
    modality, attributes, expected = RULES[name]
    r = read.read(
        save(dataset(np.array([[0, 1]], "u2"), Modality=modality, **attributes), tmp_path / "s.dcm")
    )
    found = None if r.spacing is None else (r.spacing.row_mm, r.spacing.column_mm, r.spacing.source)
    assert found == expected
    assert not any("plausible" in notice for notice in r.notices)


@pytest.mark.parametrize(
    "value", [[0, 0], [-0.1, 0.1], [0.1, 0], [1000, 1000], [1e-7, 1e-7], [0.2, 0.2, 0.2], 0.2]
)
def test_nonsense_is_dropped_with_a_notice(value: Any, tmp_path: Path) -> None:
    r = read.read(save(dataset(np.array([[0, 1]], "u2"), PixelSpacing=value), tmp_path / "s.dcm"))
    assert r.spacing is None
    assert any("PixelSpacing is not a plausible distance" in notice for notice in r.notices)


def test_nonsense_calibration_does_not_hide_the_detector(tmp_path: Path) -> None:
    d = dataset(np.array([[0, 1]], "u2"), PixelSpacing=[0, 0], ImagerPixelSpacing=[0.2, 0.2])
    r = read.read(save(d, tmp_path / "s.dcm"))
    assert r.spacing is not None
    assert r.spacing.source == "detector"


def test_resolution_of_pictures_is_not_trusted(tmp_path: Path) -> None:
    for name in ("p.png", "p.jpg", "p.tif"):
        Image.fromarray(np.arange(64, dtype="u1").reshape(8, 8)).save(tmp_path / name, dpi=(300, 300))
        assert read.read(tmp_path / name).spacing is None
