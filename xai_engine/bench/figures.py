"""A measured figure, and how figures become text, Markdown and JSON. Nothing here measures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Peer:
    """The same job done by another package on the same input. `agreement`: how the two results compare.

    wanted: the least ratio that the project asks for.
    """

    name: str
    value: float | None
    agreement: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    wanted: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value.

    value: median of `samples`, None where it could not be measured (`note` says why).
    limit: what the project asks for; `higher_is_better` says on which side of it to be.
    section: heading under which it stands; "" is the first table.
    """

    key: str
    title: str
    value: float | None
    unit: str
    limit: float | None = None
    higher_is_better: bool = False
    samples: tuple[float, ...] = ()
    peers: tuple[Peer, ...] = ()
    note: str = ""
    section: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the limit is kept; None where there is no limit or no value."""
        if self.limit is None or self.value is None:
            return None
        return self.value >= self.limit if self.higher_is_better else self.value <= self.limit

    def ratio(self, peer: Peer) -> float | None:
        """How many times better than the peer (above 1: better); None where one of them has no value."""
        if not self.value or not peer.value:
            return None
        return self.value / peer.value if self.higher_is_better else peer.value / self.value


def verdict(figure: Figure, peer: Peer) -> bool | None:
    """Whether the ratio that is asked for is reached; None where none is, or where it could not be measured."""
    ratio = figure.ratio(peer)
    return None if peer.wanted is None or ratio is None else ratio >= peer.wanted


def wanted_text(figure: Figure, peer: Peer) -> str:
    if peer.wanted is None:
        return ""
    said = {True: "met", False: "missed", None: "not measured"}[verdict(figure, peer)]
    return f"≥ {number(peer.wanted)} {said}"


def unmeasured(key: str, title: str, unit: str, why: str, limit: float | None = None) -> Figure:
    """A figure that could not be had, with the reason."""
    return Figure(key, title, None, unit, limit, note=why)


def timed(work: Callable[[], Any], repeats: int, clock: Callable[[], float]) -> tuple[tuple[float, ...], Any]:
    """Seconds of each of `repeats` calls of `work` after one that is not counted, and the last result.

    repeats 0: a single call, counted.
    """
    if repeats:
        work()
    samples: list[float] = []
    result: Any = None
    for _ in range(max(repeats, 1)):
        began = clock()
        result = work()
        samples.append(clock() - began)
    return tuple(samples), result


def median(samples: Sequence[float]) -> float:
    return float(statistics.median(samples))


def number(value: float | None) -> str:
    """Three significant digits, no exponent; a dash where there is no value."""
    if value is None:
        return "–"
    if value == 0 or not 1e-3 <= abs(value) < 1e5:
        return f"{value:.2g}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def limit_text(figure: Figure) -> str:
    if figure.limit is None:
        return ""
    sign = "≥" if figure.higher_is_better else "≤"
    verdict = {True: "met", False: "missed", None: "not measured"}[figure.met]
    return f"{sign} {number(figure.limit)} {verdict}"


def agreement_text(peer: Peer) -> str:
    parts = [f"{name} {number(value)}" for name, value in peer.agreement.items()]
    return ", ".join([*parts, *([peer.note] if peer.note else [])])


def by_section(figures: Sequence[Figure]) -> list[Figure]:
    """In their order, but figures of one section together; those of the first table first."""
    names = ["", *dict.fromkeys(f.section for f in figures if f.section)]
    return [f for name in names for f in figures if f.section == name]


def as_text(machine: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """For a terminal."""
    lines = [f"{key}: {value}" for key, value in machine.items()]
    section: str | None = None
    for f in by_section(figures):
        if f.section != section:
            section = f.section
            lines += ["", *([section] if section else [])]
        tail = "  ".join(part for part in (limit_text(f), f.note) if part)
        lines.append(f"{f.title:<52} {number(f.value):>8} {f.unit:<7} {tail}".rstrip())
        for peer in f.peers:
            ratio = f.ratio(peer)
            times = f"ratio {number(ratio)}" if ratio else ""
            tail = "  ".join(part for part in (times, wanted_text(f, peer), agreement_text(peer)) if part)
            lines.append(f"    {peer.name:<48} {number(peer.value):>8} {f.unit:<7} {tail}".rstrip())
    return "\n".join(lines) + "\n"


def as_markdown(command: str, machine: Mapping[str, Any], figures: Sequence[Figure]) -> str:
    """For docs/bench.md. Generated, so that no figure is ever typed."""
    lines = ["# Bench", "", f"Written by `{command}`; do not edit.", ""]
    lines += ["| machine | |", "|---|---|"] + [f"| {key} | {value} |" for key, value in machine.items()]
    section: str | None = None
    for f in by_section(figures):
        if f.section != section:
            section = f.section
            lines += ["", *([f"## {section}", ""] if section else [])]
            lines += ["| what | here | unit | asked for | note |", "|---|---:|---|---|---|"]
        lines.append(f"| {f.title} | {number(f.value)} | {f.unit} | {limit_text(f)} | {f.note} |")
    rows = [(f, p) for f in figures for p in f.peers]
    if rows:
        lines += [
            "",
            "## Beside others",
            "",
            "In the same run, on the same input. Ratio above 1: better here. Maps are compared where the network was shown "
            "the image (the chest field): outside of it ours are 0 by design.",
            "",
            "| what | here | peer | there | unit | ratio | asked for | the two results |",
            "|---|---:|---|---:|---|---:|---|---|",
        ]
        lines += [
            f"| {f.title} | {number(f.value)} | {p.name} | {number(p.value)} | {f.unit} "
            f"| {number(f.ratio(p))} | {wanted_text(f, p)} | {agreement_text(p)} |"
            for f, p in rows
        ]
    return "\n".join(lines) + "\n"


def as_json(machine: Mapping[str, Any], figures: Sequence[Figure]) -> dict[str, Any]:
    """Schema 1: `machine`, and per figure its fields with `met` and, per peer, `ratio`."""
    return {
        "schema": 1,
        "machine": dict(machine),
        "figures": [
            {
                **asdict(f),
                "samples": list(f.samples),
                "met": f.met,
                "peers": [{**asdict(p), "ratio": f.ratio(p), "met": verdict(f, p)} for p in f.peers],
            }
            for f in figures
        ],
    }
