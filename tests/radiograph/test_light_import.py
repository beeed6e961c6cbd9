"""Reading and display start fast: nothing heavy at import, no deep-learning library even after reading."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.radiograph.dicom_files import dataset, save

CODE = """
import sys
from xai_engine.radiograph import read, display
early = [m for m in ("pydicom", "PIL", "cv2", "tifffile", "scipy", "skimage") if m in sys.modules]
r = read.read(sys.argv[1])
display.picture(r, display.select(r, "default"))
late = [m for m in ("torch", "monai", "skimage", "scipy", "cv2", "PySide6") if m in sys.modules]
print(early, late)
"""


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    path = save(dataset(np.arange(64, dtype="u2").reshape(8, 8)), tmp_path / "i.dcm")
    done = subprocess.run([sys.executable, "-c", CODE, path], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("[] []", "")
