"""Lookup tables and windows of a DICOM image: parsing, and the modality transformation (PS3.3 C.11.1, C.11.2)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from xai_engine.radiograph.types import Voi, VoiFunction, VoiLut, Window

_FUNCTIONS: dict[str, VoiFunction] = {
    "LINEAR": "LINEAR",
    "LINEAR_EXACT": "LINEAR_EXACT",
    "SIGMOID": "SIGMOID",
}
# Defined terms of Rescale Type and Modality LUT Type as shown to users. A table in OD holds thousandths of it.
_UNITS = {"OD": "mOD", "US": "", "UNSPECIFIED": ""}


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """A parsed LUT Sequence item. `data`: unsigned 16-bit; input `first` maps to data[0]."""

    first: int
    data: npt.NDArray[np.uint16]
    bits: int
    label: str


def values(item: Dataset, keyword: str) -> list[Any]:
    """Values of an attribute as a list: empty where it is absent, empty or not readable."""
    try:
        value = item.get(keyword)
    except Exception:  # pydicom raises nearly anything on a damaged element
        return []
    if value is None or value == "":
        return []
    if isinstance(value, (str, bytes, PersonName)):  # a PersonName iterates over its letters
        return [value]
    return list(value) if isinstance(value, Iterable) else [value]


def text(item: Dataset, keyword: str) -> str:
    """First value as stripped text, "" where there is none."""
    found = values(item, keyword)
    return str(found[0]).strip() if found else ""


def numbers(item: Dataset, keyword: str) -> list[float]:
    """Finite numbers of an attribute; NaN stands for a value that is none, so that pairs stay together."""
    result = []
    for value in values(item, keyword):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        result.append(number if math.isfinite(number) else math.nan)
    return result


def number(item: Dataset, keyword: str) -> float | None:
    """First finite number, else None."""
    found = numbers(item, keyword)
    return found[0] if found and not math.isnan(found[0]) else None


def items(item: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; empty where there is none."""
    return [entry for entry in values(item, keyword) if isinstance(entry, Dataset)]


