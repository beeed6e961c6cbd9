"""Reliability cards by the rule of `assess.verdict`, for tests of what shows them."""

from __future__ import annotations

from typing import Any

from xai_engine.assess import verdict
from xai_engine.assess.types import Finding, ReliabilityCard

GOOD = {"faithfulness": 6.1, "score_reaction": 0.9, "reaction_over_random": 8.0, "lungs_enrichment": 1.6}
FAIR = {"faithfulness": 2.2, "score_reaction": 0.9, "agreement": 0.05, "text_share": 0.05}
POOR = {"faithfulness": 0.4, "score_reaction": 0.01, "border_enrichment": 3.1}
_UNITS = {
    "faithfulness": "standard deviations",
    "score_reaction": "logits",
    "text_share": "of the attribution",
}


def finding(name: str, value: float | None, **changes: Any) -> Finding:
    words = f"What {name.replace('_', ' ')} says of this map, in one plain sentence for a reader without statistics."
    fields = {"unit": _UNITS.get(name, ""), "sentence": words, "grade": verdict.grade(name, value)}
    return Finding(name, value, **{**fields, **changes})


def card(values: dict[str, float], *, partial: bool = False, **changes: Any) -> ReliabilityCard:
    """A card with these measures and two without limits; its verdict follows from them."""
    findings = tuple(finding(name, value) for name, value in values.items())
    findings += (finding("sparsity", 0.62), finding("lungs_share", 0.71, lower=0.6, upper=0.8))
    decision, reasons = verdict.decide(findings, partial=partial)
    fields: dict[str, Any] = {
        "method": "lime",
        "target": "pneumonia",
        "verdict": decision,
        "reasons": reasons,
        "findings": findings,
        "preset": "quick",
        "seed": 0,
        "seconds": 4.2,
        "forwards": 258,
        "precision": "bf16",
        "partial": partial,
        "notes": ("Repeated with samples 200 instead of 1000: the map itself is at least as stable.",),
    }
    return ReliabilityCard(**{**fields, **changes})
