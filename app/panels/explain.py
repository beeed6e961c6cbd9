"""What can be asked of the classifier: presets of several methods, and a form for every method, made from the registry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import QCoreApplication, QEvent, QObject, Qt, Signal
from PySide6.QtGui import QStandardItemModel
from PySide6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.panels.method_form import MOST, MethodForm, give_way
from app.panels.scroll import scrolled
from app.panels.text import plain_label, tip
from xai_engine.classifier.types import ModelInfo
from xai_engine.evidence import format
from xai_engine.evidence.case import read_map
from xai_engine.explain import registry
from xai_engine.explain.registry import MethodDescription

_FAMILIES = {
    "gradient": "Gradients",
    "activation": "Activations",
    "propagation": "Propagation rules",
    "perturbation": "Perturbation",
    "attention": "Attention",
    "consensus": "Consensus of methods",
}


class ExplainPanel(QWidget):
    """Choose a method, set it, run it; or run a preset of several. What is entered for a method stays entered."""

    run_requested = Signal(str, object, object, int)
    """method, parameters, target class (None: the model's finding), seed"""
    preset_requested = Signal(str, object, int)
    """name of the preset, target class, seed"""
    read_requested = Signal(str, object)
    """method, parameters"""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Explain")
        self._model: ModelInfo | None = None
        self._methods = {about.name: about for about in registry.describe()}
        self._unsuited: dict[str, str] = {}
        self._times: dict[tuple[str, str], float] = {}
        self.presets: dict[str, QPushButton] = {}
        self.times: dict[str, QLabel] = {}
        self.choice = QComboBox()
        self.choice.setAccessibleName("Method")
        self._offer_methods()
        self.target = QComboBox()
        self.target.setAccessibleName("Target class")
        self.target.setToolTip("The class that the map speaks for")
        self.seed = QSpinBox()
        self.seed.setRange(0, MOST)
        self.seed.setAccessibleName("Seed")
        self.seed.setToolTip("The same seed gives the same map again")
        self.run = QPushButton("Explain")
        self.defaults = QPushButton("Defaults")
        self.defaults.setToolTip("Set every parameter of this method back to its default")
        self.more = QPushButton("How to read …")
        self.more.setToolTip("What the values mean, where this method misleads, its parameters and source")
        self.why = plain_label(tone="muted")
        self.reading = plain_label(tone="muted")
        self.form: MethodForm
        self._place = QVBoxLayout()
        self._build()
        self.more.clicked.connect(lambda: self.read_requested.emit(self.form.about.name, self.form.values()))
        self.run.clicked.connect(self._request)
        self.defaults.clicked.connect(lambda: self.form.reset())
        self.choice.currentIndexChanged.connect(self._show_form)
        self._forms: dict[str, dict[str, Any]] = {}
        self._show_form()
        self.set_model(None)
        self.set_enabled_for_image(False)
        for widget in (self.choice, self.target, self.seed):
            self._leave_wheel(widget)
            give_way(widget)

    def _offer_methods(self) -> None:
        """By family; headings cannot be chosen."""
        items = self.choice.model()
        assert isinstance(items, QStandardItemModel)
        for family in dict.fromkeys(about.family for about in self._methods.values()):
            self.choice.addItem(_FAMILIES.get(family, family.capitalize()))
            heading = items.item(self.choice.count() - 1)
            heading.setFlags(Qt.ItemFlag.NoItemFlags)
            for about in self._methods.values():
                if about.family == family:
                    self.choice.addItem(f"  {about.title}", about.name)
                    row = self.choice.count() - 1
                    self.choice.setItemData(row, tip(about.summary), Qt.ItemDataRole.ToolTipRole)
        self.choice.setMaxVisibleItems(self.choice.count())
        self.choice.view().setMinimumWidth(self.choice.view().sizeHintForColumn(0) + 30)
        self.choice.setCurrentIndex(1)

    def _leave_wheel(self, widget: QWidget) -> None:
        """The wheel is for scrolling the panel: it must not change a number in passing."""
        widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        widget.installEventFilter(self)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        if event.type() == QEvent.Type.Wheel:
            event.ignore()
            return True
        return super().eventFilter(watched, event)

    def _build(self) -> None:
        head = QFormLayout()
        head.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, widget in (("Method", self.choice), ("Target", self.target), ("Seed", self.seed)):
            head.addRow(label, widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.defaults, 1)
        heading = plain_label("How to read this map", "heading")
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(9)
        column.addWidget(self._preset_box())
        column.addWidget(self.why)
        column.addWidget(plain_label("One method", "heading"))
        column.addLayout(head)
        column.addLayout(self._place)
        column.addLayout(buttons)
        column.addWidget(heading)
        column.addWidget(self.reading)
        column.addWidget(self.more)
        column.addStretch(1)
        scroll = scrolled(inner, "Methods")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)

    def _preset_box(self) -> QWidget:
        """A button for each preset, beside it what it computes and how long that takes."""
        box = QWidget()
        grid = QGridLayout(box)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(10)
        grid.setVerticalSpacing(6)
        grid.setColumnStretch(1, 1)
        grid.addWidget(plain_label("Several methods at once", "heading"), 0, 0, 1, 2)
        for row, preset in enumerate(registry.presets(), start=1):
            button = QPushButton(preset.title)
            titles = ", ".join(self._methods[name].title for name, _ in preset.methods)
            button.setToolTip(tip(f"{preset.meaning}\n{titles}"))
            button.setAccessibleName(f"{preset.title}: {titles}")
            button.setAccessibleDescription(preset.meaning)
            button.clicked.connect(
                lambda _checked=False, n=preset.name: self.preset_requested.emit(
                    n, self.target_name, self.seed.value()
                )
            )
            self.presets[preset.name] = button
            self.times[preset.name] = plain_label(tone="muted")
            grid.addWidget(button, row, 0, Qt.AlignmentFlag.AlignTop)
            grid.addWidget(self.times[preset.name], row, 1)
        self._show_times()
        return box

    def note_time(self, method: str, seconds: float, preset: str = "") -> None:
        """How long a method has taken on this machine: what the next run is expected to take.

        preset: in which it ran, where it may have found forwards that another of its methods had made.
        """
        self._times[preset, method] = seconds
        self._show_times()

    def _show_times(self) -> None:
        for preset in registry.presets():
            names = [name for name, _ in preset.methods]
            count = f"{len(names)} map{'s' if len(names) > 1 else ''}"
            alone = [self._times.get(("", name)) for name in names]
            known = [self._times.get((preset.name, n), t) for n, t in zip(names, alone, strict=True)]
            took = [seconds for seconds in known if seconds is not None]
            when = f"about {format.estimate(sum(took))}" if len(took) == len(names) else preset.expected
            self.times[preset.name].setText(f"{count}, {when}")

    @property
    def target_name(self) -> str | None:
        return str(self.target.currentData() or "") or None

    def methods(self) -> list[MethodDescription]:
        return list(self._methods.values())

    def set_model(self, model: ModelInfo | None, unsuited: Mapping[str, str] | None = None) -> None:
        """Offer the classes and layers of this model; what is entered stays (the engine may have started anew).

        unsuited: methods that cannot explain it, by name, and why: they cannot be chosen.
        """
        self._model = model
        self._unsuited = dict(unsuited or {})
        self._mark_unsuited()
        chosen = self.target_name
        self.target.clear()
        if model is None:
            self.target.addItem("the model's finding", "")
        else:
            for name in reversed(model.classes):  # the finding that the model looks for comes first
                self.target.addItem(name, name)
            self.target.setCurrentIndex(max(0, self.target.findData(chosen)))
        self.form.set_model(model)
        self._show_reading()

    def _mark_unsuited(self) -> None:
        """Methods that this model gives nothing to work on are grey, and say why."""
        items = self.choice.model()
        assert isinstance(items, QStandardItemModel)
        for row in range(self.choice.count()):
            name = self.choice.itemData(row)
            if name is None:
                continue
            why = self._unsuited.get(name, "")
            summary = self._methods[name].summary
            items.item(row).setEnabled(not why)
            text = f"{summary}\nNot for this model: {why}" if why else summary
            self.choice.setItemData(row, tip(text), Qt.ItemDataRole.ToolTipRole)
        if self._chosen in self._unsuited:
            first = next(n for n in self._methods if n not in self._unsuited)
            self.choice.setCurrentIndex(self.choice.findData(first))

    @property
    def _chosen(self) -> str:
        return str(self.choice.currentData())

    def set_enabled_for_image(self, ready: bool, reason: str = "") -> None:
        """False while there is nothing to explain; `reason` is shown."""
        for button in (self.run, *self.presets.values()):
            button.setEnabled(ready)
        self.why.setText("" if ready else reason)
        self.why.setVisible(bool(self.why.text()))

    def show_method(self, name: str) -> None:
        index = self.choice.findData(name)
        if index >= 0 and name not in self._unsuited:
            self.choice.setCurrentIndex(index)

    def _show_form(self) -> None:
        """The form of the chosen method, with what was entered in it before."""
        if self._place.count():
            self._forms[self.form.about.name] = self.form.values()
        while (item := self._place.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.hide()
                old.deleteLater()
        about = self._methods[self._chosen]
        self.form = MethodForm(about, self._model)
        for name, value in self._forms.get(about.name, {}).items():
            self.form.fields[name].set_value(value)
        for field in self.form.fields.values():
            self._leave_wheel(field.widget)
        self.defaults.setEnabled(bool(self.form.fields))
        self._place.addWidget(self.form)
        self._show_reading()
        if (
            self.isVisible()
        ):  # room for the new form before it is painted: else it is seen squeezed into that of the last one
            QCoreApplication.sendPostedEvents(None, QEvent.Type.LayoutRequest)

    def _show_reading(self) -> None:
        about = self.form.about
        self.reading.setText(read_map(self._model, about.name) if self._model is not None else about.reading)

    def _request(self) -> None:
        about = self.form.about
        self.run_requested.emit(about.name, self.form.values(), self.target_name, self.seed.value())
