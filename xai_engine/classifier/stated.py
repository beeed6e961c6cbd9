"""What a file itself says against being a frontal chest radiograph: a sentence for the reader, "" where it says nothing of the kind.

Asked of images that the gate lets pass. Only terms that are known to mean something else refuse: the tags are often empty, in another language
or free text, and a tag that is not understood refuses nothing. Patients' data are in none of them.
"""

from __future__ import annotations

import re

from xai_engine.radiograph.types import Radiograph

# DICOM PS3.3 C.7.3.1.1.1, those that are no projection radiographs of a patient, or of one part only
MODALITIES = {
    "CT": "a computed tomography", "MR": "a magnetic resonance image", "PT": "a positron emission tomography",
    "NM": "a nuclear medicine image", "US": "an ultrasound image", "IVUS": "an ultrasound image", "MG": "a mammogram",
    "IO": "a dental radiograph", "PX": "a dental panoramic radiograph", "XA": "an angiogram",
    "BMD": "a bone densitometry", "OCT": "an optical tomography", "OP": "a photograph of an eye",
    "ES": "an endoscopy", "GM": "a microscopic image", "SM": "a microscopic image", "XC": "a photograph",
}  # fmt: skip

# View Position, PS3.3 C.8.7.1.1.1 and the spellings that devices write
_LATERAL = {
    "LL",
    "RL",
    "LAT",
    "LATERAL",
    "LLAT",
    "RLAT",
    "LLATERAL",
    "RLATERAL",
    "LEFTLATERAL",
    "RIGHTLATERAL",
}
_OBLIQUE = {"LLO", "RLO", "LAO", "RAO", "LPO", "RPO", "OBLIQUE"}

# Body Part Examined, PS3.16 annex L: parts in whose radiographs there is no whole chest
_PARTS = {
    "ABDOMEN", "ANKLE", "ARM", "BREAST", "CALCANEUS", "CALF", "CARPUS", "COCCYX", "CSPINE", "DENTAL", "ELBOW", "EXTREMITY", "FACE",
    "FEMUR", "FIBULA", "FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "KNEES", "LEG", "LSPINE",
    "LOWERLEG", "LOWERLIMB", "MANDIBLE", "MAXILLA", "NECK", "ORBIT", "PATELLA", "PELVIS", "RADIUS", "SACRUM", "SHOULDER", "SINUS",
    "SKULL", "SPINE", "SSPINE", "TEETH", "THIGH", "THUMB", "TIBIA", "TOE", "TSPINE", "ULNA", "UPPERARM", "UPPERLIMB", "WRIST", "ZYGOMA",
}  # fmt: skip
_VIEW_CODE = re.compile(r"0054,0220\[\d+\]\.0008,0104")


def against(radiograph: Radiograph) -> str:
    """One sentence that names the tag and its value, or ""."""
    modality = radiograph.modality.strip().upper()
    if modality in MODALITIES:
        return f"The file says that this is {MODALITIES[modality]} (Modality {modality}), not a chest radiograph."
    part = _term(radiograph.study.body_part)
    if part in _PARTS:
        return f"The file says that this is another part of the body (Body Part Examined {part})."
    view = _term(radiograph.study.view_position)
    for terms, what in ((_LATERAL, "a lateral view"), (_OBLIQUE, "an oblique view")):
        if view in terms:
            return f"The file says that this is {what} (View Position {view}), not a frontal one."
    for tag in radiograph.tags:
        if _VIEW_CODE.fullmatch(tag.path) and _is_lateral(tag.value):
            return "The file says that this is a lateral view (View Code Sequence), not a frontal one."
    across, down = (direction.strip().upper()[:1] for direction in radiograph.orientation)
    if across in ("A", "P") and down in ("F", "H"):
        return f"The file says that this is a lateral view (Patient Orientation {across}\\{down}), not a frontal one."
    return ""


def _term(value: str) -> str:
    return re.sub(r"[^A-Z]", "", value.upper())


def _is_lateral(meaning: str) -> bool:
    """Of a code's meaning (PS3.16 CID 4010): "lateral", "left lateral" and the like; a decubitus view is taken from the front."""
    words = re.findall(r"[a-z]+", meaning.lower())
    return words in (["lateral"], ["left", "lateral"], ["right", "lateral"], ["lateral", "projection"])
