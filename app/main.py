"""Start of the window. Nothing heavy is imported here; the model is loaded in its own process after the window shows."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

_STARTED = time.monotonic()


def run(files: list[str]) -> int:
    """Open the window with these images. Returns the exit code."""
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication

    from app.engine import Engine
    from app.main_window import MainWindow
    from app.settings import SettingsStore
    from app.theme import Theme, load_fonts

    app = QApplication.instance() or QApplication(sys.argv[:1])
    assert isinstance(app, QApplication)
    app.setApplicationName("radiolucent")
    app.setApplicationDisplayName("Radiolucent")
    app.setDesktopFileName("radiolucent")
    load_fonts(app)
    store = SettingsStore()
    theme = Theme(app, store.values.theme)
    engine = Engine(device=store.values.device, threads=store.values.threads)
    paths = [Path(name) for name in files]
    if paths:
        engine.start_reader()
    window = MainWindow(store, theme, engine)
    if os.environ.get("RADIOLUCENT_PROBE"):
        _probe(window, app)
    window.shown.connect(lambda: window.open(paths))
    # reading the image comes first; the model needs both cores for some seconds
    window.shown.connect(lambda: QTimer.singleShot(1500 if paths else 0, window.reading.warm_up))
    window.show()
    return int(app.exec())


def _probe(window: object, app: object) -> None:
    """RADIOLUCENT_PROBE=1: print when the window and the image were first painted, then end. For `radiolucent bench`."""
    from PySide6.QtCore import QTimer

    from app.main_window import MainWindow

    assert isinstance(window, MainWindow)

    def say(what: str) -> None:
        print(f"{what} {time.monotonic() - _STARTED:.3f}", file=sys.stderr, flush=True)

    def painted() -> None:
        window.canvas.grab_picture()
        say("image-visible")
        window.files.interactive = False
        window.close()

    window.shown.connect(lambda: say("window-shown"))
    window.reading.opened.connect(lambda _path: QTimer.singleShot(0, painted))
