"""What is on the screen as the record that report and JSON are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.model.case import CaseModel
from app.model.trust import assessable
from xai_engine.evidence.case import CaseReview, now
from xai_engine.radiograph.regions import RegionStatistics


def review(
    case: CaseModel, environment: Mapping[str, Any], reader: str, impression: str, institution: str = ""
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
        institution=institution,
        seed=next((e.seed for e in explanations), 0),
    )
    named = dict(zip(record.names(), layers, strict=True))

    def kept(known: RegionStatistics) -> RegionStatistics:
        return replace(known, maps={name: share for name, share in known.maps.items() if name in named})

    mirrors = case.comparison.mirrors
    return replace(
        record,
        statistics={key: kept(known) for key, known in case.statistics.items()},
        mirrors={key: replace(found, statistics=kept(found.statistics)) for key, found in mirrors.items()},
        what_if=case.comparison.what_if,
        styles={name: layer.style for name, layer in named.items()},
        reliability={name: layer.card.to_json() for name, layer in named.items() if layer.card},
    )
