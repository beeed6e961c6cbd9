"""The rule that turns measures into grades and grades into one verdict. Documented in docs/reliability.md. Loads no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from xai_engine.assess.types import Finding, Grade, Verdict


@dataclass(frozen=True, slots=True)
class Limit:
    """good, fair: the worst value that still gets the grade. higher: whether high values are good.

    decisive: "poor" alone means "do not use", "fair" means "use with care". Otherwise "poor" means "use with care".
    """

    good: float
    fair: float
    higher: bool
    decisive: bool

    def grade(self, value: float | None) -> Grade:
        if value is None or math.isnan(value):
            return "info"
        sign = 1.0 if self.higher else -1.0
        if sign * value >= sign * self.good:
            return "good"
        return "fair" if sign * value >= sign * self.fair else "poor"


LIMITS: dict[str, Limit] = {
    # the map
    "map_range": Limit(1e-30, 1e-30, True, True),
    "faithfulness": Limit(2.0, 1.28, True, True),
    "road": Limit(0.02, 0.0, True, False),
    "completeness_error": Limit(0.05, 0.2, False, False),
    "seed_stability": Limit(0.8, 0.5, True, True),
    "perturbation_stability": Limit(0.7, 0.4, True, False),
    "max_sensitivity": Limit(0.75, 1.5, False, False),
    "randomisation": Limit(0.5, 0.8, False, True),
    "agreement": Limit(0.4, 0.1, True, False),
    # where it lies
    "lungs_enrichment": Limit(1.0, 0.6, True, False),
    "border_enrichment": Limit(1.5, 2.5, False, False),
    "text_share": Limit(0.05, 0.15, False, False),
    "padding_share": Limit(0.02, 0.1, False, False),
    # the model on this image
    "score_reaction": Limit(0.1, 0.02, True, True),
    "text_effect": Limit(1.0, 1.35, False, True),
    "border_effect": Limit(1.5, 2.25, False, True),
    "outside_effect": Limit(1.75, 2.8, False, True),
    # the model on any image
    "weights_on_record": Limit(1.0, 1.0, True, True),
    "discrimination": Limit(0.4, 0.1, True, True),
    "reaction_over_random": Limit(2.0, 1.6, True, True),
}


def grade(name: str, value: float | None) -> Grade:
    """The grade of a measure; "info" where it has no limit or no value."""
    limit = LIMITS.get(name)
    return "info" if limit is None else limit.grade(value)


def decide(
    findings: Iterable[Finding], *, partial: bool = False, caveats: Iterable[str] = ()
) -> tuple[Verdict, tuple[str, ...]]:
    """The verdict and its reasons, the gravest first.

    "do not use": a decisive finding is poor. "use with care": a decisive one is fair, any other is poor, faithfulness or
    the reaction of the score was not measured, the assessment is partial, or there is a caveat (the map itself is partial or
    has not converged). Otherwise "use", and the reason is what was found faithful.
    """
    found = list(findings)
    grave = [f.sentence for f in found if f.grade == "poor" and _decisive(f.name)]
    if grave:
        return "do not use", tuple(grave)
    care = list(caveats)
    care += [f.sentence for f in found if f.grade == "fair" and _decisive(f.name)]
    care += [f.sentence for f in found if f.grade == "poor"]
    measured = {f.name for f in found if f.grade != "info"}
    if partial:
        care.append("The assessment was stopped before its end.")
    elif not {"faithfulness", "score_reaction"} <= measured:
        care.append("It could not be tested whether the map shows what drives the score.")
    if care:
        return "use with care", tuple(care)
    return "use", tuple(f.sentence for f in found if f.name == "faithfulness")


def _decisive(name: str) -> bool:
    limit = LIMITS.get(name)
    return limit is not None and limit.decisive
