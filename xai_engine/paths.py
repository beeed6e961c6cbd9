"""Where shipped files (models, resources) are found: the same call in a checkout, a wheel and a frozen folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def data_root() -> Path:
    """Folder that holds `models/` and `resources/`.

    An installed wheel and a PyInstaller folder carry them in `xai_engine/_data`; a checkout has them beside
    the package.
    """
    package = Path(__file__).resolve().parent
    installed = package / "_data"
    return installed if installed.is_dir() else package.parent


def models_dir() -> Path:
    return data_root() / "models"


def resources_dir() -> Path:
    return data_root() / "resources"
