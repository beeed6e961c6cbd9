"""One, two or four views of the image on the screen: plain beside maps, or each map by itself, with linked zoom and window."""

from __future__ import annotations

from typing import Literal

from PySide6.QtWidgets import QGridLayout, QWidget

from app.canvas.binding import listen
from app.canvas.view import CanvasView
from app.model.case import CaseModel

Arrangement = Literal[1, 2, 4]


class ViewArea(QWidget):
    """The main canvas and its companions. A companion shows the same radiograph through a case of its own: the first
    without maps, the next ones with one map each."""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.case = case
        self.canvas = CanvasView(case, self)
        self.companions: list[CanvasView] = []
        self.arrangement: Arrangement = 1
        self._following = False
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._grid.addWidget(self.canvas, 0, 0)
        listen(case.changed, self._case_changed)
        self.canvas.viewport_changed.connect(lambda: self._follow(self.canvas))

    def arrange(self, count: Arrangement) -> None:
        """Show `count` views."""
        self.arrangement = count
        while len(self.companions) > count - 1:
            view = self.companions.pop()
            self._grid.removeWidget(view)
            view.setParent(None)
            view.deleteLater()
        while len(self.companions) < count - 1:
            view = CanvasView(CaseModel(), self)
            view.setAccessibleName(f"Comparison view {len(self.companions) + 1}")
            view.viewport_changed.connect(lambda v=view: self._follow(v))
            self.companions.append(view)
        places = {1: (), 2: ((0, 1),), 4: ((0, 1), (1, 0), (1, 1))}[count]
        for view, (row, column) in zip(self.companions, places, strict=True):
            self._grid.addWidget(view, row, column)
            view.show()
        for view in self.companions:
            self._load(view)
        self._spread_maps()

    def _load(self, view: CanvasView) -> None:
        view.case.set_radiograph(self.case.radiograph)
        self._copy_view(view)

    def _copy_view(self, view: CanvasView) -> None:
        theirs = view.case
        if self.case.voi is not None and theirs.radiograph is not None:
            theirs.set_voi(self.case.voi, self.case.preset_key)
            theirs.invert, theirs.rotation = self.case.invert, self.case.rotation
            theirs.flip_h, theirs.flip_v = self.case.flip_h, self.case.flip_v
            theirs.changed.emit("view")

    def _spread_maps(self) -> None:
        """First companion: no map. The others: one map each, those on top first, the one in the main view last."""
        order = [layer for layer in reversed(self.case.layers) if not layer.visible]
        order += [layer for layer in reversed(self.case.layers) if layer.visible]
        for index, view in enumerate(self.companions):
            for layer in view.case.layers:
                view.case.remove_layer(layer.id)
            if 0 < index <= len(order):
                chosen = order[index - 1]
                view.case.add_layer(chosen.explanation, style=chosen.style)

    def _case_changed(self, field: str) -> None:
        if not self.companions:
            return
        if field == "radiograph":
            for view in self.companions:
                self._load(view)
        elif field in ("voi", "view"):
            for view in self.companions:
                self._copy_view(view)
        elif field == "layers":
            self._spread_maps()

    def _follow(self, leader: CanvasView) -> None:
        """Bring every other view to the leader's zoom and place."""
        if self._following or not self.companions:
            return
        self._following = True
        try:
            for view in (self.canvas, *self.companions):
                if view is not leader and view.case.radiograph is leader.case.radiograph:
                    view.follow(leader.viewport)
        finally:
            self._following = False
