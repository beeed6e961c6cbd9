"""The form of one method: every parameter as the registry declares it."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QLocale
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QFormLayout,
    QLabel,
    QLineEdit,
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.panels.text import plain_label, tip
from xai_engine.classifier.types import ModelInfo
from xai_engine.evidence import format
from xai_engine.explain.registry import MethodDescription, ParameterDescription

MOST = 2**31 - 1
_LONG_UNIT = 12
"""Units of more characters stand in the label: beside the number they would be cut off."""


class _Real(QDoubleSpinBox):
    """Shows as many decimals as the number has, with a point, as the report does."""

    def textFromValue(self, value: float) -> str:
        return format.exact(value).replace(format.MINUS, "-")


class ParameterField:
    """A widget that asks for one parameter. `value()` is in the parameter's own type, within its range."""

    def __init__(self, about: ParameterDescription) -> None:
        self.about = about
        self.widget = self._make(about)
        bounds = ""
        if about.low is not None and about.high is not None:
            bounds = f"\n{format.exact(about.low)} … {format.exact(about.high)} {about.unit}".rstrip()
        default = format.parameter(about.default) if about.default != "" else "automatic"
        self.help = tip(f"{about.meaning}{bounds}\nDefault: {default}")
        self.widget.setToolTip(self.help)
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
                int(about.low) if about.low is not None else -MOST,
                int(about.high) if about.high is not None else MOST,
            )
            number.setValue(int(about.default))
            number.setSuffix(_suffix(about.unit))
            return number
        if about.type == "float":
            real = _Real()
            real.setLocale(QLocale.c())
            real.setDecimals(4)
            real.setRange(
                about.low if about.low is not None else -1e9, about.high if about.high is not None else 1e9
            )
            real.setValue(float(about.default))
            real.setSingleStep(max(abs(float(about.default)) / 10, 0.001))
            real.setSuffix(_suffix(about.unit))
            return real
        if about.choices:
            combo = QComboBox()
            for choice in about.choices:
                combo.addItem(choice or "automatic", choice)
            combo.setCurrentIndex(combo.findData(about.default))
            return combo
        if about.name == "layer":
            layers = QComboBox()
            layers.setEditable(True)
            layers.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
            layers.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
            _say_in(layers, "automatic")
            layers.setEditText(str(about.default))
            return layers
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
            return widget.currentText().strip() if widget.isEditable() else str(widget.currentData())
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
        elif isinstance(widget, QComboBox) and widget.isEditable():
            widget.setEditText(str(value))
        elif isinstance(widget, QComboBox):
            widget.setCurrentIndex(widget.findData(value))
        elif isinstance(widget, QLineEdit):
            widget.setText(str(value))


def _say_in(box: QComboBox, placeholder: str) -> None:
    line = box.lineEdit()
    if line is not None:
        line.setPlaceholderText(placeholder)


def give_way(box: QWidget) -> None:
    """Long choices must not widen the panel; and Fusion's number fields cut off descenders of some fonts."""
    if isinstance(box, QComboBox | QLineEdit):
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        box.setMinimumWidth(110)
    elif isinstance(box, QSpinBox | QDoubleSpinBox):
        box.setMinimumHeight(box.fontMetrics().height() + 10)
        box.setMinimumWidth(80)


def _suffix(unit: str) -> str:
    return f" {unit}" if unit and len(unit) <= _LONG_UNIT else ""


def _label(about: ParameterDescription) -> str:
    text = about.name.replace("_", " ").capitalize()
    return f"{text} ({about.unit})" if len(about.unit) > _LONG_UNIT else text


class MethodForm(QWidget):
    """Summary, cost and every parameter of one method. Layers of the model are offered once it is known."""

    def __init__(
        self, about: MethodDescription, model: ModelInfo | None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.about = about
        summary = plain_label(about.summary)
        cost = plain_label(f"Cost: {about.cost}. Unit: {about.unit}.", "muted")
        form = QFormLayout()
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        form.setRowWrapPolicy(QFormLayout.RowWrapPolicy.WrapLongRows)
        self.fields: dict[str, ParameterField] = {}
        for each in about.parameters:
            field = ParameterField(each)
            self.fields[each.name] = field
            give_way(field.widget)
            label = QLabel(_label(each))
            label.setWordWrap(True)
            label.setToolTip(field.help)
            label.setBuddy(field.widget)
            form.addRow(label, field.widget)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for words in (summary, cost):
            words.setToolTip(tip(about.source))
            layout.addWidget(words)
        layout.addLayout(form)
        self.set_model(model)

    def set_model(self, model: ModelInfo | None) -> None:
        """Offer the layers that this model names; what is entered stays."""
        field = self.fields.get("layer")
        if model is not None and field is not None and isinstance(field.widget, QComboBox):
            text = field.widget.currentText()
            field.widget.clear()
            field.widget.addItems(list(model.layers))
            field.widget.setEditText(text)
            _say_in(field.widget, f"automatic: {model.default_layer}")
            field.widget.setToolTip(tip(f"{field.about.meaning}\nAutomatic: {model.default_layer}"))

    def values(self) -> dict[str, bool | int | float | str]:
        return {name: field.value() for name, field in self.fields.items()}

    def reset(self) -> None:
        for field in self.fields.values():
            field.set_value(field.about.default)
