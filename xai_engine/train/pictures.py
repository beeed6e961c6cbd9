"""Pictures that are no chest radiograph, for measuring the gate: never used for training it.

From what packages carry (scikit-learn, Matplotlib, scikit-image's stereo pair and phantom, pydicom's test files) and from
generators of other make than those in `negatives`. Packages that are not installed are left out.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Bytes = npt.NDArray[np.uint8]
NOTES = {
    "colour photo": "scikit-learn, Matplotlib and scikit-image's sample pictures, and windows of them",
    "page of text": "typeset with Matplotlib's fonts",
    "diagram": "plots drawn by Matplotlib",
    "section (CT, MR)": "pydicom's test files, Matplotlib's MR slice, Shepp-Logan phantoms bent at random",
    "blank": "one value, or a little noise on it",
    "noise": "uniform, Poisson and coarse random fields",
}


def write(folder: Path, rng: np.random.Generator) -> Iterator[tuple[str, Path]]:
    """(kind, file) of each picture; files are written to `folder` where they are not there already."""
    from PIL import Image

    made = 0
    sources: tuple[tuple[str, Callable[[np.random.Generator], Iterator[Bytes]]], ...] = (
        ("colour photo", _photos),
        ("page of text", _pages),
        ("diagram", _diagrams),
        ("section (CT, MR)", _sections),
        ("blank", _blank),
        ("noise", _noise),
    )
    for kind, source in sources:
        for picture in source(rng):
            made += 1
            path = folder / f"{made}.png"
            Image.fromarray(picture).save(path)
            yield kind, path
    for path in _slices():
        yield "section (CT, MR)", path


def _photos(rng: np.random.Generator) -> Iterator[Bytes]:
    from PIL import Image

    files: list[Path] = []
    for package, names in (
        ("sklearn", ("datasets/images/china.jpg", "datasets/images/flower.jpg")),
        ("matplotlib", ("mpl-data/sample_data/grace_hopper.jpg", "mpl-data/sample_data/Minduka_Present_Blue_Pack.png")),
        ("skimage", ("data/motorcycle_left.png", "data/ihc.png")),
    ):  # fmt: skip
        folder = _folder(package)
        files += [folder / name for name in names] if folder else []
    for path in files:
        if not path.is_file():
            continue
        whole = np.asarray(Image.open(path).convert("RGB"))
        yield whole
        for _ in range(4):
            side = int(rng.uniform(0.4, 0.8) * min(whole.shape[:2]))
            top, left = (int(rng.integers(0, n - side + 1)) for n in whole.shape[:2])
            window = Image.fromarray(whole[top : top + side, left : left + side])
            yield np.asarray(window.resize((max(side, 200),) * 2))


def _figure(rng: np.random.Generator) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(rng.uniform(4, 7), rng.uniform(4, 7)), dpi=80)
    return figure, FigureCanvasAgg(figure)


def _drawn(canvas: Any) -> Bytes:
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


WORDS = [
    "the",
    "lungs",
    "are",
    "clear",
    "no",
    "focal",
    "opacity",
    "pleural",
    "effusion",
    "or",
    "pneumothorax",
    "heart",
    "size",
    "is",
    "normal",
    "compared",
    "with",
    "the",
    "previous",
    "examination",
    "there",
    "is",
    "new",
    "airspace",
    "opacity",
    "in",
    "the",
    "right",
    "lower",
    "zone",
    "follow",
    "up",
    "is",
    "advised",
]


def _pages(rng: np.random.Generator) -> Iterator[Bytes]:
    if not find_spec("matplotlib"):
        return
    for _ in range(20):
        figure, canvas = _figure(rng)
        size = float(rng.uniform(7, 16))
        for row in np.arange(0.96, 0.02, -size / 300):
            words = " ".join(rng.choice(WORDS, int(rng.integers(3, 16))))
            figure.text(
                0.06, row, words, size=size, family=str(rng.choice(["serif", "sans-serif", "monospace"]))
            )
        yield _drawn(canvas)


def _diagrams(rng: np.random.Generator) -> Iterator[Bytes]:
    if not find_spec("matplotlib"):
        return
    for k in range(24):
        figure, canvas = _figure(rng)
        axis = figure.subplots()
        if k % 4 == 0:
            for _ in range(int(rng.integers(1, 5))):
                axis.plot(rng.normal(size=60).cumsum())
        elif k % 4 == 1:
            axis.bar(range(8), rng.random(8), color=f"C{k % 10}")
        elif k % 4 == 2:
            axis.scatter(*rng.normal(size=(2, 150)), c=rng.random(150))
        else:
            axis.imshow(
                rng.random((int(rng.integers(4, 20)),) * 2),
                cmap=str(rng.choice(["viridis", "gray", "magma"])),
            )
        yield _drawn(canvas)


def _sections(rng: np.random.Generator) -> Iterator[Bytes]:
    import cv2

    folder = _folder("matplotlib")
    slice_of_head = folder / "mpl-data" / "sample_data" / "s1045.ima.gz" if folder else None
    if slice_of_head is not None and slice_of_head.is_file():
        values = np.frombuffer(gzip.decompress(slice_of_head.read_bytes()), np.uint16).reshape(256, 256)
        yield (values.astype(np.float32) / values.max() * 255).astype(np.uint8)
    folder = _folder("skimage")
    phantom = folder / "data" / "phantom.png" if folder else None
    if phantom is None or not phantom.is_file():
        return
    image = cv2.imread(str(phantom), cv2.IMREAD_GRAYSCALE)
    assert image is not None
    rows, columns = image.shape
    y, x = np.mgrid[:rows, :columns].astype(np.float32)
    for _ in range(16):
        bend = [cv2.resize(rng.normal(0, 14, (4, 4)).astype(np.float32), (columns, rows), interpolation=cv2.INTER_CUBIC) for _ in range(2)]  # fmt: skip
        warped = cv2.remap(image, x + bend[0], y + bend[1], cv2.INTER_LINEAR)
        noisy = warped.astype(np.float32) ** rng.uniform(0.8, 1.1) + rng.normal(
            0, rng.uniform(1, 8), image.shape
        )
        yield np.clip(noisy, 0, 255).astype(np.uint8)


def _slices() -> Iterator[Path]:
    """CT and MR files of pydicom's own tests."""
    folder = _folder("pydicom")
    for name in (
        "CT_small.dcm",
        "MR_small.dcm",
        "693_J2KI.dcm",
        "examples_palette.dcm",
        "examples_rgb_color.dcm",
    ):
        path = (folder or Path()) / "data" / "test_files" / name
        if folder and path.is_file():
            yield path


def _blank(rng: np.random.Generator) -> Iterator[Bytes]:
    for k in range(12):
        level = float(rng.uniform(0, 255))
        image = np.full((int(rng.integers(150, 500)), int(rng.integers(150, 500))), level)
        if k % 2:
            image += rng.normal(0, 0.7, image.shape)
        yield np.clip(np.round(image), 0, 255).astype(np.uint8)


def _noise(rng: np.random.Generator) -> Iterator[Bytes]:
    import cv2

    for k in range(24):
        side = int(rng.integers(160, 420))
        image: npt.NDArray[Any]
        if k % 3 == 0:
            image = rng.random((side, side)) * 255
        elif k % 3 == 1:
            image = rng.poisson(rng.uniform(2, 60), (side, side)) * 2.0
        else:
            coarse = rng.random((int(rng.integers(3, 12)),) * 2).astype(np.float32)
            image = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_CUBIC) * 255
        yield np.clip(image, 0, 255).astype(np.uint8)


def _folder(package: str) -> Path | None:
    spec = find_spec(package)
    return Path(spec.origin).parent if spec is not None and spec.origin else None
