"""Predict, explain and measure radiographs; write one folder of results per image.

OUT/<image stem>/ holds analysis.json, <method>.npy (float32, signed, rows x columns of the
image), <method>.png (the overlay as the window shows it) and, with --report, report.pdf.
Images that share a stem get OUT/<stem>-2 and so on, in the order in which they are named.
A folder given as an image stands for all images in it and below.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from xai_engine.commands import inputs
from xai_engine.commands.progress import Line
from xai_engine.errors import RadiolucentError, RefusedImage, UsageError
from xai_engine.explain.what_if import FILLS

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier
    from xai_engine.classifier.types import Prediction
    from xai_engine.explain.registry import Method
    from xai_engine.radiograph.regions import Region
    from xai_engine.radiograph.types import Radiograph

BATCH = 8
BATCH_PIXELS = 64_000_000  # bounds the memory of a batch of large images


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files or folders of them")
    parser.add_argument("--model", metavar="BUNDLE", help="name or folder of the model bundle")
    parser.add_argument(
        "--methods",
        default=",".join(inputs.DEFAULT_METHODS),
        metavar="A,B",
        help="methods of explanation, or a preset: quick, standard, audit; all, every method; none predicts only (default: %(default)s)",
    )
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="METHOD.NAME=VALUE",
        help="a parameter, as in lime.samples=2000; several: repeat, or separate by commas",
    )
    parser.add_argument("--target", metavar="CLASS", help="class to explain (default: the model's finding)")
    parser.add_argument(
        "--seed", type=inputs.seed, default=0, metavar="N", help="of all random numbers (default: 0)"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="auto")
    parser.add_argument(
        "--backend",
        choices=("auto", "torch", "openvino", "onnx"),
        default="auto",
        help="what runs long series of forward passes (auto: OpenVINO where it is installed, agrees and is faster)",
    )
    parser.add_argument("--roi", type=Path, metavar="FILE.json", help="regions to measure in every image")
    parser.add_argument(
        "--what-if",
        choices=("none", *FILLS),
        default="inpaint",
        help="how each region is changed to see what the score does (default: %(default)s)",
    )
    parser.add_argument(
        "--correct",
        action="store_true",
        help="put inverted or turned images right that are refused otherwise; the result says so",
    )
    parser.add_argument(
        "--cards",
        choices=("none", "quick", "standard", "audit"),
        default="quick",
        help="how thoroughly to assess how far each map can be trusted (reliability in analysis.json and report; "
        "default: %(default)s)",
    )
    parser.add_argument("--report", action="store_true", help="write report.pdf too")
    parser.add_argument(
        "--page", choices=("A4", "Letter"), default="A4", help="paper of the report (default: A4)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("radiolucent-out"), metavar="DIR", help="default: ./radiolucent-out"
    )


def run(args: argparse.Namespace) -> int:
    """Exit code 3 when an image could not be read or was refused, after all others are done."""
    from xai_engine.classifier import bundle

    methods = inputs.parse_methods(args.methods, args.param)
    paths = inputs.find_images(args.images)
    roi = _regions(args.roi)
    folder = bundle.find(args.model)
    classes = bundle.info(folder).classes
    if args.target is not None and args.target not in classes:
        raise UsageError(f"--target {args.target!r}: this model knows {', '.join(classes)}")

    with Line(len(paths)) as line, closing(inputs.read_images(paths)) as images:
        first = next(images)  # its process starts, then works while the model is loaded
        line.note("loading the model")
        from xai_engine.runtime import device

        classifier = bundle.load(folder, device.choose(args.device, args.precision, args.backend))
        return _Analysis(args, paths, methods, roi, classifier, line).all(first, images)


def _regions(path: Path | None) -> tuple[Region, ...]:
    if path is None:
        return ()
    from xai_engine.radiograph import regions

    return regions.load(path)


class _Analysis:
    """One call of the verb, image after image."""

    def __init__(
        self,
        args: argparse.Namespace,
        paths: list[Path],
        methods: list[Method],
        roi: tuple[Region, ...],
        classifier: Classifier,
        line: Line,
    ) -> None:
        from xai_engine.analysis import pipeline
        from xai_engine.assess import options as trust

        self.args = args
        self.cards = None if args.cards == "none" else trust.preset(args.cards)
        self.methods = methods
        self.roi = roi
        self.classifier = classifier
        self.line = line
        self.failures = 0
        self.folders = [args.out / name for name in pipeline.folder_names(paths)]
        self.paths = paths
        # the case itself tells methods, parameters, cards and what-ifs
        options = {"model": args.model, "roi": str(args.roi) if args.roi else ""}
        self.options = {key: str(value) for key, value in options.items() if value}

    def all(
        self,
        first: Radiograph | RadiolucentError,
        others: Generator[Radiograph | RadiolucentError, None, None],
    ) -> int:
        batch: list[tuple[int, Radiograph]] = []
        image: Radiograph | RadiolucentError | None = first
        index = 0
        while image is not None:
            if isinstance(image, RadiolucentError):
                self._fail(index, image, "unreadable")
            else:
                batch.append((index, image))
            if len(batch) == BATCH or sum(r.pixels.size for _, r in batch) > BATCH_PIXELS:
                self._batch(batch)
                batch = []
            image = next(others, None)
            index += 1
        self._batch(batch)
        return 3 if self.failures else 0

    def _batch(self, batch: list[tuple[int, Radiograph]]) -> None:
        if not batch:
            return
        from xai_engine.radiograph import correct
        from xai_engine.runtime.run import Run

        run = Run(self.args.seed, report=self.line.update)
        predictions = self.classifier.predict([r for _, r in batch], run)
        for (index, radiograph), prediction in zip(batch, predictions, strict=True):
            if self.args.correct and prediction.offer:
                corrected = correct.apply(radiograph, prediction.offer)
                self._one(index, corrected, self.classifier.predict([corrected], run)[0])
            else:
                self._one(index, radiograph, prediction)

    def _one(self, index: int, radiograph: Radiograph, prediction: Prediction) -> None:
        from xai_engine.analysis import pipeline
        from xai_engine.cli import tell
        from xai_engine.radiograph import correct
        from xai_engine.runtime.run import Run

        args, folder = self.args, self.folders[index]
        run = Run(args.seed, report=self.line.update)
        case = pipeline.analyze(
            radiograph,
            self.classifier,
            self.methods,
            args.target,
            args.seed,
            self.roi,
            run,
            prediction=prediction,
            options=self.options,
            cards=self.cards,
            what_if=None if args.what_if == "none" else args.what_if,
        )
        pipeline.write(case, folder, args.report, args.page)
        if not prediction.readable:
            offer = f" --correct reads it {correct.words(prediction.offer)}." if prediction.offer else ""
            self._fail(index, RefusedImage(f"{radiograph.path}: {prediction.refusal}{offer}"), "refused")
            return
        verdict = f"{prediction.label}, probability {prediction.probability:.3f}"
        if radiograph.corrections:
            verdict += f", read {correct.words(radiograph.corrections)}"
        self.line.step(self.paths[index].name, verdict)
        self.line.clear()
        for name, why in case.skipped.items():
            tell(f"radiolucent: skipped {name}: {why}", sys.stderr)
        done = f"{radiograph.path}: {verdict} (threshold {prediction.threshold:.3f}) -> {folder}"
        tell(done, sys.stdout)

    def _fail(self, index: int, error: RadiolucentError, outcome: str) -> None:
        from xai_engine.cli import complain

        self.failures += 1
        self.line.clear()
        complain(error)
        self.line.step(self.paths[index].name, outcome)
