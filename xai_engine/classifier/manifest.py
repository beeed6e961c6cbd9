"""SHA-256 manifest of a bundle: written when it is made, checked before anything of it is used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from xai_engine.errors import ModelError

NAME = "manifest.json"
CHECKED = ("configs", "models")  # the documentation may be edited without making another model of it


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def write(bundle: Path) -> str:
    """Write the manifest of `configs/` and `models/`. Returns the bundle's digest."""
    files = {str(p.relative_to(bundle).as_posix()): file_digest(p) for p in _files(bundle)}
    text = json.dumps({"schema": 1, "files": files}, indent=1, sort_keys=True) + "\n"
    (bundle / NAME).write_text(text, encoding="utf-8")
    return bundle_digest(files)


def bundle_digest(files: dict[str, str]) -> str:
    """Identity of a bundle: SHA-256 over the sorted "digest  name" lines (what `sha256sum` prints)."""
    lines = "".join(f"{files[name]}  {name}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()


def verify(bundle: Path) -> str:
    """Check every file against the manifest. Returns the bundle's digest; raises ModelError naming the file."""
    path = bundle / NAME
    if not bundle.is_dir():
        raise ModelError(f"{bundle}: no such model bundle; `radiolucent models` lists what is installed")
    try:
        files = json.loads(path.read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        raise ModelError(f"{bundle}: no {NAME}; this is no complete model bundle, install it again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{path}: cannot be read ({type(error).__name__}); install the model again"
        ) from error
    present = {str(p.relative_to(bundle).as_posix()) for p in _files(bundle)}
    for name in sorted(set(files) | present):
        if name not in files:
            raise ModelError(
                f"{bundle / name}: not in the manifest; the bundle was altered, install it again"
            )
        if name not in present:
            raise ModelError(f"{bundle / name}: missing; install the model again")
        if file_digest(bundle / name) != files[name]:
            raise ModelError(
                f"{bundle / name}: altered (SHA-256 differs from the manifest); install the model again"
            )
    return bundle_digest(files)


def _files(bundle: Path) -> list[Path]:
    return sorted(p for folder in CHECKED for p in (bundle / folder).rglob("*") if p.is_file())
