"""Manifests: which images, which labels, which patients on which side. Every problem is listed with its line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from xai_engine.train import audit, further, sources
from xai_engine.train.sample import SPLITS, ManifestError, Sample


def load(source: Mapping[str, Any], root: Path) -> list[Sample]:
    """Samples of one source of a training configuration.

    source: `{"manifest": CSV}` or `{"folder": DIR}` (one sub-folder per class, optionally below train/val/test); the
    other keys are explained in docs/user/training.md. Paths are relative to `root`.
    Raises ManifestError that lists every problem, UsageError for a source that is none.
    """
    samples, problems, where = sources.read(source, root)
    problems += leaks(samples) + repeats(samples) + ([] if problems else _classes(samples))
    if problems:
        raise ManifestError(where, problems, samples)
    return samples


def load_all(described: Sequence[Mapping[str, Any]], root: Path) -> list[Sample]:
    """Samples of all sources, fit for training: as `load`, and what only shows in all of them together.

    Train and validation need both classes with sure labels, test at least one image; a further target needs training
    images that differ in it. Raises ManifestError that lists
    every problem of every source; files that do not decode are among them (they are read only when there is another
    problem: preparing the images finds them otherwise).
    """
    found: list[list[Sample]] = []
    problems: list[str] = []
    names: list[str] = []
    for source in described:
        samples, bad, where = sources.read(source, root)
        prefix = f"{where.name} " if len(described) > 1 else ""
        found.append([replace(s, place=prefix + s.place) for s in samples])
        problems += [prefix + p for p in bad]
        names.append(str(where))
    everything = [s for part in found for s in part]
    problems += leaks(everything) + repeats(everything) + audit.copies(everything)
    # a split may be empty only because its images have problems of their own: then these are the news
    problems += _splits(everything) if everything or not problems else []
    if everything:
        problems += further.mute(sorted({name for s in described for name in further.rules(s)}), everything)
    if problems:
        bad = audit.unreadable(everything)
        raise ManifestError(", ".join(names), problems + bad, everything)
    return everything


def leaks(samples: Iterable[Sample]) -> list[str]:
    """Patients on two sides, named with the lines; a name counts within its population."""
    sides: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for sample in samples:
        sides[(sample.population, sample.patient)].setdefault(sample.split, sample.place)
    return [
        f"patient {patient} is in more than one split: "
        + ", ".join(f"{split} ({place})" if place else split for split, place in sorted(places.items()))
        for (_, patient), places in sorted(sides.items())
        if len(places) > 1
    ]


def repeats(samples: Iterable[Sample]) -> list[str]:
    """Files that are listed twice."""
    first: dict[Path, str] = {}
    problems = []
    for sample in samples:
        path = sample.path.resolve()
        if path in first:
            problems.append(f"{sample.place}: {sample.path.name} is listed already ({first[path]})")
        else:
            first[path] = sample.place
    return problems


def _classes(samples: Sequence[Sample]) -> list[str]:
    if not samples:
        return ["no images"]
    return ["only one class is present"] if len({s.label >= 0.5 for s in samples}) < 2 else []


def _splits(samples: Sequence[Sample]) -> list[str]:
    problems = []
    for split in SPLITS:
        inside = [s for s in samples if s.split == split]
        used = [s for s in inside if (s.sure if split == "val" else s.weight > 0)]
        if not inside:
            problems.append(f"no image is in split {split!r}")
        elif split != "test" and len({s.label >= 0.5 for s in used}) < 2:
            problems.append(f"only one class is present in split {split!r}")
    return problems
