"""Is this an image the model may read? Sentences for the reader, never an exception.

Two witnesses: a small network that has seen frontal chests (turned and inverted, too) and other pictures, and the lung
fields themselves (both there, of plausible size, balance and place).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xai_engine.classifier import preprocess
from xai_engine.classifier.lungs import LungFields

MIN_SIDE = 96  # pixels; below, no opacity that matters is resolved
SIZE = 128  # side of the gate network's grid
GRAIN_SIDE = 224  # pixels of the longer side at which noise is measured
OUTPUTS = 6  # chest; 0, 1, 2, 3 quarter turns counter-clockwise; inverted
_SPEC = preprocess.PreprocessSpec(size=SIZE, margin=0.0)


@dataclass(frozen=True, slots=True)
class Impression:
    """What the gate network sees: probability of a frontal chest, quarter turns (counter-clockwise) that it was turned
    by with their probability, probability that it is inverted."""

    chest: float
    turns: int
    turn_certainty: float
    inverted: float


def gate_input(grey: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(128, 128) grey and validity -> network input."""
    return preprocess.standardise(grey.astype(np.float32), valid, _SPEC)


class GateNetwork:
    """Runs the gate's network; holds no other state."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    def look(
        self, images: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.bool_], float]]
    ) -> list[Impression]:
        """Impressions of images given as (upright grey, valid, pixel aspect)."""
        device = next(self.network.parameters()).device
        inputs = []
        for grey, valid, aspect in images:
            transform = preprocess.letterbox((grey.shape[0], grey.shape[1]), SIZE, aspect)
            inputs.append(gate_input(*preprocess.sample(grey, valid, transform)))
        out: list[Impression] = []
        with torch.inference_mode():
            for start in range(0, len(inputs), 32):
                batch = torch.from_numpy(np.stack(inputs[start : start + 32])[:, None]).to(device)
                z = self.network(batch).float().cpu()
                turns = torch.softmax(z[:, 1:5], 1)
                for k in range(len(z)):
                    best = int(turns[k].argmax())
                    out.append(
                        Impression(
                            float(torch.sigmoid(z[k, 0])),
                            best,
                            float(turns[k, best]),
                            float(torch.sigmoid(z[k, 5])),
                        )
                    )
        return out


@dataclass(frozen=True, slots=True)
class GateSpec:
    """Limits of a bundle's gate, chosen on its training images.

    smallest, largest: share of the image that both lungs together may take; balance: smaller lung over larger (0.5
    was tried for lateral views, see docs/decisions/0015);
    contrast: standard deviation of the grey values in [0, 1]; certainty: mean probability inside the lung mask;
    chest: least probability of a frontal chest; turned: least certainty about which way up it is; inverted, upright:
    probability from which it is said to be inverted, and up to which it is not (between them: no chest).
    cut: share of the lungs' width that the upper and lower edge of the image may cut through, together; top: the upper
    edge alone; side: share of their height that the left or the right edge may cut through; wide: width over height of
    the box around both lungs; filled: share of the image that this box may take; tilt: degrees between the line through
    the lungs' centres and the rows. These keep out crops, strips, and images beside one another; each lies beyond what
    99 % of 462 validation radiographs show (films of children are often cut close to the diaphragm).
    grain: largest `grain_of` the image. The grainiest validation radiograph has 0.03; at 0.3 one decision in six changes.
    """

    smallest: float = 0.06
    largest: float = 0.75
    balance: float = 0.2
    contrast: float = 0.04
    certainty: float = 0.75
    chest: float = 0.4
    turned: float = 0.8
    upright: float = 0.5
    inverted: float = 0.8
    cut: float = 0.85
    top: float = 0.68
    side: float = 0.3
    wide: float = 2.3
    filled: float = 0.92
    tilt: float = 25.0
    grain: float = 0.3


def remedy(impression: Impression) -> tuple[str, ...]:
    """Corrections (`radiograph.correct`) that would put the image right as far as the network sees; () for none.

    Only a hint: whether it helps shows when the corrected image is judged.
    """
    invert = ("invert",) if impression.inverted > 0.5 else ()
    return invert + ((f"rotate-{90 * impression.turns}",) if impression.turns else ())


def judge(
    grey: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    lungs: LungFields | None,
    spec: GateSpec,
    impression: Impression | None = None,
) -> str:
    """ "" when the image may be read, else one sentence that says why not."""
    rows, columns = grey.shape
    if min(rows, columns) < MIN_SIDE:
        return f"The image is too small to judge ({columns} × {rows} pixels)."
    if not valid.any() or float(grey[valid].std()) < spec.contrast:
        return "The image is blank or has almost no contrast."
    if impression is not None:
        unsure = impression.turn_certainty < spec.turned or spec.upright < impression.inverted < spec.inverted
        if impression.chest < spec.chest or unsure:  # of a real chest the network knows which way up it is
            return "This does not look like a frontal chest radiograph."
        if impression.inverted > spec.inverted:
            return "The image seems to be inverted (lungs bright); the classifier needs dark lungs."
        if impression.turns:
            return {
                1: "The image seems to be turned by 90° to the left; turn it upright.",
                2: "The image seems to be upside down; turn it upright.",
                3: "The image seems to be turned by 90° to the right; turn it upright.",
            }[impression.turns]
    if grain_of(grey, valid) > spec.grain:
        return "The image is lost in noise: the classifier cannot read it."
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
        found = (
            "Only one lung field was found"
            if smaller == 0
            else "One lung field is much smaller than the other"
        )
        return f"{found}: the view may be lateral, or the image cropped."
    if float(lungs.probability[lungs.mask].mean()) < spec.certainty:
        return "The lung fields are too uncertain: this does not look like a frontal chest radiograph."
    return _placed_wrongly(lungs, spec)


def grain_of(grey: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]) -> float:
    """Noise over signal at about the classifier's resolution: 0 where the image is smooth, about 1 where they are equal.

    Noise: standard deviation by Immerkær's operator, which knows no planes and hardly any edges (1996, Computer Vision and Image
    Understanding 64:300). Signal: standard deviation of the image smoothed over some 2 % of its longer side.
    """
    scale = min(1.0, GRAIN_SIDE / max(grey.shape))
    size = (max(3, round(grey.shape[1] * scale)), max(3, round(grey.shape[0] * scale)))
    small = cv2.resize(grey.astype(np.float32), size, interpolation=cv2.INTER_AREA)
    there = cv2.resize(valid.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    there = cv2.erode(there, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    if not there.any():
        return 0.0
    bend = np.array([1, -2, 1], np.float32)
    noise = (
        np.abs(cv2.filter2D(small, cv2.CV_32F, np.outer(bend, bend)))[there].mean() * np.sqrt(np.pi / 2) / 6
    )
    signal = cv2.GaussianBlur(small, (0, 0), 3.0)[there].std()
    return float(noise / max(float(signal), 1e-6))


def _placed_wrongly(lungs: LungFields, spec: GateSpec) -> str:
    """Where two lungs lie in a whole, upright frontal image: what is not so in a sentence, or ""."""
    inside = np.argwhere(lungs.transform.inside())
    (top, left), (bottom, right) = inside.min(0), inside.max(0)
    columns, rows = np.flatnonzero(lungs.mask.any(0)), np.flatnonzero(lungs.mask.any(1))
    height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    # two rows each: the outermost one may lie half outside
    above, below = (int(lungs.mask[row : row + 2].any(0).sum()) for row in (top, bottom - 1))
    beside = max(int(lungs.mask[:, column : column + 2].any(1).sum()) for column in (left, right - 1))
    if (
        above + below > spec.cut * len(columns)
        or above > spec.top * len(columns)
        or beside > spec.side * len(rows)
    ):
        return "The lungs are cut off at the edge of the image: it shows only a part of the chest."
    if width > spec.wide * height:
        return "The lungs found are too wide for one chest: the image may be cropped, or show two."
    if height * width > spec.filled * (bottom - top + 1) * (right - left + 1):
        return "The lungs fill the whole image: it may be cropped to a part of the chest."
    count, _, _, centres = cv2.connectedComponentsWithStats(lungs.mask.astype(np.uint8), connectivity=4)
    if count == 3:  # the background and two lungs
        across, down = np.abs(centres[2] - centres[1])
        degrees = float(np.degrees(np.arctan2(down, across)))
        if degrees > spec.tilt:
            return f"The chest seems to be tilted by about {degrees:.0f}°; turn it upright."
    return ""
