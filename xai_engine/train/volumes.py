"""CT volumes of chests, brought to what X-rays see of them: attenuation on an even grid, the table taken away.

Axes are (z, y, x) everywhere: from head to foot, from front to back, from the patient's right to the left.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.errors import InvalidDicomError
from scipy import ndimage

from xai_engine.errors import UnreadableImage, UsageError

STEP = 1.5  # mm between the points of the grid
WATER = (
    0.018  # attenuation of water, 1/mm, at about 80 keV: the mean of a filtered beam of 120 kVp (NIST XCOM)
)
BONE = 1.25  # what lies above `DENSE` attenuates more at that energy than its CT number says
DENSE = 150.0  # HU
BODY = -300.0  # HU, between air and skin

Volume = npt.NDArray[np.float32]
Spacing = tuple[float, float, float]


def read(path: Path) -> tuple[Volume, Spacing]:
    """CT numbers (z, y, x) in HU and the distances of their points in mm. A NIfTI file or a folder with one axial DICOM series.

    Raises UnreadableImage where there is nothing of the kind, UsageError without nibabel (extra `train`) for NIfTI.
    """
    if path.is_dir():
        return _series(path)
    if not path.is_file():
        raise UnreadableImage(f"{path}: no such volume")
    try:
        import nibabel
    except ImportError:
        raise UsageError(f"{path}: reading NIfTI needs nibabel; install the extra `train`") from None
    try:
        image = nibabel.as_closest_canonical(nibabel.load(path))  # grows to the right, the front, the head
        values = np.asarray(image.dataobj, np.float32)
    except (nibabel.filebasedimages.ImageFileError, OSError, EOFError, ValueError) as error:
        raise UnreadableImage(f"{path}: cannot be read as NIfTI ({error})") from None
    if values.ndim != 3:
        raise UnreadableImage(f"{path}: has {values.ndim} axes; a CT volume has 3")
    x, y, z = (float(v) for v in image.header.get_zooms()[:3])
    return np.ascontiguousarray(values.transpose(2, 1, 0)[::-1, ::-1, ::-1]), (z, y, x)


def _series(folder: Path) -> tuple[Volume, Spacing]:
    """One axial series, its slices in the order of their positions."""
    slices = []
    for path in sorted(folder.iterdir()):
        try:
            slices.append(pydicom.dcmread(path))
        except (InvalidDicomError, OSError):
            continue  # a listing or a licence beside the slices
    if len(slices) < 2:
        raise UnreadableImage(f"{folder}: holds no series of CT slices")
    first = slices[0]
    try:
        if any(not np.allclose(s.ImageOrientationPatient, (1, 0, 0, 0, 1, 0), atol=1e-3) for s in slices):
            raise UnreadableImage(f"{folder}: slices are not axial")
        slices.sort(key=lambda s: -float(s.ImagePositionPatient[2]))
        heights = np.array([float(s.ImagePositionPatient[2]) for s in slices])
        gaps = -np.diff(heights)
        if gaps.min() <= 0 or np.ptp(gaps) > 0.01 * gaps.mean() + 1e-3:
            raise UnreadableImage(f"{folder}: slices do not lie at even distances")
        rows, columns = (float(v) for v in first.PixelSpacing)
        values = np.stack(
            [
                s.pixel_array.astype(np.float32) * float(s.RescaleSlope) + float(s.RescaleIntercept)
                for s in slices
            ]
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise UnreadableImage(f"{folder}: cannot be read as a CT series ({error})") from None
    return values, (float(gaps.mean()), rows, columns)


def even(values: Volume, spacing: Spacing) -> Volume:
    """CT numbers on a grid of `STEP` mm, air (-1000 HU) where there is no body: no table, no pillow."""
    values = np.clip(values, -1000, 2000)
    within = [0.0, *(0.3 * STEP / s for s in spacing[1:])]  # slices are thicker than the grid's step anyway
    values = ndimage.zoom(ndimage.gaussian_filter(values, within), [s / STEP for s in spacing], order=1)
    parts, _ = ndimage.label(ndimage.binary_opening(values > BODY, iterations=3))
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    if not sizes.any():
        raise UnreadableImage("the volume shows no body")
    body = parts == sizes.argmax()
    for layer in body:  # slice by slice, for the trunk is open at both ends: lungs belong to it
        layer[:] = ndimage.binary_fill_holes(layer)
    body = ndimage.binary_dilation(body, iterations=3)
    return np.where(body, values, -1000).astype(np.float32)


def attenuation(hu: Volume) -> Volume:
    """Linear attenuation in 1/mm of CT numbers."""
    mu = WATER * np.clip(1 + hu / 1000, 0, None) + WATER * (BONE - 1) * np.clip(hu - DENSE, 0, 1500) / 1000
    return np.where(hu < -980, 0, mu).astype(np.float32)
