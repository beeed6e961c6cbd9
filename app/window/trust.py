"""Reliability cards for every map on the screen: by themselves while the engine has nothing better to do, or on request.

Owns no widget. A card stands on its layer (`Layer.card`); `case.assessing` names the layers that are being assessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PySide6.QtCore import QObject, QTimer, Signal

from app.canvas.binding import listen
from app.engine import Engine, Task
from app.model.case import CaseModel
from app.model.layer import Layer
from app.model.trust import testable
from app.window.reading import Reading
from xai_engine.assess.types import ReliabilityCard
from xai_engine.errors import RadiolucentError
from xai_engine.runtime.run import Progress

AUTOMATIC = "quick"
_PAUSE_MS = 200
"""Between looks at whether the engine is idle: further maps may be about to follow."""


class Assessor(QObject):
    """`progressed(Progress)` of the running assessment; `took(preset, seconds per map)` when one has ended whole."""

    progressed = Signal(object)
    took = Signal(str, float)

    def __init__(self, case: CaseModel, reading: Reading, engine: Engine, parent: QObject) -> None:
        super().__init__(parent)
        self.case = case
        self.reading = reading
        self.engine = engine
        self._automatic = True
        self._task: Task | None = None
        self._behind = False  # the running assessment was asked for by nobody and gives way
        self._given_way = False
        self._declined: set[int] = (
            set()
        )  # layers whose assessment was cancelled or failed: not tried again by itself
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_PAUSE_MS)
        self._timer.timeout.connect(self._begin)
        engine.started.connect(self._other_started)
        listen(case.changed, self._case_changed)

    @property
    def automatic(self) -> bool:
        return self._automatic

    @property
    def running(self) -> bool:
        return self._task is not None

    def set_automatic(self, on: bool) -> None:
        """Assess new maps without being asked, with the quick preset."""
        self._automatic = on
        if on:
            self._declined.clear()
            self._plan()
        else:
            self._timer.stop()
            if self._behind:
                self.cancel()

    def assess(self, preset: str, layer_ids: Iterable[int] | None = None) -> Task | None:
        """Assess these maps (None: all) now, in place of what is being assessed. Maps of one target go together."""
        wanted = None if layer_ids is None else set(layer_ids)
        layers = [
            layer
            for layer in self.case.layers
            if testable(layer, self.reading.model) and (wanted is None or layer.id in wanted)
        ]
        if not layers:
            return None
        if self._task is not None:
            self._task.cancel()
            self._forget()
        target = layers[-1].explanation.target
        return self._start([x for x in layers if x.explanation.target == target], preset, behind=False)

    def cancel(self) -> None:
        """Stop; what was found so far stands on the cards, marked partial."""
        if self._task is not None:
            self._declined |= self.case.assessing
            self._task.cancel()

    # ---- by itself ---------------------------------------------------------------------------------------------

    def _case_changed(self, field: str) -> None:
        if field == "radiograph":
            self._declined.clear()
            if self._task is not None and self._behind:
                self._give_way()
        if field == "layers":
            self._plan()

    def _missing(self) -> list[Layer]:
        """Maps without a card that may be assessed together."""
        found = [
            layer
            for layer in self.case.layers
            if layer.card is None and layer.id not in self._declined and testable(layer, self.reading.model)
        ]
        return [layer for layer in found if layer.explanation.target == found[0].explanation.target]

    def _plan(self) -> None:
        if self._automatic and self._task is None and self._missing() and not self._timer.isActive():
            self._timer.start()

    def _begin(self) -> None:
        if not self._automatic or self._task is not None or not self._missing():
            return
        if self.engine.engine.busy:
            self._timer.start()
        else:
            self._start(self._missing(), AUTOMATIC, behind=True)

    def _other_started(self, task: Task) -> None:
        """Whatever a person waits for comes first; the assessment begins anew when it is done."""
        if self._task is not None and self._behind and task.worker == self.engine.engine.name:
            self._give_way()

    def _give_way(self) -> None:
        if self._task is not None and not self._given_way:
            self._given_way = True
            self._task.cancel()

    # ---- one assessment ----------------------------------------------------------------------------------------

    def _start(self, layers: Sequence[Layer], preset: str, behind: bool) -> Task | None:
        radiograph = self.case.radiograph
        if radiograph is None:
            return None
        explanations = [layer.explanation for layer in layers]
        # not yet in `_task`: its own announcement must not make it give way
        self._task = None
        task = self.engine.assess(radiograph, explanations, preset, explanations[0].seed)
        self._task, self._behind, self._given_way = task, behind, False
        self.case.set_assessing(frozenset(layer.id for layer in layers))
        sha = radiograph.sha256
        task.progressed.connect(lambda value: self._progressed(task, value))
        task.done.connect(lambda cards: self._done(task, sha, layers, cards))
        task.failed.connect(lambda error, detail: self._failed(task, layers, error, detail))
        task.cancelled.connect(lambda: self._stopped(task, layers))
        task.ended.connect(lambda: self._ended(task))
        return task

    def _progressed(self, task: Task, progress: Progress) -> None:
        if task is self._task:
            self.progressed.emit(progress)

    def _done(self, task: Task, sha: str, layers: Sequence[Layer], cards: Sequence[ReliabilityCard]) -> None:
        whole = not any(card.partial for card in cards)
        if not whole and (task is not self._task or self._given_way):
            return
        if not whole:
            self._declined |= {layer.id for layer in layers}
        self.reading.assessed(sha, [layer.explanation for layer in layers], cards)
        if whole and cards:
            self.took.emit(cards[0].preset, sum(card.seconds for card in cards) / len(cards))

    def _failed(self, task: Task, layers: Sequence[Layer], error: RadiolucentError, detail: str) -> None:
        self._declined |= {layer.id for layer in layers}
        if task is self._task and not task.lost:
            self.reading.message.emit(f"Reliability was not assessed: {error}", "error", detail)

    def _stopped(self, task: Task, layers: Sequence[Layer]) -> None:
        if task is self._task and not self._given_way:
            self._declined |= {layer.id for layer in layers}

    def _ended(self, task: Task) -> None:
        if task is self._task:
            self._forget()
            self._plan()

    def _forget(self) -> None:
        self._task = None
        self._behind = self._given_way = False
        self.case.set_assessing(frozenset())
