"""What a run leaves beside its bundle, so that it can be made again: configuration, log, curves, environment."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xai_engine.runtime import atomic, device
from xai_engine.train import checkpoint, curves, soup

PARTS = ("lungs", "gate")


def portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration without this machine's paths."""
    return {key: key if key in PARTS else value for key, value in config.items()}


def begin(out: Path, config: Mapping[str, Any], policy: device.DevicePolicy, processes: int) -> None:
    """Write the complete configuration and the environment into the run's folder. Raises OutputError."""
    environment = device.environment(policy) | {"precision": config["precision"], "processes": processes}
    recipe = {key: value for key, value in config.items() if key not in PARTS}
    for name, content in (("config.json", recipe), ("environment.json", environment)):
        with atomic.file(out / name) as path:
            path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def keep(out: Path, runs: Path, bundle: Path) -> list[str]:
    """Copy them into the bundle's docs/, with the logs of the lung and gate networks trained in `runs`.

    Returns the names. Raises OutputError.
    """
    found = {
        "training-config.json": out / "config.json",
        "training-environment.json": out / "environment.json",
        "training-log.csv": out / checkpoint.LOG,
        "training-curves.png": out / curves.PICTURE,
        "training-soup.csv": out / soup.NAME,
    } | {f"{part}-log.csv": runs / part / checkpoint.LOG for part in PARTS}
    kept = [name for name, source in found.items() if source.is_file()]
    for name in kept:
        with atomic.file(bundle / "docs" / name) as path:
            shutil.copyfile(found[name], path)
    return kept
