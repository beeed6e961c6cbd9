"""Writing a bundle in MONAI's layout, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from xai_engine import __version__
from xai_engine.classifier import manifest
from xai_engine.classifier.calibration import Calibration
from xai_engine.classifier.gate import GateSpec
from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.classifier.types import ConformalLimits, OperatingPoint
from xai_engine.runtime import atomic
from xai_engine.train import checkpoint


@dataclass(frozen=True)
class BundleContent:
    """Everything a bundle is made of. `card` is the text of docs/README.md."""

    name: str
    version: str
    title: str
    architecture: str
    network_def: Mapping[str, Any]
    network: nn.Module
    preprocessing: PreprocessSpec
    calibration: Calibration
    classes: tuple[str, ...]
    layers: tuple[str, ...]
    default_layer: str
    operating_points: tuple[OperatingPoint, ...]
    intended_use: str
    limitations: tuple[str, ...]
    training_data: tuple[str, ...]
    metrics: Mapping[str, float | str] = field(default_factory=dict)
    map_scales: Mapping[str, float] = field(default_factory=dict)
    lungs_def: Mapping[str, Any] | None = None
    lungs: nn.Module | None = None
    gate_def: Mapping[str, Any] | None = None
    gate_network: nn.Module | None = None
    gate: GateSpec = field(default_factory=GateSpec)
    gate_attribution: tuple[str, ...] = ()  # of its data beyond the classifier's
    conformal: ConformalLimits | None = None
    card: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)


def write_bundle(content: BundleContent, folder: Path) -> str:
    """Write (or replace) the bundle folder. Returns its digest. Raises OutputError."""
    with atomic.folder(folder) as building:
        for part in ("configs", "models", "docs"):
            (building / part).mkdir(parents=True, exist_ok=True)
        checkpoint.export(building / "models" / "model.safetensors", content.network)
        inference: dict[str, Any] = {
            "network_def": dict(content.network_def),
            "preprocessing": asdict(content.preprocessing),
            "calibration": content.calibration.to_json(),
            "gate": asdict(content.gate),
        }
        if content.lungs is not None and content.lungs_def is not None:
            checkpoint.export(building / "models" / "lungs.safetensors", content.lungs)
            inference["lungs_def"] = dict(content.lungs_def)
        if content.gate_network is not None and content.gate_def is not None:
            weights = building / "models" / "gate.safetensors"
            checkpoint.export(weights, content.gate_network, content.gate_attribution)
            inference["gate_def"] = dict(content.gate_def)
        _json(building / "configs" / "inference.json", inference)
        _json(building / "configs" / "metadata.json", _metadata(content))
        (building / "docs" / "README.md").write_text(content.card or f"# {content.title}\n", encoding="utf-8")
        return manifest.write(building)


def _json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _metadata(content: BundleContent) -> dict[str, Any]:
    channels = int(content.network_def.get("in_channels", 1))
    size = content.preprocessing.size
    return {
        "name": content.name,
        "version": content.version,
        "changelog": {content.version: "made by radiolucent train"},
        "monai_version": "1.5.0",
        "pytorch_version": torch.__version__.split("+")[0],
        "numpy_version": "1.26",
        "required_packages_version": {"radiolucent": __version__},
        "task": "Pneumonia on frontal chest radiographs",
        "description": content.title,
        "authorship": "The Radiolucent team",
        "copyright": "Apache-2.0; see docs/README.md for the data's attribution",
        "data_type": "DICOM, PNG, JPEG, TIFF",
        "image_classes": "single channel, standardised",
        "pred_classes": " / ".join(content.classes),
        "intended_use": content.intended_use,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "magnitude",
                    "modality": "CR/DX",
                    "num_channels": channels,
                    "spatial_shape": [size, size],
                    "dtype": "float32",
                    "value_range": [-content.preprocessing.clip, content.preprocessing.clip],
                    "is_patch_data": False,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "logits",
                    "format": "classification",
                    "num_channels": 1,
                    "spatial_shape": [],
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": False,
                    "channel_def": {"0": content.classes[-1]},
                }
            },
        },
        "radiolucent": {
            "title": content.title,
            "architecture": content.architecture,
            "classes": list(content.classes),
            "input_shape": [channels, size, size],
            "limitations": list(content.limitations),
            "training_data": list(content.training_data),
            "operating_points": [asdict(p) for p in content.operating_points],
            "conformal": asdict(content.conformal) if content.conformal else None,
            "metrics": dict(content.metrics),
            "layers": list(content.layers),
            "default_layer": content.default_layer,
            "parameters": sum(p.numel() for p in content.network.parameters()),
            "map_scales": dict(content.map_scales),
            "provenance": dict(content.provenance),
        },
    }
