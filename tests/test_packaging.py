"""The wheel holds what it must and nothing else; the scripts around it say what is missing in one line."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    found = {re.match(r"[A-Za-z0-9._-]+", r).group(0).lower() for r in requirements}  # type: ignore[union-attr]
    return found - {"radiolucent"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout, built by the build back end itself, in a copy-free way."""
    pytest.importorskip("hatchling", reason="hatchling is not installed (pip install -e .[test])")
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_program_models_and_resources(wheel: zipfile.ZipFile) -> None:
    inside = set(wheel.namelist())
    tracked = subprocess.run(
        ["git", "ls-files", "app", "xai_engine", "models", "resources"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    ).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    expected = {f"xai_engine/_data/{n}" if n.startswith(("models/", "resources/")) else n for n in tracked}
    assert expected - inside == set()


def test_wheel_holds_nothing_else(wheel: zipfile.ZipFile) -> None:
    tops = {n.split("/")[0] for n in wheel.namelist()}
    assert {t for t in tops if not t.endswith(".dist-info")} == {"app", "xai_engine"}
    assert not [n for n in wheel.namelist() if re.search(r"(^|/)(tests?|docs/pictures|__pycache__)/", n)]


def test_wheel_carries_the_licence_texts(wheel: zipfile.ZipFile) -> None:
    texts = {Path(n).name for n in wheel.namelist() if ".dist-info/licenses/" in n}
    assert texts == {"LICENSE", "NOTICE", "THIRD-PARTY.md"}


def test_wheel_has_the_command(wheel: zipfile.ZipFile) -> None:
    (entry,) = [n for n in wheel.namelist() if n.endswith("entry_points.txt")]
    assert "radiolucent = xai_engine.cli:main" in wheel.read(entry).decode()


def test_every_dependency_is_explained() -> None:
    page = (REPOSITORY / "docs" / "dependencies.md").read_text()
    rows = dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", page, flags=re.MULTILINE))
    declared = names(PROJECT["dependencies"])
    for group in PROJECT["optional-dependencies"].values():
        declared |= names(group)
    assert declared == {n.lower() for n in rows}
    assert all(
        len(row.split("|")) == 2 and all(cell.strip() for cell in row.split("|")) for row in rows.values()
    )


def test_packaged_components_are_attributed() -> None:
    page = (REPOSITORY / "THIRD-PARTY.md").read_text().lower()
    assert [n for n in names(PROJECT["dependencies"]) if n not in page] == []


def check_system() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "check_system", REPOSITORY / "installers" / "check_system.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_missing_library_is_named_with_its_package(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = check_system()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(module, "ENGINE", {"libnowhere.so.9": "libnowhere9", "libc.so.6": "libc6"})
    assert module.main("engine") == 1
    assert capsys.readouterr().err == "Missing libnowhere.so.9; install: sudo apt-get install libnowhere9\n"


def test_x11_libraries_are_asked_for_only_by_a_window_on_x11() -> None:
    module = check_system()
    assert "libxcb-cursor.so.0" in module.needed("window", {"DISPLAY": ":0"})
    assert "libxcb-cursor.so.0" not in module.needed("window", {"WAYLAND_DISPLAY": "wayland-0"})
    assert "libEGL.so.1" in module.needed("window", {"WAYLAND_DISPLAY": "wayland-0"})
    assert "libEGL.so.1" not in module.needed("engine", {})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="setup.sh is for Linux")
def test_setup_refuses_another_python_in_one_line(tmp_path: Path) -> None:
    old = tmp_path / "python"
    old.write_text('#!/bin/sh\ncase "$1" in --version) echo Python 3.9.1 ;; *) exit 1 ;; esac\n')
    old.chmod(0o755)
    done = subprocess.run(
        ["bash", str(REPOSITORY / "installers" / "setup.sh"), "run"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": str(old), "VENV": str(tmp_path / "venv")},
    )
    assert done.returncode == 1
    assert done.stderr == f"radiolucent: PYTHON={old} is Python 3.9.1; needs Python 3.11, 3.12 or 3.13\n"
    assert not (tmp_path / "venv").exists()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="setup.sh is for Linux")
def test_setup_names_the_package_where_venv_is_missing(tmp_path: Path) -> None:
    """Debian's python3 without python3-venv: it runs, but has no ensurepip."""
    bare = tmp_path / "python"
    bare.write_text(
        f'#!/bin/sh\ncase "$2" in *ensurepip*) exit 1 ;; esac\nexec "{sys.executable}" "$@"\n',
    )
    bare.chmod(0o755)
    done = subprocess.run(
        ["bash", str(REPOSITORY / "installers" / "setup.sh"), "test"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHON": str(bare), "VENV": str(tmp_path / "venv")},
    )
    assert done.returncode == 1
    package = f"python3.{sys.version_info.minor}-venv"
    assert done.stderr.strip().endswith(f"install: sudo apt-get install {package}")
    assert len(done.stderr.strip().splitlines()) == 1


def imported(folder: str) -> set[str]:
    """Top-level names that the modules of a folder import from elsewhere."""
    found: set[str] = set()
    for path in (REPOSITORY / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"app", "xai_engine", "tests", "__future__"}


@pytest.mark.parametrize("folder", ["app", "xai_engine", "tests"])
def test_what_is_imported_is_declared(folder: str) -> None:
    """An import that works only because another package happens to bring it along breaks one day."""
    declared = names(PROJECT["dependencies"]) | {"shiboken6"}  # half of PySide6, released with it
    for group, requirements in PROJECT["optional-dependencies"].items():
        if folder == "tests" or group in ("train", "peers", "openvino", "onnxruntime"):
            declared |= names(requirements)
    owners = importlib.metadata.packages_distributions()
    unknown = {
        name: owners.get(name)
        for name in imported(folder)
        if not declared & {re.sub(r"[-_.]+", "-", d).lower() for d in owners.get(name, [name])}
    }
    assert unknown == {}
