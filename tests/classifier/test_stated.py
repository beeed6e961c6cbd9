"""What a file says of itself: refused where that is certain, read where a tag is empty, odd or free text."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.classifier import bundle, stated
from xai_engine.classifier.predict import Classifier
from xai_engine.radiograph.read import read
from xai_engine.radiograph.types import Radiograph, Tag
from xai_engine.runtime import device

SAMPLE = Path(__file__).parents[2] / "resources/samples/synthetic-normal.dcm"
DATA = Path(os.environ.get("RADIOLUCENT_DATA", Path(__file__).parents[3] / "shared/data"))


@pytest.fixture(scope="module")
def frontal() -> Radiograph:
    return read(SAMPLE)


def tagged(r: Radiograph, **changes: str) -> Radiograph:
    return replace(r, study=replace(r.study, **changes))


@pytest.mark.parametrize("view", ["LL", "RL", "LAT", "Lateral", "L LAT", "LLO", "RAO", "Left Lateral"])
def test_a_view_that_is_not_frontal(frontal: Radiograph, view: str) -> None:
    sentence = stated.against(tagged(frontal, view_position=view))
    assert "View Position" in sentence
    assert ("oblique" if view in ("LLO", "RAO") else "lateral") in sentence


@pytest.mark.parametrize(
    "view", ["", "AP", "PA", "RLD", "LLD", "AP SUPINE", "LORDOTIC", "PA AND LATERAL", "Bilateral", "方向"]
)
def test_views_that_are_frontal_or_not_understood(frontal: Radiograph, view: str) -> None:
    assert stated.against(tagged(frontal, view_position=view)) == ""


@pytest.mark.parametrize(
    "part",
    [
        "",
        "CHEST",
        "Thorax",
        "LUNG",
        "RIB",
        "CLAVICLE",
        "HEART",
        "THORAX AP",
        "Brust",
        "UNKNOWN",
        "CHEST/HAND",
    ],
)
def test_parts_that_may_be_a_chest(frontal: Radiograph, part: str) -> None:
    assert stated.against(tagged(frontal, body_part=part)) == ""


@pytest.mark.parametrize("part", ["HAND", "Skull", "T SPINE", "ABDOMEN", "hip"])
def test_another_part(frontal: Radiograph, part: str) -> None:
    assert "Body Part Examined" in stated.against(tagged(frontal, body_part=part))


def test_modalities_and_orientation(frontal: Radiograph) -> None:
    for modality in ("CR", "DX", "DR", "RG", "RF", "OT", "SC", "", "odd"):
        assert stated.against(replace(frontal, modality=modality)) == ""
    assert "tomography (Modality CT)" in stated.against(replace(frontal, modality="ct"))
    for letters in (("A", "F"), ("P", "F"), ("PL", "FA")):
        assert "Patient Orientation" in stated.against(replace(frontal, orientation=letters))
    for letters in (("L", "F"), ("R", "F"), ("", ""), ("A", ""), ("LA", "F"), ("F", "L")):
        assert stated.against(replace(frontal, orientation=letters)) == ""


@pytest.mark.parametrize(
    ("meaning", "said"),
    [("lateral", True), ("Left lateral", True), ("postero-anterior", False), ("right lateral decubitus", False),
     ("medio-lateral oblique", False), ("antero-posterior and lateral", False)],
)  # fmt: skip
def test_view_codes(frontal: Radiograph, meaning: str, said: bool) -> None:
    tag = Tag("0054,0220[0].0008,0104", "CodeMeaning", "LO", meaning, 1)
    other = Tag("0008,2218[0].0008,0104", "CodeMeaning", "LO", "lateral", 1)
    assert bool(stated.against(replace(frontal, tags=(*frontal.tags, other, tag)))) is said


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.text(max_size=8),
    st.tuples(st.text(max_size=3), st.text(max_size=3)),
)
def test_nothing_but_known_terms_is_repeated(
    part: str, view: str, modality: str, letters: tuple[str, str]
) -> None:
    r = read(SAMPLE)
    sentence = stated.against(
        replace(tagged(r, body_part=part, view_position=view), modality=modality, orientation=letters)
    )
    assert len(sentence) < 130
    assert sentence.isascii()
    assert sentence.isprintable() or not sentence


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return bundle.load(bundle.find(None), device.choose("cpu", "fp32"))


def test_the_shipped_gate_asks_the_file(shipped: Classifier, tmp_path: Path) -> None:
    """The pixels of a frontal chest; nothing is offered that the reader could do to the image."""
    d = pydicom.dcmread(SAMPLE)
    d.ViewPosition = "LL"
    d.save_as(tmp_path / "lateral.dcm")
    (alike,) = shipped.predict([read(SAMPLE)])
    (refused,) = shipped.predict([read(tmp_path / "lateral.dcm")])
    assert alike.readable
    assert not refused.readable
    assert (
        refused.refusal == "The file says that this is a lateral view (View Position LL), not a frontal one."
    )
    assert refused.offer == ()


@pytest.mark.skipif(not (DATA / "dicom/chest").is_dir(), reason="no real images")
def test_no_real_chest_is_said_to_be_something_else() -> None:
    files = sorted((DATA / "dicom/chest").glob("*.dcm"))
    assert len(files) >= 8
    assert [stated.against(read(path)) for path in files] == [""] * len(files)
    assert "EXTREMITY" in stated.against(read(DATA / "dicom/radiograph/nema_RG3_J2KR_cr_extremity_mono1.dcm"))
