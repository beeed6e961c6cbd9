"""What methods there are and what they can be asked. Loads no torch: forms, help and reports are made from it.

A method is a frozen dataclass whose fields are its parameters; its texts are class variables. The
mathematics lives in
`xai_engine.explain.compute`, imported when a method runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from xai_engine.errors import UsageError

if TYPE_CHECKING:
    from xai_engine.classifier.types import ModelInput
    from xai_engine.explain.protocol import Explainable
    from xai_engine.explain.session import Attribution, Session
    from xai_engine.explain.types import Explanation
    from xai_engine.runtime.run import Run

Value = bool | int | float | str
Family = Literal["gradient", "activation", "propagation", "perturbation", "attention", "consensus"]

# In the order in which they are offered.
_MODULES = (
    "gradient",
    "paths",
    "activation",
    "cam",
    "propagation",
    "perturbation",
    "masks",
    "attention",
    "consensus",
)


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """One parameter: what a form needs to ask for it. `low`, `high` are inclusive; `choices` empty where
    any value goes.

    type: "bool", "int", "float" or "str". unit: "" where it has none.
    """

    name: str
    type: str
    default: Value
    unit: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    meaning: str


@dataclass(frozen=True, slots=True)
class MethodDescription:
    """One method as users see it.

    unit: of the map's values; signed: False where a map holds magnitudes only (no value speaks against the target).
    cost: words on the number of passes; reading: how to read the map, for a radiologist; source: paper.
    """

    name: str
    title: str
    summary: str
    family: Family
    unit: str
    signed: bool
    cost: str
    reading: str
    source: str
    parameters: tuple[ParameterDescription, ...]


def parameter(
    default: Value,
    *,
    meaning: str,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a parameter of a method (a dataclass field)."""
    about = {
        "default": default,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "meaning": meaning,
    }
    return field(default=default, metadata={"parameter": about})


