"""Images and maps without files, for tests of the window's parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.explain.types import Explanation
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import PixelSpacing, Radiograph, StudyInfo, Voi, Window


def radiograph(pixels: npt.NDArray, **changes: Any) -> Radiograph:
    """A MONOCHROME2 image with a spacing at the detector of 0.2 x 0.1 mm, unless `changes` say otherwise."""
    voi: tuple[Voi, ...] = (Window(500.0, 800.0, "LINEAR", "Lung"), Window(700.0, 300.0, "LINEAR", "Bone"))
    values: dict[str, Any] = {
        "path": Path("image.dcm"),
        "sha256": "0" * 64,
        "file_format": "DICOM",
        "pixels": pixels,
        "photometric": "MONOCHROME2",
        "source_photometric": "MONOCHROME2",
        "bits_stored": 12,
        "modality": "DX",
        "unit": "",
        "voi": voi,
        "padding": None,
        "spacing": PixelSpacing(0.2, 0.1, "detector"),
        "orientation": ("L", "F"),
        "frames": 1,
        "transfer_syntax": "1.2.840.10008.1.2.1",
        "study": StudyInfo(
            patient_name="DOE^Jane", patient_id="4711", study_date="20261122", sex="F", age="061Y"
        ),
        "tags": (),
        "notices": (),
    }
    return Radiograph(**{**values, **changes})


def noise(rows: int, columns: int, seed: int = 0, high: int = 1000) -> npt.NDArray[np.uint16]:
    return np.random.default_rng(seed).integers(0, high, (rows, columns)).astype(np.uint16)


def explanation(
    shape: tuple[int, int],
    values: npt.NDArray[np.float32] | None = None,
    method: str = "integrated-gradients",
    **changes: Any,
) -> Explanation:
    """A map on a small grid that covers a source of `shape` in the middle, as a letterboxed classifier input does."""
    if values is None:
        y, x = np.mgrid[0:32, 0:32] / 31.0 - 0.5
        values = (np.exp(-((x - 0.1) ** 2 + y**2) * 20) - 0.8 * np.exp(-((x + 0.2) ** 2 + y**2) * 30)).astype(
            np.float32
        )
    grid = values.shape
    scale = max(shape[0] / grid[0], shape[1] / grid[1])
    transform = GridTransform(
        (shape[0] - grid[0] * scale) / 2,
        (shape[1] - grid[1] * scale) / 2,
        scale,
        scale,
        (grid[0], grid[1]),
        shape,
    )
    fields: dict[str, Any] = {
        "method": method,
        "title": method.replace("-", " ").title().replace("Lime", "LIME"),
        "values": values,
        "transform": transform,
        "target": "pneumonia",
        "unit": "logit per pixel",
        "full_scale": 1.0,
        "params": {"steps": 64, "baseline": "black"},
        "seed": 0,
        "seconds": 1.5,
        "forwards": 64,
        "backwards": 64,
        "partial": False,
        "completeness_error": 0.004,
        "converged": True,
        "image_sha256": "0" * 64,
        "model_sha256": "1" * 64,
        "engine_version": "0",
        "device": "cpu",
        "precision": "fp32",
    }
    return Explanation(**{**fields, **changes})
