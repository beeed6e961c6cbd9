"""The registry: loads no torch, describes what it creates, refuses in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xai_engine.errors import UsageError
from xai_engine.explain import registry
from xai_engine.runtime.run import Run


def test_loads_nothing_heavy() -> None:
    code = (
        "import sys, json; from xai_engine.explain import registry; registry.describe(); registry.create('lime'); "
        "print(json.dumps([m for m in ('torch','scipy','skimage','cv2','monai','captum') if m in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_the_three_come_first_by_name() -> None:
    assert {"integrated-gradients", "grad-cam", "lime"} <= set(registry.names())
    assert len(set(registry.names())) == len(registry.names())


@pytest.mark.parametrize("about", registry.describe(), ids=lambda a: a.name)
def test_descriptions_are_complete_and_true(about: registry.MethodDescription) -> None:
    json.dumps(asdict(about))
    assert about.title
    assert about.summary.endswith(".")
    assert about.unit
    assert about.cost
    assert about.source
    assert 2 <= about.reading.count(". ") + 1 <= 6
    method = registry.create(about.name)
    assert method.values() == {p.name: p.default for p in about.parameters}
    assert registry.create(about.name, **{p.name: p.default for p in about.parameters}) == method
    for p in about.parameters:
        assert p.meaning.endswith(".")
        assert p.type == type(p.default).__name__
        assert not p.choices or p.default in p.choices
        if p.type in ("int", "float"):
            assert p.low is not None
            assert p.high is not None
            assert p.low <= p.default <= p.high  # type: ignore[operator]
            for value in (p.low, p.high):
                registry.create(about.name, **{p.name: int(value) if p.type == "int" else value})
            for value in (p.low - 1, p.high + 1, float("nan"), float("inf"), "7", None, True, [1]):
                with pytest.raises(UsageError) as error:
                    registry.create(about.name, **{p.name: value})
                assert "\n" not in str(error.value)
                assert p.name in str(error.value)
        elif p.choices:
            for choice in p.choices:
                registry.create(about.name, **{p.name: choice})
            with pytest.raises(UsageError, match="must be one of"):
                registry.create(about.name, **{p.name: "nonsense"})
    with pytest.raises(FrozenInstanceError):
        method.layer = "x"  # type: ignore[attr-defined]


def test_unknown_names_get_a_hint() -> None:
    with pytest.raises(UsageError, match="did you mean grad-cam"):
        registry.create("gradcam")
    with pytest.raises(UsageError, match="no parameter 'stepz'; it has baseline"):
        registry.create("integrated-gradients", stepz=3)
    with pytest.raises(UsageError, match="whole number"):
        registry.create("integrated-gradients", steps=3.5)


@given(st.text(max_size=20))
def test_any_text_is_a_name_or_a_usage_error(text: str) -> None:
    if text in registry.names():
        assert registry.create(text).name == text
    else:
        with pytest.raises(UsageError) as error:
            registry.create(text)
        assert "\n" not in str(error.value)


def test_numbers_come_in_their_own_type() -> None:
    method = registry.create("lime", samples=np.int64(50), kernel_width=1)
    assert isinstance(method.values()["samples"], int)
    assert isinstance(method.values()["kernel_width"], float)
    json.dumps(method.values())


def test_target_and_layer_must_be_known() -> None:
    from tests.explain.networks import classifier, image

    with pytest.raises(UsageError, match="normal, pneumonia"):
        registry.create("saliency").explain(classifier("lite"), image(), "cat", Run())
    with pytest.raises(UsageError, match=r"layer 'nowhere'"):
        registry.create("grad-cam", layer="nowhere").explain(classifier("lite"), image(), "pneumonia", Run())


def test_images_whose_map_is_empty_do_not_make_the_scale() -> None:
    """Guided Grad-CAM of images without the finding is nothing; their median would paint every other map full."""
    from types import SimpleNamespace

    from tests.explain.networks import SIDE, classifier, image
    from xai_engine.explain.scales import measure_scales

    heights = iter([0.0, 1e-6, 2.0, 0.0, 4.0, 6.0])
    fake = SimpleNamespace(
        name="m", title="M", explain=lambda *_: SimpleNamespace(values=np.full((SIDE, SIDE), next(heights)))
    )
    found = measure_scales(classifier("lite"), [image(seed=s) for s in range(6)], [fake])  # type: ignore[list-item]
    assert found == {"m": 4.0}


def test_scales() -> None:
    """Median over images of the 99th percentile of |value| over valid pixels, to two digits; used where the model
    has one.
    """
    from tests.explain.networks import SIDE, classifier, image, network
    from xai_engine.explain.adapter import ModuleClassifier
    from xai_engine.explain.scales import measure_scales

    model = classifier("lite")
    items = [image(seed=s) for s in range(3)]
    methods = [registry.create("saliency"), registry.create("grad-cam")]
    scales = measure_scales(model, items, methods)
    for method in methods:
        maps = [np.abs(method.explain(model, i, "pneumonia", Run()).values[i.valid]) for i in items]
        peaks = [np.percentile(each, 99) for each in maps]
        assert scales[method.name] == pytest.approx(np.median(peaks), rel=0.06)
    plain = methods[0].explain(model, items[0], "pneumonia", Run())
    assert plain.full_scale == methods[0].default_scale
    scaled = ModuleClassifier(network("lite"), (1, SIDE, SIDE), default_layer="stages.3", map_scales=scales)
    assert methods[0].explain(scaled, items[0], "pneumonia", Run()).full_scale == scales["saliency"]


def test_scales_of_every_method() -> None:
    """All methods are measured but those with a fixed scale; those that refuse the network are left out."""
    from tests.explain.networks import classifier, image
    from xai_engine.explain import scales

    model = classifier("lite")
    known = scales.settings()
    assert set(known) == set(registry.names()) - scales.BY_THEIR_UNIT
    assert set(scales._QUICK) <= set(known)
    cheap = {name: known[name] for name in ("grad-cam", "attention-rollout", "lrp", "smooth-grad")}
    found = scales.measure_scales(model, [image()], [registry.create(n, **p) for n, p in cheap.items()])
    assert set(found) == {"grad-cam", "lrp", "smooth-grad"}
    passes = 0
    for name, params in known.items():
        method = registry.create(name, **params)
        passes += sum(
            int(getattr(method, key, 0)) for key in ("samples", "masks", "channels", "max_steps", "baselines")
        )
    assert passes < 1200  # of one image: the brief of the measurement is minutes, not hours


def test_presets_are_methods_that_exist() -> None:
    assert [preset.name for preset in registry.presets()] == ["quick", "standard", "audit"]
    for preset in registry.presets():
        for name, params in preset.methods:
            registry.create(name, **params)


def test_the_manual_lists_every_method() -> None:
    from pathlib import Path

    text = (Path(__file__).parents[2] / "docs" / "user" / "manual.md").read_text(encoding="utf-8")
    for about in registry.describe():
        assert f"`{about.name}`" in text, about.name
