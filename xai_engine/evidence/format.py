"""How numbers and facts are written, once, for window, report and command line. No Qt, no reportlab.

A value that does not exist (None, NaN, infinite) is "–", never 0. Numbers carry the sign U+2212.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeGuard

from xai_engine.radiograph.types import PixelSpacing, Voi, Window

NONE = "–"
MINUS = "−"
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_ACRONYMS = {"auc": "AUC", "ece": "ECE", "nih": "NIH", "rsna": "RSNA", "os": "System", "torch": "PyTorch"}
_ACRONYMS |= {"monai": "MONAI", "numpy": "NumPy", "openvino": "OpenVINO", "cuda": "CUDA"}

SPACING_MEANING = {
    "detector": "at the detector; lengths in the patient are smaller by the magnification",
    "calibrated": "calibrated for magnification",
    "unknown": "the file does not say in which plane it was measured",
}


def number(value: float | None, digits: int = 4) -> str:
    """A measurement to `digits` significant digits: "1234", "0.01235", "1.235×10⁻⁵"; whole numbers whole."""
    if not _exists(value):
        return NONE
    value = float(value)
    if value == 0:
        return "0"
    if value == int(value) and abs(value) < 1e7:
        return _signed(f"{int(value)}")
    mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
    exponent = int(power)
    if not -4 <= exponent < 7:
        return _signed(f"{mantissa}×10{str(exponent).translate(_SUPERSCRIPT)}")
    return _signed(f"{value:.{max(0, digits - 1 - exponent)}f}")


def exact(value: float | None) -> str:
    """A chosen or stored number, not a measurement: up to six digits, without trailing zeros."""
    text = number(value, 6)
    mantissa, times, power = text.partition("×")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return mantissa + times + power


def probability(value: float | None) -> str:
    """Three decimals; never "0.000" or "1.000" for what is neither certain nor impossible."""
    if not _exists(value):
        return NONE
    if 0 < value < 0.0005:
        return "<0.001"
    if 0.9995 <= value < 1:
        return ">0.999"
    return f"{value:.3f}"


def logit(value: float | None) -> str:
    """Signed, two decimals."""
    return _signed(f"{value:+.2f}") if _exists(value) else NONE


def percent(share: float | None) -> str:
    """A share in [0, 1] as "43.2 %"."""
    return _signed(f"{100 * share:.1f} %") if _exists(share) else NONE


def interval(values: Sequence[float]) -> str:
    """(value, lower, upper) of a 95 % interval: "0.93 (95 % interval 0.90–0.95)"."""
    value, low, high = values
    return f"{value:.2f} (95 % interval {low:.2f}–{high:.2f})"


def tenths(value: float | None) -> str:
    """An area in mm² or a length in mm or pixels: one decimal; without the unit, which the heading holds."""
    return _signed(f"{value:.1f}") if _exists(value) else NONE


def length(pixels: float | None, mm: float | None) -> str:
    """Of a line: in mm with one decimal, in pixels where the file says no spacing."""
    if _exists(mm):
        return f"{tenths(mm)} mm"
    return f"{tenths(pixels)} pixels" if _exists(pixels) else NONE


def estimate(seconds: float) -> str:
    """What something will take: whole seconds, at least one; the next run has other hundredths than the last."""
    return f"{max(1, round(seconds))} s" if seconds < 10 else duration(seconds)


def duration(seconds: float | None) -> str:
    if not _exists(seconds):
        return NONE
    return (
        f"{seconds:.2f} s"
        if seconds < 10
        else f"{seconds:.0f} s"
        if seconds < 120
        else f"{seconds / 60:.1f} min"
    )


def spacing(value: PixelSpacing | None) -> str:
    """Pixel spacing with its provenance."""
    if value is None:
        return "not stated in the file; no lengths or areas in mm"
    size = f"{exact(value.row_mm)} × {exact(value.column_mm)} mm (row × column)"
    return f"{size}, {SPACING_MEANING[value.source]}"


def voi(value: Voi, key: str = "") -> str:
    """A window or VOI LUT in words, with the preset it came from."""
    if isinstance(value, Window):
        text = f"window centre {exact(value.center)}, width {exact(value.width)}, {value.function}"
    else:
        text = f"VOI LUT of {len(value.data)} entries from {exact(value.first)}, {value.bits} bit"
    origin = {"full": "full range", "auto": "automatic", "manual": "set by the reader", "default": ""}.get(
        key
    )
    if origin is None:
        origin = f"no. {int(key) + 1} of the file" if key.isdecimal() else ""
    label = f"“{value.label}”" if value.label and key not in ("full", "auto", "manual") else ""
    return ", ".join(part for part in (text, label, origin) if part)


def date(dicom: str) -> str:
    """DA of DICOM (PS3.5 6.2) as YYYY-MM-DD; other text unchanged."""
    match = re.fullmatch(r"\s*([0-9]{4})[.-]?([0-9]{2})[.-]?([0-9]{2})\s*", dicom)
    return "-".join(match.groups()) if match else dicom.strip()


def time(dicom: str) -> str:
    """TM of DICOM as HH:MM[:SS]; other text unchanged."""
    match = re.fullmatch(r"\s*([0-9]{2}):?([0-9]{2})(?::?([0-9]{2})(?:\.[0-9]*)?)?\s*", dicom)
    return ":".join(part for part in match.groups() if part) if match else dicom.strip()


def moment(iso: str) -> str:
    """ISO 8601 as "2026-11-22 21:52 UTC"; other text unchanged."""
    try:
        value = datetime.fromisoformat(iso)
    except ValueError:
        return iso
    zone = "" if value.tzinfo is None else " UTC" if not value.utcoffset() else value.strftime(" %z")
    return value.strftime("%Y-%m-%d %H:%M") + zone


def age(dicom: str) -> str:
    """AS of DICOM ("036Y") in words; other text unchanged."""
    match = re.fullmatch(r"\s*([0-9]{3})([DWMY])\s*", dicom)
    if not match:
        return dicom.strip()
    count, unit = int(match[1]), {"D": "day", "W": "week", "M": "month", "Y": "year"}[match[2]]
    return f"{count} {unit}{'' if count == 1 else 's'}"


def person_name(dicom: str) -> str:
    """PN of DICOM (PS3.5 6.2.1) as "Family, Given Middle, Prefix, Suffix".

    The ideographic and the phonetic group follow after "·". Text that is no PN stays as it is.
    """
    if "^" not in dicom and "=" not in dicom:
        return dicom.strip()
    groups = []
    for index, group in enumerate(dicom.split("=")):
        family, given, middle, prefix, suffix = (part.strip() for part in (group.split("^") + [""] * 5)[:5])
        first = f"{given} {middle}".strip()
        parts = [family, first, prefix, suffix] if index == 0 else [f"{family} {first}".strip()]
        if text := ", ".join(part for part in parts if part):
            groups.append(text)
    return " · ".join(groups)


def parameter(value: Any) -> str:
    """A method's parameter as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or value == "":
        return NONE
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {parameter(item)}" for key, item in value.items()) or NONE
    if isinstance(value, list | tuple):
        return ", ".join(parameter(item) for item in value) or NONE
    return exact(value) if isinstance(value, int | float) else str(value)


def label(key: str) -> str:
    """A key of JSON as a heading: "auc_children_test" is "AUC children test"."""
    words = [_ACRONYMS.get(word, word) for word in key.replace("_", " ").split()]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _exists(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _signed(text: str) -> str:
    """A true minus, and none before zero."""
    if re.fullmatch(r"[-+]0(\.0*)?( %)?", text):
        text = text[1:]
    return text.replace("-", MINUS, 1) if text.startswith("-") else text