@dataclass(frozen=True)
class Method:
    """Base of all methods. Raises UsageError in one line when a parameter has a wrong type or value.

    default_scale: |value| at the end of the colour bar for models whose bundle stores no scale for this method.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    summary: ClassVar[str]
    family: ClassVar[Family]
    unit: ClassVar[str]
    cost: ClassVar[str]
    reading: ClassVar[str]
    source: ClassVar[str]
    default_scale: ClassVar[float]
    signed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for description in self.parameters():
            value = getattr(self, description.name)
            object.__setattr__(self, description.name, _checked(self.name, description, value))

    @classmethod
    def parameters(cls) -> tuple[ParameterDescription, ...]:
        out = []
        for item in fields(cls):
            about = item.metadata["parameter"]
            out.append(ParameterDescription(item.name, type(about["default"]).__name__, **about))
        return tuple(out)

    @classmethod
    def description(cls) -> MethodDescription:
        return MethodDescription(
            cls.name,
            cls.title,
            cls.summary,
            cls.family,
            cls.unit,
            cls.signed,
            cls.cost,
            cls.reading,
            cls.source,
            cls.parameters(),
        )

    @classmethod
    def unsuited(cls, classifier: Explainable) -> str:
        """Why this architecture gives the method nothing to work on, as far as that is known without a pass; "" otherwise.

        The sentence is that of the UnsupportedModel which `explain` would raise.
        """
        return ""

    def values(self) -> dict[str, Value]:
        """Every parameter by name, JSON-ready."""
        return {item.name: getattr(self, item.name) for item in fields(self)}

    def explain(self, classifier: Explainable, model_input: ModelInput, target: str, run: Run) -> Explanation:
        """The map of `target` for one image.

        A cancelled run gives what there was so far, marked partial. The network is left as it was found,
        also after an
        exception. Raises UsageError (unknown target or layer) and UnsupportedModel (names the layer).
        """
        from xai_engine.explain.running import explain

        return explain(self, classifier, model_input, target, run)

    def attribute(self, session: Session) -> Attribution:
        """Compute the map within a prepared session."""
        raise NotImplementedError


@cache
def _table() -> dict[str, type[Method]]:
    out: dict[str, type[Method]] = {}
    for module in _MODULES:
        for method in import_module(f"xai_engine.explain.methods.{module}").METHODS:
            out[method.name] = method
    return out


def names() -> tuple[str, ...]:
    """Names of all methods, in the order in which they are offered."""
    return tuple(_table())


def describe() -> list[MethodDescription]:
    """All methods with their parameters."""
    return [method.description() for method in _table().values()]


@dataclass(frozen=True, slots=True)
class Preset:
    """Methods that are asked for together. methods: (name, parameters) in the order in which they run.

    first_sight: which of them lies on the image when all are there; the others wait in the list of maps.
    expected: how long it takes, in words, for machines on which it has not run yet (docs/bench.md has it measured).
    """

    name: str
    title: str
    meaning: str
    methods: tuple[tuple[str, Mapping[str, Value]], ...]
    expected: str
    # a zone is seen at a glance, and of the shipped model's maps those of class activation lie nearest to the experts'
    # boxes (its card, "Where its maps point")
    first_sight: str = "grad-cam"


def presets() -> tuple[Preset, ...]:
    """What is offered to people who do not want to choose methods: quick, standard, audit."""
    return _PRESETS


_PRESETS = (
    Preset(
        "quick",
        "Quick",
        "Three ideas of one look each: a zone, and two ways to share the score out over pixels.",
        (("grad-cam", {}), ("lrp", {}), ("deep-lift", {})),
        "at most 3 s",
    ),
    Preset(
        "standard",
        "Standard",
        "Shares of the score, the zone, and what happens when parts are hidden.",
        (("integrated-gradients", {}), ("grad-cam", {}), ("lime", {})),
        "some 10 s",
    ),
    Preset(
        "audit",
        "Audit",
        "Every family of methods, and what they agree on.",
        tuple(
            (name, {})
            for name in (
                "integrated-gradients",
                "deep-shap",
                "lrp",
                "grad-cam",
                "occlusion",
                "lime",
                "kernel-shap",
                "rise",
                "consensus",
            )
        ),
        "about a minute or more",
    ),
)


def unsuited(classifier: Explainable) -> dict[str, str]:
    """Methods that cannot explain this classifier, by name, and why (see `Method.unsuited`)."""
    found = {name: method.unsuited(classifier) for name, method in _table().items()}
    return {name: why for name, why in found.items() if why}


def method_class(name: str) -> type[Method]:
    """The class of a method. Raises UsageError for an unknown name."""
    table = _table()
    if name not in table:
        near = get_close_matches(name, table, 1)
        hint = f"did you mean {near[0]}?" if near else "`radiolucent methods` lists them"
        raise UsageError(f"method {name!r}: unknown; {hint}")
    return table[name]


def create(name: str, **params: Any) -> Method:
    """A method with its parameters, defaults for the rest. Raises UsageError in one line."""
    kind = method_class(name)
    known = [item.name for item in fields(kind)]
    for key in params:
        if key not in known:
            raise UsageError(f"{name}: no parameter {key!r}; it has {', '.join(known) or 'none'}")
    return kind(**params)


def _checked(method: str, about: ParameterDescription, value: Any) -> Value:
    """`value` in the parameter's own type. Raises UsageError."""
    where = f"{method}: {about.name} = {value!r}"
    if about.type == "bool":
        if not isinstance(value, bool):
            raise UsageError(f"{where}: must be true or false")
        return value
    if about.type == "str":
        if not isinstance(value, str):
            raise UsageError(f"{where}: must be a text")
        if about.choices and value not in about.choices:
            raise UsageError(f"{where}: must be one of {', '.join(about.choices)}")
        return value
    if isinstance(value, bool) or not hasattr(value, "__float__") or isinstance(value, str):
        raise UsageError(f"{where}: must be a number")
    number = float(value)
    if not math.isfinite(number) or (about.type == "int" and number != int(number)):
        raise UsageError(f"{where}: must be a {'whole' if about.type == 'int' else 'finite'} number")
    if (about.low is not None and number < about.low) or (about.high is not None and number > about.high):
        low = "-∞" if about.low is None else f"{about.low:g}"
        high = "∞" if about.high is None else f"{about.high:g}"
        unit = f" {about.unit}" if about.unit else ""
        raise UsageError(f"{where}: must be between {low} and {high}{unit}")
    return int(number) if about.type == "int" else number
