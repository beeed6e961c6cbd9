"""List the methods of explanation with their parameters, and the presets of several methods.

Set a parameter by `analyze --param METHOD.NAME=VALUE`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xai_engine.explain.registry import ParameterDescription, Preset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")
    parser.add_argument("--presets", action="store_true", help="list the presets only")


def run(args: argparse.Namespace) -> int:
    from xai_engine.explain import registry

    presets = registry.presets()
    if args.json:
        entries = [_preset(preset) for preset in presets] if args.presets else _methods()
        print(json.dumps(entries, ensure_ascii=False, indent=2))
        return 0
    for method in () if args.presets else registry.describe():
        print(f"{method.name}  ({method.title}; {method.unit})")
        print(textwrap.fill(method.summary, 100, initial_indent="  ", subsequent_indent="  "))
        for parameter in method.parameters:
            text = f"{parameter.name} = {_text(parameter.default)}  {parameter.meaning} {_range(parameter)}"
            print(textwrap.fill(text.strip(), 100, initial_indent="    ", subsequent_indent="        "))
        print()
    print("Presets, as in analyze --methods quick")
    for preset in presets:
        about = f"{preset.name}: {', '.join(name for name, _ in preset.methods)}. {preset.meaning}"
        about += f" It takes {preset.expected}."
        print(textwrap.fill(about, 100, initial_indent="  ", subsequent_indent="      "))
    return 0


def _methods() -> list[dict[str, Any]]:
    """Every method with its parameters; `presets` names those that it is part of."""
    from xai_engine.explain import registry

    return [
        {
            **dataclasses.asdict(method),
            "presets": [p.name for p in registry.presets() if method.name in dict(p.methods)],
        }
        for method in registry.describe()
    ]


def _preset(preset: Preset) -> dict[str, Any]:
    """Its methods in the order in which they run, each with the values of all its parameters."""
    from xai_engine.explain import registry

    methods = [
        {"name": name, "parameters": dict(registry.create(name, **params).values())}
        for name, params in preset.methods
    ]
    return {
        "name": preset.name,
        "title": preset.title,
        "meaning": preset.meaning,
        "expected": preset.expected,
        "methods": methods,
    }


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if value != "" else '""'


def _range(p: ParameterDescription) -> str:
    if p.choices:
        return f"({', '.join(p.choices)})"
    unit = f" {p.unit}" if p.unit else ""
    if p.low is not None and p.high is not None:
        return f"({p.low:g} to {p.high:g}{unit})"
    if p.low is not None:
        return f"(from {p.low:g}{unit})"
    if p.high is not None:
        return f"(up to {p.high:g}{unit})"
    return f"({p.unit})" if p.unit else ""
