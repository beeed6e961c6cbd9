"""One to nine views of the image on the screen: plain beside maps, or each map by itself, with linked zoom and window."""

from __future__ import annotations

from typing import Literal, get_args

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from app.canvas.binding import listen
from app.canvas.view import CanvasView
from app.model.case import CaseModel
from app.model.layer import Layer
from app.model.trust import mark
from app.panels.badge import TrustBadge
from app.panels.text import tip
from app.theme import DARK

Arrangement = Literal[1, 2, 4, 6, 9]
SHAPES: dict[Arrangement, tuple[int, int]] = {1: (1, 1), 2: (1, 2), 4: (2, 2), 6: (2, 3), 9: (3, 3)}
"""Rows and columns."""
_LOOKING = ("window", "pan", "zoom", "magnify")
_GRAVITY = ("muted", "good", "warning", "error")


def best(maps: int) -> Arrangement:
    """The smallest grid that shows so many maps singly; one map stands beside the plain radiograph."""
    return next((count for count in get_args(Arrangement) if count >= max(maps, 2)), 9)


class Cell(QFrame):
    """One view under a line that names its map, the map's unit and how far it can be trusted."""

    def __init__(self, canvas: CanvasView, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.canvas = canvas
        self.setObjectName("cell")
        self.title = QLabel()
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.title.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.badge = TrustBadge()
        keep = self.badge.sizePolicy()
        keep.setRetainSizeWhenHidden(True)  # headings are equally high, so that images lie side by side
        self.badge.setSizePolicy(keep)
        self.head = QWidget()
        self._line = line = QHBoxLayout(self.head)
        line.setContentsMargins(8, 3, 6, 3)
        line.setSpacing(8)
        line.addWidget(self.title, 1)
        line.addWidget(self.badge)
        self._blank = QLabel("No further map")
        self._blank.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._blank.setStyleSheet(f"background: {DARK.image}; color: {DARK.muted};")
        self._blank.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.head)
        layout.addWidget(canvas, 1)
        layout.addWidget(self._blank, 1)
        self.head.hide()
        self._name = ("Radiograph", "")

    def set_headed(self, on: bool) -> None:
        self.head.setVisible(on)
        self.canvas.titled = not on
        self.canvas.update()

    def set_blank(self, on: bool) -> None:
        """Nothing to show here."""
        self.canvas.setVisible(not on)
        self._blank.setVisible(on)
        self.title.setVisible(not on)

    def name(self, layers: tuple[Layer, ...], assessing: frozenset[int]) -> None:
        """Say what the view shows: nothing but the radiograph, one map, or several (with the gravest trust)."""
        self.badge.setVisible(bool(layers))
        if not layers:
            self._name = ("Radiograph", "")
        else:
            shown = reversed(layers)
            title = " + ".join(layer.drawn.title for layer in shown)
            self._name = (title, layers[0].drawn.unit if len(layers) == 1 else "")
            marks = [mark(layer, layer.id in assessing) for layer in layers]
            worst = max(marks, key=lambda each: _GRAVITY.index(each.tone))
            card = next(
                (x.card for x, m in zip(layers, marks, strict=True) if m is worst and x.card is not None),
                None,
            )
            self.badge.show_mark(worst, card.reasons if card is not None else ())
        self.title.setToolTip(tip(" · ".join(part for part in self._name if part)))
        self._elide()

    def _elide(self) -> None:
        title, unit = self._name
        metrics = self.title.fontMetrics()
        whole = f"{title} · {unit}" if unit else title
        room = self.title.width()
        # the unit gives way before the name does
        text = whole if metrics.horizontalAdvance(whole) <= room else title
        self.title.setText(metrics.elidedText(text, Qt.TextElideMode.ElideRight, room))
        self.title.setAccessibleName(whole)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._line.activate()
        self._elide()

    def changeEvent(self, event: QEvent) -> None:
        if event.type() == QEvent.Type.FontChange and hasattr(self, "_name"):
            self._elide()
        super().changeEvent(event)


