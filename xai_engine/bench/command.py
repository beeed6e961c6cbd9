"""`radiolucent bench`: what is measured, in which order, and where it goes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from xai_engine.bench.figures import Figure, as_json, as_markdown, as_text
from xai_engine.errors import UsageError

PARTS = ("methods", "memory", "stopping", "reading", "start")
PEERS = {
    "captum": "captum",
    "lime": "lime",
    "monai": "monai",
    "pytorch_grad_cam": "grad-cam",
    "shap": "shap",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--peers", action="store_true", help="measure other packages beside, in the same run")
    parser.add_argument("--viewer", action="store_true", help="measure the window's start and its frames too")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure with its samples")
    parser.add_argument("--markdown", type=Path, metavar="OUT", help="write a page, as docs/bench.md")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="the median of N (default 3)")
    parser.add_argument("--only", metavar="A,B", help=f"some of the parts: {', '.join(PARTS)}, viewer")
    parser.add_argument("--quick", action="store_true", help="small sizes: a look in a minute, not the page")
    parser.add_argument(
        "--image",
        type=Path,
        metavar="FILE",
        help="the radiograph that methods and peers explain, not the sample",
    )
    parser.add_argument("--model", metavar="BUNDLE", help="name or folder of the model bundle")


def missing_peers() -> list[str]:
    """Packages to install for a full comparison, by the names that pip knows."""
    return [package for module, package in PEERS.items() if importlib.util.find_spec(module) is None]


def run(args: argparse.Namespace) -> int:
    """Measure, print, write. Raises UsageError, ModelError, OutputError."""
    from xai_engine.bench import machine
    from xai_engine.runtime import atomic

    if args.repeats < 1:
        raise UsageError(f"--repeats {args.repeats}: at least 1")
    parts = [*PARTS[:-1], *(["start", "viewer"] if args.viewer else [])]
    if args.only:
        parts = [part.strip() for part in args.only.split(",")]
        unknown = [part for part in parts if part not in (*PARTS, "viewer")]
        if unknown:
            raise UsageError(f"--only {unknown[0]}: the parts are {', '.join(PARTS)}, viewer")
    absent = missing_peers() if args.peers else []
    if absent:
        print(
            f"not installed, so not compared: {', '.join(absent)} (pip install {' '.join(absent)})",
            file=sys.stderr,
        )

    about = machine.describe()
    figures: list[Figure] = []
    for part in parts:
        print(f"measuring: {part}", file=sys.stderr, flush=True)
        figures += _measure(part, args)
    sys.stdout.write(as_text(about, figures))
    asked = [*(["--peers"] if args.peers else []), *(["--viewer"] if args.viewer else [])]
    # a page may be shown around, and names of files may name patients
    asked += ["--image", "RADIOGRAPH"] if args.image else []
    asked += [*(["--only", args.only] if args.only else []), *(["--quick"] if args.quick else [])]
    command = " ".join(["radiolucent bench", *asked, "--repeats", str(args.repeats)])
    outputs: Iterable[tuple[Path | None, Callable[[], str]]] = (
        (args.json, lambda: json.dumps(as_json(about, figures), indent=1) + "\n"),
        (args.markdown, lambda: as_markdown(f"{command} --markdown", about, figures)),
    )
    for path, text in outputs:
        if path is not None:
            with atomic.file(path) as temporary:
                Path(temporary).write_text(text(), encoding="utf-8")
    return 0


def _measure(part: str, args: argparse.Namespace) -> list[Figure]:
    # each part is imported when its turn comes: `start` must not wait for torch, nor `methods` for Qt
    from xai_engine.paths import resources_dir

    sample = resources_dir() / "samples" / "synthetic-consolidation.dcm"
    if part == "methods":
        from xai_engine.bench import methods

        return methods.measure_shipped(args.model, args.image or sample, args.repeats, args.peers, args.quick)
    if part == "memory":
        from xai_engine.bench import memory

        return memory.measure(args.model, sample)
    if part == "stopping":
        from xai_engine.bench import stopping

        return stopping.measure(args.model, sample, args.repeats, stopping.QUICK if args.quick else ())
    if part == "reading":
        from xai_engine.bench import reading

        return reading.measure(args.repeats, args.peers)
    if part == "start":
        from xai_engine.bench import startup

        return startup.measure(sample, args.repeats)
    from xai_engine.bench import viewer

    return viewer.measure()
