"""What the window remembers: kept to the value, never half written, never a reason not to start."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import asdict
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.settings import (
    MAX_RECENT,
    SCHEMA,
    DefaultWindow,
    DeviceChoice,
    PageSize,
    Settings,
    SettingsStore,
    ThemeChoice,
    default_path,
    migrate,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
VALUES = st.builds(
    Settings,
    theme=st.sampled_from(get_args(ThemeChoice)),
    default_window=st.sampled_from(get_args(DefaultWindow)),
    page=st.sampled_from(get_args(PageSize)),
    device=st.sampled_from(get_args(DeviceChoice)),
    reader=TEXT,
    institution=TEXT,
    threads=st.integers(0, 256),
    blind_reading=st.booleans(),
    remember_recent=st.booleans(),
    recent=st.lists(TEXT, max_size=MAX_RECENT),
    folder=TEXT,
    geometry=TEXT,
    layout=TEXT,
    layout_version=st.integers(0, 9),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SAME_FOLDER = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@SAME_FOLDER
@given(values=VALUES)
def test_every_value_survives(tmp_path: Path, values: Settings) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    store.values = values
    assert store.save()
    again = SettingsStore(tmp_path / "settings.json")
    assert (again.values, again.notice) == (values, "")


@SAME_FOLDER
@given(content=st.binary(max_size=200))
def test_any_bytes_still_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    store = SettingsStore(path)
    assert store.values == Settings()
    assert store.notice
    assert (tmp_path / "settings.unreadable.json").read_bytes() == content
    assert not path.exists()


@SAME_FOLDER
@given(values=st.fixed_dictionaries({}, optional=dict.fromkeys(asdict(Settings()), JSON)))
def test_a_wrong_value_costs_only_itself(tmp_path: Path, values: dict) -> None:
    """A file of the right schema with anything in its fields: every field ends up of its own type, good ones as written."""
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"schema": SCHEMA, **values, "reader": "Dr. Good"}))
    store = SettingsStore(path)
    assert store.notice == ""
    assert store.values.reader == "Dr. Good"
    defaults = Settings()
    for name, value in asdict(store.values).items():
        assert type(value) is type(getattr(defaults, name)), name
    assert store.values.theme in get_args(ThemeChoice)
    assert 0 <= store.values.threads <= 256
    assert all(isinstance(name, str) for name in store.values.recent)
    assert len(store.values.recent) <= MAX_RECENT


def test_no_file_is_no_fault(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "none" / "settings.json")
    assert (store.values, store.notice) == (Settings(), "")


@pytest.mark.parametrize(("dark", "theme"), [(True, "dark"), (False, "light")])
def test_schema_1(tmp_path: Path, dark: bool, theme: str) -> None:
    path = tmp_path / "settings.json"
    path.write_text(
        json.dumps({"schema": 1, "dark": dark, "layout": "of docks that are gone", "page": "Letter"})
    )
    store = SettingsStore(path)
    assert (store.values.theme, store.values.layout, store.values.page) == (theme, "", "Letter")
    assert store.notice == ""
    assert store.save()
    assert json.loads(path.read_text())["schema"] == SCHEMA


@pytest.mark.parametrize("schema", [0, SCHEMA + 1, True, 1.0, "2", None])
def test_a_schema_from_elsewhere(schema: object) -> None:
    with pytest.raises(ValueError, match="schema"):
        migrate({"schema": schema})


def test_a_newer_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"schema": SCHEMA + 1, "theme": "light"}))
    store = SettingsStore(path)
    assert store.values == Settings()
    assert "settings.unreadable.json" in store.notice
    assert json.loads((tmp_path / "settings.unreadable.json").read_text())["theme"] == "light"


def test_recent_files(tmp_path: Path) -> None:
    values = Settings()
    for number in range(MAX_RECENT + 3):
        values.add_recent(tmp_path / f"{number}.dcm")
    values.add_recent(tmp_path / "9.dcm")
    assert values.recent[0] == str(tmp_path / "9.dcm")
    assert len(values.recent) == len(set(values.recent)) == MAX_RECENT
    values.forget_recent()
    assert values.recent == []
    values.remember_recent = False
    values.add_recent(tmp_path / "secret.dcm")
    assert values.recent == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = SettingsStore(tmp_path / "file" / "settings.json")
    assert store.values == Settings()
    assert not store.save()
    assert "could not be saved" in store.notice


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    store.values.reader = "before"
    assert store.save()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    store.values.reader = "after"
    assert not store.save()
    monkeypatch.undo()
    assert SettingsStore(store.path).values.reader == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["settings.json"]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_others_cannot_read_the_names_of_recent_files(tmp_path: Path) -> None:
    store = SettingsStore(tmp_path / "settings.json")
    assert store.save()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_where_the_file_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RADIOLUCENT_CONFIG", str(tmp_path))
    assert default_path() == tmp_path / "settings.json"
