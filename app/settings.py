"""What the window remembers between runs: one small JSON file under the user's configuration folder. Knows no Qt.

A file that cannot be understood is set aside and the defaults are used; the user is told in one line. Every change of
the layout of the file raises `SCHEMA` and adds a step to `_MIGRATIONS`.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

SCHEMA = 2
MAX_RECENT = 12

ThemeChoice = Literal["dark", "light", "system"]
PageSize = Literal["A4", "Letter"]
DeviceChoice = Literal["auto", "cpu", "cuda"]
DefaultWindow = Literal["default", "full", "auto"]


@dataclass
class Settings:
    """User preferences and session state. `threads` 0 means: as many as the machine has."""

    theme: ThemeChoice = "dark"
    default_window: DefaultWindow = "default"
    page: PageSize = "A4"
    reader: str = ""
    institution: str = ""
    device: DeviceChoice = "auto"
    threads: int = 0
    blind_reading: bool = False
    assess_maps: bool = True
    remember_recent: bool = True
    recent: list[str] = field(default_factory=list)
    folder: str = ""
    geometry: str = ""
    layout: str = ""
    layout_version: int = 0

    def add_recent(self, path: Path) -> None:
        """Put `path` first; nothing is kept where the user does not want it."""
        if not self.remember_recent:
            return
        name = str(path)
        self.recent = [name, *(other for other in self.recent if other != name)][:MAX_RECENT]

    def forget_recent(self) -> None:
        self.recent = []


_CHOICES: dict[str, tuple[Any, ...]] = {
    "theme": get_args(ThemeChoice),
    "default_window": get_args(DefaultWindow),
    "page": get_args(PageSize),
    "device": get_args(DeviceChoice),
}


def _from_1(values: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 stored the theme as a flag and dock positions of a layout that is gone."""
    values = dict(values)
    if "dark" in values:
        values["theme"] = "dark" if values.pop("dark") else "light"
    values.pop("layout", None)
    return values


_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}


def migrate(values: dict[str, Any]) -> dict[str, Any]:
    """Bring what a file holds up to `SCHEMA`. ValueError where the file has no schema or one from the future."""
    schema = values.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or not 1 <= schema <= SCHEMA:
        raise ValueError("unknown schema")
    for step in range(schema, SCHEMA):
        values = _MIGRATIONS[step](values)
    return values


def _clean(values: dict[str, Any]) -> Settings:
    """Keep every value of the right kind; a single wrong one falls back to its default, not the whole file."""
    settings = Settings()
    for each in fields(Settings):
        if each.name not in values:
            continue
        value = values[each.name]
        default = getattr(settings, each.name)
        if type(value) is not type(default):
            continue
        if each.name in _CHOICES and value not in _CHOICES[each.name]:
            continue
        if isinstance(value, list):
            value = [entry for entry in value if isinstance(entry, str)][:MAX_RECENT]
        setattr(settings, each.name, value)
    settings.threads = min(max(settings.threads, 0), 256)
    return settings


class SettingsStore:
    """Reads and writes `Settings`. `notice` is a sentence for the user where the file could not be used."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self.notice = ""
        self.values = self._load()

    def _load(self) -> Settings:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return Settings()
        except (OSError, UnicodeDecodeError):
            return self._set_aside()
        try:
            values = json.loads(text)
            if not isinstance(values, dict):
                raise ValueError("not an object")
            return _clean(migrate(values))
        except (ValueError, RecursionError):
            return self._set_aside()

    def _set_aside(self) -> Settings:
        kept = self.path.with_suffix(".unreadable.json")
        try:
            os.replace(self.path, kept)
            where = f"; the old file is now {kept.name}"
        except OSError:
            where = ""
        self.notice = f"{self.path.name}: settings could not be read, defaults are used{where}."
        return Settings()

    def save(self) -> bool:
        """Write whole or not at all. False (with `notice`) where the folder cannot be written: never an exception."""
        text = json.dumps({"schema": SCHEMA, **asdict(self.values)}, indent=1, ensure_ascii=False)
        temporary = ""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".settings-")
            with os.fdopen(handle, "w", encoding="utf-8") as stream:
                stream.write(text)
            os.replace(temporary, self.path)
        except (OSError, UnicodeEncodeError) as error:
            if temporary:
                Path(temporary).unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else "a name cannot be written as text"
            self.notice = f"{self.path}: settings could not be saved ({reason})."
            return False
        return True


def default_path() -> Path:
    """RADIOLUCENT_CONFIG (a folder) or the system's place for a user's configuration."""
    folder = os.environ.get("RADIOLUCENT_CONFIG")
    if folder:
        return Path(folder) / "settings.json"
    from platformdirs import user_config_path

    return user_config_path("radiolucent", appauthor=False) / "settings.json"
