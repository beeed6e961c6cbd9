"""What the verbs have in common: which images, read in a process of their own; which methods with which
parameters."""

from __future__ import annotations

import argparse
import os
import re
from collections import deque
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xai_engine.errors import RadiolucentError, UnreadableImage, UsageError, WorkerDied

if TYPE_CHECKING:
    from xai_engine.explain.registry import Method
    from xai_engine.radiograph.types import Radiograph

DEFAULT_METHODS = ("integrated-gradients", "grad-cam", "lime")
SUFFIXES = {".dcm", ".dicom", ".dic", ".ima", ".png", ".jpg", ".jpeg", ".tif", ".tiff"}
READ = "xai_engine.analysis.tasks:read_file"
_RUN = re.compile(r"-[2-9][0-9]*$|-1[0-9]+$")  # "lime-2": the method once more, with parameters of its own
_PARAMETERS = re.compile(r",(?=\s*[\w-]+\.\w+\s*=)")  # commas between parameters; values may hold others
AHEAD = 3  # images that are read while others are worked on


def find_images(words: Sequence[str]) -> list[Path]:
    """Files as named; folders become the images in them and below, sorted. Raises UsageError for an empty
    folder.

    In a folder, files count that have an image's suffix, or DICOM's mark where they have none.
    """
    out: list[Path] = []
    for word in words:
        if not word:  # Path("") is this folder: a variable that is not set would analyse all that lies here
            raise UsageError("an image's name is empty; name files or folders")
        path = Path(word)
        if not path.is_dir():
            out.append(path)
            continue
        inside = [Path(folder) / name for folder, _, names in os.walk(path) for name in names]
        images = sorted(f for f in inside if not f.name.startswith(".") and _looks_like_image(f))
        if not images:
            raise UsageError(f"{path}: no images in this folder; name files or another folder")
        out += images
    return out


def _looks_like_image(path: Path) -> bool:
    if path.suffix.lower() in SUFFIXES:
        return True
    if path.suffix and not path.suffix[1:].isdigit():  # names that are UIDs end in digits
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def read_images(paths: Sequence[Path]) -> Generator[Radiograph | RadiolucentError, None, None]:
    """Each image in turn, or why it cannot be had. Files are decoded in a process of their own, a few ahead.

    A file that crashes its decoder costs that file only.
    """
    from xai_engine.runtime.worker import Job, Worker

    with Worker("reader", grace_s=0.5, niceness=0) as reader:
        jobs: deque[tuple[Path, Job]] = deque()
        waiting = iter(paths)
        while True:
            while len(jobs) < AHEAD and (path := next(waiting, None)) is not None:
                jobs.append((path, reader.submit(READ, str(path))))
            if not jobs:
                return
            path, job = jobs.popleft()
            try:
                yield job.result()
            except WorkerDied:
                yield UnreadableImage(f"{path}: crashes its decoder; the file is damaged, fetch it again")
            except RadiolucentError as error:
                yield error


def parse_methods(names: str, params: Sequence[str]) -> list[Method]:
    """Methods of `--methods a,b` with `--param a.name=value`; `a-2`, `a-3` are further runs of `a`.

    A preset's name (quick, standard, audit) stands for its methods with its settings, `all` for every method there is.
    Raises UsageError.
    """
    from xai_engine.explain import registry

    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if not wanted:
        raise UsageError("--methods: names no method; give names, or none to predict only")
    if wanted == ["none"]:
        wanted = []
    presets = {preset.name: dict(preset.methods) for preset in registry.presets()}
    presets["all"] = {name: {} for name in registry.names()}
    settings = {name: each for word in wanted for name, each in presets.get(word, {}).items()}
    wanted = list(dict.fromkeys(name for word in wanted for name in presets.get(word, (word,))))
    known = registry.names()
    methods = {name: name if name in known else _RUN.sub("", name) for name in wanted}
    for name, method in methods.items():
        if method not in known:
            raise UsageError(
                f"--methods: {name!r} is unknown; known are {', '.join((*known, *presets))}, or none"
            )
    values: dict[str, dict[str, Any]] = {name: dict(settings.get(name, {})) for name in wanted}
    types = {(d.name, p.name): p.type for d in registry.describe() for p in d.parameters}
    for word in (part for text in params for part in _PARAMETERS.split(text)):
        key, equals, text = word.partition("=")
        run, dot, name = key.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--param {word!r}: write METHOD.NAME=VALUE, as in lime.samples=2000")
        if run not in values:
            raise UsageError(f"--param {word!r}: {run!r} is not among the methods of this call")
        values[run][name] = _value(word, text.strip(), types.get((methods[run], name), "str"))
    return [registry.create(methods[name], **values[name]) for name in wanted]


def _value(word: str, text: str, kind: str) -> Any:
    try:
        if kind == "bool":
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if kind == "int":
            return int(text)
        if kind == "float":
            return float(text)
    except (KeyError, ValueError):
        need = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise UsageError(f"--param {word!r}: the value must be {need}") from None
    return text


def seed(text: str) -> int:
    """Type of --seed: a whole number from 0 to 2**63 - 1."""
    try:
        number = int(text)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 63:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return number
