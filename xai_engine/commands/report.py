"""Make the PDF of an earlier result anew, from its folder and the image, without computing the maps again.

Of what-ifs only the changed picture is made anew, to be shown beside the original. The image and the model must be the very ones: their SHA-256 is compared.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from xai_engine.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="result folder, as analyze writes it")
    parser.add_argument(
        "--image", metavar="FILE", type=Path, help="where the image is now (default: as recorded)"
    )
    parser.add_argument("--model", metavar="BUNDLE", help="where the model is now (default: by its name)")
    parser.add_argument("--page", choices=("A4", "Letter"), default="A4", help="paper (default: A4)")
    parser.add_argument("--out", metavar="OUT.pdf", type=Path, help="default: FOLDER/report.pdf")


def run(args: argparse.Namespace) -> int:
    from xai_engine.analysis import pipeline, recall
    from xai_engine.evidence import record, report

    case = recall.with_pictures(recall.recall(args.folder, args.image, args.model), args.model)
    out = args.out or args.folder / pipeline.REPORT
    try:
        report.write(case, out, args.page)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # values that only the page asks about
        where = args.folder / record.FILE_NAME
        raise UsageError(f"{where}: is incomplete or was changed; analyse the image again") from error
    print(out)
    return 0
