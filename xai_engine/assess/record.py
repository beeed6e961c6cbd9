"""Whether the model is on record as telling the classes apart, and whether these are the weights that are on record.

A bundle carries the operating points that were measured when it was validated; its manifest binds them to the weights.
A network whose weights were replaced after that, by chance or by hand, is no longer the model that was validated, however
lively its maps look: that is known from the weights alone, on every image. (Adebayo et al. 2018 ask it of the maps.)
"""

from __future__ import annotations

from xai_engine.assess import findings
from xai_engine.assess.types import Finding
from xai_engine.classifier import weights
from xai_engine.explain.protocol import Explainable

MISSING = "No validation of this model is on record: whether it knows anything is judged by the reaction of its score alone."


def of_record(classifier: Explainable) -> list[Finding]:
    """[] for a network without a record (no bundle, or one without operating points)."""
    known = getattr(classifier, "weights_on_record", None)
    points = classifier.info.operating_points
    if known is None or not points:
        return []
    same = weights.digest(classifier.network) == known
    text = (
        "The network's weights are those that the model was validated with."
        if same
        else "The network's weights are not those that the model was validated with: nothing is known of what it can do."
    )
    out = [findings.finding("weights_on_record", float(same), text)]
    if same:
        # the worse end of both intervals at the operating point that tells best: 0 is chance, 1 is perfect
        best = max(points, key=lambda p: p.sensitivity[1] + p.specificity[1])
        value = best.sensitivity[1] + best.specificity[1] - 1.0
        sure = "tells" if value > 0 else "is not known to tell"
        text = (
            f"The model {sure} the classes apart: sensitivity {findings.percent(best.sensitivity[0])}, specificity "
            f"{findings.percent(best.specificity[0])} ({best.population})."
        )
        out.append(findings.finding("discrimination", value, text))
    return out
