"""The main window: puts canvas, panels and commands together. What happens to images is in `app.window.reading`."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, Qt, QTimer, Signal
from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QKeyEvent, QShowEvent
from PySide6.QtWidgets import (
    QAbstractButton,
    QDockWidget,
    QLabel,
    QMainWindow,
    QMenu,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from app.canvas.readout import Readout, line
from app.engine import Engine, Task
from app.model.case import CaseModel
from app.model.studies import StudyList
from app.panels.channels import ChannelsPanel
from app.panels.explain import ExplainPanel
from app.panels.finding import FindingPanel
from app.panels.jobs import JobsBar
from app.panels.layers import LayersPanel
from app.panels.messages import MessageBar
from app.panels.regions import RegionsPanel
from app.panels.studies import StudiesPanel
from app.panels.tags import TagsPanel
from app.panels.trust import TrustPanel
from app.settings import SettingsStore
from app.theme import Theme, Tokens
from app.window import focus, possible
from app.window.actions import Commands
from app.window.files import Files
from app.window.help import Help
from app.window.maps import Maps
from app.window.put_right import PutRight
from app.window.reading import Reading
from app.window.regions import RegionQuestions
from app.window.reopen import Reopen
from app.window.toolbar import ToolBar
from app.window.views import ViewArea
from xai_engine.paths import resources_dir

LAYOUT_VERSION = 1
TITLE = "Radiolucent"


class MainWindow(QMainWindow):
    """`shown` after the first paint of the window, `image_shown` after the first paint with an image."""

    shown = Signal()
    image_shown = Signal()

    def __init__(self, store: SettingsStore, theme: Theme, engine: Engine) -> None:
        super().__init__()
        self.store = store
        self.theme = theme
        self.engine = engine
        engine.setParent(self)
        self.case = CaseModel()
        self.studies = StudyList()
        self.reading = Reading(self.case, self.studies, engine, self)
        self.reading.window = store.values.default_window
        self.files = Files(self)
        self.put_right = PutRight(self)
        self.reopen = Reopen(self)
        self.help = Help(self)
        self.setWindowTitle(TITLE)
        self.setAcceptDrops(True)
        self.focus_ring = focus.FocusRing(self)
        self._first_show = True
        self._make_centre()
        self._make_docks()
        self._make_status()
        self.map_commands = Maps(self)
        handlers = {
            **self._view_handlers(),
            **self.map_commands.handlers(),
            **self.files.handlers(),
            "reopen": self.reopen.choose,
            **self.help.handlers(),
        }
        self.commands = Commands(self, handlers, theme.tokens)
        self._make_toolbar()
        self._make_menus()
        self._connect()
        self._default_layout = self.saveState(LAYOUT_VERSION)
        self._restore_layout()
        possible.update(self)
        if store.notice:
            self.messages.show_message(store.notice, "warning")

    # ---- building ----------------------------------------------------------------------------------------------

    def _make_centre(self) -> None:
        self.views = ViewArea(self.case)
        self.canvas = self.views.canvas
        self.messages = MessageBar()
        centre = QWidget(self)
        layout = QVBoxLayout(centre)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.messages)
        layout.addWidget(self.views, 1)
        self.setCentralWidget(centre)

    def _make_docks(self) -> None:
        self.studies_panel = StudiesPanel(self.studies)
        self.finding = FindingPanel(self.case)
        self.finding.set_blind(self.store.values.blind_reading)
        self.layers = LayersPanel(self.case)
        self.explain_panel = ExplainPanel()
        self.channels = ChannelsPanel(self.case)
        self.trust = TrustPanel(self.case)
        self.regions = RegionsPanel(self.case)
        self.tags = TagsPanel(self.case)
        self.inspector = QTabWidget()
        self.inspector.setDocumentMode(True)
        self.inspector.tabBar().setAccessibleName("Inspector")
        maps = QTabWidget()
        maps.setDocumentMode(True)
        maps.tabBar().setAccessibleName("Maps")
        maps.addTab(self.layers, "Layers")
        maps.addTab(self.explain_panel, "Methods")
        maps.addTab(self.channels, "Activations")
        self.maps = maps
        for widget, name in (
            (self.finding, "Finding"),
            (maps, "Maps"),
            (self.trust, "Trust"),
            (self.regions, "Regions"),
            (self.tags, "Tags"),
        ):
            self.inspector.addTab(widget, name)
        self.studies_dock = self._dock("Studies", self.studies_panel, Qt.DockWidgetArea.LeftDockWidgetArea)
        self.inspector_dock = self._dock("Inspector", self.inspector, Qt.DockWidgetArea.RightDockWidgetArea)
        self.resizeDocks([self.studies_dock, self.inspector_dock], [224, 340], Qt.Orientation.Horizontal)

    def _dock(self, title: str, widget: QWidget, area: Qt.DockWidgetArea) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)
        for name, words in (
            ("qt_dockwidget_floatbutton", "Take it out of the window, or put it back"),
            ("qt_dockwidget_closebutton", f"Hide it; View → {title} brings it back"),
        ):
            button = dock.findChild(QAbstractButton, name)
            if button is not None:
                button.setToolTip(words)
                button.setAccessibleDescription(words)
        dock.setWidget(widget)
        self.addDockWidget(area, dock)
        return dock

    def _make_status(self) -> None:
        self.readout = QLabel()
        self.readout.setTextFormat(Qt.TextFormat.PlainText)
        self.zoom_label = QLabel()
        self.zoom_label.setContentsMargins(6, 0, 10, 0)
        self.jobs = JobsBar()
        self.statusBar().addWidget(self.readout, 1)
        self.statusBar().addPermanentWidget(self.jobs)
        self.statusBar().addPermanentWidget(self.zoom_label)
        self.statusBar().setSizeGripEnabled(False)

    def _make_toolbar(self) -> None:
        self.preset_menu = QMenu(self)
        self.preset_menu.aboutToShow.connect(self._fill_presets)
        self.toolbar = ToolBar(self.commands, self.preset_menu, self)
        self.addToolBar(self.toolbar)
        self.commands.actions["window"].setChecked(True)
        self.commands.actions["one"].setChecked(True)

    def _make_menus(self) -> None:
        view = self.commands.menus["View"]
        self.preset_menu.setTitle("Window presets")
        view.insertMenu(self.commands.actions["fit"], self.preset_menu)
        view.addSeparator()
        view.addAction(self.studies_dock.toggleViewAction())
        view.addAction(self.inspector_dock.toggleViewAction())
        view.addAction("Reset layout", self.reset_layout)
        recent = QMenu("Open recent", self)
        recent.aboutToShow.connect(lambda: self.files.fill_recent(recent))
        file_menu = self.commands.menus["File"]
        file_menu.insertMenu(self.commands.actions["sample"], recent)

    def _connect(self) -> None:
        self.reading.message.connect(self.messages.show_message)
        self.reading.noticed.connect(lambda text: self.messages.show_message(text, of_image=True))
        self.reading.no_model.connect(self._no_model)
        self.reading.busy.connect(self.finding.set_busy)
        self.reading.verdict_failed.connect(self.finding.set_error)
        self.finding.retry.connect(self.reading.predict)
        self.finding.impression_changed.connect(self._revealed)
        self.reading.model_ready.connect(
            lambda model: self.explain_panel.set_model(model, self.reading.unsuited)
        )
        self.reading.opened.connect(self._opened)
        self.engine.started.connect(self._task_started)
        self.questions = RegionQuestions(self.case, self.engine, self.regions, self)
        self.questions.message.connect(self.messages.show_message)
        self.studies_panel.open_requested.connect(self.reading.show)
        self.studies_panel.remove_requested.connect(self.reading.close_study)
        self.canvas.cursor_moved.connect(self._show_readout)
        self.canvas.zoom_changed.connect(self._show_zoom)
        self.canvas.tool_changed.connect(lambda name: self.commands.actions[name].setChecked(True))
        self.theme.changed.connect(self._theme_changed)
        self.case.changed.connect(self._case_changed)

    def _view_handlers(self) -> dict[str, Any]:
        canvas, case = self.canvas, self.case
        tools = (
            "window",
            "pan",
            "zoom",
            "magnify",
            "select",
            "rectangle",
            "ellipse",
            "polygon",
            "freehand",
            "line",
        )
        return {
            **{name: (lambda n=name: canvas.set_tool(n)) for name in tools},
            "put_right": self.put_right.take_offer,
            "as_stored": self.put_right.undo_current,
            "undo": case.undo,
            "redo": case.redo,
            "delete": canvas.delete_selected,
            "fit": canvas.fit,
            "actual": canvas.actual_size,
            "invert": canvas.toggle_invert,
            "rotate_right": lambda: canvas.rotate(90),
            "rotate_left": lambda: canvas.rotate(-90),
            "flip_h": lambda: canvas.flip("h"),
            "flip_v": lambda: canvas.flip("v"),
            "reset": canvas.reset_view,
            "hide": lambda: canvas.set_annotations_visible(not canvas.annotations_visible),
            "next": lambda: self._step(1),
            "previous": lambda: self._step(-1),
            "quit": self.close,
            "close_study": self._close_study,
        }

    # ---- images ------------------------------------------------------------------------------------------------

    def open(self, paths: Sequence[Path]) -> None:
        """Images, folders of images, and folders of results."""
        self.reading.open(self.reopen.take_results(paths))

    def open_sample(self) -> None:
        self.open(sorted((resources_dir() / "samples").glob("*.dcm")))

    def _opened(self, path: Path) -> None:
        name = path.name
        if path in self.reading.impressions:
            self.finding.set_impression(self.reading.impressions[path])
        self.update_blind()
        self.setWindowTitle(f"{name} – {TITLE}")
        self.store.values.add_recent(path)
        self.store.values.folder = str(path.parent)

    def _no_model(self, text: str, details: str) -> None:
        self.messages.show_message(text, "error", details, ("Try again", self.reading.warm_up))

    def _revealed(self, impression: str) -> None:
        """The reader has put down an impression: the verdict may be seen, and is kept with the image."""
        if self.studies.current is not None:
            self.reading.impressions[self.studies.current] = impression
        self.update_blind()
        self.put_right.offer_again()

    def update_blind(self) -> None:
        """While the verdict is hidden, nothing else in the window may tell it."""
        hidden = self.finding.hidden
        self.studies_panel.set_scores_hidden(self.store.values.blind_reading and hidden)
        possible.update(self)

    def _step(self, step: int) -> None:
        path = self.studies.neighbour(step)
        if path is not None:
            self.reading.show(path)

    def _close_study(self) -> None:
        if self.studies.current is not None:
            self.reading.close_study(self.studies.current)

    # ---- maps --------------------------------------------------------------------------------------------------

    def explain_standard(self, target: str | None = None, seed: int = 0) -> list[Task]:
        """The three standard maps, one after another."""
        return self.map_commands.explain_preset("standard", target, seed)

    # ---- following ---------------------------------------------------------------------------------------------

    def _task_started(self, task: Task) -> None:
        self.jobs.add(task)

    def _case_changed(self, field: str) -> None:
        if field in ("radiograph", "prediction", "layers", "regions", "selection", "history"):
            possible.update(self)
        if field == "radiograph":
            self.messages.forget_image()
        if field == "radiograph" and self.case.radiograph is None:
            self.setWindowTitle(TITLE)
            self._show_readout(None)
            self.zoom_label.clear()

    def _show_readout(self, readout: Readout | None) -> None:
        spacing = self.case.radiograph.spacing if self.case.radiograph else None
        self.readout.setText("" if readout is None else line(readout, spacing))

    def _show_zoom(self, zoom: float) -> None:
        self.zoom_label.setText(f"{zoom:.0%}" if self.case.radiograph is not None else "")

    def _fill_presets(self) -> None:
        self.preset_menu.clear()
        for number, preset in enumerate(self.case.presets, start=1):
            key = f"\t{number}" if number <= 9 else ""
            action = self.preset_menu.addAction(f"{preset.label}{key}")
            action.setCheckable(True)
            action.setChecked(preset.key == self.case.preset_key)
            action.triggered.connect(lambda _checked=False, k=preset.key: self.case.apply_preset(k))
        if not self.case.presets:
            self.preset_menu.addAction("No image").setEnabled(False)

    def _theme_changed(self, tokens: Tokens) -> None:
        self.commands.tint(tokens)

    # ---- window ------------------------------------------------------------------------------------------------

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Escape that nobody below wanted closes the newest message."""
        if event.key() == Qt.Key.Key_Escape and self.messages.dismiss_latest():
            return
        super().keyPressEvent(event)

    def focusNextPrevChild(self, next: bool) -> bool:
        """Tab and Shift+Tab, in the order of the layout."""
        return focus.follow(self, self.focusWidget(), next)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        if self._first_show:
            self._first_show = False
            QTimer.singleShot(0, self.shown.emit)

    def reset_layout(self) -> None:
        self.restoreState(self._default_layout, LAYOUT_VERSION)
        self.resizeDocks([self.studies_dock, self.inspector_dock], [224, 340], Qt.Orientation.Horizontal)

    def _restore_layout(self) -> None:
        values = self.store.values
        geometry = QByteArray(base64.b64decode(values.geometry.encode() or b""))
        if not values.geometry or not self.restoreGeometry(geometry):
            self.resize(1400, 880)
        if values.layout and values.layout_version == LAYOUT_VERSION:
            self.restoreState(QByteArray(base64.b64decode(values.layout.encode())), LAYOUT_VERSION)

    def _save_layout(self) -> None:
        values = self.store.values
        values.geometry = base64.b64encode(self.saveGeometry().data()).decode()
        values.layout = base64.b64encode(self.saveState(LAYOUT_VERSION).data()).decode()
        values.layout_version = LAYOUT_VERSION
        self.store.save()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        if any(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.open(paths)

    def closeEvent(self, event: QCloseEvent) -> None:
        if not self.files.may_close():
            event.ignore()
            return
        self._save_layout()
        self.engine.shutdown()
        event.accept()
