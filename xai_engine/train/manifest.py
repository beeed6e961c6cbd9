"""Manifests: which images, which labels, which patients on which side. Every problem is listed with its line."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xai_engine.errors import RadiolucentError

SPLITS = ("train", "val", "test")
SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ""}


class ManifestError(RadiolucentError):
    """The data cannot be used as described; `problems` has one line each. Exit code 3, nothing trained."""

    exit_code = 3

    def __init__(self, source: Path, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        shown = "; ".join(problems[:20]) + (f"; and {len(problems) - 20} more" if len(problems) > 20 else "")
        super().__init__(f"{source}: {len(problems)} problem(s): {shown}")


@dataclass(frozen=True, slots=True)
class Sample:
    """One image with its label.

    label: probability that it is pneumonia (0, 1, or between where annotators disagree); weight: of its loss.
    sure: the label may be used for measuring (a reader's verdict, not text mining).
    aspect: height / width of the image in the patient over rows / columns as stored (1 = not squashed).
    boxes: x, y, width, height in stored pixels. groups: subgroup name -> value.
    """

    path: Path
    label: float
    weight: float
    sure: bool
    patient: str
    split: str
    population: str
    aspect: float
    mask: Path | None = None
    boxes: tuple[tuple[float, float, float, float], ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


def load(source: Mapping[str, Any], root: Path) -> list[Sample]:
    """Samples of one source of a training configuration.

    source: `{"manifest": CSV}` or `{"folder": DIR}` (one sub-folder per class, optionally below train/val/test), with
    `population`, `labels` and, for a CSV, `columns` (see docs/user/training.md). Paths are relative to `root`.
    Raises ManifestError that lists every problem.
    """
    samples = _from_folder(source, root) if "folder" in source else _from_csv(source, root)
    where = root / str(source.get("folder", source.get("manifest")))
    check(samples, where)
    return samples


def check(samples: Sequence[Sample], where: Path) -> None:
    """Both classes present, and no patient on two sides. Raises ManifestError naming the patients."""
    problems: list[str] = []
    sides: dict[tuple[str, str], set[str]] = defaultdict(set)
    for sample in samples:
        sides[(sample.population, sample.patient)].add(sample.split)
    leaks = sorted(p for (_, p), s in sides.items() if len(s) > 1)
    problems += [f"patient {p} is in more than one split" for p in leaks]
    if not samples:
        problems.append("no images")
    elif len({s.label >= 0.5 for s in samples}) < 2:
        problems.append("only one class is present")
    if problems:
        raise ManifestError(where, problems)


def _from_folder(source: Mapping[str, Any], root: Path) -> list[Sample]:
    folder = root / str(source["folder"])
    labels: Mapping[str, float] = source["labels"]
    if not folder.is_dir():
        raise ManifestError(folder, ["the folder does not exist"])
    samples, problems = [], []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SUFFIXES):
        parts = path.relative_to(folder).parts
        split = parts[0] if parts[0] in SPLITS else str(source.get("split", "train"))
        name = parts[1] if parts[0] in SPLITS and len(parts) > 2 else parts[0]
        if name not in labels:
            problems.append(
                f"{path.relative_to(folder)}: class folder {name!r} is not among {sorted(labels)}"
            )
            continue
        population = str(source.get("population", "all"))
        samples.append(
            Sample(path, float(labels[name]), 1.0, True, f"{name}/{path.stem}", split, population, 1.0)
        )
    if problems:
        raise ManifestError(folder, problems)
    return samples


def _from_csv(source: Mapping[str, Any], root: Path) -> list[Sample]:
    manifest = root / str(source["manifest"])
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(manifest, [f"cannot be read: {error}"]) from error
    samples, problems = [], []
    for number, row in enumerate(rows, start=2):
        try:
            sample = _from_row(row, source, manifest.parent)
        except (KeyError, ValueError) as error:
            problems.append(f"line {number}: {error.args[0] if error.args else error}")
            continue
        if not sample.path.is_file():
            problems.append(f"line {number}: {sample.path.name} does not exist")
        else:
            samples.append(sample)
    if problems:
        raise ManifestError(manifest, problems)
    return samples


def _from_row(row: Mapping[str, str], source: Mapping[str, Any], folder: Path) -> Sample:
    columns: Mapping[str, str] = {
        "file": "file",
        "patient": "patient",
        "split": "split",
        **source.get("columns", {}),
    }
    for key in ("file", "patient", "split"):
        if columns[key] not in row:
            raise KeyError(f"column {columns[key]!r} is missing")
        if not row[columns[key]]:
            raise ValueError(f"column {columns[key]!r} is empty")
    split = row[columns["split"]]
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {', '.join(SPLITS)}")
    label, weight, sure = _label(row, source["label_rules"])
    aspect = 1.0
    width, height = row.get(columns.get("width", ""), ""), row.get(columns.get("height", ""), "")
    if width and height:
        aspect = float(height) / float(width)
    mask = row.get(columns.get("mask", ""), "")
    boxes = _boxes(row.get(columns.get("boxes", ""), ""))
    groups = {name: row.get(column, "") for name, column in source.get("groups", {}).items()}
    return Sample(
        folder / row[columns["file"]],
        label,
        weight,
        sure,
        row[columns["patient"]],
        split,
        str(source.get("population", "all")),
        aspect,
        folder / mask if mask else None,
        boxes,
        groups,
    )


def _label(row: Mapping[str, str], rules: Sequence[Mapping[str, Any]]) -> tuple[float, float, bool]:
    """The first rule whose column has one of its values decides: value -> [label, weight, sure]."""
    for rule in rules:
        value = row.get(rule["column"], "")
        if value in rule["values"]:
            label, weight, sure = rule["values"][value]
            return float(label), float(weight), bool(sure)
    seen = ", ".join(f"{r['column']}={row.get(r['column'], '')!r}" for r in rules)
    raise ValueError(f"no label rule fits {seen}")


def _boxes(text: str) -> tuple[tuple[float, float, float, float], ...]:
    if not text:
        return ()
    import json

    return tuple(tuple(float(v) for v in box) for box in json.loads(text))  # type: ignore[misc]
