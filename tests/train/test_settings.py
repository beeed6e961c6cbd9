"""Configurations: everything has a default and a description, everything wrong is named."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from xai_engine.errors import UsageError
from xai_engine.train import settings

REPOSITORY = Path(__file__).resolve().parents[2]


def test_completing_twice_changes_nothing() -> None:
    once = settings.complete({"data": [{"folder": "x"}], "bf16": True, "shares": {"a": 1}})
    assert (once["precision"], once["balance"]) == ("bf16", "shares")
    assert settings.complete(once) == once
    assert settings.complete({}) == settings.complete(settings.DEFAULTS)


def test_everything_wrong_is_named_at_once() -> None:
    wrong = {
        "epochs": 3,
        "batch": 0,
        "lr": "fast",
        "seed": 1.5,
        "images_per_epoch": -1,
        "balance": "fair",
        "precision": "fp8",
        "augment": {"rotation": 3},
        "stages": [{"size": 32}],
        "patience": True,
    }
    with pytest.raises(UsageError) as caught:
        settings.complete(wrong, "mine.json")
    text = str(caught.value)
    assert text.startswith("mine.json: unknown key 'epochs'; ")
    for part in ("batch", "lr", "seed", "images_per_epoch", "balance", "precision", "stages", "patience"):
        assert f"{part} must be" in text
    assert "unknown key 'augment.rotation'" in text


def test_every_shipped_classifier_is_complete() -> None:
    folder = REPOSITORY / "xai_engine" / "train" / "configs"
    for path in folder.glob("*.json"):
        config = json.loads(path.read_text())
        if config["kind"] == "classifier":
            settings.complete(config, path.name)


def test_every_key_is_explained_to_users() -> None:
    page = (REPOSITORY / "docs" / "user" / "training.md").read_text()
    explained = set(re.findall(r"^\| `([a-z_0-9]+)` \|", page, flags=re.MULTILINE))
    hidden = {"bf16", "title"}  # an older name; the shipped bundle's own
    assert (set(settings.DEFAULTS) | settings.FURTHER) - hidden == explained


def test_what_is_made_of_the_weights_later_may_change() -> None:
    later = {"gate_limits": {"chest": 0.3}, "layers": ["head"], "default_layer": "head", "version": "9"}
    a, b = settings.complete({"name": "x"}), settings.complete({"name": "x"} | later)
    assert settings.difference(settings.fingerprint(a), settings.fingerprint(b)) == ""


def test_a_difference_names_the_keys() -> None:
    a, b = settings.complete({"lr": 0.1}), settings.complete({"lr": 0.2, "workers": 7})
    assert settings.difference(settings.fingerprint(a), settings.fingerprint(b)) == "lr was 0.1, is 0.2"


def test_a_run_begun_before_a_key_was_known_goes_on() -> None:
    """But not with another value than the default."""
    now = settings.fingerprint(settings.complete({}))
    before = {key: value for key, value in now.items() if key != "targets_weight"}
    assert settings.difference(before, now) == ""
    other = settings.fingerprint(settings.complete({"targets_weight": 0.1}))
    assert settings.difference(before, other) == "targets_weight was 0.3, is 0.1"
