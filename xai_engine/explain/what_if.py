"""What if a region looked otherwise? The result of asking, as window, record and report use it. Loads no torch.

The asking is in `explain.compute.what_if`; what is kept of the original while asking, and why, stands there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from xai_engine.radiograph.regions import Region

Fill = Literal["inpaint", "blur", "mirror", "mean"]
FILLS: tuple[str, ...] = get_args(Fill)
TITLES: dict[str, str] = {
    "inpaint": "filled in from its surroundings",
    "blur": "blurred",
    "mirror": "replaced by the mirror region",
    "mean": "replaced by the local mean",
}


@dataclass(frozen=True, slots=True)
class Score:
    """logit: the network's output for its finding; probability: calibrated."""

    logit: float
    probability: float


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """The changed part of the image, to be laid over the original for the preview.

    row, column: of its first pixel in the source image. values: (rows, columns) in the image's pixel values and dtype;
    where `changed` is False they are the original's. Both read-only.
    """

    row: int
    column: int
    values: npt.NDArray[np.generic]
    changed: npt.NDArray[np.bool_]

    def on(self, pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        """A copy of the image (rows, columns) with the patch laid over it, read-only."""
        out = pixels.copy()
        rows, columns = self.values.shape
        here = out[self.row : self.row + rows, self.column : self.column + columns]
        here[self.changed] = self.values[self.changed]
        out.flags.writeable = False
        return out


@dataclass(frozen=True, slots=True, eq=False)
class WhatIf:
    """How the score answers when one region is changed and nothing else.

    before, after: scores of the finding (the model's last class), with lungs, crop and grey scale of the original.
    anew: the changed image read from the start, lungs found again and grey scale taken anew; None where not asked.
    reference: `after` of random regions of the same shape inside the lungs, changed the same way; may be empty.
    share_shown: of the region's area, how much the network is shown at all, in [0, 1].
    params: of the fill, JSON-ready. partial: stopped before all random regions were scored.
    """

    region: Region
    fill: Fill
    params: dict[str, Any]
    before: Score
    after: Score
    anew: Score | None
    reference: tuple[Score, ...]
    share_shown: float
    patch: Patch | None
    seed: int
    forwards: int
    seconds: float
    partial: bool
    image_sha256: str
    model_sha256: str
    engine_version: str
    device: str
    precision: str
    notes: tuple[str, ...] = field(default=())

    @property
    def change(self) -> Score:
        """After minus before."""
        return Score(self.after.logit - self.before.logit, self.after.probability - self.before.probability)

    @property
    def reference_range(self) -> tuple[float, float] | None:
        """Lowest and highest probability of the random regions; None without any."""
        if not self.reference:
            return None
        values = [score.probability for score in self.reference]
        return min(values), max(values)

    @property
    def as_strong(self) -> int:
        """How many random regions move the logit at least as far, in either direction."""
        return sum(abs(s.logit - self.before.logit) >= abs(self.change.logit) for s in self.reference)

    @property
    def stands_out(self) -> bool | None:
        """True where the logit moves farther than with every random region; None with fewer than ten of them."""
        return None if len(self.reference) < 10 else self.as_strong == 0

    def to_json(self) -> dict[str, Any]:
        """For "what_if" of an entry of "rois" in `analysis.json`. The picture is not in it."""
        spread = self.reference_range
        return {
            "fill": self.fill,
            "params": dict(self.params),
            "before": _score(self.before),
            "after": _score(self.after),
            "change": _score(self.change),
            "anew": None if self.anew is None else _score(self.anew),
            "reference": {
                "count": len(self.reference),
                "low": spread[0] if spread else None,
                "high": spread[1] if spread else None,
                "as_strong": self.as_strong,
                "scores": [_score(score) for score in self.reference],
            },
            "share_shown": self.share_shown,
            "seed": self.seed,
            "forwards": self.forwards,
            "seconds": self.seconds,
            "partial": self.partial,
            "device": self.device,
            "precision": self.precision,
            "notes": list(self.notes),
        }


def from_json(
    data: Mapping[str, Any], region: Region, image_sha256: str, model_sha256: str, engine_version: str
) -> WhatIf:
    """What `to_json` wrote, without the picture. Raises KeyError, TypeError, ValueError for anything else."""
    if data["fill"] not in FILLS:
        raise ValueError(f"no fill {data['fill']!r}")
    return WhatIf(
        region=region,
        fill=data["fill"],
        params=dict(data["params"]),
        before=_read(data["before"]),
        after=_read(data["after"]),
        anew=None if data["anew"] is None else _read(data["anew"]),
        reference=tuple(_read(score) for score in data["reference"]["scores"]),
        share_shown=float(data["share_shown"]),
        patch=None,
        seed=int(data["seed"]),
        forwards=int(data["forwards"]),
        seconds=float(data["seconds"]),
        partial=bool(data["partial"]),
        image_sha256=image_sha256,
        model_sha256=model_sha256,
        engine_version=engine_version,
        device=str(data["device"]),
        precision=str(data["precision"]),
        notes=tuple(str(note) for note in data["notes"]),
    )


def _score(score: Score) -> dict[str, float]:
    return {"probability": score.probability, "logit": score.logit}


def _read(data: Mapping[str, Any]) -> Score:
    return Score(float(data["logit"]), float(data["probability"]))
