"""Check this installation: decoders, model, verdicts on the samples, maps, report, worker processes, Qt.

One line per check; exit code 0 when all are well, else 1. Works without a network and writes to a temporary folder only.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_engine.errors import RadiolucentError, WorkerDied

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier
    from xai_engine.runtime.run import Run

SMALL = {"lime": {"samples": 100}, "integrated-gradients": {"steps": 8}}  # enough to see that it works


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the result. ok None: not applicable here, `detail` says why."""

    name: str
    ok: bool | None
    detail: str
    seconds: float


class NotHere(Exception):
    """The check does not apply to this installation."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the result as JSON too")
    parser.add_argument("--model", metavar="BUNDLE", help="name or folder of another model bundle")


def run(args: argparse.Namespace) -> int:
    checks: list[Check] = []
    with tempfile.TemporaryDirectory(prefix="radiolucent-selftest-") as folder:
        for name, function in Selftest(Path(folder), args.model).checks():
            began = time.perf_counter()
            ok: bool | None = True
            try:
                detail = function()
            except NotHere as reason:
                ok, detail = None, str(reason)
            except RadiolucentError as error:
                ok, detail = False, str(error)
            except Exception as error:
                ok, detail = False, f"{type(error).__name__}: {error}"
            checks.append(Check(name, ok, " ".join(detail.split()), round(time.perf_counter() - began, 3)))
            mark = {True: "ok", False: "FAILED", None: "-"}[ok]
            print(f"{mark:6s} {name:10s} {checks[-1].detail}", flush=True)
    bad = [check.name for check in checks if check.ok is False]
    print(f"{len(bad)} of {len(checks)} checks failed: {', '.join(bad)}" if bad else "all is well")
    if args.json is not None:
        from xai_engine.runtime import atomic

        result = {"schema": 1, "ok": not bad, "checks": [asdict(check) for check in checks]}
        with atomic.file(args.json) as out:
            out.write_text(json.dumps(result, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return 1 if bad else 0


class Selftest:
    """The checks in order; later ones use what earlier ones found."""

    def __init__(self, folder: Path, model: str | None) -> None:
        self.folder = folder
        self.model = model
        self._classifier: Classifier | None = None

    def checks(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("versions", self.versions),
            ("resources", self.resources),
            ("decoders", self.decoders),
            ("model", self.load_model),
            ("verdicts", self.verdicts),
            ("report", self.report),
            ("workers", self.workers),
            ("window", self.window),
        ]

    def versions(self) -> str:
        from xai_engine.runtime import device

        found = device.environment(device.choose())
        names = ("engine", "python", "torch", "monai", "device", "device_name", "precision", "threads")
        return ", ".join(f"{name} {found[name]}" for name in names)

    def resources(self) -> str:
        from xai_engine.paths import resources_dir
        from xai_engine.radiograph import colour

        root = resources_dir()
        wanted = {"samples": "*.dcm", "fonts": "*.ttf", "icons": "*.svg", "colormaps": "*.txt"}
        counts = {name: len(list((root / name).glob(pattern))) for name, pattern in wanted.items()}
        missing = [name for name, count in counts.items() if not count]
        if missing:
            raise RadiolucentError(f"{root}: no {', '.join(missing)}; install the program again")
        for name in (*colour.SEQUENTIAL, *colour.DIVERGING):
            colour.colour_map(name)
        return ", ".join(f"{count} {name}" for name, count in counts.items())

    def decoders(self) -> str:
        from xai_engine.commands import selftest_decoders

        return selftest_decoders.check(self.folder)

    def load_model(self) -> str:
        from xai_engine.classifier import bundle
        from xai_engine.runtime import device

        self._classifier = bundle.load(bundle.find(self.model), device.choose())
        info = self._classifier.info
        return f"{info.name} {info.version}, unaltered, sha256 {info.sha256[:12]}"

    def verdicts(self) -> str:
        from xai_engine.radiograph.read import read

        classifier = self._loaded()
        expected = dict(
            zip(_samples(), (classifier.info.classes[0], classifier.info.classes[-1]), strict=True)
        )
        found = classifier.predict([read(path) for path in expected])
        said = []
        for path, verdict in zip(expected, found, strict=True):
            if not verdict.readable:
                raise RadiolucentError(f"{path.name}: refused ({verdict.refusal})")
            said.append(f"{path.stem} {verdict.label} {verdict.probability:.3f}")
            if verdict.label != expected[path]:
                raise RadiolucentError(f"{said[-1]}, expected {expected[path]}")
        return ", ".join(said)

    def report(self) -> str:
        import numpy as np

        from xai_engine.analysis import pipeline
        from xai_engine.commands.inputs import DEFAULT_METHODS
        from xai_engine.evidence import record
        from xai_engine.explain import registry
        from xai_engine.radiograph.read import read
        from xai_engine.runtime.run import Run

        methods = []
        for name in DEFAULT_METHODS:
            has = {parameter.name for parameter in registry.method_class(name).parameters()}
            params = {key: value for key, value in SMALL.get(name, {}).items() if key in has}
            methods.append(registry.create(name, **params))
        image = read(_samples()[1])
        case = pipeline.analyze(image, self._loaded(), methods, None, 0, (), Run())
        folder = pipeline.write(case, self.folder / "result", report=True)
        again = record.load(folder)
        for index, name in enumerate(case.names()):
            values = again.map(index)
            if not np.isfinite(values).all() or not values.any():
                raise RadiolucentError(f"{name}: the map is empty or holds values that are no numbers")
        if (folder / pipeline.REPORT).read_bytes()[:5] != b"%PDF-":
            raise RadiolucentError("the report is no PDF")
        return f"{', '.join(case.names())}; report.pdf"

    def workers(self) -> str:
        from xai_engine.runtime.worker import Worker

        with Worker("selftest", grace_s=1.0) as worker:
            first = worker.submit(f"{__name__}:process_id").result(120)
            if first == os.getpid():
                raise RadiolucentError("the worker is no process of its own")
            victim = worker.submit(f"{__name__}:wait")
            time.sleep(0.2)
            with suppress(ProcessLookupError):
                os.kill(first, getattr(signal, "SIGKILL", signal.SIGTERM))
            try:
                victim.result(60)
            except WorkerDied:
                pass
            else:
                raise RadiolucentError("a killed worker went unnoticed")
            if worker.submit(f"{__name__}:process_id").result(120) == first:
                raise RadiolucentError("a killed worker was not replaced")
        return "started, killed, replaced"

    def window(self) -> str:
        try:
            import PySide6
        except ImportError:
            raise NotHere("PySide6 is not installed; the command line works without it") from None
        from PySide6 import QtGui, QtSvg, QtWidgets

        modules = (QtGui, QtSvg, QtWidgets)
        return f"Qt {PySide6.__version__}, {len(modules)} modules"

    def _loaded(self) -> Classifier:
        if self._classifier is None:
            raise RadiolucentError("needs the model")
        return self._classifier


def _samples() -> tuple[Path, Path]:
    """The shipped radiographs: a normal one, one with a consolidation."""
    from xai_engine.paths import resources_dir
    from xai_engine.radiograph.phantom_dicom import SAMPLES

    normal, consolidation = (resources_dir() / "samples" / name for name in SAMPLES)
    return normal, consolidation


def process_id(*, run: Run) -> int:
    """Runs in the worker."""
    return os.getpid()


def wait(*, run: Run) -> Any:
    """Runs in the worker until it is stopped."""
    while run.step(0.5, "waiting"):
        time.sleep(0.05)
    return None
