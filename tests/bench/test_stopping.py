"""What bench says of cancelling: measured on jobs whose answer to it is known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.analysis.conftest import image_file, tiny_model  # noqa: F401
from xai_engine.bench import stopping
from xai_engine.explain import registry
from xai_engine.runtime.job import Done, Job
from xai_engine.runtime.run import Progress, Run
from xai_engine.runtime.worker import Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker("test", grace_s=0.3) as worker:
        yield worker


class Given:
    """A result as methods give it."""

    def __init__(self, partial: bool) -> None:
        self.partial = partial


def job() -> Job:
    return Job(1, "a:b", (), {}, lambda _: None)


def test_silence_is_the_longest_wait_and_counts_the_first_and_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = iter([10.0, 10.5, 10.75, 12.0, 12.25])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    listener = stopping.Heard()
    for left in (None, 3.0, 2.0):
        listener(Progress(0.5, "", 0.0, left))
    listener(Done(None))
    assert listener.silence == pytest.approx(1.25)
    assert listener.seconds == pytest.approx(2.25)
    assert (listener.reports, listener.told) == (3, 2)


def test_a_token_notes_the_longest_time_between_two_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([1.0, 1.5, 3.5, 4.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    looks = stopping.Looks(Run().cancel, last=1.0)
    assert not any(looks.is_set() for _ in range(4))
    assert looks.longest == pytest.approx(2.0)


def test_a_cancel_is_timed_to_its_answer_and_not_before(worker: Worker) -> None:
    submit = lambda: worker.submit("tests.bench.jobs:partial", 0.2)  # noqa: E731
    stopping.whole(worker.submit("tests.runtime.jobs:echo", 1))
    found = stopping.stop(submit, 0.3)
    assert found is not None
    assert found.partial is True
    assert found.milliseconds >= 200.0  # what the job takes after it has heard
    assert stopping.stop(lambda: worker.submit("tests.runtime.jobs:echo", 1), 5.0) is None  # over before
    raised = stopping.stop(lambda: worker.submit("tests.runtime.jobs:stop_or_raise"), 0.1)
    assert raised is not None
    assert raised.partial is None


def test_a_job_that_does_not_listen_is_killed_and_its_time_counts(worker: Worker) -> None:
    stopping.whole(worker.submit("tests.runtime.jobs:echo", 1))
    found = stopping.stop(lambda: worker.submit("tests.bench.jobs:deaf", 20.0), 0.2)
    assert found is not None
    assert found.partial is None
    assert 300.0 <= found.milliseconds < 20_000.0  # the worker's time of grace


def test_in_this_process_another_thread_asks() -> None:
    def work(run: Run) -> Given:
        while run.step(0.5):
            time.sleep(0.005)
        return Given(True)

    found = stopping.stop_here(work, 0.05)
    assert found is not None
    assert found.partial is True
    assert stopping.stop_here(lambda _: Given(False), 5.0) is None


def test_moments_lie_in_the_set_up_first_and_never_after_the_end() -> None:
    for seconds in (0.02, 1.0, 90.0):
        for seed in range(20):
            first, *others = stopping.moments(np.random.default_rng(seed), seconds, 4)
            assert 0.0 <= first <= min(0.1 * seconds, 0.5) <= min(others)
            assert max(others) < min(seconds, stopping.FARTHEST)


@pytest.mark.slow
def test_every_method_gets_its_rows(tiny_model: Path, image_file: Path) -> None:  # noqa: F811
    names = ("grad-cam", "attention-rollout", "smooth-grad")
    figures = {f.key: f for f in stopping.measure(str(tiny_model), image_file, 2, names)}
    assert list(figures) == [
        "cancel-first",
        *(f"cancel-{n}" for n in names),
        "silence-grad-cam",
        "silence-smooth-grad",
    ]
    assert figures["cancel-attention-rollout"].value is None  # no transformer: told, not left out
    assert "attention" in figures["cancel-attention-rollout"].note
    smooth = figures["cancel-smooth-grad"]
    assert smooth.limit == figures["silence-smooth-grad"].limit == 250.0
    assert smooth.samples
    assert smooth.value == max(smooth.samples)
    assert "marked partial" in smooth.note
    assert "between two looks" in figures["silence-smooth-grad"].note


def test_a_preset_is_the_sum_of_its_maps_asked_for_together() -> None:
    bench = object.__new__(stopping.Stopping)
    bench.runs, bench.image, bench.model = {}, object(), None  # type: ignore[assignment]
    assert bench.presets() == []
    chosen = next(p for p in registry.presets() if p.name == "quick")
    asked = []

    class Asked:
        """A job that is over, after as many seconds as jobs were asked for."""

        def __init__(self, name: str) -> None:
            self.found = type("Map", (), {"forwards": 2, "backwards": 1, "title": name})()

        def add_listener(self, listener: stopping.Heard) -> None:
            listener.began, listener.times = 0.0, [0.0, float(len(asked))]
            listener.over.set()

        def result(self, timeout: float) -> object:
            return self.found

    def submit(task: str, image: object, name: str, params: object, **about: object) -> Asked:
        asked.append((task, image is bench.image, name, params, about))
        return Asked(name)

    bench._submit = submit  # type: ignore[assignment,method-assign]
    bench.runs = {name: None for name, _ in chosen.methods}  # type: ignore[misc]
    (quick,) = bench.presets()
    together = [(name, dict(params)) for name, params in chosen.methods]
    assert asked == [("explain", True, n, p, {"beside": together, "model": None}) for n, p in together]
    assert quick.value == pytest.approx(1 + 2 + 3)
    assert quick.met is False
    assert quick.note.startswith("3 maps, 6 forward and 3 backward passes")
