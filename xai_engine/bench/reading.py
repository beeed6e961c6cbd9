"""How fast files are read: ours from the path to a Radiograph, pydicom from the path to its pixel array."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.bench.figures import Figure, Peer, median, timed

SIDE = 2048


def write_files(folder: Path, side: int = SIDE) -> dict[str, Path]:
    """One 12-bit phantom, written in each transfer syntax for which there is an encoder; name → file."""
    import pydicom
    from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

    from xai_engine.radiograph import phantom

    plain = folder / "plain.dcm"
    phantom.write_dicom(phantom.make(1, rows=side, columns=side), plain)
    written = {"uncompressed": plain}
    for name, syntax in (("RLE", RLELossless), ("JPEG-LS", JPEGLSLossless), ("JPEG 2000", JPEG2000Lossless)):
        dataset = pydicom.dcmread(plain)
        dataset.compress(syntax, generate_instance_uid=False)
        path = folder / f"{name.replace(' ', '-')}.dcm"
        dataset.save_as(path)
        written[name] = path
    return written


def measure(repeats: int, peers: bool, side: int = SIDE) -> list[Figure]:
    """Megapixels per second for each transfer syntax; the peer's result is compared pixel by pixel."""
    from xai_engine.radiograph import read

    megapixels = side * side / 1e6
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for name, path in write_files(Path(folder), side).items():
            ours, radiograph = timed(partial(read.read, path), repeats, time.perf_counter)
            rates = tuple(megapixels / s for s in ours)
            beside: list[Peer] = []
            if peers:
                theirs, array = timed(partial(_pydicom, path), repeats, time.perf_counter)
                difference = float(np.abs(radiograph.pixels.astype(np.float64) - array).max())
                note = "ours also hashes the file and reads every tag"
                rate = megapixels / median(theirs)
                beside.append(
                    Peer("pydicom: dcmread, pixel_array", rate, {"largest difference": difference}, note)
                )
            figures.append(
                Figure(
                    f"read-{name.lower().replace(' ', '-')}",
                    f"Reading DICOM, {name}, {side}×{side}",
                    median(rates),
                    "MP/s",
                    higher_is_better=True,
                    samples=rates,
                    peers=tuple(beside),
                )
            )
    return figures


def _pydicom(path: Path) -> npt.NDArray[Any]:
    import pydicom

    return pydicom.dcmread(path).pixel_array
