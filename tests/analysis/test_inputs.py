"""Which files a call means, and what its method parameters become."""

from __future__ import annotations

from pathlib import Path

import pytest

from xai_engine.commands import inputs
from xai_engine.errors import UsageError
from xai_engine.explain import registry


def test_folders_are_searched_for_images(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    dicom = bytes(128) + b"DICM" + bytes(20)
    for name in ("b.dcm", "A.PNG", "deep/c.tiff", ".hidden.png", "notes.txt", "deep/report.pdf"):
        (tmp_path / name).touch()
    (tmp_path / "deep" / "er" / "IM0001").write_bytes(dicom)
    (tmp_path / "deep" / "er" / "1.2.840.1.99").write_bytes(dicom)
    (tmp_path / "deep" / "er" / "README").write_text("x" * 200)
    found = inputs.find_images(["first.dcm", str(tmp_path)])
    expected = ["A.PNG", "b.dcm", "deep/c.tiff", "deep/er/1.2.840.1.99", "deep/er/IM0001"]
    assert found == [Path("first.dcm"), *(tmp_path / name for name in expected)]


def test_methods_and_parameters() -> None:
    lime, ig = inputs.parse_methods(
        "lime, integrated-gradients,lime",
        ["lime.samples=300,integrated-gradients.steps=16", "lime.samples=400"],
    )
    assert (lime.name, ig.name) == ("lime", "integrated-gradients")
    assert lime.values()["samples"] == 400
    assert ig.values()["steps"] == 16
    assert inputs.parse_methods("none", []) == []
    assert [m.name for m in inputs.parse_methods("all", [])] == list(registry.names())
    with pytest.raises(UsageError, match="not among"):
        inputs.parse_methods("none", ["lime.samples=3"])
    with pytest.raises(UsageError, match="between"):
        inputs.parse_methods("lime", ["lime.samples=-3"])


def test_presets_stand_for_their_methods() -> None:
    from xai_engine.explain import registry

    for preset in registry.presets():
        found = inputs.parse_methods(preset.name, [])
        assert found == [registry.create(name, **settings) for name, settings in preset.methods]
    names = [m.name for m in inputs.parse_methods("lime,quick,grad-cam", ["grad-cam.relu=yes"])]
    assert names == ["lime", *(name for name, _ in registry.presets()[0].methods)]
    with pytest.raises(UsageError, match="quick, standard, audit, all, or none"):
        inputs.parse_methods("fast", [])


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("yes", "bool", True),
        ("0", "bool", False),
        ("7", "int", 7),
        ("1e-2", "float", 0.01),
        ("slic", "str", "slic"),
    ],
)
def test_values(text: str, kind: str, value: object) -> None:
    assert inputs._value("x", text, kind) == value
    assert type(inputs._value("x", text, kind)) is type(value)


def test_an_empty_name_is_not_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`analyze "$IMAGE"` with a variable that is not set analysed all that lay there."""
    (tmp_path / "a.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="empty"):
        inputs.find_images([""])
