"""A run that is killed, in the middle of an epoch or between two, ends with the same bits as one that is not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from tests.train import small  # noqa: E402
from xai_engine.runtime.run import Run  # noqa: E402
from xai_engine.train import checkpoint, classifier  # noqa: E402

# Trains, and kills itself: before step N, or while checkpoint N is being written. Batches come from loader processes.
CHILD = """
import json, os, signal, sys
from pathlib import Path
from xai_engine.runtime.run import Run
from xai_engine.train import checkpoint, classifier, steps
folder, kind, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
config = json.loads((folder / "config.json").read_text())
owner, name = {"step": (steps.Learner, "step"), "save": (os, "fsync")}[kind]
original, calls = getattr(owner, name), [0]
def dying(*args):
    calls[0] += 1
    if calls[0] == number:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args)
if kind == "save":  # only the checkpoint's own write counts
    write = checkpoint.write
    def counted(folder, state):
        os.fsync = dying
        write(folder, state)
        os.fsync = original
    checkpoint.write = counted
else:
    setattr(owner, name, dying)
classifier.train(config, folder, folder / "run", Run())
"""

CHANGES = {
    "stages": [{"size": 32, "epochs": 1}, {"size": 48, "epochs": 1}],
    "style_mixing": 0.5,  # draws from torch's generator, as dropout does
    "style_layers": ["stages.0"],
    "images_per_epoch": 12,
    "patience": 2,
    "workers": 1,
}


def _killed(folder: Path, kind: str, number: int) -> None:
    arguments = [sys.executable, "-c", CHILD, str(folder), kind, str(number)]
    done = subprocess.run(arguments, env=small.environment(), capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_killed_in_an_epoch_and_between_two(tmp_path: Path) -> None:
    """Network, running mean, optimiser, schedule, best weights and random state: every bit of the last checkpoint."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        small.images(tmp_path)
        config = small.config(tmp_path, **CHANGES)
        trained = classifier.train(config, tmp_path, tmp_path / "whole", Run())
        whole = small.weights(tmp_path / "whole")
        for caches in (tmp_path / "whole").glob("*.npy"):
            (tmp_path / "run").mkdir(exist_ok=True)
            (tmp_path / "run" / caches.name).write_bytes(caches.read_bytes())
        # every step leaves a checkpoint: the first process dies before its third step, in the middle of epoch 1
        (tmp_path / "config.json").write_text(json.dumps(config | {"checkpoint_minutes": 1e-9}))
        _killed(tmp_path, "step", 3)
        state = checkpoint.peek(tmp_path / "run")
        assert state is not None
        assert (state["epoch"], state["step"]) == (0, 2)
        # the next dies while it writes the checkpoint between the epochs
        _killed(tmp_path, "save", 2)
        state = checkpoint.peek(tmp_path / "run")
        assert state is not None
        assert (state["epoch"], state["step"]) == (0, 3)
        # the third dies in epoch 2, and has only the checkpoint between the epochs to go on from
        (tmp_path / "config.json").write_text(json.dumps(config))
        _killed(tmp_path, "step", 2)
        state = checkpoint.peek(tmp_path / "run")
        assert state is not None
        assert (state["epoch"], state["step"]) == (1, 0)
        resumed = classifier.train(config, tmp_path, tmp_path / "run", Run())
    finally:
        torch.set_num_threads(threads)
    small.assert_same_bits(whole, small.weights(tmp_path / "run"))
    for a, b in zip(
        trained.network.state_dict().values(), resumed.network.state_dict().values(), strict=True
    ):
        assert torch.equal(a, b)
    assert (tmp_path / "whole" / "log.csv").read_bytes() == (tmp_path / "run" / "log.csv").read_bytes()
    assert not list((tmp_path / "run").glob(".*partial*"))
