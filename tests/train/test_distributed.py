"""Two processes give what one gives with the whole batch; one that dies ends the job with one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file  # noqa: E402
from torch import nn  # noqa: E402

from tests.train import small  # noqa: E402
from xai_engine.classifier.network import build  # noqa: E402
from xai_engine.runtime.run import Run  # noqa: E402
from xai_engine.train import checkpoint, classifier, distributed, steps  # noqa: E402

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="gloo and torchrun are used on Linux"),
]

CONFIG = {"dense_weight": 0.4, "weight_decay": 0.02, "lr": 0.01}
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
    learner = steps.Learner(network, classifier.loss_of, CONFIG, 10, steps.Precision("fp32"), group)
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
        }
        share = 8 // group.world
        mine = slice(group.rank * share, (group.rank + 1) * share)
        loss = learner.step({name: value[mine] for name, value in batch.items()}, step)
        found[f"loss {step}"] = torch.tensor(loss, dtype=torch.float64)
        if step == 0:
            for name, parameter in learner.network.named_parameters():
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


# The command line, with a process that kills itself before a step.
DYING = """
import os, signal, sys
from xai_engine import cli
from xai_engine.train import steps
original, calls = steps.Learner.step, [0]
def step(*arguments):
    calls[0] += 1
    if calls[0] == int(os.environ["DIES_BEFORE"]) and os.environ["RANK"] == os.environ["DYING_RANK"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
steps.Learner.step = step
sys.exit(cli.main(sys.argv[1:]))
"""


def test_the_command_in_two_processes(tmp_path: Path) -> None:
    """Bundle as from one process; after a process was killed the job ends with one line, and goes on to the same bits."""
    small.images(tmp_path, 5)
    path = small.write_config(tmp_path, stages=[{"size": 48, "epochs": 2}], images_per_epoch=12)
    runs, parts = tmp_path / "runs", tmp_path / "parts"
    arguments = ["train", str(path), "--device", "cpu", "--runs"]
    environment = small.environment()

    whole = subprocess.run(
        small.torchrun(2, "-m", "xai_engine", *arguments, str(runs)),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.splitlines() == [str(runs / "small" / "bundle")]  # the main process alone speaks
    assert (runs / "small" / "bundle" / "docs" / "training-log.csv").is_file()
    alone = classifier.train(small.config(tmp_path) | {"stages": [{"size": 48, "epochs": 2}], "images_per_epoch": 12}, tmp_path, tmp_path / "alone", Run())  # fmt: skip
    together = load_file(runs / "small" / "model.safetensors")
    for name, value in alone.network.state_dict().items():
        torch.testing.assert_close(together[name], value, rtol=0, atol=2e-3, msg=name)

    (tmp_path / "dying.py").write_text(DYING)
    for rank, before in ((1, 2), (0, 5)):
        killed = subprocess.run(
            small.torchrun(2, str(tmp_path / "dying.py"), *arguments, str(parts)),
            env=environment | {"DIES_BEFORE": str(before), "DYING_RANK": str(rank)},
            capture_output=True,
            text=True,
        )
        assert killed.returncode != 0
        ours = [line for line in killed.stderr.splitlines() if line.startswith("radiolucent:")]
        assert len(ours) == 1, killed.stderr
        assert "another of the 2 training processes is gone" in ours[0]
    resumed = subprocess.run(
        small.torchrun(2, "-m", "xai_engine", *arguments, str(parts)),
        env=environment,
        capture_output=True,
        text=True,
    )
    assert resumed.returncode == 0, resumed.stderr
    small.assert_same_bits(small.weights(runs / "small"), small.weights(parts / "small"))
    state = checkpoint.peek(parts / "small")
    assert state is not None
    assert len(state["random"]) == 2
