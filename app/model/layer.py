"""One explanation map as the canvas and the layers panel show it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from xai_engine.assess.types import ReliabilityCard
from xai_engine.explain.types import Explanation
from xai_engine.radiograph.colour import DIVERGING, SEQUENTIAL, LayerStyle


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A map over the image. `id` is unique within a case and never used again.

    card: how far the map can be trusted, None while that is not known. spread: show its uncertainty instead of its values.
    """

    id: int
    explanation: Explanation
    style: LayerStyle
    visible: bool = True
    # Shared slots, so that copies with another style neither resample the map nor make its uncertainty again.
    _source: list[npt.NDArray[np.float32]] = field(default_factory=list, repr=False)
    card: ReliabilityCard | None = None
    spread: bool = False
    _spread: list[Explanation] = field(default_factory=list, repr=False)

    @property
    def source_map(self) -> npt.NDArray[np.float32]:
        """The map in source geometry: float32 (rows, columns), read-only. Made at the first use (slow on large images).

        The window does not need it: canvas and statistics sample the classifier's grid where they look.
        """
        if not self._source:
            values = self.explanation.in_source()
            values.flags.writeable = False
            self._source.append(values)
        return self._source[0]

    @property
    def title(self) -> str:
        return self.explanation.title

    @property
    def drawn(self) -> Explanation:
        """What is painted: the map, or its uncertainty as a map of its own (same unit and scale)."""
        known = self.explanation.uncertainty
        if not self.spread or known is None:
            return self.explanation
        if not self._spread:
            title = f"{self.title}: uncertainty"
            self._spread.append(replace(self.explanation, title=title, values=known, uncertainty=None))
        return self._spread[0]

    @property
    def drawn_style(self) -> LayerStyle:
        """A standard deviation has no sign, so it is painted in a sequential colour map."""
        if self.drawn is self.explanation:
            return self.style
        colours = SEQUENTIAL[0] if self.style.colour_map in DIVERGING else self.style.colour_map
        return replace(self.style, colour_map=colours, sign="both")
