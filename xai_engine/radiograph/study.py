"""What a file says of the study, and its tags as lines of text for the browser."""

from __future__ import annotations

import re
from datetime import datetime

from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from xai_engine.radiograph.luts import text, values
from xai_engine.radiograph.types import StudyInfo, Tag

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]+")  # with marks that turn text around
_BINARY = frozenset(("OB", "OW", "OD", "OF", "OL", "OV", "UN"))
_MAX_VALUE, _MAX_TAGS, _MAX_DEPTH = 1000, 20_000, 50


def clean(value: str, limit: int = 256) -> str:
    """Text for one line: control and direction characters out, ends stripped, cut to `limit`."""
    return _CONTROL.sub(" ", value).strip()[:limit].strip()


def _name(item: Dataset, keyword: str) -> str:
    """A person name as read: "Family, Given Middle", with the ideographic form in brackets where there is one."""
    found = values(item, keyword)
    if not found:
        return ""
    try:
        name = found[0] if isinstance(found[0], PersonName) else PersonName(str(found[0]))
        groups = [group for group in str(name).split("=") if group.strip("^ ")]
    except Exception:  # a character set that cannot be decoded
        return ""
    written = []
    for group in groups[:2]:
        family, *rest = [part.strip() for part in group.split("^")]
        given = " ".join(part for part in [*rest[2:3], *rest[:2], *rest[3:]] if part)
        written.append(f"{family}, {given}" if family and given else family or given)
    return clean(f"{written[0]} ({written[1]})" if len(written) > 1 else "".join(written))


def _date(value: str) -> str:
    """YYYYMMDD (or the old YYYY.MM.DD) as YYYY-MM-DD; what is no date stays as it is."""
    try:
        return datetime.strptime(value.replace(".", ""), "%Y%m%d").strftime("%Y-%m-%d")
    except ValueError:
        return clean(value, 16)


def _time(value: str) -> str:
    """HHMMSS.ffffff as HH:MM:SS (HH:MM where there are no seconds)."""
    digits = value.replace(":", "").split(".")[0]
    if len(digits) in (4, 6) and digits.isdigit():
        return ":".join(digits[i : i + 2] for i in range(0, len(digits), 2))
    return clean(value, 16)


def is_synthetic(item: Dataset) -> bool:
    """True where the tags say that no patient was exposed: a phantom picture of this or another program."""
    phrases = (
        text(item, k) for k in ("PatientName", "ImageComments", "SeriesDescription", "StudyDescription")
    )
    kinds = [str(v).upper() for v in values(item, "ImageType")]
    said = any(phrase.upper().startswith("SYNTHETIC") for phrase in phrases)
    return said or "SYNTHETIC" in kinds


def study_info(item: Dataset) -> StudyInfo:
    """What a report prints of the study. Names decoded by the file's Specific Character Set."""

    def plain(keyword: str) -> str:
        return clean(text(item, keyword))

    return StudyInfo(
        patient_name=_name(item, "PatientName"),
        patient_id=plain("PatientID"),
        birth_date=_date(text(item, "PatientBirthDate")),
        sex=plain("PatientSex"),
        age=plain("PatientAge"),
        study_date=_date(text(item, "StudyDate")),
        study_time=_time(text(item, "StudyTime")),
        study_description=plain("StudyDescription"),
        series_description=plain("SeriesDescription"),
        accession_number=plain("AccessionNumber"),
        institution=plain("InstitutionName"),
        manufacturer=plain("Manufacturer"),
        model_name=plain("ManufacturerModelName"),
        body_part=plain("BodyPartExamined"),
        view_position=plain("ViewPosition"),
        laterality=plain("ImageLaterality") or plain("Laterality"),
        study_uid=plain("StudyInstanceUID"),
        series_uid=plain("SeriesInstanceUID"),
        sop_uid=plain("SOPInstanceUID"),
        synthetic=is_synthetic(item),
    )


def _value_text(element: DataElement) -> str:
    value = element.value
    if value is None:
        return ""
    if isinstance(value, (bytes, bytearray)):
        return f"binary, {len(value):,} bytes"
    if element.VR in _BINARY:
        return "binary"
    if isinstance(value, (str, PersonName)) or not hasattr(value, "__iter__"):
        return clean(str(value), _MAX_VALUE)
    parts: list[str] = []
    length = 0
    for part in value:  # stops early: a table may hold 65,536 values
        parts.append(str(part))
        length += len(parts[-1]) + 1
        if length > _MAX_VALUE:
            break
    return clean("\\".join(parts), _MAX_VALUE)


def tag_lines(item: Dataset, prefix: str = "", depth: int = 0, room: int = _MAX_TAGS) -> list[Tag]:
    """The data set as a flat list, sequences opened in place, private tags included, at most `room` lines."""
    lines: list[Tag] = []
    for tag in sorted(item.keys()):
        if len(lines) >= room:
            break
        path = f"{prefix}{tag >> 16:04X},{tag & 0xFFFF:04X}"
        try:
            element = item[tag]
            keyword = element.keyword or (element.name if element.is_private else "") or ""
            keyword = clean(keyword.strip("[]"), 64)
            if element.VR == "SQ":
                entries = list(element.value)
                count = f"{len(entries)} item{'' if len(entries) == 1 else 's'}"
                lines.append(Tag(path, keyword, "SQ", count, depth))
                if depth < _MAX_DEPTH:
                    for index, entry in enumerate(entries):
                        room_left = room - len(lines)
                        lines.extend(tag_lines(entry, f"{path}[{index}].", depth + 1, room_left))
                continue
            lines.append(Tag(path, keyword, str(element.VR), _value_text(element), depth))
        except Exception:  # one damaged element does not hide the others
            lines.append(Tag(path, keyword_for_tag(tag), "", "not readable", depth))
    return lines[:room]
