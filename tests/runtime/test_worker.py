"""Worker processes: values, events, cancellation, death, memory."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xai_engine.errors import Cancelled, ModelError, RadiolucentError, WorkerDied
from xai_engine.runtime.worker import Died, Done, Failed, Once, Partial, Progress, Worker

JOBS = "tests.runtime.jobs"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker("test", grace_s=0.5) as w:
        yield w


def wait_for(condition: Callable[[], Any], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "condition not met"
        time.sleep(0.01)


def maps_of_this_process() -> int:
    return sum("memfd:radiolucent" in line for line in Path("/proc/self/maps").read_text().splitlines())


def test_nothing_starts_before_the_first_job() -> None:
    w = Worker("lazy")
    assert w.pid is None
    assert w.starts == 0
    w.shutdown()
    with pytest.raises(RadiolucentError):
        w.submit(f"{JOBS}:echo", 1)


def test_values_and_arrays_cross(worker: Worker) -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(0, 60000, (700, 900), dtype=np.uint16)
    a.flags.writeable = False
    sent = {
        "a": a,
        "b": rng.random((3, 5)),
        "strided": a[::2, ::3],
        "empty": np.zeros((0, 4), np.float32),
        "text": "Müller",
        "bytes": b"x" * 10,
    }
    got = worker.submit(f"{JOBS}:echo", sent).result(60)
    assert list(got) == list(sent)
    for key, value in sent.items():
        assert np.array_equal(got[key], value)
        if isinstance(value, np.ndarray):
            assert got[key].dtype == value.dtype
    assert not got["a"].flags.writeable
    assert got["b"].flags.writeable
    got["b"][0, 0] = 7  # the receiver's own memory, not the sender's
    assert sent["b"][0, 0] != 7


@LINUX
def test_received_arrays_lie_in_the_shared_block_and_free_it(worker: Worker) -> None:
    gc.collect()
    before, shm, open_files = (
        maps_of_this_process(),
        set(os.listdir("/dev/shm")),
        len(os.listdir("/proc/self/fd")),
    )
    got = worker.submit(f"{JOBS}:echo", [np.arange(1_000_000), np.ones(500_000)]).result(60)
    first, second = got
    assert not first.flags.owndata
    assert maps_of_this_process() == before + 1  # two arrays, one block
    del got, first
    gc.collect()
    assert maps_of_this_process() == before + 1
    assert second.sum() == 500_000
    del second
    gc.collect()
    assert maps_of_this_process() == before
    # nothing of the job stays in the worker either
    assert worker.submit(f"{JOBS}:sum_and_count_blocks", None).result(60) == 0
    assert set(os.listdir("/dev/shm")) <= shm
    assert len(os.listdir("/proc/self/fd")) <= open_files


def test_worker_sees_arrays_without_a_copy(worker: Worker) -> None:
    got = worker.submit(f"{JOBS}:double", np.arange(10)).result(60)
    assert got["double"].tolist() == list(range(0, 20, 2))
    assert got["owns"] is False


def test_events_in_order(worker: Worker) -> None:
    events: list[Any] = []
    threads = set()
    job = worker.submit(f"{JOBS}:count", 20)

    def listen(event: Any) -> None:
        events.append(event)
        threads.add(threading.current_thread().name)

    job.add_listener(listen)
    assert job.result(60) == {"steps": 20, "partial": False}
    wait_for(lambda: events and isinstance(events[-1], Done))
    assert threads == {"worker-test"}
    fractions = [e.fraction for e in events if isinstance(e, Progress)]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert len(fractions) >= 3
    assert [e.value for e in events if isinstance(e, Partial)] == list(range(20))
    late: list[Any] = []
    job.add_listener(late.append)
    assert late == [events[-1]]


def test_errors_come_back_as_they_were(worker: Worker) -> None:
    with pytest.raises(ModelError, match="altered; download it again") as caught:
        worker.submit(f"{JOBS}:fail").result(60)
    assert caught.value.exit_code == 4
    job = worker.submit(f"{JOBS}:fail_oddly")
    with pytest.raises(RadiolucentError, match=r"fail_oddly: unexpected ValueError at jobs\.py:\d+") as odd:
        job.result(60)
    assert "Jane" not in str(odd.value)
    with pytest.raises(RadiolucentError, match="AttributeError"):
        worker.submit(f"{JOBS}:no_such_function").result(60)
    with pytest.raises(RadiolucentError, match="unpicklable"):
        worker.submit(f"{JOBS}:unpicklable").result(60)
    starts = worker.starts
    with pytest.raises(RadiolucentError, match="cannot be sent"):
        worker.submit(f"{JOBS}:echo", Once("fresh", 1), lambda: None).result(60)
    assert worker.submit(f"{JOBS}:echo", Once("fresh", 1)).result(60) == 1
    assert worker.starts == starts
    assert worker.submit(f"{JOBS}:echo", 5).result(60) == 5


def test_a_failing_listener_harms_nobody(worker: Worker) -> None:
    job = worker.submit(f"{JOBS}:count", 2)
    job.add_listener(lambda event: 1 / 0)
    assert job.result(60)["steps"] == 2


def test_cancel_running_job_keeps_what_it_has(worker: Worker) -> None:
    job = worker.submit(f"{JOBS}:count", 10_000)
    seen = threading.Event()
    job.add_listener(lambda e: seen.set() if isinstance(e, Partial) else None)
    assert seen.wait(30)
    pid = worker.pid
    job.cancel()
    assert job.result(30)["partial"] is True
    assert worker.pid == pid
    job = worker.submit(f"{JOBS}:stop_or_raise")
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(30)
    assert worker.submit(f"{JOBS}:echo", 1).result(30) == 1


def test_cancel_waiting_job_and_deaf_job(worker: Worker, tmp_path: Path) -> None:
    flag = tmp_path / "started"
    deaf = worker.submit(f"{JOBS}:deaf", str(flag))
    waiting = worker.submit(f"{JOBS}:echo", 1)
    last = worker.submit(f"{JOBS}:pid")
    wait_for(flag.exists)
    pid = worker.pid
    waiting.cancel()
    with pytest.raises(Cancelled):
        waiting.result(30)
    assert not deaf.finished
    deaf.cancel()
    with pytest.raises(Cancelled):
        deaf.result(30)
    assert last.result(60) != pid  # the process was killed, the queue went on in a new one


def test_a_hurried_job_comes_before_those_that_wait(worker: Worker, tmp_path: Path) -> None:
    ended: list[str] = []
    flag = tmp_path / "started"
    running = worker.submit(f"{JOBS}:hold", str(flag), str(tmp_path / "go"))
    jobs = {name: worker.submit(f"{JOBS}:echo", name) for name in ("first", "second", "hurried")}
    for name, job in jobs.items():
        job.add_listener(lambda event, n=name: ended.append(n) if isinstance(event, Done) else None)
    wait_for(flag.exists)
    worker.hurry(jobs["hurried"])
    worker.hurry(running)  # runs already: nothing happens
    (tmp_path / "go").touch()
    for job in jobs.values():
        job.result(30)
    assert ended == ["hurried", "first", "second"]


@pytest.mark.parametrize(
    ("function", "args", "reason"),
    [
        ("die", (9,), "signal 9"),
        ("segfault", (), "signal 11"),
        ("eat_memory", (), "ran out of memory"),
        ("leave", (), "exit code 7"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_death_costs_only_the_running_job(
    worker: Worker, function: str, args: tuple[Any, ...], reason: str
) -> None:
    before = worker.submit(f"{JOBS}:pid").result(60)
    events: list[Any] = []
    dying = worker.submit(f"{JOBS}:{function}", *args)
    dying.add_listener(events.append)
    after = worker.submit(f"{JOBS}:pid")
    with pytest.raises(WorkerDied, match=reason):
        dying.result(60)
    assert after.result(60) != before
    assert isinstance(events[-1], Died)
    assert isinstance(events[-1], Failed)


def test_death_while_idle_is_not_noticed_by_the_next_job(worker: Worker) -> None:
    pid = worker.submit(f"{JOBS}:pid").result(60)
    os.kill(pid, signal.SIGTERM)
    assert worker.submit(f"{JOBS}:pid").result(60) not in (None, pid)


def test_once_crosses_once_and_again_after_a_restart(worker: Worker) -> None:
    array = np.arange(1000)
    first = worker.submit(f"{JOBS}:identity", Once("a", array)).result(60)
    assert worker.submit(f"{JOBS}:identity", Once("a", array)).result(60) == first
    # five other values push it out on both sides alike
    for i in range(5):
        worker.submit(f"{JOBS}:echo", Once(f"other {i}", i)).result(60)
    got = worker.submit(f"{JOBS}:echo", Once("a", array)).result(60)
    assert np.array_equal(got, array)
    with pytest.raises(WorkerDied):
        worker.submit(f"{JOBS}:leave").result(60)
    assert np.array_equal(worker.submit(f"{JOBS}:echo", value=Once("a", array)).result(60), array)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX")
def test_manners(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    assert worker.submit(f"{JOBS}:sigint_is_ignored").result(60)
    assert worker.submit(f"{JOBS}:niceness").result(60) >= min(19, os.nice(0) + 5)
    worker.submit(f"{JOBS}:say", "Doe^Jane").result(60)
    assert "Jane" not in "".join(capfd.readouterr())


@LINUX
def test_worker_ends_with_its_parent_and_leaves_nothing(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, time
            from xai_engine.runtime.worker import Worker
            if __name__ == "__main__":
                w = Worker("orphan")
                pid = w.submit("tests.runtime.jobs:pid").result(60)
                job = w.submit("tests.runtime.jobs:count", 10_000)
                print(pid, flush=True)
                if sys.argv[1] == "sleep":
                    time.sleep(600)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    shm = set(os.listdir("/dev/shm"))
    for how in ("sleep", "exit"):  # killed, and leaving without shutdown() while a job runs
        parent = subprocess.Popen(
            [sys.executable, str(script), how],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        if how == "sleep":
            parent.kill()
        _, err = parent.communicate(timeout=60)
        assert err == ""
        wait_for(lambda pid=pid: not is_running(pid))
    assert set(os.listdir("/dev/shm")) <= shm


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_shutdown_ends_everything() -> None:
    w = Worker("brief", grace_s=0.2)
    running = w.submit(f"{JOBS}:count", 100_000)
    waiting = w.submit(f"{JOBS}:echo", 1)
    wait_for(lambda: w.pid is not None)
    w.shutdown()
    w.shutdown()
    for job in (running, waiting):
        with suppress(Cancelled):
            job.result(10)
    assert w.pid is None
    assert "worker-brief" not in {t.name for t in threading.enumerate()}
