"""What can be asked of the classifier: a form for every method, made from the registry."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QFrame,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from xai_engine.classifier.types import ModelInfo
from xai_engine.evidence.case import read_map
from xai_engine.explain import registry
from xai_engine.explain.registry import MethodDescription, ParameterDescription

_MOST = 2**31 - 1


class ParameterField:
    """A widget that asks for one parameter. `value()` is in the parameter's own type, within its range."""

    def __init__(self, about: ParameterDescription) -> None:
        self.about = about
        self.widget = self._make(about)
        bounds = ""
        if about.low is not None and about.high is not None:
            bounds = f"\n{about.low:g} … {about.high:g} {about.unit}".rstrip()
        self.widget.setToolTip(f"{about.meaning}{bounds}\nDefault: {about.default}")
        self.widget.setAccessibleName(about.name.replace("_", " "))
        self.widget.setAccessibleDescription(about.meaning)

    @staticmethod
    def _make(about: ParameterDescription) -> QWidget:
        if about.type == "bool":
            box = QCheckBox()
            box.setChecked(bool(about.default))
            return box
        if about.type == "int":
            number = QSpinBox()
            number.setRange(
                int(about.low) if about.low is not None else -_MOST,
                int(about.high) if about.high is not None else _MOST,
            )
            number.setValue(int(about.default))
            number.setSuffix(f" {about.unit}" if about.unit else "")
            number.setGroupSeparatorShown(True)
            return number
        if about.type == "float":
            real = QDoubleSpinBox()
            real.setDecimals(4)
            real.setRange(
                about.low if about.low is not None else -1e9, about.high if about.high is not None else 1e9
            )
            real.setValue(float(about.default))
            real.setSingleStep(max(abs(float(about.default)) / 10, 0.001))
            real.setSuffix(f" {about.unit}" if about.unit else "")
            return real
        if about.choices:
            combo = QComboBox()
            for choice in about.choices:
                combo.addItem(choice or "automatic", choice)
            combo.setCurrentIndex(combo.findData(about.default))
            return combo
        text = QLineEdit(str(about.default))
        text.setPlaceholderText("automatic")
        return text

    def value(self) -> bool | int | float | str:
        widget = self.widget
        if isinstance(widget, QCheckBox):
            return widget.isChecked()
        if isinstance(widget, QSpinBox | QDoubleSpinBox):
            return widget.value()
        if isinstance(widget, QComboBox):
            return str(widget.currentData())
        assert isinstance(widget, QLineEdit)
        return widget.text().strip()

    def set_value(self, value: Any) -> None:
        widget = self.widget
        if isinstance(widget, QCheckBox):
            widget.setChecked(bool(value))
        elif isinstance(widget, QSpinBox):
            widget.setValue(int(value))
        elif isinstance(widget, QDoubleSpinBox):
            widget.setValue(float(value))
        elif isinstance(widget, QComboBox):
            widget.setCurrentIndex(widget.findData(value))
        elif isinstance(widget, QLineEdit):
            widget.setText(str(value))


