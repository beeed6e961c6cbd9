"""What is on the screen as the record that report and JSON are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.model.case import CaseModel
from app.model.trust import assessable
from xai_engine.evidence.case import CaseReview, now


def review(
    case: CaseModel, environment: Mapping[str, Any], reader: str, impression: str
) -> CaseReview | None:
    """None before a verdict. Activations of single channels stay out: they are no explanations of the score."""
    if case.radiograph is None or case.prediction is None or case.voi is None:
        return None
    layers = [layer for layer in case.layers if assessable(layer)]
    explanations = tuple(layer.explanation for layer in layers)
    record = CaseReview(
        radiograph=case.radiograph,
        voi=case.voi,
        prediction=case.prediction,
        explanations=explanations,
        styles={},
        regions=case.regions,
        statistics={},
        environment=dict(environment),
        created=now(),
        voi_key=case.preset_key or "manual",
        invert=case.invert,
        reader=reader,
        impression=impression,
        seed=next((e.seed for e in explanations), 0),
    )
    named = dict(zip(record.names(), layers, strict=True))
    kept = {
        key: replace(known, maps={name: share for name, share in known.maps.items() if name in named})
        for key, known in case.statistics.items()
    }
    return replace(
        record,
        statistics=kept,
        styles={name: layer.style for name, layer in named.items()},
        reliability={name: layer.card.to_json() for name, layer in named.items() if layer.card},
    )
