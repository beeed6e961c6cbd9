"""How fast files are read: ours from the path to a Radiograph, pydicom from the path to its pixel array."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from xai_engine.bench.figures import Figure, Peer, median, timed

SIDE = 2048


def files(folder: Path, pixels: np.ndarray) -> dict[str, Path]:
    """The same 12-bit picture (rows, columns) uint16, written in each transfer syntax for which there is an encoder."""
    import pydicom
    from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

    from xai_engine.radiograph import phantom

    plain = folder / "plain.dcm"
    phantom.write_dicom(pixels, plain)
    written = {"uncompressed": plain}
    for name, syntax in (("RLE", RLELossless), ("JPEG-LS", JPEGLSLossless), ("JPEG 2000", JPEG2000Lossless)):
        dataset = pydicom.dcmread(plain)
        dataset.compress(syntax, generate_instance_uid=False)
        path = folder / f"{name.replace(' ', '')}.dcm"
        dataset.save_as(path)
        written[name] = path
    return written


def measure(repeats: int) -> list[Figure]:
    """Megapixels per second for each transfer syntax, with the difference from pydicom's array."""
    import pydicom

    from xai_engine.radiograph import phantom, read

    figures = []
    image = phantom.make(1, rows=SIDE, columns=SIDE)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files(Path(folder), image).items():
            ours, radiograph = timed(lambda p=path: read.read(p), repeats, time.perf_counter)
            theirs, array = timed(lambda p=path: pydicom.dcmread(p).pixel_array, repeats, time.perf_counter)
            difference = float(np.abs(radiograph.pixels.astype(np.float64) - array).max())
            rates = tuple(SIDE * SIDE / 1e6 / s for s in ours)
            figures.append(
                Figure(
                    key=f"read-{name.lower().replace(' ', '-')}",
                    title=f"Reading DICOM, {name}, {SIDE}×{SIDE}",
                    value=median(rates),
                    unit="MP/s",
                    higher_is_better=True,
                    samples=rates,
                    peers=(
                        Peer(
                            "pydicom: dcmread and pixel_array",
                            SIDE * SIDE / 1e6 / median(theirs),
                            {"largest difference": difference},
                            "ours hashes the file and reads every tag too",
                        ),
                    ),
                )
            )
    return figures