class ViewArea(QWidget):
    """The main canvas and its companions. A companion shows the same radiograph through a case of its own: the first one
    without maps (where there is room for it), the others with one map each that the main view does not show."""

    def __init__(self, case: CaseModel, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.case = case
        self.canvas = CanvasView(case, self)
        self._main = Cell(self.canvas, self)
        self._cells: list[Cell] = []
        self.arrangement: Arrangement = 1
        self._plain = True
        self._following = False
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setSpacing(2)
        self._grid.addWidget(self._main, 0, 0)
        listen(case.changed, self._case_changed)
        listen(case.comparison.changed, self._compared)
        self.canvas.viewport_changed.connect(lambda: self._follow(self.canvas))
        self.canvas.tool_changed.connect(self._share_tool)

    @property
    def companions(self) -> list[CanvasView]:
        return [cell.canvas for cell in self._cells]

    @property
    def cells(self) -> list[Cell]:
        """All views with their headings, the main one first."""
        return [self._main, *self._cells]

    def compare(self) -> Arrangement:
        """Every map by itself, in the smallest grid that holds them; returns how many views there are now."""
        layers = self.case.layers
        shown = [layer for layer in layers if layer.visible] or list(layers)
        if shown:
            self.case.show_only(shown[-1].id)
        self.arrange(best(len(layers)), plain=best(len(layers)) > len(layers))
        return self.arrangement

    def arrange(self, count: Arrangement, plain: bool = True) -> None:
        """Show `count` views, one of them without maps if `plain`."""
        self.arrangement, self._plain = count, plain
        while len(self._cells) > count - 1:
            cell = self._cells.pop()
            self._grid.removeWidget(cell)
            cell.setParent(None)
            cell.deleteLater()
        while len(self._cells) < count - 1:
            self._cells.append(self._companion(len(self._cells) + 1))
        columns = SHAPES[count][1]
        for index, cell in enumerate(self.cells):
            self._grid.addWidget(cell, index // columns, index % columns)
            cell.set_headed(count > 1)
            cell.show()
        for row in range(3):
            self._grid.setRowStretch(row, 1 if row < SHAPES[count][0] else 0)
            self._grid.setColumnStretch(row, 1 if row < columns else 0)
        for view in self.companions:
            self._load(view)
        self._spread_maps()

    def _companion(self, number: int) -> Cell:
        view = CanvasView(CaseModel(), self, beside=self.canvas)
        view.setAccessibleName(f"Comparison view {number}")
        view.viewport_changed.connect(lambda: self._follow(view))
        listen(view.case.changed, self._companion_changed)
        cell = Cell(view, self)
        self._share_tool(self.canvas.tool, view)
        return cell

    def _share_tool(self, name: str, view: CanvasView | None = None) -> None:
        """Companions look with the same tool; regions are seen in all views, drawn and moved in the main one."""
        for each in [view] if view is not None else self.companions:
            each.set_tool(name if name in _LOOKING else "pan")

    def _load(self, view: CanvasView) -> None:
        following, self._following = self._following, True  # the main view leads
        try:
            view.case.set_radiograph(self.case.radiograph)
            self._copy_view(view.case)
            view.follow(self.canvas.viewport, self.canvas.fitted)
        finally:
            self._following = following

    def _copy_view(self, theirs: CaseModel, ours: CaseModel | None = None) -> None:
        """Window and orientation of one case for another that shows the same image."""
        ours = ours or self.case
        if ours.voi is None or theirs.radiograph is not ours.radiograph:
            return
        if (theirs.voi, theirs.preset_key) != (ours.voi, ours.preset_key):
            theirs.set_voi(ours.voi, ours.preset_key)
        if _turn(theirs) != _turn(ours):
            theirs.invert, theirs.rotation, theirs.flip_h, theirs.flip_v = _turn(ours)
            theirs.changed.emit("view")

    def _spread_maps(self) -> None:
        """First companion: no map (if `plain`). The others: one map each that the main view does not show, those on top
        first; then, where there is room, those that it shows beside others."""
        order = [layer for layer in reversed(self.case.layers) if not layer.visible]
        shown = [layer for layer in reversed(self.case.layers) if layer.visible]
        order += shown if len(shown) > 1 else []
        for index, cell in enumerate(self._cells):
            plain = self._plain and index == 0
            number = index - 1 if self._plain else index
            chosen = order[number] if not plain and number < len(order) else None
            _show(cell.canvas.case, chosen, chosen is not None and chosen.id in self.case.assessing)
            cell.set_blank(chosen is None and not plain)
        self._name()

    def _name(self) -> None:
        if self.arrangement == 1:
            return
        for cell in self.cells:
            layers = tuple(layer for layer in cell.canvas.case.layers if layer.visible)
            cell.name(layers, cell.canvas.case.assessing)

    def _case_changed(self, field: str) -> None:
        if not self._cells:
            return
        if field == "radiograph":
            for view in self.companions:
                self._load(view)
        elif field in ("voi", "view"):
            for view in self.companions:
                self._copy_view(view.case)
        elif field in ("layers", "trust"):
            self._spread_maps()
        elif field in ("regions", "selection", "history"):
            for view in self.companions:  # they draw the main view's regions
                view.update()

    def _compared(self, _what: str) -> None:
        """The mirror region comes with the mid-line."""
        for view in self.companions:
            view.update()

    def _companion_changed(self, field: str) -> None:
        """A window set in one view holds for all."""
        if field in ("voi", "view") and not self._following:
            active = next((view for view in self.companions if view.hasFocus()), None)
            if active is not None:
                self._copy_view(self.case, active.case)

    def _follow(self, leader: CanvasView) -> None:
        """Bring every other view to the leader's zoom and place."""
        if self._following or not self._cells:
            return
        self._following = True
        try:
            for view in (self.canvas, *self.companions):
                if view is not leader and view.case.radiograph is leader.case.radiograph:
                    view.follow(leader.viewport, leader.fitted)
        finally:
            self._following = False


def _turn(case: CaseModel) -> tuple[bool, Literal[0, 90, 180, 270], bool, bool]:
    return case.invert, case.rotation, case.flip_h, case.flip_v


def _show(case: CaseModel, chosen: Layer | None, assessing: bool) -> None:
    """Make one map of the main case, as it stands there, the only map of a companion's."""
    now = case.layers[0] if case.layers else None
    if chosen is None or (now is not None and now.explanation is not chosen.explanation):
        for layer in case.layers:
            case.remove_layer(layer.id)
        now = None
    if chosen is None:
        case.set_assessing(frozenset())
        return
    if now is None:
        now = case.add_layer(chosen.explanation, style=chosen.style)
    if now.style != chosen.style:
        case.set_style(now.id, chosen.style)
    if now.spread != chosen.spread:
        case.set_spread(now.id, chosen.spread)
    if now.card is not chosen.card:
        case.set_card(now.id, chosen.card)
    case.set_assessing(frozenset([now.id]) if assessing else frozenset())
