"""What can be asked of the classifier: a form for every method, made from the registry."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QLocale, QObject, Qt, Signal
from PySide6.QtGui import QStandardItemModel
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
    QSizePolicy,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from app.panels.text import plain_label, tip
from xai_engine.classifier.types import ModelInfo
from xai_engine.evidence import format
from xai_engine.evidence.case import read_map
from xai_engine.explain import registry
from xai_engine.explain.registry import MethodDescription, ParameterDescription

_MOST = 2**31 - 1
_LONG_UNIT = 12
"""Units of more characters stand in the label: beside the number they would be cut off."""

_FAMILIES = {
    "gradient": "Gradients",
    "activation": "Activations",
    "propagation": "Propagation rules",
    "perturbation": "Perturbation",
    "attention": "Attention",
    "consensus": "Consensus of methods",
}


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
                int(about.low) if about.low is not None else -_MOST,
                int(about.high) if about.high is not None else _MOST,
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


def _give_way(box: QWidget) -> None:
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
            _give_way(field.widget)
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
        self.standard = QPushButton("Three standard maps")
        self.standard.setToolTip("Integrated Gradients, Grad-CAM and LIME with their default parameters")
        self.choice = QComboBox()
        self.choice.setAccessibleName("Method")
        self._offer_methods()
        self.target = QComboBox()
        self.target.setAccessibleName("Target class")
        self.target.setToolTip("The class that the map speaks for")
        self.seed = QSpinBox()
        self.seed.setRange(0, _MOST)
        self.seed.setAccessibleName("Seed")
        self.seed.setToolTip("The same seed gives the same map again")
        self.run = QPushButton("Explain")
        self.defaults = QPushButton("Defaults")
        self.why = plain_label(tone="muted")
        self.reading = plain_label(tone="muted")
        self.form: MethodForm
        self._place = QVBoxLayout()
        self._build()
        self.standard.clicked.connect(lambda: self.quick_requested.emit(self.target_name, self.seed.value()))
        self.run.clicked.connect(self._request)
        self.defaults.clicked.connect(lambda: self.form.reset())
        self.choice.currentIndexChanged.connect(self._show_form)
        self._forms: dict[str, dict[str, Any]] = {}
        self._show_form()
        self.set_model(None)
        self.set_enabled_for_image(False)
        for widget in (self.choice, self.target, self.seed):
            self._leave_wheel(widget)
            _give_way(widget)

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
        for words in (self.standard, self.why):
            column.addWidget(words)
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
        """Offer the classes and layers of this model; what is entered stays (the engine may have started anew)."""
        self._model = model
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

    def set_enabled_for_image(self, ready: bool, reason: str = "") -> None:
        """False while there is nothing to explain; `reason` is shown."""
        for button in (self.run, self.standard):
            button.setEnabled(ready)
        self.why.setText("" if ready else reason)
        self.why.setVisible(bool(self.why.text()))

    def show_method(self, name: str) -> None:
        index = self.choice.findData(name)
        if index >= 0:
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
        about = self._methods[str(self.choice.currentData())]
        self.form = MethodForm(about, self._model)
        for name, value in self._forms.get(about.name, {}).items():
            self.form.fields[name].set_value(value)
        for field in self.form.fields.values():
            self._leave_wheel(field.widget)
        self.defaults.setEnabled(bool(self.form.fields))
        self._place.addWidget(self.form)
        self._show_reading()

    def _show_reading(self) -> None:
        about = self.form.about
        self.reading.setText(read_map(self._model, about.name) if self._model is not None else about.reading)

    def _request(self) -> None:
        about = self.form.about
        self.run_requested.emit(about.name, self.form.values(), self.target_name, self.seed.value())
