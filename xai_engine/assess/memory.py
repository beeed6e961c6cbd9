"""What is measured once per model is kept on disk: one small JSON file each in the user's cache folder.

A file is named by a hash of all weights, the target, the preprocessing and what was measured. It holds nothing of any patient.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from xai_engine.classifier import weights
from xai_engine.errors import OutputError
from xai_engine.explain.protocol import Explainable
from xai_engine.runtime import atomic


def folder() -> Path | None:
    """RADIOLUCENT_CACHE (empty: nowhere, the process' memory only) or the system's cache folder of the user."""
    chosen = os.environ.get("RADIOLUCENT_CACHE")
    if chosen is not None:
        return Path(chosen) / "randomisation" if chosen else None
    from platformdirs import user_cache_path

    return user_cache_path("radiolucent", appauthor=False) / "randomisation"


def key(classifier: Explainable, target: str, **measured: Any) -> str:
    """The name under which something measured of this model is kept. measured: what, of which rule, with which settings."""
    about: dict[str, Any] = {
        "model": weights.digest(classifier.network),
        "layer": classifier.info.default_layer,
        "shape": list(classifier.info.input_shape),
        "target": target,
        "precision": classifier.precision,
        "device": classifier.device,
        **measured,
    }
    preprocessing = getattr(classifier, "preprocessing", None)
    if preprocessing is not None:
        about["preprocessing"] = asdict(preprocessing)
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def read(name: str) -> Any:
    """What was written under this name; {} where there is nothing to be read."""
    place = folder()
    if place is None:
        return {}
    try:
        return json.loads((place / f"{name}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write(name: str, data: dict[str, Any]) -> None:
    """A cache that cannot be written costs time, nothing else."""
    place = folder()
    if place is None:
        return
    with suppress(OSError, OutputError):
        place.mkdir(parents=True, exist_ok=True)
        with atomic.file(place / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(data), encoding="utf-8")
