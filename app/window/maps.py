"""What the window does with maps: computes presets, compares, shows how far a map can be trusted and how to read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QObject

from app.canvas.binding import listen
from app.engine import Task
from app.panels.method_page import MethodPage
from app.window.trust import Assessor
from app.window.views import Arrangement
from xai_engine.explain import registry
from xai_engine.explain.types import Explanation

if TYPE_CHECKING:
    from app.main_window import MainWindow

_GRIDS: dict[Arrangement, str] = {1: "one", 2: "two", 4: "four", 6: "six", 9: "nine"}


class Maps(QObject):
    """Made when the window has its panels."""

    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self.window = window
        self.page = MethodPage(window)
        self._awaited: dict[Task, str] = {}  # maps that are being computed, and of which image
        listen(window.case.changed, self._case_changed)
        self.assessor = Assessor(window.case, window.reading, window.engine, self)
        window.explain_panel.run_requested.connect(self._explain)
        window.explain_panel.preset_requested.connect(self.explain_preset)
        window.explain_panel.read_requested.connect(self._read_method)
        window.channels.run_requested.connect(self._channels)
        window.reading.model_ready.connect(window.channels.set_model)
        for panel in (window.layers, window.trust):
            panel.read_requested.connect(self._read_map)
        window.layers.trust_requested.connect(self.show_trust)
        trust, assessor = window.trust, self.assessor
        trust.assess_requested.connect(assessor.assess)
        trust.cancel_requested.connect(assessor.cancel)
        assessor.progressed.connect(trust.show_progress)
        assessor.took.connect(trust.show_time)
        trust.automatic.setChecked(window.store.values.assess_maps)
        assessor.set_automatic(window.store.values.assess_maps)
        trust.automatic_changed.connect(self._set_automatic)

    def handlers(self) -> dict[str, Callable[[], object]]:
        arrange = self.window.views.arrange
        return {
            **{each.name: partial(self.explain_preset, each.name) for each in registry.presets()},
            **{name: partial(arrange, count) for count, name in _GRIDS.items()},
            "hide_maps": self.window.case.hide_all,
            "compare": self.compare,
            "trust": partial(self.show_trust, None),
        }

    def explain_preset(self, preset: str, target: str | None = None, seed: int = 0) -> list[Task]:
        """The maps of a preset, one after another, each shown when it is there; its first sight stays on top."""
        chosen = next(each for each in registry.presets() if each.name == preset)
        tasks = [self._map(name, params, target, seed, chosen) for name, params in chosen.methods]
        self._show_layers()
        return [task for task in tasks if task is not None]

    def compare(self) -> None:
        """Every map in a view of its own."""
        views, count = self.window.views, len(self.window.case.layers)
        shown = views.compare()
        self.window.commands.actions[_GRIDS[shown]].setChecked(True)
        if count > shown:
            text = f"{count} maps: the top {shown} are shown; move others up to see them."
            self.window.messages.show_message(text, "notice")

    def show_trust(self, layer_id: int | None) -> None:
        """The Trust tab, with the card of this map in sight."""
        self.window.inspector_dock.show()
        self.window.inspector.setCurrentWidget(self.window.trust)
        if layer_id is not None:
            self.window.trust.show_map(layer_id)

    def _explain(self, method: str, params: dict[str, Any], target: str | None, seed: int) -> None:
        self._map(method, params, target, seed)
        self._show_layers()

    def _map(
        self,
        method: str,
        params: Mapping[str, Any],
        target: str | None,
        seed: int,
        preset: registry.Preset | None = None,
    ) -> Task | None:
        title = registry.method_class(method).title
        behind, beside = (preset.first_sight, preset.methods) if preset else ("", ())
        task = self.window.reading.explain(method, title, params, target, seed, behind=behind, beside=beside)
        if task is not None and self.window.case.radiograph is not None:
            self._awaited[task] = self.window.case.radiograph.sha256
            self._tell_awaited()
            task.ended.connect(lambda: self._no_longer(task))
            name = preset.name if preset else ""
            task.done.connect(lambda value: self._took(value, name))
        return task

    def _no_longer(self, task: Task) -> None:
        self._awaited.pop(task, None)
        self._tell_awaited()

    def _tell_awaited(self) -> None:
        radiograph = self.window.case.radiograph
        shown = radiograph.sha256 if radiograph is not None else ""
        self.window.layers.set_computing(sum(sha == shown for sha in self._awaited.values()))

    def _case_changed(self, field: str) -> None:
        if field == "radiograph":
            self._tell_awaited()

    def _took(self, explanation: Explanation, preset: str) -> None:
        if not explanation.partial:
            self.window.explain_panel.note_time(explanation.method, explanation.seconds, preset)

    def _channels(self, layer: str, count: int) -> None:
        """The strongest channels of a layer of the image on the screen."""
        window = self.window
        radiograph, panel = window.case.radiograph, window.channels
        if radiograph is None:
            return

        def show(found: Sequence[Explanation]) -> None:
            if window.case.radiograph is radiograph:
                panel.show_channels(found)

        def fail(text: str) -> None:
            if window.case.radiograph is radiograph:
                panel.set_failed(text)

        task = window.engine.channels(radiograph, layer, count, window.explain_panel.target_name)
        panel.set_busy()
        task.done.connect(show)
        task.failed.connect(lambda error, _detail: fail(str(error)))
        task.cancelled.connect(lambda: fail("Cancelled."))

    def _show_layers(self) -> None:
        self.window.inspector.setCurrentWidget(self.window.maps)
        self.window.maps.setCurrentWidget(self.window.layers)

    def _read_map(self, layer_id: int) -> None:
        layer = self.window.case.layer(layer_id)
        if layer is not None:
            self.page.show_map(layer, self.window.reading.model)

    def _read_method(self, name: str, params: Mapping[str, Any]) -> None:
        self.page.show_method(name, self.window.reading.model, params)

    def _set_automatic(self, on: bool) -> None:
        self.window.store.values.assess_maps = on
        self.assessor.set_automatic(on)
