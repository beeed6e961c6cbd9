"""What is known of a case's regions beyond their own numbers: the other side, and what changing them does. Knows no Qt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from app.model.signal import Signal
from xai_engine.explain.what_if import WhatIf
from xai_engine.radiograph import mirror
from xai_engine.radiograph.mirror import Midline, Mirror
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph

if TYPE_CHECKING:
    from app.model.case import CaseModel


class Comparison:
    """`changed` emits "midline", "mirrors", "what_if" or "preview", after the change.

    midline: None until the engine has found it; then every region has a counterpart. what_if: by region id, kept only
    while the region stands where it was asked about. preview: id of the region whose changed picture is on the screen.
    """

    def __init__(self, case: CaseModel) -> None:
        self.changed = Signal()
        self._case = case
        self.midline: Midline | None = None
        self.preview: str | None = None
        self._mirrors: dict[str, tuple[Region, Mirror]] = {}
        self._asked: dict[str, WhatIf] = {}
        self._picture: tuple[WhatIf, Radiograph] | None = None
        case.changed.connect(self._follow)

    def set_midline(self, line: Midline | None) -> None:
        if line != self.midline:
            self.midline = line
            self._mirrors = {}
            self.changed.emit("midline")

    def counterpart(self, region: Region) -> Region | None:
        """The region on the other side, where that is known; a line has none."""
        if self.midline is None or region.kind == "line":
            return None
        return mirror.mirrored(region, self.midline)

    @property
    def mirrors(self) -> Mapping[str, Mirror]:
        """By region id; while a region is dragged its last numbers stay."""
        return {key: found for key, (_, found) in self._mirrors.items()}

    def set_mirror(self, region: Region, found: Mirror | None) -> None:
        """What was measured opposite `region`. Dropped where the region has gone or moved on."""
        now = self._case.region(region.id)
        if found is None or now is None or not (self._case.editing or same_shape(region, now)):
            return
        self._mirrors[region.id] = region, found
        self.changed.emit("mirrors")

    @property
    def what_if(self) -> Mapping[str, WhatIf]:
        return dict(self._asked)

    def set_what_if(self, asked: WhatIf) -> bool:
        """Keep an answer. False (and nothing kept) where its region has gone or moved since."""
        now = self._case.region(asked.region.id)
        if now is None or not same_shape(asked.region, now):
            return False
        self._asked[now.id] = asked
        self.changed.emit("what_if")
        if self.preview == now.id:
            self.changed.emit("preview")
        return True

    def set_preview(self, region_id: str | None) -> None:
        """Show the picture with that region changed, in place of the original; None shows the original."""
        if region_id not in self._asked:
            region_id = None
        if region_id != self.preview:
            self.preview = region_id
            self.changed.emit("preview")

    @property
    def shown(self) -> Radiograph | None:
        """The radiograph to be painted: the case's, or the one with the previewed change."""
        radiograph = self._case.radiograph
        asked = self._asked.get(self.preview or "")
        if radiograph is None or asked is None or asked.patch is None or not asked.patch.values.size:
            return radiograph
        if self._picture is None or self._picture[0] is not asked:
            changed = replace(radiograph, pixels=asked.patch.on(radiograph.pixels), sha256="")
            self._picture = asked, changed
        return self._picture[1]

    def _follow(self, field: str) -> None:
        if field == "radiograph":
            self.midline, self._mirrors, self._asked = None, {}, {}
            for each in ("midline", "mirrors", "what_if"):
                self.changed.emit(each)
            self._picture = None
            if self.preview is not None:
                self.preview = None
                self.changed.emit("preview")
        elif field in ("regions", "history") and not self._case.editing:
            self._drop_stale()

    def _drop_stale(self) -> None:
        now = {region.id: region for region in self._case.regions}
        mirrors = {k: v for k, v in self._mirrors.items() if k in now and same_shape(v[0], now[k])}
        asked = {k: v for k, v in self._asked.items() if k in now and same_shape(v.region, now[k])}
        if len(mirrors) != len(self._mirrors):
            self._mirrors = mirrors
            self.changed.emit("mirrors")
        if len(asked) != len(self._asked):
            self._asked = asked
            self.changed.emit("what_if")
            if self.preview is not None and self.preview not in asked:
                self.set_preview(None)


def same_shape(first: Region, second: Region) -> bool:
    return first.kind == second.kind and np.array_equal(first.points, second.points)
