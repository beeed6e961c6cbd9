"""Two processes give what one gives with the whole batch; one that dies ends the job with one line."""

from __future__ import annotations

import subprocess
import sys
from math import nan
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from tests.train import small  # noqa: E402
from xai_engine.classifier.network import build  # noqa: E402
from xai_engine.runtime.run import Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, distributed, steps  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="gloo and torchrun are used on Linux"),
]

CONFIG = {"dense_weight": 0.4, "targets_weight": 0.3, "weight_decay": 0.02, "lr": 0.01}
NETWORK = {
    "_target_": "xai_engine.classifier.network.EfficientNetLite0",
    "in_channels": 1,
    "num_classes": 1,
    "dropout": 0.0,
}


def two_steps(group: distributed.Group) -> dict[str, torch.Tensor]:
    """Losses of two steps, gradients and running statistics of the first, on this process's share of 8 images, in
    double precision but for the loss itself. Weights, labels and boxes differ between the halves of the batch."""
    torch.manual_seed(1)
    network = build(NETWORK).double()
    learner = steps.Learner(network, classifier.loss_of, CONFIG, 10, steps.Precision("fp32"), group, 2)
    learner.network.train()
    found: dict[str, torch.Tensor] = {}
    for step in range(2):
        generator = torch.Generator().manual_seed(step)
        boxes = (torch.rand(8, 64, 64, generator=generator) > 0.8).double()
        batch = {
            "image": torch.randn(8, 1, 64, 64, generator=generator, dtype=torch.float64),
            "label": torch.tensor([0.0, 0.0, 0.3, 1.0, 1.0, 1.0, 0.01, 1.0], dtype=torch.float64),
            "weight": torch.tensor([1.0, 0.2, 3.0, 1.0, 0.5, 0.1, 0.7, 2.0], dtype=torch.float64),
            "boxes": boxes,
            "has_boxes": torch.tensor([False, False, True, True, False, False, False, True]),
            "targets": torch.tensor(
                [[0, 1], [nan, 1], [1, nan], [nan, nan], [nan, nan], [1, nan], [nan, nan], [0, nan]]
            ).double(),
        }
        share = 8 // group.world
        mine = slice(group.rank * share, (group.rank + 1) * share)
        loss = learner.step({name: value[mine] for name, value in batch.items()}, step)
        found[f"loss {step}"] = torch.tensor(loss, dtype=torch.float64)
        if step == 0:
            for name, parameter in learner.trained.named_parameters():
                assert parameter.grad is not None
                found[f"gradient {name}"] = parameter.grad.clone()
            found |= {f"buffer {k}": v.clone() for k, v in learner.network.named_buffers()}
    return found


PAIR = """
import sys, torch
from tests.train.test_distributed import two_steps
from xai_engine.train import distributed
with distributed.group("cpu") as group:
    assert (group.world, group.main) == (2, group.rank == 0)
    found = two_steps(group)
    others = group.gather(float(sum(v.double().sum() for v in found.values())))
    assert others[0] == others[1], "the processes have drifted apart"
    if group.main:
        torch.save(found, sys.argv[1])
"""


def test_gradients_of_two_processes_are_those_of_the_whole_batch(tmp_path: Path) -> None:
    """Weighted loss, expert boxes and batch norm included: equal to rounding in double precision."""
    (tmp_path / "pair.py").write_text(PAIR)
    command = small.torchrun(2, str(tmp_path / "pair.py"), str(tmp_path / "pair.pt"))
    done = subprocess.run(command, env=small.environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pair = torch.load(tmp_path / "pair.pt", weights_only=True)
    alone = two_steps(distributed.Group())
    assert pair.keys() == alone.keys()
    for kind, count in (("gradient", 100), ("buffer", 100), ("loss", 2)):
        names = [name for name in alone if name.startswith(kind)]
        assert len(names) >= count
        # a gradient that is zero but for rounding is judged against the others
        scale = max(float(alone[name].double().abs().max()) for name in names)
        for name in names:
            torch.testing.assert_close(pair[name], alone[name], rtol=0, atol=2e-6 * scale, msg=name)
    norms = [m for m in build(NETWORK).modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(norms) > 40  # there was something to synchronise


# The command line without the making of the bundle, with a process that may kill itself before a step.
COMMAND = """
import os, signal, sys
from xai_engine import cli
from xai_engine.train import finish, steps
finish.make_bundle = lambda trained, gate, config, folder, *rest, **more: (folder / "docs").mkdir(parents=True)
finish.save_evaluation = lambda *rest: None
original, calls = steps.Learner.step, [0]
def step(*arguments):
    calls[0] += 1
    if f"{os.environ['RANK']} {calls[0]}" == os.environ.get("DIES"):
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
steps.Learner.step = step
sys.exit(cli.main(sys.argv[1:]))
"""


def _command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "command.py").write_text(COMMAND)
    command = small.torchrun(2, str(folder / "command.py"), "train", *arguments, "--device", "cpu")
    return subprocess.run(command, env=small.environment() | environment, capture_output=True, text=True)


def test_the_command_in_two_processes(tmp_path: Path) -> None:
    """Curves as from one process; after a process was killed the job ends with one line, and goes on to the same bits."""
    small.images(tmp_path, 5)
    changes = {"stages": [{"size": 48, "epochs": 2}], "images_per_epoch": 12, "lr": 0.001}
    path = small.write_config(tmp_path, **changes)
    runs, parts = tmp_path / "runs", tmp_path / "parts"
    whole = _command(tmp_path, str(path), "--runs", str(runs))
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines() == [str(runs / "small" / "bundle")]  # the main process alone speaks
    kept = {p.name for p in (runs / "small" / "bundle" / "docs").iterdir()}
    assert {"training-log.csv", "training-config.json", "training-environment.json"} <= kept
    # Adam turns rounding into steps where a gradient is nothing but rounding, so curves are compared, not weights
    classifier.train(small.config(tmp_path, **changes), tmp_path, tmp_path / "alone", Run())
    logs = [checkpoint.read_log(folder) for folder in (tmp_path / "alone", runs / "small")]
    for one, two in zip(*logs, strict=True):
        assert float(one["loss"]) == pytest.approx(float(two["loss"]), rel=5e-3)
        assert float(one["val_loss"]) == pytest.approx(float(two["val_loss"]), rel=2e-2)

    for dies in ("1 2", "0 5"):  # rank and step: in the first epoch, in the second
        killed = _command(tmp_path, str(path), "--runs", str(parts), DIES=dies)
        assert killed.returncode != 0
        ours = [line for line in killed.stderr.splitlines() if line.startswith("radiolucent:")]
        assert len(ours) == 1, killed.stderr
        assert "another of the 2 training processes is gone" in ours[0]
    resumed = _command(tmp_path, str(path), "--runs", str(parts))
    assert resumed.returncode == 0, resumed.stderr
    small.assert_same_bits(small.weights(runs / "small"), small.weights(parts / "small"))
    state = checkpoint.peek(parts / "small")
    assert state is not None
    assert len(state["random"]) == 2


def test_an_error_that_all_processes_meet_is_told_once(tmp_path: Path) -> None:
    small.images(tmp_path, 2)
    path = small.write_config(tmp_path, batch=3)
    command = small.torchrun(2, "-m", "xai_engine", "train", str(path), "--device", "cpu", "--runs", str(tmp_path / "runs"))  # fmt: skip
    done = subprocess.run(command, env=small.environment(), capture_output=True, text=True)
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("radiolucent:")]
    assert ours == ["radiolucent: batch 3 cannot be shared by 2 processes; use a multiple of it"]
