"""The case record: all that one analysis of one image produced, as the report and the JSON file need it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.types import Radiograph, Voi

if TYPE_CHECKING:
    from xai_engine.classifier.types import ModelInfo, Prediction
    from xai_engine.explain.types import Explanation
    from xai_engine.explain.what_if import WhatIf
    from xai_engine.radiograph.mirror import Mirror
    from xai_engine.radiograph.regions import Region, RegionStatistics


@dataclass(frozen=True, slots=True, eq=False)
class CaseReview:
    """One image, what the classifier said, why, and what the reader made of it. Read-only; crosses processes.

    voi: the window or VOI LUT in which the image was looked at; voi_key: its preset ("0", "1", … "full",
        "auto", or "manual"); invert: the reader had inverted the picture.
    styles: how each map was shown, by its name in `names()`; a map without a style gets the default one.
    statistics: measurements by region id.
    environment: of `runtime.device.environment` ("engine", "torch", "device", "precision", "threads", more).
    created: UTC, ISO 8601, see `now()`. The report is a function of the case alone, so this is its date too.
    reader, impression: name and words of the person who read the image; empty where nobody did.
    seed: of the run. options: long options of `radiolucent analyze` that the case itself does not tell, such
        as {"model": "/path/of/bundle", "roi": "regions.json"}; part of the command that repeats the analysis.
    reliability: findings on how far a map can be trusted, by its name in `names()`; JSON-ready.
    mirrors, what_if: of regions, by region id like `statistics`; a region without stands in neither.
    institution: whose report this is; empty prints nothing.
    skipped: why a method that was asked for made no map, by its name: this network gives it nothing to work on.
    """

    radiograph: Radiograph
    voi: Voi
    prediction: Prediction
    explanations: tuple[Explanation, ...]
    styles: Mapping[str, LayerStyle]
    regions: tuple[Region, ...]
    statistics: Mapping[str, RegionStatistics]
    environment: Mapping[str, Any]
    created: str
    voi_key: str = "default"
    invert: bool = False
    reader: str = ""
    impression: str = ""
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    reliability: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    mirrors: Mapping[str, Mirror] = field(default_factory=dict)
    what_if: Mapping[str, WhatIf] = field(default_factory=dict)
    institution: str = ""
    skipped: Mapping[str, str] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """One name per map, fit for a file: the method's; "lime-2", … when a method occurs again."""
        count: dict[str, int] = {}
        out = []
        for explanation in self.explanations:
            n = count[explanation.method] = count.get(explanation.method, 0) + 1
            out.append(explanation.method if n == 1 else f"{explanation.method}-{n}")
        return tuple(out)

    def style(self, name: str) -> LayerStyle:
        """The style of a map by its name in `names()`; the default style where none was chosen."""
        return self.styles.get(name) or LayerStyle()


def now() -> str:
    """The present moment as `created` wants it: UTC, ISO 8601, whole seconds, "Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_map(model: ModelInfo, method: str) -> str:
    """How to read a map of this method of this model: two or three plain sentences. Loads no torch.

    `method`: its name in the registry; an unknown one gives the part that holds for every signed map.
    """
    from xai_engine.explain import registry

    about = next((d for d in registry.describe() if d.name == method), None)
    reading = about.reading.strip() if about else ""
    if about is not None and not about.signed:
        sign = "Values are magnitudes: none speaks against the target."
    else:  # most methods say it in words of their own
        sign = (
            "" if "ositive" in reading else "Positive values speak for the target, negative ones against it."
        )
    if method in model.map_scales:
        scale = f"The colour scale is fixed for {model.name} {model.version}: the same in every patient."
    else:
        scale = "The colour scale is absolute, not fitted to this image."
    parts = (reading, sign, scale, "A map shows what moved the score, not where disease is.")
    return " ".join(part if part.endswith((".", "?", "!")) else part + "." for part in parts if part)
