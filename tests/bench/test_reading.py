"""The files that reading is measured on hold one and the same picture, each in its own syntax."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom

from xai_engine.bench import reading
from xai_engine.radiograph import phantom


def test_every_syntax_holds_the_same_pixels(tmp_path: Path) -> None:
    files = reading.write_files(tmp_path, side=128)
    expected = phantom.make(1, rows=128, columns=128).pixels
    syntaxes = set()
    for path in files.values():
        dataset = pydicom.dcmread(path)
        syntaxes.add(dataset.file_meta.TransferSyntaxUID)
        np.testing.assert_array_equal(dataset.pixel_array, expected)
    assert len(syntaxes) == len(files) == 4


def test_peer_reads_the_same_values() -> None:
    figures = reading.measure(1, peers=True, side=128)
    assert [f.peers[0].agreement["largest difference"] for f in figures] == [0.0] * 4
    assert all(f.value and f.peers[0].value for f in figures)
