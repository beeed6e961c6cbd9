"""One real main window with real worker processes for the whole session; every test starts with it empty."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication

from app.engine import Engine
from app.main_window import MainWindow
from app.settings import SettingsStore
from app.theme import Theme, load_fonts
from tests.e2e.driver import Driver
from tests.helpers import qt_hygiene
from xai_engine.classifier import bundle
from xai_engine.paths import resources_dir

SAMPLES = resources_dir() / "samples"


@pytest.fixture(scope="session")
def consolidation() -> Path:
    return SAMPLES / "synthetic-consolidation.dcm"


@pytest.fixture(scope="session")
def normal() -> Path:
    return SAMPLES / "synthetic-normal.dcm"


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """The shipped model (None), else a bundle with random weights."""
    if os.environ.get("RADIOLUCENT_MODEL"):
        return os.environ["RADIOLUCENT_MODEL"]
    if bundle.installed():
        return None
    folder = tmp_path_factory.mktemp("model") / "tiny"
    # in a process of its own: torch must not come into this one, which is the app's
    code = "import sys; from pathlib import Path; from tests.helpers.tiny_bundle import make_bundle; make_bundle(Path(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=600)
    return str(folder)


@pytest.fixture(scope="session")
def main_window(
    qapp: QApplication, model: str | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MainWindow]:
    load_fonts(qapp)
    store = SettingsStore(tmp_path_factory.mktemp("config") / "settings.json")
    store.values.assess_maps = False  # tests that are not about it need not wait for it
    theme = Theme(qapp, "dark")
    window = MainWindow(store, theme, Engine(model=model))
    window.files.interactive = False
    window.resize(1400, 880)
    window.show()
    qapp.processEvents()
    yield window
    window.close()
    assert window.engine.engine.pid is None
    assert window.engine.reader.pid is None
    window.deleteLater()
    qapp.styleHints().colorSchemeChanged.disconnect(theme._system_changed)
    theme.deleteLater()
    qapp.processEvents()
    gc.collect()


@pytest.fixture
def driver(qapp: QApplication, main_window: MainWindow) -> Iterator[Driver]:
    """The window, empty; afterwards nothing new may be left and Qt must not have complained."""
    driven = Driver(main_window)
    driven.reset()
    with qt_hygiene.clean(qapp):
        yield driven
        driven.reset()
