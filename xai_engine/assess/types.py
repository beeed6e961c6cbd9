"""What the assessment of a map returns. Loads no torch, so the window and the report can use it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from xai_engine.errors import UsageError

Grade = Literal["good", "fair", "poor", "info"]
Verdict = Literal["use", "use with care", "do not use"]

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One measure of one map, defined in docs/reliability.md under `name`.

    value: None where it could not be computed. unit: "" for a plain number. lower, upper: the interval that the sentence
    or the document speaks of. sentence: what it means, for a reader without statistics. grade: "info" has no threshold.
    """

    name: str
    value: float | None
    unit: str
    sentence: str
    grade: Grade
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True, slots=True)
class ReliabilityCard:
    """How far one map can be trusted.

    verdict, reasons: by the rule of `assess.verdict`. partial: the assessment was stopped, findings are missing.
    seconds, forwards: this map's own work and its equal share of what was computed for several maps together; a backward
    pass counts as two forwards. precision: of the shared forward passes.
    """

    method: str
    target: str
    verdict: Verdict
    reasons: tuple[str, ...]
    findings: tuple[Finding, ...]
    preset: str
    seed: int
    seconds: float
    forwards: int
    precision: str
    partial: bool = False
    notes: tuple[str, ...] = ()

    def finding(self, name: str) -> Finding | None:
        """The finding of that name, or None where it was not measured."""
        return next((f for f in self.findings if f.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """For `reliability` in analysis.json: strict JSON, numbers that are not finite become null."""
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "preset": self.preset,
            "method": self.method,
            "target": self.target,
            "seed": self.seed,
            "seconds": _finite(self.seconds),
            "forwards": self.forwards,
            "precision": self.precision,
            "partial": self.partial,
            "notes": list(self.notes),
            "schema": SCHEMA,
            "findings": [
                {
                    "name": f.name,
                    "value": _finite(f.value),
                    "unit": f.unit,
                    "lower": _finite(f.lower),
                    "upper": _finite(f.upper),
                    "grade": f.grade,
                    "sentence": f.sentence,
                }
                for f in self.findings
            ],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReliabilityCard:
        """The card that `to_json` wrote. Raises UsageError where a part is missing or of another schema."""
        try:
            if data["schema"] != SCHEMA:
                raise UsageError(
                    f"reliability card: schema {data['schema']!r} is not known; analyse the image again"
                )
            values = {f.name: data[f.name] for f in fields(cls)}
            values["findings"] = tuple(Finding(**item) for item in data["findings"])
            values["reasons"], values["notes"] = tuple(data["reasons"]), tuple(data["notes"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise UsageError(f"reliability card: is incomplete ({error}); analyse the image again") from error


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
