"""What the window asks the engine about regions: where the chest is mirrored, and what changing a region does."""

from __future__ import annotations

from PySide6.QtCore import QObject, Signal

from app.engine import Engine, Task
from app.model.case import CaseModel
from app.panels.regions import RegionsPanel
from xai_engine.errors import RadiolucentError
from xai_engine.explain.what_if import TITLES, WhatIf
from xai_engine.radiograph.mirror import Midline


class RegionQuestions(QObject):
    """message(text, kind, details) for the message bar."""

    message = Signal(str, str, str)

    def __init__(self, case: CaseModel, engine: Engine, panel: RegionsPanel, parent: QObject) -> None:
        super().__init__(parent)
        self.case, self.engine, self.panel = case, engine, panel
        self._asking = 0
        case.changed.connect(self._changed)
        panel.what_if_requested.connect(self.ask)

    def _changed(self, field: str) -> None:
        if field == "prediction" and self.case.prediction is not None and self.case.radiograph is not None:
            sha = self.case.radiograph.sha256
            self.engine.midline(self.case.radiograph).done.connect(lambda line: self._found(sha, line))

    def _found(self, sha: str, line: Midline) -> None:
        if self.case.radiograph is not None and self.case.radiograph.sha256 == sha:
            self.case.comparison.set_midline(line)

    def ask(self, region_id: str, fill: str, seed: int = 0) -> Task | None:
        """What if that region were changed; the answer reaches the case's comparison."""
        radiograph, region = self.case.radiograph, self.case.region(region_id)
        if radiograph is None or region is None:
            return None
        name = region.name or f"region {region.id}"
        task = self.engine.what_if(radiograph, region, fill, f"{name}, {TITLES[fill]}", seed)
        self._asking += 1
        self.panel.what_if.set_busy(region_id)
        task.done.connect(lambda asked: self._answered(radiograph.sha256, asked))
        task.failed.connect(lambda error, detail: self._failed(name, error, detail))
        task.ended.connect(self._ended)
        return task

    def _answered(self, sha: str, asked: WhatIf) -> None:
        if self.case.radiograph is None or self.case.radiograph.sha256 != sha:
            return
        if not self.case.comparison.set_what_if(asked):
            self.message.emit("What if: the region was moved meanwhile; ask again.", "notice", "")

    def _failed(self, name: str, error: RadiolucentError, detail: str) -> None:
        self.message.emit(f"What if, {name}: {error}", "error", detail)

    def _ended(self) -> None:
        self._asking -= 1
        if not self._asking:
            self.panel.what_if.set_busy(None)
