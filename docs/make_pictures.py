"""Pictures of the documentation, made by the real window from the embedded synthetic sample: `python -m docs.make_pictures`.

Writes docs/pictures/window-dark.png, window-light.png, trust-dark.png, compare-dark.png and report-1.png … . Needs the shipped model.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtWidgets import QApplication

from app.dialogs.report import ReportChoice
from app.engine import Engine
from app.main_window import MainWindow
from app.settings import SettingsStore
from app.theme import Theme, load_fonts
from xai_engine.paths import resources_dir
from xai_engine.radiograph.regions import Region

FOLDER = Path(__file__).resolve().parent / "pictures"
SIZE = 1600, 1000
LARGEST = 600_000
"""Bytes of one committed picture."""
PATIENCE_S = 900.0


def wait(condition: Callable[[], object], window: MainWindow, what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"waited in vain for {what}: {window.messages.texts}")
        QApplication.processEvents()
        time.sleep(0.01)


def settle(window: MainWindow) -> None:
    """Let late repaints and the message bar's layout happen."""
    end = time.monotonic() + 0.5
    wait(lambda: time.monotonic() > end, window, "repaints")


def save(window: MainWindow, name: str) -> None:
    settle(window)
    picture = window.grab().toImage()
    path = FOLDER / name
    picture.save(str(path))
    squeeze(path)


def squeeze(path: Path) -> None:
    """Drop the lowest bits of every channel while a picture is too large: greys keep their steps too small to see."""
    from PIL import Image

    with Image.open(path) as image:
        whole = np.asarray(image.convert("RGB"))
    for bits in range(4):
        Image.fromarray(whole & (0xFF << bits & 0xFF)).save(path, optimize=True)
        if path.stat().st_size <= LARGEST:
            print(path, path.stat().st_size)
            return
    raise SystemExit(f"{path}: {path.stat().st_size} bytes are too many")


def prepare(window: MainWindow) -> None:
    """Both samples listed, the one with the consolidation shown: three maps, one region over the finding."""
    samples = resources_dir() / "samples"
    finding = samples / "synthetic-consolidation.dcm"
    window.reading.warm_up()  # as the program does when its window is shown
    window.open([finding, samples / "synthetic-normal.dcm"])
    case = window.case
    wait(lambda: case.prediction is not None, window, "the verdict")
    assert case.prediction is not None
    if not case.prediction.readable:
        raise SystemExit(f"the model refuses the sample: {case.prediction.refusal}")
    window.explain_standard()
    wait(lambda: len(case.layers) == 3 and not window.jobs.tasks, window, "three maps")
    wait(lambda: all(layer.card is not None for layer in case.layers), window, "the reliability cards")
    wait(lambda: not window.engine.engine.busy, window, "the second sample")
    case.add_region(region_of(samples / "synthetic-consolidation-mask.png"))
    case.select_region(None)
    window.canvas.measurer.wait(60_000)
    show(window, "grad-cam", "lime")


def region_of(mask: Path) -> Region:
    """An ellipse around what the phantom's mask marks, a little wider, as a hand would draw it."""
    from PIL import Image

    with Image.open(mask) as image:
        inside = np.asarray(image.convert("L")) > 127
    rows, columns = np.nonzero(inside.any(1))[0], np.nonzero(inside.any(0))[0]
    margin = 0.04 * max(inside.shape)
    corners = [(rows[0] - margin, columns[0] - margin), (rows[-1] + 1 + margin, columns[-1] + 1 + margin)]
    return Region("ellipse", np.array(corners, np.float64), "Right middle zone", "1")


def show(window: MainWindow, *methods: str) -> None:
    """Only these maps: the first filled, further ones as lines."""
    from dataclasses import replace

    for layer in window.case.layers:
        method = layer.explanation.method
        window.case.set_visible(layer.id, method in methods)
        if method in methods[1:]:
            window.case.set_style(layer.id, replace(layer.style, mode="contour", opacity=0.9))


def report_pages(window: MainWindow) -> None:
    import pymupdf

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.pdf"
        words = "Homogeneous opacity in the right middle zone."
        window.files.save_report(ReportChoice(path, "A4", "Dr. A. Example", words, False))
        wait(lambda: path.is_file() and not window.jobs.tasks, window, "the report")
        for old in FOLDER.glob("report-*.png"):
            old.unlink()
        with pymupdf.open(path) as pdf:
            for number, page in enumerate(pdf, start=1):
                target = FOLDER / f"report-{number}.png"
                page.get_pixmap(dpi=100).save(target)
                squeeze(target)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=None, help="a bundle other than the shipped one")
    arguments = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    application = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(application, QApplication)
    load_fonts(application)
    with tempfile.TemporaryDirectory() as config:
        store = SettingsStore(Path(config) / "settings.json")
        theme = Theme(application, "dark")
        window = MainWindow(store, theme, Engine(model=arguments.model))
        window.files.interactive = False
        window.resize(*SIZE)
        window.show()
        try:
            prepare(window)
            for choice, panel in (("dark", window.finding), ("light", window.maps)):
                theme.apply(choice)  # type: ignore[arg-type]
                window.inspector.setCurrentWidget(panel)
                save(window, f"window-{choice}.png")
            theme.apply("dark")
            window.map_commands.show_trust(window.case.layers[-1].id)
            save(window, "trust-dark.png")
            window.commands.actions["compare"].trigger()
            window.inspector.setCurrentWidget(window.trust)
            save(window, "compare-dark.png")
            window.commands.actions["one"].trigger()
            report_pages(window)
        finally:
            window.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
