"""The command: a worked example from the manual, bad data, Ctrl-C, full disks, curves and records beside the bundle."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tests.train import small  # noqa: E402
from xai_engine import cli  # noqa: E402
from xai_engine.classifier import bundle  # noqa: E402
from xai_engine.train import checkpoint, classifier, command, finish, steps  # noqa: E402

PAGE = (small.REPOSITORY / "docs" / "user" / "training.md").read_text(encoding="utf-8")


def _run(*arguments: str) -> int:
    """The verb in this process, with as many threads afterwards as before."""
    threads = torch.get_num_threads()
    try:
        return cli.main(["train", *arguments])
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def _no_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training alone: how a bundle is made and measured has tests of its own."""

    def make(trained: Any, gate: Path, config: Any, folder: Path, *_: Any, **__: Any) -> dict[str, Any]:
        (folder / "docs").mkdir(parents=True)
        return {}

    monkeypatch.setattr(finish, "make_bundle", make)
    monkeypatch.setattr(finish, "save_evaluation", lambda *_: None)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_example_of_the_manual(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small.measure_little(monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RADIOLUCENT_DATA", raising=False)
    section = PAGE[PAGE.index("## An example to try") : PAGE.index("## Where the images are")]
    (images,) = re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL)
    (config,) = re.findall(r"```json\n(.*?)```", section, flags=re.DOTALL)
    (line,) = re.findall(r"```sh\nradiolucent train (.*?)\n```", section)
    exec(compile(images, "training.md", "exec"), {})
    Path("example.json").write_text(config)
    assert _run(*line.split()) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.split() == [str(Path("runs", "example", "bundle"))]
    info = bundle.info(Path("runs/example/bundle"))
    assert (info.name, info.input_shape) == ("example", (1, 64, 64))
    docs = Path("runs/example/bundle/docs")
    recorded = json.loads((docs / "training-config.json").read_text())
    assert recorded["stages"] == [{"size": 64, "epochs": 3}]
    assert recorded["patience"] == 6  # defaults are written out
    assert str(tmp_path) not in (docs / "training-config.json").read_text()
    assert json.loads((docs / "training-environment.json").read_text())["torch"] == torch.__version__
    log = checkpoint.read_log(Path("runs/example"))
    assert [row["epoch"] for row in log] == ["1", "2", "3"]
    assert (docs / "training-log.csv").read_text() == Path("runs/example/log.csv").read_text()
    assert cv2.imread(str(docs / "training-curves.png")) is not None


def test_the_other_configurations_of_the_manual_are_valid() -> None:
    from xai_engine.train import settings, tune

    blocks = [json.loads(b) for b in re.findall(r"```json\n(.*?)```", PAGE, flags=re.DOTALL)]
    assert len(blocks) == 4
    for block in blocks:
        complete = settings.complete(block)
        if "tune" in block:
            tune.check(complete, block["tune"], block["tune"]["space"])


@pytest.mark.usefixtures("_no_bundle")
def test_every_problem_of_the_data_is_listed_and_nothing_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    for k in range(8):
        cv2.imwrite(str(tmp_path / f"{k}.png"), rng.integers(0, 255, (64, 64)).astype(np.uint8))
    (tmp_path / "6.png").write_bytes((tmp_path / "6.png").read_bytes()[:200])
    (tmp_path / "7.png").write_bytes((tmp_path / "0.png").read_bytes())
    lines = [
        "file,label,patient,split,width,height",
        "0.png,NORMAL,a,train,64,64",
        "1.png,PNEUMONIA,b,train,64,64",
        "2.png,NORMAL,c,val,nan,64",
        "3.png,WHAT,d,val,64,64",
        "4.png,PNEUMONIA,b,val,64,64",
        "5.png,NORMAL,e,test,64,64",
        "6.png,PNEUMONIA,f,test,64,64",
        "7.png,NORMAL,g,test,64,64",
        "5.png,NORMAL,e,test,64,64",
        "gone.png,NORMAL,,nowhere,64,64",
    ]
    (tmp_path / "set.csv").write_text("\n".join(lines))
    path = small.write_config(tmp_path, data=[{"manifest": "set.csv", "columns": {"width": "width", "height": "height"}}])  # fmt: skip
    assert _run(str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu") == 3
    said = capsys.readouterr().err.splitlines()
    expected = [
        "line 4: width nan and height 64 are not sizes of an image",
        "line 5: label 'WHAT' is not one of 0, NORMAL, normal, 1, PNEUMONIA, pneumonia",
        "line 11: gone.png does not exist, column 'patient' is empty, split 'nowhere' is not one of train, val, test",
        "patient b is in more than one split: train (line 3), val (line 6)",
        "line 10: 5.png is listed already (line 7)",
        "line 9: 7.png is the same image as 0.png (line 2), but in test instead of train",
        "only one class is present in split 'val'",
    ]
    assert said[:-2] == expected
    assert said[-2].startswith("line 8: ")
    assert "6.png" in said[-2]
    assert said[-1].endswith("set.csv: 8 problems, listed above; nothing was trained")
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("_no_bundle")
@pytest.mark.parametrize("more", [[], ["--tune", "1"]])
def test_a_manifest_that_is_refused_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    """Nor an empty folder: another run of that name begins as if this one had not been tried."""
    pytest.importorskip("optuna")
    small.images(tmp_path, 3)
    (tmp_path / "set" / "val" / "sick" / "extra.txt.png").mkdir()  # a folder is no image
    path = small.write_config(tmp_path, data=[{"folder": "set", "labels": {"sick": 1}}])
    assert _run(str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu", *more) == 3
    assert "class folder 'well' is not among ['sick'] (9 images)" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("_no_bundle")
def test_an_image_that_does_not_decode_leaves_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is found while the images are prepared, when all else was found fit."""
    small.images(tmp_path, 3)
    bad = tmp_path / "set" / "train" / "sick" / "trainsick1.png"
    bad.write_bytes(bad.read_bytes()[:200])
    path = small.write_config(tmp_path)
    assert _run(str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu") == 3
    assert "train/sick/trainsick1.png" in capsys.readouterr().err
    assert not list((tmp_path / "runs").rglob("*"))


@pytest.mark.usefixtures("_no_bundle")
def test_a_run_that_is_refused_for_its_configuration_does_not_touch_the_record_of_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.images(tmp_path, 3)
    changes: dict[str, Any] = {"stages": [{"size": 32, "epochs": 1}], "images_per_epoch": 8}
    arguments = [
        str(small.write_config(tmp_path, **changes)), "--runs", str(tmp_path / "runs"), "--device", "cpu",
    ]  # fmt: skip
    assert _run(*arguments) == 0
    run = tmp_path / "runs" / "small"
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert json.loads(files[run / "config.json"])["lr"] == 0.01
    small.write_config(tmp_path, **changes, lr=0.02)
    assert _run(*arguments) == 2
    assert "another configuration (lr was 0.01, is 0.02)" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_stop_leaves_a_state_that_goes_on(tmp_path: Path, name: str) -> None:
    """One line, exit code 5, with loader processes about; the next start begins where this one stopped."""
    small.images(tmp_path)
    path = small.write_config(tmp_path, stages=[{"size": 32, "epochs": 500}], workers=1)
    arguments = ["train", str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "xai_engine", *arguments],
        env=small.environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log = tmp_path / "runs" / "small" / "log.csv"
    while not log.exists():
        assert process.poll() is None
        time.sleep(0.1)
    import os

    os.killpg(process.pid, getattr(signal, name))  # as a terminal or a scheduler does: the loaders get it too
    _, said = process.communicate()
    assert process.returncode == 5
    ours = [line for line in said.splitlines() if not re.match(r" *\d+\.\d%", line)]
    assert len(ours) == 1, said
    assert re.fullmatch(
        r"radiolucent: stopped in epoch \d+, batch \d+; the same command goes on from there", ours[0]
    )
    state = checkpoint.peek(tmp_path / "runs" / "small")
    assert state is not None
    assert f"epoch {state['epoch'] + 1}, batch {state['step']};" in ours[0]


@pytest.mark.usefixtures("_no_bundle")
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"default_layer": "stages.9"},
            "default_layer 'stages.9' is not one of the layers stages.2, stages.3",
        ),
        ({"layers": ["stages.2", "top"]}, "layers: the network has no top; it has "),
        ({"network": {"_target_": "os.system"}}, "network: "),
        (
            {"network": {**small.SMALL, "in_channels": 3}},
            "network: it cannot take grey images (one channel) of 48 x 48 pixels: ",
        ),
        (
            {"network": {**small.SMALL, "num_classes": 2}},
            "network: two images must give one logit each, shape (2, 1); this one gives (2, 2)",
        ),
        (
            {
                "network": {
                    "_target_": "monai.networks.nets.ViT",
                    "in_channels": 1,
                    "img_size": [48, 48],
                    "patch_size": [16, 16],
                    "hidden_size": 24,
                    "mlp_dim": 24,
                    "num_layers": 1,
                    "num_heads": 2,
                    "classification": True,
                    "num_classes": 1,
                    "spatial_dims": 2,
                },
                "stages": [{"size": 48, "epochs": 1}],
                "layers": ["norm"],
                "default_layer": "norm",
            },
            "shape (2, 1); this one gives a tuple",
        ),
        ({"gate_limits": {"colour": 1}}, "gate_limits: unknown colour; known are balance, "),
        ({"name": "../elsewhere"}, "name '../elsewhere' cannot be a folder's"),
    ],
)
def test_what_no_bundle_can_be_made_of_is_said_before_the_training(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    said: str,
) -> None:
    """Also where there are no images yet."""
    monkeypatch.setenv("RADIOLUCENT_DATA", str(tmp_path / "nowhere"))
    path = small.write_config(tmp_path, **changes)
    assert _run(str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("_no_bundle")
def test_a_full_disk_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A real limit on the size of files, as a full disk or a quota: the second checkpoint does not fit."""
    resource = pytest.importorskip("resource")
    small.images(tmp_path, 3)
    path = small.write_config(tmp_path, stages=[{"size": 32, "epochs": 3}], images_per_epoch=8)
    write, kept, limit = checkpoint.write, {}, resource.getrlimit(resource.RLIMIT_FSIZE)

    def limited(folder: Path, state: dict[str, Any]) -> None:
        if state["epoch"] == 2:
            kept["bytes"] = (folder / checkpoint.NAME).read_bytes()
            resource.setrlimit(resource.RLIMIT_FSIZE, (len(kept["bytes"]) // 2, limit[1]))
        try:
            write(folder, state)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)

    monkeypatch.setattr(checkpoint, "write", limited)
    arguments = [str(path), "--runs", str(tmp_path / "runs"), "--device", "cpu"]
    assert _run(*arguments) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the disk is full" in line
    assert line.endswith("the last checkpoint is kept, the same command goes on from it")
    run = tmp_path / "runs" / "small"
    assert (run / checkpoint.NAME).read_bytes() == kept["bytes"]
    assert not list(run.glob(".*partial*"))
    monkeypatch.setattr(checkpoint, "write", write)
    assert _run(*arguments) == 0
    assert [row["epoch"] for row in checkpoint.read_log(run)] == ["1", "2", "3"]


def test_prepared_images_that_do_not_fit_are_refused_before_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from xai_engine.errors import OutputError
    from xai_engine.runtime.run import Run
    from xai_engine.train import crops

    small.images(tmp_path, 3)
    usage = crops.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(crops.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(OutputError, match="the prepared images need 0 MB; free some space"):
        classifier.train(small.config(tmp_path), tmp_path, tmp_path / "run", Run())
    assert not list((tmp_path / "run").iterdir())


def test_a_run_of_another_configuration_is_not_continued(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    from xai_engine.errors import UsageError
    from xai_engine.runtime.run import Run

    small.images(tmp_path, 3)
    config = small.config(tmp_path, stages=[{"size": 32, "epochs": 1}], images_per_epoch=8)
    classifier.train(config, tmp_path, tmp_path / "run", Run())
    with pytest.raises(UsageError, match=r"another configuration \(lr was 0.01, is 0.02\)"):
        classifier.train(config | {"lr": 0.02}, tmp_path, tmp_path / "run", Run())


def test_images_are_looked_for_beside_the_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "set").mkdir()
    monkeypatch.setenv("RADIOLUCENT_DATA", str(tmp_path / "elsewhere"))
    path = tmp_path / "mine.json"
    path.write_text('{"data": [{"folder": "set"}]}')
    config = command.read_config(str(path))
    assert (config["name"], config["kind"]) == ("mine", "classifier")
    assert command.data_root(None, str(path), config) == tmp_path
    absent = {"data": [{"folder": "set"}, {"manifest": "x.csv"}]}
    assert command.data_root(None, str(path), absent) == tmp_path / "elsewhere"
    assert command.data_root(tmp_path / "set", str(path), config) == tmp_path / "set"


def test_scaled_gradients_change_nothing_but_the_range() -> None:
    """GradScaler multiplies by a power of two and divides it out again: the same bits, where nothing overflows."""
    from xai_engine.classifier.network import build
    from xai_engine.train.distributed import Group

    found = []
    for scaled in (False, True):
        torch.manual_seed(0)
        config = {"dense_weight": 0.0, "weight_decay": 0.1, "lr": 0.01}
        learner = steps.Learner(build(small.SMALL), classifier.loss_of, config, 4, steps.Precision("fp32", scaled), Group())  # fmt: skip
        batch = {"image": torch.randn(4, 1, 32, 32), "label": torch.tensor([0.0, 1, 1, 0]), "weight": torch.ones(4)}  # fmt: skip
        for step in range(3):
            learner.step(batch, step)
        assert learner.scaler.is_enabled() == scaled
        restored = steps.Learner(build(small.SMALL), classifier.loss_of, config, 4, steps.Precision("fp32", scaled), Group())  # fmt: skip
        restored.restore(learner.state())
        assert restored.scaler.state_dict() == learner.scaler.state_dict()
        found.append(learner.network.state_dict())
    for a, b in zip(*(f.values() for f in found), strict=True):
        assert torch.equal(a, b)