def parse_lut(item: Dataset, low: float, high: float, little_endian: bool) -> Lut:
    """Read one item of a Modality or VOI LUT Sequence whose input lies between `low` and `high`.

    The descriptor is (entries, 0 standing for 65536; first input value; bits per entry). Entries of eight bits may
    come packed two to a word, the earlier one in the low byte. Where an entry needs more bits than the descriptor
    says, the data win. Raises ValueError where no table can be made.
    """
    descriptor = [int(v) for v in numbers(item, "LUTDescriptor")]
    if len(descriptor) != 3:
        raise ValueError("LUT descriptor")
    entries = descriptor[0] & 0xFFFF or 65536
    first = descriptor[1] & 0xFFFF
    if first >= 0x8000 and (low < 0 or high < 0x8000):
        first -= (
            0x10000  # the input decides between the signed and the unsigned reading, not the VR, often wrong
        )
    bits = descriptor[2]
    raw = item.get("LUTData")
    if isinstance(raw, (bytes, bytearray)):
        if len(raw) in (entries, entries + 1) and bits <= 8:
            packed = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2" if little_endian else ">u2").astype("<u2")
            data = packed.view(np.uint8).astype(np.uint16)
        else:
            data = np.frombuffer(raw[: len(raw) // 2 * 2], "<u2" if little_endian else ">u2").astype(
                np.uint16
            )
    else:
        listed = [int(v) & 0xFFFF for v in values(item, "LUTData")]
        data = np.array(listed, np.uint16)
        if bits <= 8 and data.size == (entries + 1) // 2 and entries > 1:
            data = data.astype("<u2").view(np.uint8).astype(np.uint16)
    data = data[:entries]
    if data.size == 0 or data.size < entries // 2:
        raise ValueError("LUT data")
    needed = max(int(data.max()).bit_length(), 1)
    bits = max(bits, needed) if 1 <= bits <= 16 else needed
    data = np.ascontiguousarray(data)
    data.setflags(write=False)
    label = text(item, "LUTExplanation") or text(item, "ModalityLUTType")
    return Lut(first, data, bits, label)


def smallest(array: npt.NDArray[Any], low: int | None = None, high: int | None = None) -> npt.NDArray[Any]:
    """The same whole numbers in the smallest of uint8, uint16, int16, int32 that holds them, else unchanged.

    low, high: smallest and largest value, where the caller knows them.
    """
    low = int(array.min()) if low is None else low
    high = int(array.max()) if high is None else high
    for dtype in (np.uint8, np.uint16, np.int16, np.int32):
        info = np.iinfo(dtype)
        if info.min <= low and high <= info.max:
            return array.astype(dtype, copy=False)
    return array


@dataclass(frozen=True, slots=True, eq=False)
class Modality:
    """The modality transformation of one frame: a table or slope and intercept."""

    lut: Lut | None = None
    slope: float = 1.0
    intercept: float = 0.0
    unit: str = ""

    def apply(self, stored: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Stored values to modality values, shape kept. Whole numbers stay integers, in full depth."""
        if self.lut is not None:
            # int64 is avoided for 16-bit images: nine million pixels would take 72 MB.
            wide = np.int64 if stored.dtype.itemsize > 2 else np.int32
            index: npt.NDArray[Any] = stored.astype(wide)
            index -= self.lut.first
            np.clip(index, 0, self.lut.data.size - 1, out=index)
            return np.take(self.lut.data, index)
        if self.slope == 1.0 and self.intercept == 0.0:
            return stored
        whole = self.slope.is_integer() and self.intercept.is_integer()
        if whole and np.issubdtype(stored.dtype, np.integer):
            slope, intercept = int(self.slope), int(self.intercept)
            ends = [int(end) * slope + intercept for end in (stored.min(), stored.max())]
            if min(ends) >= -(2**31) and max(ends) < 2**31:
                fits = abs(slope) < 2**15 and abs(intercept) < 2**30 and stored.dtype.itemsize <= 2
                scaled: npt.NDArray[Any] = stored.astype(np.int32 if fits else np.int64)
                if slope != 1:
                    scaled *= slope
                scaled += intercept
                return smallest(scaled, min(ends), max(ends))
        result = stored.astype(np.float64)
        result *= self.slope
        result += self.intercept
        return result.astype(np.float32)


def modality(
    item: Dataset, signed: bool, bits_stored: int, little_endian: bool, modality_name: str
) -> tuple[Modality, list[str]]:
    """The modality transformation that `item` holds, with notices on what had to be ignored.

    A Modality LUT Sequence wins over slope and intercept; the standard forbids both together (C.11.1).
    """
    notices: list[str] = []
    for entry in items(item, "ModalityLUTSequence")[:1]:
        try:
            lut = parse_lut(entry, -1 if signed else 0, 2**bits_stored - 1, little_endian)
        except Exception:  # a damaged table, in whichever way pydicom or numpy puts it
            notices.append("The modality LUT is damaged and was not applied: values are as stored.")
            continue
        kind = text(entry, "ModalityLUTType")
        return Modality(lut=lut, unit=_UNITS.get(kind.upper(), kind[:16])), notices
    slope, intercept = number(item, "RescaleSlope"), number(item, "RescaleIntercept")
    if slope is None and intercept is None:
        return Modality(), notices
    slope = 1.0 if slope is None else slope
    intercept = intercept or 0.0
    if slope == 0.0 or abs(slope) > 1e12 or abs(intercept) > 1e12:
        notices.append(
            "The rescale slope or intercept is not usable and was not applied: values are as stored."
        )
        return Modality(), notices
    kind = text(item, "RescaleType")
    unit = _UNITS.get(kind.upper(), kind[:16])
    if not kind and modality_name == "CT":
        unit = "HU"  # C.8.2.1: CT without Rescale Type is in Hounsfield units
    return Modality(None, slope, intercept, unit), notices


def windows(item: Dataset) -> tuple[list[Voi], list[str]]:
    """Every usable window of `item`, in order (C.11.2.1.2), with notices on those left out."""
    centers, widths = numbers(item, "WindowCenter"), numbers(item, "WindowWidth")
    labels = [str(label).strip() for label in values(item, "WindowCenterWidthExplanation")]
    name = text(item, "VOILUTFunction").upper()
    function = _FUNCTIONS.get(name, "LINEAR")
    notices: list[str] = []
    if name and name not in _FUNCTIONS:
        notices.append("The VOI LUT function is unknown; windows are taken as LINEAR.")
    if len(centers) != len(widths):
        notices.append("Window centres and widths differ in number; unpaired ones were left out.")
    found: list[Voi] = []
    for index, (center, width) in enumerate(zip(centers, widths, strict=False)):
        usable = not (math.isnan(center) or math.isnan(width)) and (
            width >= 1 if function == "LINEAR" else width > 0
        )
        if usable:
            found.append(Window(center, width, function, labels[index] if index < len(labels) else ""))
        elif function == "LINEAR" and not math.isnan(center) and 0 < width < 1:
            # C.11.2.1.2.1 forbids LINEAR below 1, yet images with a fractional rescale slope carry such windows.
            found.append(Window(center, width, "LINEAR_EXACT", labels[index] if index < len(labels) else ""))
            notices.append(f"Window {index} is narrower than 1; it is shown as LINEAR_EXACT.")
        else:
            notices.append(f"Window {index} has an invalid centre or width and was left out.")
    return found, notices


def voi_luts(item: Dataset, low: float, high: float, little_endian: bool) -> tuple[list[Voi], list[str]]:
    """Every usable VOI LUT of `item`, in order (C.11.2.1.1), for modality values from `low` to `high`, with notices."""
    found: list[Voi] = []
    notices: list[str] = []
    for index, entry in enumerate(items(item, "VOILUTSequence")):
        try:
            lut = parse_lut(entry, low, high, little_endian)
        except Exception:  # as above
            notices.append(f"VOI LUT {index} is damaged and was left out.")
            continue
        found.append(VoiLut(lut.first, lut.data, lut.bits, lut.label))
    return found, notices
