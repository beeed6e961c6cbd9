"""Model bundles in MONAI's layout: found, verified, loaded. Weights are safetensors only; nothing here unpickles.

<bundle>/configs/metadata.json    MONAI metadata plus the section "radiolucent"
<bundle>/configs/inference.json   network_def, lungs_def, gate_def, preprocessing, calibration, gate
<bundle>/models/model.safetensors, models/lungs.safetensors, models/gate.safetensors
<bundle>/docs/README.md           the model card
<bundle>/manifest.json            SHA-256 of everything in configs/ and models/
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_engine.classifier import manifest
from xai_engine.classifier.types import ConformalLimits, ModelInfo, OperatingPoint
from xai_engine.errors import ModelError
from xai_engine.paths import models_dir
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier
    from xai_engine.runtime.device import DevicePolicy

DEFAULT = "pneumonia-cxr"


def installed() -> list[Path]:
    """Bundles shipped with this installation."""
    folder = models_dir()
    found = [p.parent.parent for p in folder.glob("*/configs/metadata.json")] if folder.is_dir() else []
    return sorted(found)


def find(name: str | Path | None = None) -> Path:
    """Folder of a bundle: a path, the name of an installed one, or the default. Raises ModelError."""
    wanted = str(name) if name else DEFAULT
    candidates = [Path(wanted), models_dir() / wanted] if name else [models_dir() / wanted]
    for path in candidates:
        if (path / "configs").is_dir() or (path / manifest.NAME).is_file():
            return path.resolve()
    names = ", ".join(p.name for p in installed()) or "none"
    raise ModelError(f"{wanted}: no such model bundle (installed: {names})")


def read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{path}: cannot be read ({type(error).__name__}); install the model again"
        ) from error
    if not isinstance(value, dict):
        raise ModelError(f"{path}: not an object; install the model again")
    return value


def info(bundle: Path) -> ModelInfo:
    """Verify a bundle and describe it, without loading torch. Raises ModelError."""
    digest = manifest.verify(bundle)
    metadata = read_json(bundle / "configs" / "metadata.json")
    try:
        ours = metadata["radiolucent"]
        return ModelInfo(
            name=metadata["name"],
            version=metadata["version"],
            sha256=digest,
            title=ours["title"],
            architecture=ours["architecture"],
            classes=tuple(ours["classes"]),
            input_shape=tuple(ours["input_shape"]),
            intended_use=metadata["intended_use"],
            limitations=tuple(ours["limitations"]),
            training_data=tuple(ours["training_data"]),
            operating_points=tuple(
                OperatingPoint(
                    p["name"],
                    float(p["threshold"]),
                    tuple(p["sensitivity"]),
                    tuple(p["specificity"]),
                    p["population"],
                )
                for p in ours["operating_points"]
            ),
            metrics=dict(ours["metrics"]),
            layers=tuple(ours["layers"]),
            default_layer=ours["default_layer"],
            parameters=int(ours["parameters"]),
            map_scales={k: float(v) for k, v in ours["map_scales"].items()},
            conformal=_conformal(ours.get("conformal")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{bundle}: metadata is incomplete ({error}); install the model again") from error


def _conformal(value: dict[str, Any] | None) -> ConformalLimits | None:
    if not value:
        return None
    first, last = (float(v) for v in value["limits"])
    return ConformalLimits(float(value["error_rate"]), (first, last), str(value["population"]))


def load(bundle: Path, policy: DevicePolicy | None = None, run: Run | None = None) -> Classifier:
    """Verify and load. Raises ModelError for a missing, altered or unfit bundle, Cancelled."""
    run = run or Run()
    run.check(0.0, "loading the libraries")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from xai_engine.classifier import calibration as calibrations
    from xai_engine.classifier.gate import GateNetwork
    from xai_engine.classifier.lungs import LungFinder
    from xai_engine.classifier.network import build
    from xai_engine.classifier.predict import Classifier
    from xai_engine.classifier.preprocess import PreprocessSpec
    from xai_engine.classifier.weights import digest

    run.check(0.1, "checking the model's files")
    description = info(bundle)
    config = read_json(bundle / "configs" / "inference.json")
    try:
        run.check(0.2, "loading the classifier")
        network = build(config["network_def"])
        network.load_state_dict(load_file(bundle / "models" / "model.safetensors"))
        finder = None
        if "lungs_def" in config:
            run.check(0.3, "loading the lung model, some seconds the first time")
            lungs = build(config["lungs_def"])
            lungs.load_state_dict(load_file(bundle / "models" / "lungs.safetensors"))
            finder = LungFinder(lungs)
        gate = None
        if "gate_def" in config:
            run.check(0.9, "loading the gate")
            judge = build(config["gate_def"])
            judge.load_state_dict(load_file(bundle / "models" / "gate.safetensors"))
            gate = GateNetwork(judge)
        preprocessing = PreprocessSpec(**config["preprocessing"])
        calibration = calibrations.from_json(config["calibration"])
    except (KeyError, TypeError, ValueError, RuntimeError, OSError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(
            f"{bundle}: the weights do not fit the configuration ({reason}); install it again"
        ) from error
    on_record = digest(network)
    loaded = Classifier(
        description, network, finder, gate, preprocessing, calibration, config.get("gate", {}), policy
    )
    loaded.weights_on_record = on_record
    return loaded
