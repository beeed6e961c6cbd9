"""One explanation map as the canvas and the layers panel show it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from xai_engine.explain.types import Explanation
from xai_engine.radiograph.colour import LayerStyle


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """A map over the image. `id` is unique within a case and never used again."""

    id: int
    explanation: Explanation
    style: LayerStyle
    visible: bool = True
    # One shared slot, so that copies with another style do not resample the map again.
    _source: list[npt.NDArray[np.float32]] = field(default_factory=list, repr=False)

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
