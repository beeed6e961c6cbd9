"""Keeps the statistics of a case's regions up to date, off the window's thread."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import cast

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QEventLoop, QObject, Qt, QTimer, Signal

from app.canvas.binding import listen
from app.canvas.sampling import MapInSource
from app.model.case import CaseModel
from app.model.layer import Layer
from xai_engine.radiograph import mirror, regions
from xai_engine.radiograph.mirror import Midline, Mirror
from xai_engine.radiograph.regions import Region, RegionStatistics
from xai_engine.radiograph.types import Radiograph

INTERVAL_MS = 66
"""Least time between two measurements while a region is dragged: 15 a second."""

_Key = tuple[Region, frozenset[int], Midline | None]
_Result = tuple[RegionStatistics, Mirror | None]


class RegionMeasurer(QObject):
    """Measures whatever region has no numbers yet; of a region in motion always the latest shape.

    Numbers are exact (never taken from the picture on the screen). One measurement runs at a time.
    """

    _done = Signal(object)

    def __init__(self, case: CaseModel, parent: QObject) -> None:
        super().__init__(parent)
        self._case = case
        self._pool = ThreadPoolExecutor(1, "region-statistics")
        self._running = False
        self._last = 0.0
        self._measured: dict[str, _Key] = {}
        self._totals: dict[int, tuple[float, float]] = {}
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.timeout.connect(self._next)
        self._done.connect(self._arrived, Qt.ConnectionType.QueuedConnection)
        pool = self._pool
        # waits for the measurement that runs: its thread must not emit from an object whose memory is gone
        self.destroyed.connect(lambda: pool.shutdown(wait=True, cancel_futures=True))
        listen(case.changed, self._changed)
        listen(case.comparison.changed, self._compared)

    def _changed(self, field: str) -> None:
        if field == "radiograph":
            self._measured.clear()
            self._totals = {}
        if field in ("radiograph", "regions", "layers", "history") and not self._running:
            self._schedule()

    def _compared(self, what: str) -> None:
        if what == "midline" and not self._running:
            self._schedule()

    def _schedule(self) -> None:
        if self._timer.isActive() or self._wanted() is None:
            return
        wait = INTERVAL_MS - (time.monotonic() - self._last) * 1000 if self._case.editing else 0.0
        self._timer.start(max(0, round(wait)))

    def _wanted(self) -> Region | None:
        """The next region whose numbers are missing or those of an older shape."""
        if self._case.radiograph is None:
            return None
        layers = frozenset(layer.id for layer in self._case.layers)
        for region in self._case.regions:
            fresh = region.id in self._case.statistics and self._same(region, layers)
            if not fresh:
                return region
        return None

    def _same(self, region: Region, layers: frozenset[int]) -> bool:
        known = self._measured.get(region.id)
        line = self._case.comparison.midline
        return (
            known is not None
            and known[1] == layers
            and known[0].points is region.points
            and (line is None or known[2] == line)
        )

    def _next(self) -> None:
        region, radiograph = self._wanted(), self._case.radiograph
        if self._running or region is None or radiograph is None:
            return
        self._running, self._last = True, time.monotonic()
        line = self._case.comparison.midline
        self._pool.submit(self._measure, radiograph, region, self._case.layers, self._totals, line)

    def _measure(
        self,
        radiograph: Radiograph,
        region: Region,
        layers: tuple[Layer, ...],
        totals: dict[int, tuple[float, float]],
        line: Midline | None,
    ) -> None:
        """In the pool's thread."""
        result: _Result | Exception
        try:
            sampled = {layer.explanation.method: MapInSource(layer.explanation) for layer in layers}
            for layer in layers:
                if layer.id not in totals:
                    totals[layer.id] = sampled[layer.explanation.method].totals()
            maps = cast(Mapping[str, npt.NDArray[np.floating]], sampled)
            sums = {layer.explanation.method: totals[layer.id] for layer in layers}
            other = None
            if line is not None and region.kind != "line":
                other = mirror.compare(radiograph, region, line, maps, totals=sums)
            result = regions.measure(radiograph, region, maps, totals=sums), other
        except Exception as error:  # raised again where somebody can see it
            result = error
        with suppress(RuntimeError):  # the window has been closed meanwhile
            self._done.emit((radiograph, region, frozenset(layer.id for layer in layers), line, result))

    def _arrived(
        self, message: tuple[Radiograph, Region, frozenset[int], Midline | None, _Result | Exception]
    ) -> None:
        radiograph, region, layers, line, result = message
        self._running = False
        if isinstance(result, Exception):
            raise result
        current = frozenset(layer.id for layer in self._case.layers)
        if radiograph is self._case.radiograph and layers == current:
            self._measured[region.id] = region, layers, line
            self._case.set_statistics(region, result[0])
            if line == self._case.comparison.midline:
                self._case.comparison.set_mirror(region, result[1])
        self._schedule()

    @property
    def idle(self) -> bool:
        return not self._running and not self._timer.isActive() and self._wanted() is None

    def wait(self, timeout_ms: int = 10_000) -> bool:
        """Let the event loop run until every region has its numbers; for reports and tests. False when time is up."""
        end = time.monotonic() + timeout_ms / 1000
        loop = QEventLoop()
        while not self.idle and time.monotonic() < end:
            loop.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 20)
        return self.idle
