"""A small model with random weights and small images that its gate lets pass."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.tiny_bundle import make_bundle


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="session")
def image_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom as DICOM, 300 × 260."""
    from xai_engine.radiograph import phantom

    path = tmp_path_factory.mktemp("images") / "chest.dcm"
    phantom.write_dicom(phantom.make(3, rows=300, columns=260), path)
    return path


@pytest.fixture(scope="session")
def flat_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image without anything to see, which the gate refuses."""
    from PIL import Image

    path = tmp_path_factory.mktemp("images") / "flat.png"
    Image.fromarray(np.full((300, 260), 77, np.uint8)).save(path)
    return path