class MethodForm(QWidget):
    """Summary, cost and every parameter of one method. Layers of the model are offered once it is known."""

    def __init__(
        self, about: MethodDescription, model: ModelInfo | None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.about = about
        summary = QLabel(about.summary)
        cost = QLabel(f"Cost: {about.cost}. Unit: {about.unit}.")
        cost.setProperty("tone", "muted")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.fields: dict[str, ParameterField] = {}
        for each in about.parameters:
            field = ParameterField(_with_layers(each, model))
            self.fields[each.name] = field
            label = QLabel(each.name.replace("_", " ").capitalize())
            label.setToolTip(each.meaning)
            label.setBuddy(field.widget)
            form.addRow(label, field.widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for words in (summary, cost):
            words.setWordWrap(True)
            words.setToolTip(about.source)
            layout.addWidget(words)
        layout.addLayout(form)

    def values(self) -> dict[str, bool | int | float | str]:
        return {name: field.value() for name, field in self.fields.items()}

    def reset(self) -> None:
        for field in self.fields.values():
            field.set_value(field.about.default)


def _with_layers(about: ParameterDescription, model: ModelInfo | None) -> ParameterDescription:
    """A layer is picked from those that the model names; empty means the model's default one."""
    if model is None or about.name != "layer" or about.choices:
        return about
    from dataclasses import replace

    return replace(about, choices=(str(about.default), *(x for x in model.layers if x != about.default)))


class ExplainPanel(QWidget):
    """Choose a method, set it, run it; or run the three standard ones."""

    run_requested = Signal(str, object, object, int)
    """method, parameters, target class (None: the model's finding), seed"""
    quick_requested = Signal(object, int)
    """target class, seed"""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName("Explain")
        self._model: ModelInfo | None = None
        self._methods = {about.name: about for about in registry.describe()}
        self.standard = QPushButton("Run the three standard maps")
        self.standard.setToolTip("Integrated Gradients, Grad-CAM and LIME with their default parameters")
        self.choice = QComboBox()
        self.choice.setAccessibleName("Method")
        for about in self._methods.values():
            self.choice.addItem(about.title, about.name)
            self.choice.setItemData(self.choice.count() - 1, about.summary, Qt.ItemDataRole.ToolTipRole)
        self.target = QComboBox()
        self.target.setAccessibleName("Target class")
        self.target.setToolTip("The class that the map speaks for")
        self.seed = QSpinBox()
        self.seed.setRange(0, _MOST)
        self.seed.setAccessibleName("Seed")
        self.seed.setToolTip("The same seed gives the same map again")
        self.run = QPushButton("Run")
        self.defaults = QPushButton("Defaults")
        self.reading = QLabel()
        self.reading.setWordWrap(True)
        self.reading.setProperty("tone", "muted")
        self.form: MethodForm
        self._place = QVBoxLayout()
        self._build()
        self.standard.clicked.connect(lambda: self.quick_requested.emit(self.target_name, self.seed.value()))
        self.run.clicked.connect(self._request)
        self.defaults.clicked.connect(lambda: self.form.reset())
        self.choice.currentIndexChanged.connect(self._show_form)
        self._show_form()
        self.set_model(None)
        self.set_enabled_for_image(False)

    def _build(self) -> None:
        head = QFormLayout()
        head.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.ExpandingFieldsGrow)
        for label, widget in (("Method", self.choice), ("Target", self.target), ("Seed", self.seed)):
            head.addRow(label, widget)
        buttons = QHBoxLayout()
        buttons.addWidget(self.run, 2)
        buttons.addWidget(self.defaults, 1)
        heading = QLabel("How to read this map")
        heading.setProperty("tone", "heading")
        inner = QWidget()
        column = QVBoxLayout(inner)
        column.setContentsMargins(10, 8, 10, 8)
        column.setSpacing(9)
        column.addWidget(self.standard)
        column.addLayout(head)
        column.addLayout(self._place)
        column.addLayout(buttons)
        column.addWidget(heading)
        column.addWidget(self.reading)
        column.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setWidget(inner)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(scroll)

    @property
    def target_name(self) -> str | None:
        return str(self.target.currentData() or "") or None

    def methods(self) -> list[MethodDescription]:
        return list(self._methods.values())

    def set_model(self, model: ModelInfo | None) -> None:
        """Offer the classes and layers of this model."""
        self._model = model
        self.target.clear()
        if model is None:
            self.target.addItem("the model's finding", "")
        else:
            for name in reversed(model.classes):  # the finding that the model looks for comes first
                self.target.addItem(name, name)
        self._show_form()

    def set_enabled_for_image(self, ready: bool, why: str = "") -> None:
        """False while there is nothing to explain; `why` becomes the tooltip."""
        for button in (self.run, self.standard):
            button.setEnabled(ready)
        self.run.setToolTip("" if ready else why)

    def show_method(self, name: str) -> None:
        index = self.choice.findData(name)
        if index >= 0:
            self.choice.setCurrentIndex(index)

    def _show_form(self) -> None:
        about = self._methods[str(self.choice.currentData())]
        while (item := self._place.takeAt(0)) is not None:
            old = item.widget()
            if old is not None:
                old.hide()
                old.deleteLater()
        self.form = MethodForm(about, self._model)
        self._place.addWidget(self.form)
        self.reading.setText(read_map(self._model, about.name) if self._model is not None else about.reading)

    def _request(self) -> None:
        about = self.form.about
        self.run_requested.emit(about.name, self.form.values(), self.target_name, self.seed.value())
