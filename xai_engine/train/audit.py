"""What is wrong with image files as files: copies of one image on two sides, files that do not decode."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from xai_engine.train.sample import ManifestError, Sample

HEAD = 1 << 16


def copies(samples: Sequence[Sample]) -> list[str]:
    """Byte-identical images of two splits, two patients, or both classes; a harmless repeat of one patient is none.

    Files are compared by size, then by their first 64 KB, then whole: large sets are not read through.
    """
    alike: list[list[Sample]] = [list(samples)]
    for key in (_size, _head, _whole):
        parts: dict[tuple[int, object], list[Sample]] = defaultdict(list)
        for number, members in enumerate(alike):
            for sample in members:
                parts[(number, key(sample.path))].append(sample)
        alike = [members for members in parts.values() if len({s.path.resolve() for s in members}) > 1]
    problems = []
    for members in alike:
        for a, b in combinations(members, 2):
            same = f"{b.place}: {b.path.name} is the same image as {a.path.name} ({a.place})"
            if a.split != b.split:
                problems.append(f"{same}, but in {b.split} instead of {a.split}")
            elif (a.population, a.patient) != (b.population, b.patient):
                problems.append(f"{same}, but of patient {b.patient} instead of {a.patient}")
            elif (a.label >= 0.5) != (b.label >= 0.5):
                problems.append(f"{same}, but with the other label")
            else:
                continue
            break
    return sorted(problems)


def unreadable(samples: Sequence[Sample]) -> list[str]:
    """One line for every image that does not decode."""
    from xai_engine.train.images import map_images

    try:
        map_images(_decodes, samples, Path())
    except ManifestError as error:
        return list(error.problems)
    return []


def _decodes(sample: Sample) -> bool:
    from xai_engine.train.images import read_grey, read_mask

    read_grey(sample)
    if sample.mask is not None:
        read_mask(sample)
    return True


def _size(path: Path) -> int:
    return path.stat().st_size


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.sha256(stream.read(HEAD)).digest()


def _whole(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
