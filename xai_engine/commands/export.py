"""Write the 8-bit picture of a radiograph exactly as the window shows it, in source resolution."""

from __future__ import annotations

import argparse
from contextlib import closing
from pathlib import Path

from xai_engine.commands import inputs
from xai_engine.errors import RadiolucentError, UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", metavar="IMAGE", type=Path)
    parser.add_argument("--picture", metavar="OUT.png", type=Path, required=True, help="PNG file to write")
    parser.add_argument(
        "--window",
        default="default",
        metavar="WINDOW",
        help="default: the file's first VOI LUT or window, else auto; full: minimum to maximum, padding "
        "excluded; auto; or N: the file's N-th, from 0",
    )
    parser.add_argument("--invert", action="store_true", help="swap black and white")


def run(args: argparse.Namespace) -> int:
    if args.picture.suffix.lower() != ".png":
        raise UsageError(f"{args.picture}: the picture is a PNG file; end its name in .png")
    with closing(inputs.read_images([args.image])) as images:
        image = next(images)
    if isinstance(image, RadiolucentError):
        raise image
    from xai_engine.radiograph import display

    display.write_picture(image, display.select(image, args.window), args.picture, args.invert)
    print(args.picture)
    return 0
