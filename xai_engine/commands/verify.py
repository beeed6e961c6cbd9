"""Compute an earlier result anew and compare: image and model by SHA-256, then every number and every map.

Prints one line per item that differs. Exit code 0: everything agrees; 1: something differs;
2: no result folder; 3: the image cannot be read; 4: the model cannot be used.
Not compared: seconds, paths, dates, the reader's words, report.pdf.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="result folder, as analyze writes it")
    parser.add_argument(
        "--image", metavar="FILE", type=Path, help="where the image is now (default: as recorded)"
    )
    parser.add_argument("--model", metavar="BUNDLE", help="where the model is now (default: as recorded)")
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-5,
        metavar="T",
        help="largest difference that passes, of the number's or the map's own size (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    from xai_engine.analysis import verify
    from xai_engine.commands.progress import Line
    from xai_engine.runtime.run import Run

    with Line(1) as line:
        lines = verify.verify(
            args.folder, Run(report=line.update), args.image, args.model, tolerance=args.tolerance
        )
        line.clear()
    for text in lines:
        print(f"{args.folder}: {text}")
    if not lines:
        print(f"{args.folder}: agrees within {args.tolerance:g}")
    return 1 if lines else 0
