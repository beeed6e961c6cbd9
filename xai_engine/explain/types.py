"""The result every attribution method returns. Loads no torch, so the window and the report can use it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.radiograph.geometry import GridTransform


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """A signed attribution map with its provenance. Positive values speak for `target`.

    values: float32 (rows, columns) in the classifier's grid, read-only.
    unit: what one value means, e.g. "logit per pixel", "logit per superpixel", "logit per cell".
    full_scale: absolute value at the end of the colour bar, fixed per model and method, never per image.
    completeness_error: |sum of the map - change in output| / |change in output|; None where the method
    promises no sum.
    forwards: forward passes of single images; backwards likewise.
    params: every parameter of the method, JSON-ready.
    notes: sentences a reader must see (not converged, partial, fell back to fp32, ...).
    segments: superpixel labels (rows, columns) int32 where the method has them.
    backend: what ran the forward passes without gradients: torch, openvino or onnx.
    uncertainty: standard deviation of values, in their unit (rows, columns) float32, where the method knows it.
    shared_with: (name, parameters) of the methods that made one pool of forwards from which this map drew (explain.pool): what
    is needed to make it again; () where it drew from none.
    """

    method: str
    title: str
    values: npt.NDArray[np.float32]
    transform: GridTransform
    target: str
    unit: str
    full_scale: float
    params: dict[str, Any]
    seed: int
    seconds: float
    forwards: int
    backwards: int
    partial: bool
    completeness_error: float | None
    converged: bool
    image_sha256: str
    model_sha256: str
    engine_version: str
    device: str
    precision: str
    notes: tuple[str, ...] = ()
    segments: npt.NDArray[np.int32] | None = None
    extra: dict[str, float] = field(default_factory=dict)
    uncertainty: npt.NDArray[np.float32] | None = None
    backend: str = "torch"
    shared_with: tuple[tuple[str, dict[str, Any]], ...] = ()

    def in_source(self) -> npt.NDArray[np.float32]:
        """The map in source geometry (rows x columns of the image), float32; 0 where the classifier did not look."""
        order = 0 if self.segments is not None else 1
        return self.transform.map_to_source(self.values, order)
