"""Is this an image the model may read? Sentences for the reader, never an exception."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xai_engine.classifier.lungs import LungFields

MIN_SIDE = 96  # pixels; below, no opacity that matters is resolved


@dataclass(frozen=True, slots=True)
class GateSpec:
    """Limits of a bundle's gate, chosen on its training images.

    smallest, largest: share of the image that both lungs together may take; balance: smaller lung over larger;
    contrast: standard deviation of the grey values in [0, 1]; certainty: mean probability inside the lung mask.
    """

    smallest: float = 0.06
    largest: float = 0.75
    balance: float = 0.2
    contrast: float = 0.04
    certainty: float = 0.75


def judge(
    grey: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_], lungs: LungFields | None, spec: GateSpec
) -> str:
    """"" when the image may be read, else one sentence that says why not."""
    rows, columns = grey.shape
    if min(rows, columns) < MIN_SIDE:
        return f"The image is too small to judge ({columns} × {rows} pixels)."
    if not valid.any() or float(grey[valid].std()) < spec.contrast:
        return "The image is blank or has almost no contrast."
    if lungs is None:
        return ""
    if lungs.box is None:
        return "No lung fields were found: this does not look like a frontal chest radiograph."
    smaller, larger = sorted(lungs.areas)
    if smaller + larger < spec.smallest:
        return "The lung fields found are too small for a frontal chest radiograph."
    if smaller + larger > spec.largest:
        return "The lung fields found are too large: the image may be cropped to a part of the chest."
    if smaller < spec.balance * larger:
        return "Only one lung field was found: the view may be lateral, or the image cropped."
    if float(lungs.probability[lungs.mask].mean()) < spec.certainty:
        return "The lung fields are too uncertain: this does not look like a frontal chest radiograph."
    return ""
