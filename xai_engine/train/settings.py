"""Training configurations: every key with its default, and what is wrong with one that cannot be used."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from xai_engine.classifier.preprocess import PreprocessSpec
from xai_engine.errors import UsageError
from xai_engine.train import soup

BALANCES = ("shares", "classes", "weights", "none")
PRECISIONS = ("auto", "fp32", "bf16", "fp16")
MONITORS = ("auc", "loss")

# What a configuration that says nothing gets; docs/user/training.md explains each (a test compares the two).
DEFAULTS: dict[str, Any] = {
    "kind": "classifier",
    "name": "my-model",
    "version": "0.1.0",
    "seed": 0,
    "network": {
        "_target_": "xai_engine.classifier.network.EfficientNetLite0",
        "in_channels": 1,
        "num_classes": 1,
        "dropout": 0.2,
    },
    "imagenet": True,
    "start": None,
    "preprocessing": {"size": 224, "margin": 0.08},
    "stages": [{"size": 224, "epochs": 20}],
    "balance": "classes",
    "shares": {},
    "images_per_epoch": None,
    "batch": 32,
    "lr": 0.001,
    "weight_decay": 0.02,
    "dense_weight": 0.3,
    "targets_weight": 0.3,
    "precision": "auto",
    "workers": 2,
    "patience": 6,
    "monitor": "auc",
    "checkpoint_minutes": 10,
    "augment": {},
    "synthetic": {},
    "style_mixing": 0.0,
    "style_layers": [],
    "soup": None,
}
# known, without a default: data, tune; how the bundle is made of the weights; parts of the bundle made by other runs
FURTHER = {"data", "tune", "bf16", "layers", "default_layer", "gate_limits", "lungs", "gate", "title"}
# may differ between the parts of one run: they change how fast it goes, what it is called, or what is made of it later
FREE = {
    "workers", "checkpoint_minutes", "lungs", "gate", "tune", "data", "version", "title", "soup",
    "layers", "default_layer", "gate_limits",
}  # fmt: skip


def complete(config: Mapping[str, Any], name: str = "the configuration") -> dict[str, Any]:
    """The configuration with every default filled in. Completing twice changes nothing.

    name: file that errors name. Raises UsageError that lists everything that is wrong.
    """
    out = {**DEFAULTS, **config}
    if "bf16" in out:  # older name of the precision
        out["precision"] = config.get("precision", "bf16" if out.pop("bf16") else "fp32")
        out.pop("bf16", None)
    if out["shares"] and "balance" not in config:
        out["balance"] = "shares"
    problems = [f"unknown key {key!r}" for key in sorted(set(out) - set(DEFAULTS) - FURTHER)]
    problems += _name(out["name"]) + _numbers(out) + _choices(out) + _parts(out)
    if problems:
        raise UsageError(f"{name}: {'; '.join(problems)}")
    return out


def fingerprint(config: Mapping[str, Any]) -> dict[str, str]:
    """What a run that goes on must agree with its beginning about: key -> value as text."""
    return {key: repr(config[key]) for key in sorted(set(config) - FREE)}


def difference(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The keys in which two fingerprints differ, in words; "" where they agree.

    A key that an older version did not know counts as its default, which leaves things as they were.
    """
    old, new = ({key: repr(value) for key, value in DEFAULTS.items()} | dict(side) for side in (before, now))
    keys = [key for key in sorted({*before, *now} - FREE) if old.get(key) != new.get(key)]
    return ", ".join(f"{key} was {old.get(key, 'not given')}, is {new.get(key, 'not given')}" for key in keys)


def _name(name: Any) -> list[str]:
    """It becomes a folder inside the runs' folder, never one outside."""
    if isinstance(name, str) and re.fullmatch(r"[\w][\w.+ -]*", name) and not name.endswith((".", " ")):
        return []
    return [f"name {name!r} cannot be a folder's; use letters, digits, dot, dash and underscore"]


def _numbers(config: Mapping[str, Any]) -> list[str]:
    problems = []
    positive = ("batch", "lr", "checkpoint_minutes")
    weights = ("weight_decay", "dense_weight", "targets_weight", "style_mixing")
    for key in (*positive, *weights, "seed", "workers", "patience"):
        value = config[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            problems.append(f"{key} must be a number, is {value!r}")
        elif value < 0 or (key in positive and value == 0):
            problems.append(f"{key} must be {'above' if key in positive else 'at least'} 0, is {value!r}")
        elif key in ("batch", "seed", "workers", "patience") and value != int(value):
            problems.append(f"{key} must be a whole number, is {value!r}")
    count = config["images_per_epoch"]
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count <= 0):
        problems.append(f"images_per_epoch must be a whole number above 0 or null, is {count!r}")
    return problems


def _choices(config: Mapping[str, Any]) -> list[str]:
    problems = []
    for key, known in (("balance", BALANCES), ("precision", PRECISIONS), ("monitor", MONITORS)):
        if config[key] not in known:
            problems.append(f"{key} must be one of {', '.join(known)}, is {config[key]!r}")
    if config["balance"] == "shares" and not config["shares"]:
        problems.append("balance is 'shares', but there are no shares")
    if not isinstance(config["shares"], Mapping) or not all(
        isinstance(v, int | float) and v >= 0 for v in config["shares"].values()
    ):
        problems.append("shares must give a number for each population")
    return problems


def _parts(config: Mapping[str, Any]) -> list[str]:
    from xai_engine.train.augment import AugmentSpec

    problems = []
    known = {
        "augment": {f.name for f in dataclasses.fields(AugmentSpec)},
        "preprocessing": {f.name for f in dataclasses.fields(PreprocessSpec)},
        "synthetic": {"p_synthetic", "p_neutral"},
    }
    for key, names in known.items():
        if not isinstance(config[key], Mapping):
            problems.append(f"{key} must be an object")
        else:
            problems += [f"unknown key '{key}.{name}'" for name in sorted(set(config[key]) - names)]
    if not isinstance(config["network"], Mapping) or "_target_" not in config["network"]:
        problems.append("network must be an object with `_target_`")
    problems += soup.problems(config["soup"])
    stages = config["stages"]
    good = isinstance(stages, list) and stages
    if not good or not all(
        isinstance(s, Mapping)
        and set(s) == {"size", "epochs"}
        and all(isinstance(v, int) and v > 0 for v in s.values())
        for s in stages
    ):
        problems.append("stages must be a list of objects with `size` and `epochs`")
    return problems
