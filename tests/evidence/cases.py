"""Small made-up cases for the tests of the report and the record. Every number is chosen, none is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xai_engine.classifier.types import ModelInfo, OperatingPoint, Prediction
from xai_engine.evidence.case import CaseReview
from xai_engine.explain.types import Explanation
from xai_engine.radiograph import regions
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import PixelSpacing, Radiograph, StudyInfo, Window

POINT = OperatingPoint(
    "balanced", 0.412, (0.934, 0.901, 0.957), (0.887, 0.842, 0.921), "624 children, Guangzhou (test folder)"
)
MODEL = ModelInfo(
    name="pneumonia-efficientnet",
    version="1.0.0",
    sha256="ab" * 32,
    title="Pneumonia, children and adults",
    architecture="EfficientNet-lite0 (MONAI bundle)",
    classes=("normal", "pneumonia"),
    input_shape=(1, 224, 224),
    intended_use="Research on explanations of a pneumonia classifier on frontal chest radiographs. "
    "Not for diagnosis, triage or screening of patients.",
    limitations=(
        "Trained on children of one hospital and on few adults; expect a shift everywhere else.",
        "Knows no lateral views, no CT localisers, no other body part.",
        "May read markers, borders or collimation instead of lung: check the maps.",
    ),
    training_data=(
        "Kermany et al., Mendeley Data 10.17632/rscbjbr9sj.2, CC BY 4.0 (5,304 paediatric radiographs).",
        "NIH ChestX-ray, NIH Clinical Center; Wang et al., CVPR 2017; RSNA and STR annotations (441 images).",
    ),
    operating_points=(POINT, replace(POINT, name="sensitive", threshold=0.203, population="62 adults (NIH)")),
    metrics={"auc_children_test": 0.9731, "auc_adults_test": 0.7824, "brier_children_test": 0.0612},
    layers=("features.3", "features.8"),
    default_layer="features.8",
    parameters=3_372_322,
    map_scales={"integrated-gradients": 0.02, "grad-cam": 1.0},
)
METHODS = {
    "integrated-gradients": ("Integrated Gradients", "logit per pixel", 0.02),
    "grad-cam": ("Grad-CAM", "logit per cell", 1.0),
    "lime": ("LIME", "logit per superpixel", 0.5),
}
PARAMS: dict[str, dict[str, Any]] = {
    "integrated-gradients": {"baseline": "blurred", "blur_sigma": 12.5, "steps": 64, "max_steps": 512},
    "grad-cam": {"layer": "features.8"},
    "lime": {
        "segmentation": "slic",
        "segments": 120,
        "samples": 1000,
        "kernel_width": 0.25,
        "ridge": 1.0,
        "hide": "blurred",
        "paired": True,
    },
}


def pixels(rows: int, columns: int) -> np.ndarray:
    """A smooth, thorax-like uint16 picture: bright body, two dark ovals."""
    v = (np.arange(rows, dtype=np.float32) / max(rows - 1, 1) - 0.5)[:, None]
    u = (np.arange(columns, dtype=np.float32) / max(columns - 1, 1) - 0.5)[None, :]
    body = np.exp(-((u / 0.48) ** 6)) * np.exp(-((v / 0.7) ** 6))
    lungs = sum(np.exp(-(((u - s * 0.22) / 0.15) ** 4)) for s in (-1, 1)) * np.exp(
        -(((v + 0.02) / 0.33) ** 4)
    )
    return (400 + 2600 * body - 1700 * lungs + 60 * np.sin(40 * v)).clip(0, 4095).astype(np.uint16)


def radiograph(rows: int = 256, columns: int = 224, **changes: Any) -> Radiograph:
    values = pixels(rows, columns)
    values.flags.writeable = False
    fields: dict[str, Any] = {
        "path": Path("/data/case one/image.dcm"),
        "sha256": "0123456789abcdef" * 4,
        "file_format": "DICOM",
        "pixels": values,
        "photometric": "MONOCHROME2",
        "source_photometric": "MONOCHROME2",
        "bits_stored": 12,
        "modality": "DX",
        "unit": "",
        "voi": (Window(1800.0, 3600.0, "LINEAR", "NORMAL"),),
        "padding": None,
        "spacing": PixelSpacing(1.43, 1.43, "detector"),
        "orientation": ("L", "F"),
        "frames": 1,
        "transfer_syntax": "Explicit VR Little Endian",
        "study": StudyInfo(
            patient_name="Muster^Erika^^Dr",
            patient_id="PID-0042",
            birth_date="19800229",
            sex="F",
            age="045Y",
            study_date="20260314",
            study_time="101500",
            study_description="Thorax p.a.",
            accession_number="A-77",
            institution="Klinikum Musterstadt",
            manufacturer="Acme",
            model_name="DR 1",
            body_part="CHEST",
            view_position="PA",
        ),
        "tags": (),
        "notices": ("The file holds 2 frames; the first is shown.",),
    }
    return Radiograph(**{**fields, **changes})


def prediction(**changes: Any) -> Prediction:
    fields: dict[str, Any] = {
        "label": "pneumonia",
        "probability": 0.873,
        "logit": 2.314,
        "threshold": 0.412,
        "uncertainty": 0.021,
        "operating_point": POINT,
        "readable": True,
        "refusal": "",
        "model": MODEL,
        "device": "cpu",
        "precision": "bf16",
        "seconds": 0.031,
    }
    return Prediction(**{**fields, **changes})


def explanation(r: Radiograph, method: str = "integrated-gradients", **changes: Any) -> Explanation:
    """A map with a positive blob in the right lower zone and a weaker negative one."""
    title, unit, scale = METHODS.get(method, (method.replace("-", " ").capitalize(), "logit per pixel", 0.05))
    side = 56
    factor = max(r.rows, r.columns) / side
    origin = ((r.rows - side * factor) / 2, (r.columns - side * factor) / 2)
    transform = GridTransform(*origin, factor, factor, (side, side), (r.rows, r.columns))
    y, x = np.mgrid[0:side, 0:side] / (side - 1)
    y = y - 0.01 * (sum(map(ord, method)) % 7)  # no two methods alike
    blob = np.exp(-((x - 0.3) ** 2 + (y - 0.62) ** 2) / 0.012) - 0.6 * np.exp(
        -((x - 0.7) ** 2 + (y - 0.35) ** 2) / 0.008
    )
    values = (scale * blob).astype(np.float32)
    values.flags.writeable = False
    fields: dict[str, Any] = {
        "method": method,
        "title": title,
        "values": values,
        "transform": transform,
        "target": "pneumonia",
        "unit": unit,
        "full_scale": scale,
        "params": PARAMS.get(method, {"steps": 32}),
        "seed": 7,
        "seconds": 3.21,
        "forwards": 130,
        "backwards": 64,
        "partial": False,
        "completeness_error": 0.0042 if method == "integrated-gradients" else None,
        "converged": True,
        "image_sha256": r.sha256,
        "model_sha256": MODEL.sha256,
        "engine_version": "0.1.0",
        "device": "cpu",
        "precision": "bf16",
    }
    return Explanation(**{**fields, **changes})


def figures(r: Radiograph) -> tuple[regions.Region, ...]:
    scale = np.array([r.rows, r.columns])
    return (
        regions.Region("ellipse", np.array([[0.5, 0.18], [0.78, 0.42]]) * scale, "right lower zone", "a"),
        regions.Region(
            "polygon", np.array([[0.25, 0.6], [0.3, 0.85], [0.5, 0.8], [0.45, 0.62]]) * scale, "", "b"
        ),
    )


def case(
    r: Radiograph | None = None,
    methods: tuple[str, ...] = tuple(METHODS),
    *,
    shown: tuple[regions.Region, ...] | None = None,
    **changes: Any,
) -> CaseReview:
    r = r or radiograph()
    maps = tuple(explanation(r, method) for method in methods)
    shown = figures(r) if shown is None else shown
    fields: dict[str, Any] = {
        "radiograph": r,
        "voi": r.voi[0] if r.voi else Window(2048.0, 4096.0),
        "voi_key": "0",
        "prediction": prediction(),
        "explanations": maps,
        "styles": {"grad-cam": LayerStyle("cividis", 0.5, 0.2, "fill", "positive")},
        "regions": shown,
        "environment": {
            "engine": "0.1.0",
            "torch": "2.14.0",
            "monai": "1.6.0",
            "numpy": "2.2.0",
            "python": "3.11.2",
            "os": "Linux 6.1 x86_64",
            "device": "cpu",
            "device_name": "Example CPU",
            "precision": "bf16",
            "threads": 2,
        },
        "created": "2026-11-22T21:52:07Z",
        "reader": "Dr Ada Example",
        "impression": "Opacity in the right lower zone, compatible with pneumonia.\nFollow-up advised.",
        "seed": 7,
    }
    fields |= changes
    review = CaseReview(statistics={}, **fields)
    sources = {name: e.in_source() for name, e in zip(review.names(), review.explanations, strict=True)}
    ids = [region.id or str(n) for n, region in enumerate(review.regions, 1)]
    measured = {
        key: regions.measure(r, region, sources) for key, region in zip(ids, review.regions, strict=True)
    }
    return replace(review, statistics=measured)
