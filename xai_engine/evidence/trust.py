"""How the reliability card is put into words and numbers: one source for window and report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from xai_engine.assess import verdict
from xai_engine.assess.types import Finding, ReliabilityCard
from xai_engine.errors import UsageError
from xai_engine.evidence import format

NOT_ASSESSED = "not assessed"
GRADES = {"poor": "poor", "fair": "fair", "good": "good", "info": "no limit"}
_ORDER = {"poor": 0, "fair": 1, "good": 2, "info": 3}
_TITLES = {
    "map_range": "Extent of the map",
    "faithfulness": "Faithfulness to the score",
    "road": "With gaps filled in (ROAD)",
    "completeness_error": "Completeness error",
    "seed_stability": "Stability between seeds",
    "perturbation_stability": "Stability under noise",
    "max_sensitivity": "Largest change under noise",
    "randomisation": "Likeness to a random network's map",
    "agreement": "Agreement with the other maps",
    "lungs_enrichment": "Density inside the lungs",
    "border_enrichment": "Density on the border",
    "text_share": "Share on letters and markers",
    "padding_share": "Share outside the image",
    "score_reaction": "Reaction of the score",
    "reaction_over_random": "Reaction over random networks",
    "text_effect": "Effect of letters on the score",
    "border_effect": "Effect of the border on the score",
    "outside_effect": "Effect of what is outside the lungs",
    "weights_on_record": "Weights are the validated ones",
    "discrimination": "Tells the classes apart (validation)",
    "lungs_share": "Share inside the lungs",
    "border_share": "Share on the border",
    "sparsity": "Concentration (Gini)",
    "infidelity": "Infidelity",
    "top_overlap": "Overlap of the highest tenths",
}


def card(data: Mapping[str, Any]) -> ReliabilityCard | None:
    """The card in `reliability` of a map; None where the map was not assessed or the entry is no card."""
    if not data:
        return None
    try:
        return ReliabilityCard.from_json(data)
    except UsageError:
        return None


def word(found: ReliabilityCard | None) -> str:
    """The verdict as it is shown: "use", "use with care", "do not use", each with "(partial)"; "not assessed"."""
    if found is None:
        return NOT_ASSESSED
    return f"{found.verdict} (partial)" if found.partial else found.verdict


def title(name: str) -> str:
    """The name of a measure as a heading."""
    return _TITLES.get(name) or format.label(name)


def value(finding: Finding) -> str:
    """The number with its unit, and its interval where there is one."""
    if finding.value is None or not math.isfinite(finding.value):
        return "could not be measured"
    text = f"{_short(finding.value)} {finding.unit}".rstrip()
    if finding.lower is not None and finding.upper is not None and finding.lower != finding.upper:
        text += f"  ({_short(finding.lower)} … {_short(finding.upper)})"
    return text


def limit(name: str) -> str:
    """The limits a measure is held against; empty where it has none."""
    known = verdict.LIMITS.get(name)
    if known is None or name == "map_range":
        return ""
    good, fair = format.exact(known.good), format.exact(known.fair)
    words = (
        f"good from {good}, poor below {fair}" if known.higher else f"good up to {good}, poor above {fair}"
    )
    return f"{words} · decides" if known.decisive else words


def ordered(found: ReliabilityCard) -> list[Finding]:
    """Findings with the gravest first, those without limits last; within a grade by name."""
    return sorted(found.findings, key=lambda f: (_ORDER[f.grade], f.name))


def _short(number: float) -> str:
    return format.exact(float(f"{number:.3g}"))
