"""Fixtures that every test folder shares."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import hypothesis
import pytest

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("RADIOLUCENT_CACHE", "")  # nothing is left in the user's cache folder

# a machine that is busy must not fail a test: no example has a time limit
hypothesis.settings.register_profile("radiolucent", deadline=None)
hypothesis.settings.load_profile("radiolucent")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images (RADIOLUCENT_DATA or ../shared/data); skips where there is none."""
    folder = Path(os.environ.get("RADIOLUCENT_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "README.md").is_file():
        pytest.skip(f"no real images here ({folder}); set RADIOLUCENT_DATA")
    return folder


@pytest.fixture(scope="session")
def dcm2pnm() -> str:
    """Path of dcmtk's dcm2pnm; skips where dcmtk is not installed (Debian: apt-get install dcmtk)."""
    tool = shutil.which("dcm2pnm")
    if tool is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    return tool
