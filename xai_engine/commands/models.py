"""List the installed models, check one against its manifest, or show its card.

radiolucent models                  what is installed, with hash and limits
radiolucent models verify [BUNDLE]  SHA-256 of every file against the manifest (default: all)
radiolucent models show [BUNDLE]    the model card (default: the default model)
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import textwrap
from pathlib import Path
from typing import Any

from xai_engine.errors import ModelError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=("list", "verify", "show"), default="list")
    parser.add_argument("bundle", nargs="?", metavar="BUNDLE", help="name or folder")
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(args: argparse.Namespace) -> int:
    from xai_engine.classifier import bundle

    chosen = [bundle.find(args.bundle)] if args.bundle or args.action == "show" else bundle.installed()
    if not chosen:
        raise ModelError("no model is installed; install the program again or give the folder of a bundle")
    if args.action == "show" and not args.json:
        card = chosen[0] / "docs" / "README.md"
        try:
            bundle.info(chosen[0])
            print(card.read_text(encoding="utf-8"))
        except OSError as error:
            raise ModelError(f"{card}: the model card cannot be read; install the model again") from error
        return 0
    found = [(folder, bundle.info(folder)) for folder in chosen]  # checks the manifest, raises ModelError
    if args.json:
        entries: list[dict[str, Any]] = [{"folder": str(f), **dataclasses.asdict(info)} for f, info in found]
        print(json.dumps(entries, ensure_ascii=False, indent=2))
        return 0
    for folder, info in found:
        if args.action == "verify":
            print(f"{info.name} {info.version}: unaltered, sha256 {info.sha256}")
            continue
        print(f"{info.name} {info.version}  {info.title}")
        print(f"  folder   {_short(folder)}")
        print(f"  sha256   {info.sha256}")
        print(f"  network  {info.architecture}, {info.parameters:,} parameters")
        print(f"  classes  {', '.join(info.classes)}")
        for point in info.operating_points:
            measured = (
                f"sensitivity {_interval(point.sensitivity)}, specificity {_interval(point.specificity)}"
            )
            print(f"  point    {point.name}: threshold {point.threshold:.3f}, {measured}; {point.population}")
        for limit in info.limitations:
            print(textwrap.fill(limit, 100, initial_indent="  limit    ", subsequent_indent="           "))
    return 0


def _interval(value: tuple[float, float, float]) -> str:
    return f"{value[0]:.3f} ({value[1]:.3f} to {value[2]:.3f})"


def _short(folder: Path) -> str:
    try:
        return str(folder.relative_to(Path.cwd()))
    except ValueError:
        return str(folder)
