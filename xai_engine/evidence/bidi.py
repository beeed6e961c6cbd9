"""Right-to-left text for a renderer that only draws from left to right: Arabic letter forms, visual order.

A subset of the Unicode bidirectional algorithm (UAX #9): paragraph direction from the first strong letter,
strong, numeric and neutral characters, mirrored brackets; no explicit embeddings (callers strip the
controls). Arabic letters take the contextual forms that Unicode encodes (FB50–FDFF, FE70–FEFF), lam-alef
ligatures included.
"""

from __future__ import annotations

import unicodedata
from functools import cache

_MIRROR = str.maketrans("()[]{}<>«»‹›", ")(][}{><»«›‹")
_LAM, _TATWEEL = "\u0644", "\u0640"


def has_rtl(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in ("R", "AL") for char in text)


def is_rtl(text: str) -> bool:
    """Whether the first strong letter runs from right to left."""
    for char in text:
        kind = unicodedata.bidirectional(char)
        if kind in ("L", "R", "AL"):
            return kind != "L"
    return False


def shape(text: str) -> str:
    """Arabic letters in the form that their neighbours ask for; everything else unchanged."""
    forms, ligatures = _forms()
    merged: list[str] = []
    for char in text:
        if merged and merged[-1] == _LAM and _LAM + char in ligatures:
            merged[-1] = _LAM + char
        else:
            merged.append(char)
    letters = [i for i, item in enumerate(merged) if unicodedata.category(item[0]) != "Mn"]
    out = list(merged)
    for position, i in enumerate(letters):
        item = merged[i]
        known = ligatures.get(item) or forms.get(item)
        if not known:
            continue
        before = merged[letters[position - 1]] if position else ""
        after = merged[letters[position + 1]] if position + 1 < len(letters) else ""
        joined_before = _joins_next(before) and "final" in known
        joined_after = _joins_previous(after) and "initial" in known
        if joined_before and joined_after and "medial" in known:
            out[i] = known["medial"]
        elif joined_before:
            out[i] = known["final"]
        elif joined_after:
            out[i] = known["initial"]
        else:
            out[i] = known.get("isolated", item)
    return "".join(out)


def visual(text: str, rtl: bool | None = None) -> str:
    """One line in the order in which its characters stand from left to right."""
    base = int(is_rtl(text) if rtl is None else rtl)
    clusters: list[str] = []
    for char in text:
        if clusters and unicodedata.category(char) in ("Mn", "Me"):
            clusters[-1] += char  # marks stay behind their letter
        else:
            clusters.append(char)
    levels = _levels([unicodedata.bidirectional(c[0]) for c in clusters], base)
    clusters = [c.translate(_MIRROR) if level % 2 else c for c, level in zip(clusters, levels, strict=True)]
    for level in range(max(levels, default=0), 0, -1):
        start = 0
        while start < len(clusters):
            if levels[start] < level:
                start += 1
                continue
            stop = start
            while stop < len(clusters) and levels[stop] >= level:
                stop += 1
            clusters[start:stop] = clusters[start:stop][::-1]
            start = stop
    return "".join(clusters)


def _levels(kinds: list[str], base: int) -> list[int]:
    """Embedding level of each cluster (rules W2, W4, N1, N2, I1, I2 and L1 of UAX #9, simplified)."""
    resolved: list[str] = []
    for i, kind in enumerate(kinds):
        between = 0 < i < len(kinds) - 1 and kinds[i - 1] == kinds[i + 1] and kinds[i + 1] in ("EN", "AN")
        if kind in ("R", "AL"):
            resolved.append("R")
        elif kind in ("EN", "AN") or (kind in ("CS", "ES") and between):
            resolved.append("number")
        else:
            resolved.append("L" if kind == "L" else "neutral")
    strong = "R" if base else "L"
    for i, kind in enumerate(resolved):
        if kind in ("L", "R"):
            strong = kind
        elif kind == "number" and strong == "L":
            resolved[i] = "L"
    levels = []
    edge = "R" if base else "L"
    side = {"L": "L", "R": "R", "number": "R"}
    for i, kind in enumerate(resolved):
        if kind == "neutral":
            left = next((side[k] for k in reversed(resolved[:i]) if k != "neutral"), edge)
            right = next((side[k] for k in resolved[i + 1 :] if k != "neutral"), edge)
            kind = left if left == right else edge
        levels.append({"R": 1, "L": 2 * base, "number": 2}[kind])
    for i in reversed(range(len(kinds))):  # L1: blanks at the end of a line stand at its end
        if kinds[i] != "WS":
            break
        levels[i] = base
    return levels


@cache
def _forms() -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """Contextual forms of single letters and of lam-alef, from Unicode's own decompositions."""
    forms: dict[str, dict[str, str]] = {}
    ligatures: dict[str, dict[str, str]] = {}
    for code in (*range(0xFB50, 0xFE00), *range(0xFE70, 0xFF00)):
        parts = unicodedata.decomposition(chr(code)).split()
        if not parts or parts[0] not in ("<isolated>", "<final>", "<initial>", "<medial>"):
            continue
        plain = "".join(chr(int(part, 16)) for part in parts[1:])
        if len(plain) == 1:
            forms.setdefault(plain, {}).setdefault(parts[0][1:-1], chr(code))
        elif len(plain) == 2 and plain[0] == _LAM and plain[1] in "\u0622\u0623\u0625\u0627":
            ligatures.setdefault(plain, {})[parts[0][1:-1]] = chr(code)
    return forms, ligatures


def _joins_next(item: str) -> bool:
    return item == _TATWEEL or (len(item) == 1 and "initial" in _forms()[0].get(item, {}))


def _joins_previous(item: str) -> bool:
    forms, ligatures = _forms()
    return item == _TATWEEL or "final" in (ligatures.get(item) or forms.get(item) or {})
