"""What the classifier says, and what it was shown. Loads no torch, so the window can use these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xai_engine.radiograph.geometry import GridTransform


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold on the calibrated probability and what it meant on validation or test data.

    Each of `sensitivity`, `specificity`: (value, lower, upper), Wilson 95 % interval; `population`: whom it was measured on.
    """

    name: str
    threshold: float
    sensitivity: tuple[float, float, float]
    specificity: tuple[float, float, float]
    population: str


@dataclass(frozen=True, slots=True)
class ConformalLimits:
    """Limits of prediction sets (split conformal, Vovk 2005), fitted on calibration images.

    limits: largest 1 - probability that still lets the first and the last class in (1: always in);
    error_rate: share of sets that may miss the truth; population: whom they were fitted on.
    """

    error_rate: float
    limits: tuple[float, float]
    population: str

    def members(self, probability: float) -> tuple[bool, bool]:
        """Whether the first and the last class belong to the set; `probability` is of the last."""
        return probability <= self.limits[0], 1 - probability <= self.limits[1]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Identity and card summary of a bundle. `sha256` is the digest of the bundle's manifest (weights and configs)."""

    name: str
    version: str
    sha256: str
    title: str
    architecture: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    intended_use: str
    limitations: tuple[str, ...]
    training_data: tuple[str, ...]
    operating_points: tuple[OperatingPoint, ...]
    metrics: dict[str, float | str]
    layers: tuple[str, ...]
    default_layer: str
    parameters: int
    map_scales: dict[str, float]
    conformal: ConformalLimits | None = None


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What the network is shown of one radiograph.

    array: float32 (channels, rows, columns), read-only, normalised as the bundle says, zero where `valid` is False.
    valid: (rows, columns) bool, False in the padding around the image.
    transform: from the grid of `array` to source pixels.
    """

    array: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    transform: GridTransform
    image_sha256: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """The classifier's statement on one image.

    logit: the network's raw output for pneumonia; probability: calibrated, of pneumonia, in [0, 1];
    threshold: of the operating point in use (on the probability); label: a class name;
    uncertainty: standard deviation of the probability over small harmless changes of the image;
    readable False comes with `refusal`, a sentence, and then the other numbers must not be used;
    offer: corrections (`radiograph.correct`) after which the image would be accepted, () where there are none;
    prediction_set: the classes that the model cannot rule out at the error rate of `model.conformal` (none, one or
    both); None where the bundle has no limits.
    """

    label: str
    probability: float
    logit: float
    threshold: float
    uncertainty: float
    operating_point: OperatingPoint
    readable: bool
    refusal: str
    model: ModelInfo
    device: str
    precision: str
    seconds: float
    offer: tuple[str, ...] = ()
    prediction_set: tuple[str, ...] | None = None
