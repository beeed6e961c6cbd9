"""One image with its label, and the error that lists what is wrong with a set of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xai_engine.errors import RadiolucentError

SPLITS = ("train", "val", "test")


class ManifestError(RadiolucentError):
    """The data cannot be used as described; `problems` has one line each. Exit code 3, nothing trained.

    usable: the samples in which nothing was wrong, so that a fuller check can go on with them.
    """

    exit_code = 3

    def __init__(self, source: Path | str, problems: Sequence[str], usable: Sequence[Sample] = ()) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.usable = tuple(usable)
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{source}: {count}: {shown}")

    def __reduce__(self) -> tuple[Any, ...]:
        return ManifestError, (self.source, self.problems, self.usable)


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label.

    label: probability that it is pneumonia (0, 1, or between where annotators disagree); weight: of its loss.
    sure: the label may be used for measuring (a reader's verdict, not text mining).
    aspect: height / width of the image in the patient over rows / columns as stored (1 = not squashed).
    boxes: x, y, width, height in stored pixels. groups: subgroup name -> value.
    place: where it is listed ("line 7", or the path below the folder), for messages.
    height: rows of the image at the detector, 0 where the manifest does not say (a shortcut that `evaluate` measures).
    targets: further findings that are taught beside the label (see `further`), those that are known: name -> 0 … 1.
    """

    path: Path
    label: float
    weight: float
    sure: bool
    patient: str
    split: str
    population: str
    aspect: float
    mask: Path | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)
    place: str = ""
    height: float = 0.0
    targets: Mapping[str, float] = field(default_factory=dict)
