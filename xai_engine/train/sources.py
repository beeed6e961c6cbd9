"""Sources of training data: folders and tables, read into samples; every problem with the place where it stands."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xai_engine.errors import UsageError
from xai_engine.train import further
from xai_engine.train.sample import SPLITS, Sample

SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom", ""}
LABELS = {"0": 0.0, "NORMAL": 0.0, "normal": 0.0, "1": 1.0, "PNEUMONIA": 1.0, "pneumonia": 1.0}
SHARES = {"val": 0.15, "test": 0.15}  # of the patients, where the data say nothing about splits
ANY = {"labels", "population", "split", "patient"}
KEYS = {
    "folder": ANY | {"folder"},
    "manifest": ANY | {"manifest", "columns", "groups", "label_rules", "targets"},
}
COLUMNS = {"file", "patient", "split", "label", "width", "height", "mask", "boxes"}


def read(source: Mapping[str, Any], root: Path) -> tuple[list[Sample], list[str], Path]:
    """Samples, problems, and what to call the source."""
    kind = "folder" if "folder" in source else "manifest"
    if kind not in source:
        raise UsageError("a source of data needs `folder` or `manifest`")
    wrong = sorted(set(source) - KEYS[kind]) + sorted(set(source.get("columns", {})) - COLUMNS)
    if wrong:
        raise UsageError(f"{source[kind]}: unknown key {', '.join(map(repr, wrong))} in a source of data")
    where = root / str(source[kind])
    samples, problems = (_from_folder if kind == "folder" else _from_csv)(source, where)
    split = source.get("split")
    if isinstance(split, Mapping) or any(not s.split for s in samples):
        shares = dict(split) if isinstance(split, Mapping) else dict(SHARES)
        seed = int(shares.pop("seed", 0))
        if set(shares) - {"val", "test"} or not 0 < sum(shares.values()) < 1:
            raise UsageError(
                f"{source[kind]}: split must give shares of val and test that leave some for train"
            )
        samples = deal(samples, shares, seed)
    return samples, problems, where


def deal(samples: Sequence[Sample], shares: Mapping[str, float], seed: int) -> list[Sample]:
    """Patients dealt out to the splits that have none yet, by a hash of their names, each class in the same shares.

    It depends on nothing but the patients and the seed: not on the order of lines, not on the machine.
    """
    given = {s.split for s in samples if s.split}
    sick: dict[str, bool] = defaultdict(bool)
    for sample in samples:
        if sample.split in ("", "train"):
            sick[sample.patient] |= sample.label >= 0.5
    side: dict[str, str] = {}
    for positive in (False, True):
        patients = sorted(
            (p for p, s in sick.items() if s == positive),
            key=lambda p: hashlib.sha256(f"{seed}:{p}".encode()).digest(),
        )
        start = 0
        for split in ("test", "val"):
            if split in given or not shares.get(split):
                continue
            count = max(1, round(shares[split] * len(patients))) if len(patients) > 2 else 0
            side |= dict.fromkeys(patients[start : start + count], split)
            start += count
    return [
        replace(s, split=side.get(s.patient, "train")) if s.split in ("", "train") else s for s in samples
    ]


def _labels(source: Mapping[str, Any]) -> dict[str, float]:
    labels = source.get("labels", LABELS)
    out = {}
    for name, value in labels.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UsageError(f"labels: {name!r} must be a number from 0 to 1, is {value!r}")
        out[str(name)] = float(value)
    return out


def _from_folder(source: Mapping[str, Any], folder: Path) -> tuple[list[Sample], list[str]]:
    labels = _labels(source)
    if not folder.is_dir():
        return [], ["the folder does not exist"]
    rule = str(source.get("patient", "folder"))
    files = sorted(
        p
        for p in folder.rglob("*")
        if p.is_file() and p.suffix.lower() in SUFFIXES and not p.name.startswith(".")
    )
    divided = any((folder / split).is_dir() for split in SPLITS)
    samples, problems = [], []
    strange: dict[str, int] = defaultdict(int)
    for path in files:
        parts = path.relative_to(folder).parts
        place = "/".join(parts)
        split = str(source["split"]) if isinstance(source.get("split"), str) else ""
        if divided:
            if parts[0] not in SPLITS:
                problems.append(f"{place}: lies beside the folders train, val, test, not in one of them")
                continue
            split, parts = parts[0], parts[1:]
        if len(parts) < 2:
            problems.append(f"{place}: lies in no class folder ({', '.join(sorted(labels))})")
            continue
        if parts[0] not in labels:
            strange[parts[0]] += 1
            continue
        try:
            patient = _patient(rule, parts)
        except ValueError as error:
            problems.append(f"{place}: {error}")
            continue
        population = str(source.get("population", "all"))
        samples.append(
            Sample(path, labels[parts[0]], 1.0, True, patient, split, population, 1.0, place=place)
        )
    problems += [
        f"class folder {name!r} is not among {sorted(labels)} ({count} images)"
        for name, count in sorted(strange.items())
    ]
    return samples, problems if files else ["no images"]


def _patient(rule: str, parts: Sequence[str]) -> str:
    """The patient of class/…/file: "folder": the sub-folder of the class, without one the file; "file": the file;
    else a regular expression whose first group (or whole match) in the file name is the patient."""
    name = Path(parts[-1])
    if rule == "folder" and len(parts) > 2:
        return parts[1]
    if rule in ("folder", "file"):
        return f"{parts[0]}/{name.stem}" if rule == "folder" else "/".join(parts)
    try:
        match = re.search(rule, name.name)
    except re.error as error:
        raise UsageError(f"patient: {rule!r} is no regular expression ({error})") from error
    if match is None:
        raise ValueError(f"the patient rule {rule!r} does not fit the name")
    return match[1] if match.re.groups else match[0]


def _from_csv(source: Mapping[str, Any], manifest: Path) -> tuple[list[Sample], list[str]]:
    try:
        with manifest.open(newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            stream.seek(0)
            # spreadsheets write semicolons where the comma is the decimal sign
            separator = next((c for c in ",;\t" if c in first), ",")
            reader = csv.DictReader(stream, strict=True, delimiter=separator)
            header = set(reader.fieldnames or ())
            rows, unread = _rows(reader)
    except UnicodeDecodeError:
        return [], ["is not in UTF-8; save it as CSV UTF-8"]
    except FileNotFoundError:
        return [], ["the file does not exist"]
    except (OSError, csv.Error) as error:
        return [], [f"cannot be read: {error}"]
    if not header:
        return [], ["is empty; the first line must name the columns"]
    columns = {"file": "file", "patient": "patient", "split": "split", **source.get("columns", {})}
    needed = ["file", *(["patient"] if "patient" not in source else [])]
    needed += ["split"] if "split" in source.get("columns", {}) else []
    hint = {"patient": '; where each image is of another patient, say "patient": "file"'}
    problems = [
        f"column {columns[key]!r} is missing{hint.get(key, '')}"
        for key in needed
        if columns[key] not in header
    ]
    rules = source.get("label_rules")
    if rules is None:
        column = columns.get("label", "label")
        rules = [{"column": column, "values": {k: (v, 1, True) for k, v in _labels(source).items()}}]
    if not any(rule["column"] in header for rule in rules):
        problems.append(f"column {rules[0]['column']!r} (the label) is missing")
    wanted = further.rules(source)
    problems += [
        f"column {rule['column']!r} (target {name!r}) is missing"
        for name, rule in wanted.items()
        if rule["column"] not in header
    ]
    if problems:
        return [], problems
    samples = []
    for number, row in rows:
        try:
            sample = _from_row(row, columns, rules, source, manifest.parent, number)
            samples.append(replace(sample, targets=further.read(row, wanted)) if wanted else sample)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
    return samples, problems + unread


def _rows(reader: csv.DictReader[str]) -> tuple[list[tuple[int, dict[Any, Any]]], list[str]]:
    """Lines with their numbers, and what is wrong with the one at which reading had to end."""
    rows: list[tuple[int, dict[Any, Any]]] = []
    last = reader.line_num
    try:
        for row in reader:
            last = reader.line_num
            rows.append((last, row))
    except csv.Error as error:
        why = "a quotation mark is never closed" if "end of data" in str(error) else str(error)
        return rows, [f"line {last + 1}: {why}; no line after it was read"]
    return rows, []


def _from_row(
    row: Mapping[Any, Any],
    columns: Mapping[str, str],
    rules: Sequence[Mapping[str, Any]],
    source: Mapping[str, Any],
    folder: Path,
    number: int,
) -> Sample:
    """One line as a sample. Raises ValueError naming all that is wrong with it."""
    if None in row:
        raise ValueError("has more fields than the header")
    problems: list[str] = []

    def cell(key: str) -> str:
        return (row.get(columns.get(key, "")) or "").strip()

    def attempt(function: Any, *arguments: Any, default: Any) -> Any:
        try:
            return function(*arguments)
        except ValueError as error:
            problems.append(str(error))
            return default

    path = folder / cell("file")
    if not cell("file"):
        problems.append(f"column {columns['file']!r} is empty")
    elif not path.is_file():
        problems.append(f"{path.name} does not exist")
    patient = cell("patient")
    rule = str(source.get("patient", ""))
    if rule:
        patient = cell("file") if rule == "file" else attempt(_patient, rule, ("", path.name), default="?")
    elif not patient:
        problems.append(f"column {columns['patient']!r} is empty")
    split = str(source["split"]) if isinstance(source.get("split"), str) else cell("split")
    if split not in SPLITS and (split or columns["split"] in row):
        problems.append(f"split {split!r} is not one of {', '.join(SPLITS)}")
    label, weight, sure = attempt(_label, row, rules, default=(0.0, 1.0, True))
    aspect = attempt(_aspect, cell("width"), cell("height"), default=1.0)
    boxes = attempt(_boxes, cell("boxes"), default=())
    mask = folder / cell("mask") if cell("mask") else None
    if mask is not None and not mask.is_file():
        problems.append(f"mask {mask.name} does not exist")
    if problems:
        raise ValueError(", ".join(problems))
    groups = {name: row.get(column) or "" for name, column in source.get("groups", {}).items()}
    population = str(source.get("population", "all"))
    return Sample(
        path, label, weight, sure, patient, split, population, aspect, mask, boxes, groups, f"line {number}",
        float(cell("height") or 0),
    )  # fmt: skip


def _label(row: Mapping[Any, Any], rules: Sequence[Mapping[str, Any]]) -> tuple[float, float, bool]:
    """The first rule whose column has one of its values decides: value -> [label, weight, sure]."""
    for rule in rules:
        value = (row.get(rule["column"]) or "").strip()
        if value in rule["values"]:
            label, weight, sure = rule["values"][value]
            if not (0 <= float(label) <= 1 and 0 <= float(weight) < math.inf):
                raise ValueError(f"the label rule of {value!r} gives {label!r} with weight {weight!r}")
            return float(label), float(weight), bool(sure)
    if len(rules) == 1:
        value, known = (row.get(rules[0]["column"]) or "").strip(), ", ".join(map(str, rules[0]["values"]))
        raise ValueError(
            f"label {value!r} is not one of {known}" if value else f"no label; use one of {known}"
        )
    seen = ", ".join(f"{r['column']}={row.get(r['column']) or ''!r}" for r in rules)
    raise ValueError(f"no label rule fits {seen}")


def _aspect(width: str, height: str) -> float:
    """height / width; 1 where neither is given."""
    if not width and not height:
        return 1.0
    try:
        across, down = float(width), float(height)
    except ValueError:
        raise ValueError(f"width {width!r} and height {height!r} are not two numbers") from None
    if not (0 < across < math.inf and 0 < down < math.inf):
        raise ValueError(f"width {width} and height {height} are not sizes of an image")
    return down / across


def _boxes(text: str) -> tuple[tuple[float, float, float, float], ...]:
    if not text:
        return ()
    try:
        boxes = tuple(tuple(float(v) for v in box) for box in json.loads(text))
    except (ValueError, TypeError):
        boxes = ((),)
    if not all(len(b) == 4 and all(map(math.isfinite, b)) and b[2] > 0 and b[3] > 0 for b in boxes):
        raise ValueError("the boxes are no list of [x, y, width, height]")
    return boxes  # type: ignore[return-value]
