"""List the methods of explanation with their parameters, and the presets of several methods.

Set a parameter by `analyze --param METHOD.NAME=VALUE`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xai_engine.explain.registry import ParameterDescription


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(args: argparse.Namespace) -> int:
    from xai_engine.explain import registry

    methods = registry.describe()
    if args.json:
        print(json.dumps([dataclasses.asdict(method) for method in methods], ensure_ascii=False, indent=2))
        return 0
    for method in methods:
        print(f"{method.name}  ({method.title}; {method.unit})")
        print(textwrap.fill(method.summary, 100, initial_indent="  ", subsequent_indent="  "))
        for parameter in method.parameters:
            text = f"{parameter.name} = {_text(parameter.default)}  {parameter.meaning} {_range(parameter)}"
            print(textwrap.fill(text.strip(), 100, initial_indent="    ", subsequent_indent="        "))
        print()
    print("Presets, as in analyze --methods quick")
    for preset in registry.presets():
        about = f"{preset.name}: {', '.join(name for name, _ in preset.methods)}. {preset.meaning}"
        about += f" About {preset.passes} passes, {preset.expected}."
        print(textwrap.fill(about, 100, initial_indent="  ", subsequent_indent="      "))
    return 0


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
