"""What is under the mouse."""

from __future__ import annotations

import math
from dataclasses import dataclass

from app.canvas.sampling import value_at
from app.model.case import CaseModel
from xai_engine.evidence import format
from xai_engine.radiograph.types import PixelSpacing


@dataclass(frozen=True, slots=True)
class LayerValue:
    title: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Readout:
    """row, column: of the pixel, from 0. value: in modality units (`unit`; "" = pixel value).

    layers: every map, lowest first. padding: the file marks this pixel as not part of the image.
    """

    row: int
    column: int
    value: float
    unit: str
    layers: tuple[LayerValue, ...]
    padding: bool = False


def read_out(case: CaseModel, row: float, column: float) -> Readout | None:
    """None outside the image."""
    radiograph = case.radiograph
    r, c = math.floor(row), math.floor(column)
    if radiograph is None or not (0 <= r < radiograph.rows and 0 <= c < radiograph.columns):
        return None
    layers = tuple(
        LayerValue(layer.drawn.title, value_at(layer.drawn, r, c), layer.drawn.unit) for layer in case.layers
    )
    padding = radiograph.padding is not None and bool(radiograph.padding[r, c])
    return Readout(r, c, float(radiograph.pixels[r, c]), radiograph.unit, layers, padding)


def line(readout: Readout, spacing: PixelSpacing | None) -> str:
    """As it stands below the image; millimetres where the file has a spacing."""
    parts = [f"column {readout.column}, row {readout.row}"]
    if spacing is not None:
        across, down = readout.column * spacing.column_mm, readout.row * spacing.row_mm
        parts.append(f"{across:.1f}, {down:.1f} mm")
    parts.append("padding" if readout.padding else f"{format.number(readout.value)} {readout.unit}".strip())
    parts += [f"{layer.title} {format.number(layer.value)}" for layer in readout.layers]
    return "   ·   ".join(parts)
