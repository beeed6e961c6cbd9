"""The list of studies: which images are open or waiting, and what became of them. Knows no Qt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from app.model.signal import Signal

Status = Literal["waiting", "reading", "unread", "read", "refused", "error"]


@dataclass(frozen=True, eq=False)
class Study:
    """One image of the list.

    title: patient or file name; subtitle: date, modality; note: why it was refused or cannot be read;
    probability: calibrated, None before classification or where the image was refused.
    thumbnail: uint8 (rows, columns), at most 96 pixels a side, None before reading.
    """

    path: Path
    title: str
    subtitle: str = ""
    status: Status = "waiting"
    probability: float | None = None
    note: str = ""
    thumbnail: npt.NDArray[np.uint8] | None = field(default=None, repr=False)


class StudyList:
    """`changed` emits "list" (studies came or went) or "study" with the path of the one that changed."""

    def __init__(self) -> None:
        self.changed = Signal()
        self.studies: tuple[Study, ...] = ()
        self.current: Path | None = None

    def add(self, paths: Iterable[Path]) -> list[Path]:
        """Append images that are not in the list yet. Returns all given paths, resolved, in order."""
        given = [path.expanduser().absolute() for path in paths]
        known = {study.path for study in self.studies}
        fresh = [Study(path, path.name) for path in dict.fromkeys(given) if path not in known]
        if fresh:
            self.studies = (*self.studies, *fresh)
            self.changed.emit("list", None)
        return given

    def get(self, path: Path) -> Study | None:
        return next((study for study in self.studies if study.path == path), None)

    def update(self, path: Path, **changes: object) -> None:
        if self.get(path) is None:
            return
        self.studies = tuple(
            replace(study, **changes) if study.path == path else study  # type: ignore[arg-type]
            for study in self.studies
        )
        self.changed.emit("study", path)

    def remove(self, path: Path) -> None:
        self.studies = tuple(study for study in self.studies if study.path != path)
        if self.current == path:
            self.current = None
        self.changed.emit("list", None)

    def set_current(self, path: Path | None) -> None:
        if path != self.current:
            before, self.current = self.current, path
            for each in (before, path):
                if each is not None:
                    self.changed.emit("study", each)

    def neighbour(self, step: int) -> Path | None:
        """The study `step` places after the current one; None past the ends."""
        paths = [study.path for study in self.studies]
        if self.current not in paths:
            return paths[0] if paths else None
        index = paths.index(self.current) + step
        return paths[index] if 0 <= index < len(paths) else None
