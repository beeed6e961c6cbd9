"""How soon a job ends that was asked to, and how long it says nothing, as the window sees it.

Every method runs whole in a worker process, as the window has it; then it is cancelled there at random moments, in
this process once, and so is the card of its map. What counts is the time from asking to the answer at the caller: a
pass that is under way, the map of what there is so far, and its way back.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_engine.analysis import tasks
from xai_engine.bench.figures import Figure, median, number
from xai_engine.errors import Cancelled, RadiolucentError
from xai_engine.explain import registry
from xai_engine.runtime.job import Done, Event, Failed, Job
from xai_engine.runtime.run import CancelToken, Progress, Run
from xai_engine.runtime.worker import Once, Worker

if TYPE_CHECKING:
    from xai_engine.explain.types import Explanation
    from xai_engine.radiograph.types import Radiograph

LIMIT = 250.0  # ms, between asking and the answer, and between two reports (four a second)
STOPPED, SILENT, PRESETS = (
    "Cancelled within",
    "Longest silence of the progress",
    "Presets, as the window runs them",
)
SETTING_UP = 0.1  # share of a run in which the first cancel falls, 0.5 s at most
FARTHEST = 3.0  # seconds into a run beyond which no cancel falls: the loops of a long run are all alike
CARD = 2.5  # seconds into a card within which its cancel falls
TIMEOUT = 300.0
QUICK = ("integrated-gradients", "grad-cam", "lrp", "deep-lift", "lime")
ASKED = {"quick": 3.0}  # seconds of a preset


@dataclass(slots=True)
class Looks:
    """A cancel token that notes the longest time between two looks at it."""

    token: CancelToken
    longest: float = 0.0
    last: float = field(default_factory=time.perf_counter)

    def is_set(self) -> bool:
        now = time.perf_counter()
        self.longest, self.last = max(self.longest, now - self.last), now
        return self.token.is_set()


def watched(radiograph: Radiograph, method: str, model: str | None, *, run: Run) -> tuple[Explanation, float]:
    """Runs in the worker: one map with the method's defaults, and the longest seconds between two looks for
    cancellation, the end included."""
    looks = Looks(run.cancel)
    run.cancel = looks
    found = tasks.explain(radiograph, method, {}, model=model, run=run)
    looks.is_set()
    return found, looks.longest


class Heard:
    """What the caller hears of a job, and when. Seconds of time.perf_counter."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.times = [self.began]
        self.reports = 0
        self.told = 0  # reports that said how long it will still take
        self.outcome: Done | Failed | None = None
        self.over = threading.Event()

    def __call__(self, event: Event) -> None:
        self.times.append(time.perf_counter())
        if isinstance(event, Progress):
            self.reports += 1
            self.told += event.remaining_s is not None
        elif isinstance(event, (Done, Failed)):
            self.outcome = event
            self.over.set()

    @property
    def seconds(self) -> float:
        return self.times[-1] - self.began

    @property
    def silence(self) -> float:
        """The longest seconds between two events, from submission to answer."""
        return float(np.diff(self.times).max(initial=0.0))


@dataclass(frozen=True, slots=True)
class Stopped:
    """One cancel. milliseconds: from asking to the answer; partial: whether the answer was marked as such, None where it
    was no result but "cancelled"."""

    milliseconds: float
    partial: bool | None


def heard(job: Job) -> Heard:
    listener = Heard()
    job.add_listener(listener)
    return listener


def whole(job: Job) -> Heard:
    """A job to its end. Raises what it raised, TimeoutError."""
    listener = heard(job)
    job.result(TIMEOUT)
    listener.over.wait(1.0)
    return listener


def stop(submit: Callable[[], Job], moment: float) -> Stopped | None:
    """Submit, wait `moment` seconds, cancel, wait for the answer. None where the job was over before.

    A job that does not listen is killed after the worker's time of grace, which then is what it took. Raises what the
    job raised, but not Cancelled.
    """
    job = submit()
    listener = heard(job)
    if listener.over.wait(moment):
        return None
    asked = time.perf_counter()
    job.cancel()
    if not listener.over.wait(TIMEOUT):
        raise TimeoutError(f"{job.function} does not end")
    outcome = listener.outcome
    if isinstance(outcome, Failed) and not isinstance(outcome.error, Cancelled):
        raise outcome.error
    partial = is_partial(outcome.value) if isinstance(outcome, Done) else None
    if isinstance(outcome, Done) and not partial:
        return None  # it was over when it was asked
    return Stopped(1000.0 * (listener.times[-1] - asked), partial)


def stop_here(work: Callable[[Run], Any], moment: float) -> Stopped | None:
    """As `stop`, in this process: another thread asks, this one works."""
    run, asked = Run(), [0.0]

    def ask() -> None:
        asked[0] = time.perf_counter()
        run.cancel.set()  # type: ignore[attr-defined]

    timer = threading.Timer(moment, ask)
    timer.start()
    try:
        partial: bool | None = is_partial(work(run))
    except RadiolucentError:
        if not run.cancelled:
            raise
        partial = None
    finally:
        timer.cancel()
    ended = time.perf_counter()
    if not run.cancelled or partial is False:
        return None
    return Stopped(1000.0 * (ended - asked[0]), partial)


def is_partial(value: Any) -> bool:
    """Of a map, or of cards."""
    if isinstance(value, tuple):
        return any(is_partial(one) for one in value)
    return bool(getattr(value, "partial", False))


def moments(rng: np.random.Generator, seconds: float, count: int) -> list[float]:
    """When to cancel a run of so many seconds: first while it is set up, then anywhere."""
    end = min(0.95 * seconds, FARTHEST)
    early = min(SETTING_UP * seconds, 0.5)
    return [float(rng.uniform(0.0, early)), *(float(t) for t in rng.uniform(early, end, count - 1))]


def measure(
    model: str | None, image: Path, repeats: int, methods: Sequence[str] = (), seed: int = 0
) -> list[Figure]:
    """For every registered method (or `methods`): the longest time to an answer, the longest silence; the presets."""
    from xai_engine.radiograph import read

    names = list(methods) or list(registry.names())
    radiograph = read.read(image)
    # here as in the worker: what is cancelled is a map, not the loading of torch
    tasks.warm_up(run=Run(), model=model)
    with Worker("bench") as worker:
        bench = Stopping(worker, radiograph, model, max(2, repeats), np.random.default_rng(seed))
        stopped = [bench.first_map(), *(bench.method(name) for name in names)]
        return [*bench.presets(), *stopped, *bench.silences]


class Stopping:
    """One worker, one image. Presets are measured of which `method` has run every method: then all is compiled."""

    def __init__(
        self,
        worker: Worker,
        radiograph: Radiograph,
        model: str | None,
        count: int,
        rng: np.random.Generator,
    ) -> None:
        self.worker = worker
        self.model = model
        self.count = count
        self.rng = rng
        self.radiograph = radiograph
        self.image = Once(radiograph.sha256, radiograph)
        self.runs: dict[str, tuple[Heard, Explanation]] = {}
        self.silences: list[Figure] = []
        whole(self._submit("warm_up", model=model))
        whole(self._submit("predict", self.image, model=model))

    def _submit(self, task: str, *args: Any, **kwargs: Any) -> Job:
        return self.worker.submit(f"xai_engine.analysis.tasks:{task}", *args, **kwargs)

    def _explain(self, name: str) -> Job:
        return self._submit("explain", self.image, name, {}, model=self.model)

    def first_map(self) -> Figure:
        """The dearest set-up of all: the first series of passes after the start, while the network is compiled."""
        title = f"{STOPPED}: the first map after the start, LIME, while the backend is prepared"
        moment = float(self.rng.uniform(0.2, 1.0))
        return _stopped_figure("cancel-first", title, [stop(lambda: self._explain("lime"), moment)], "")

    def method(self, name: str) -> Figure:
        title = f"{STOPPED}: {registry.method_class(name).title}"
        _say(name)
        try:
            listener, found, longest = self._whole(name)
        except (
            RadiolucentError,
            TimeoutError,
        ) as error:  # attention needs a transformer: a typed error, told as such
            return Figure(f"cancel-{name}", title, None, "ms", LIMIT, note=str(error), section=STOPPED)
        self._note_silence(name, listener, longest)
        submit = lambda: self._explain(name)  # noqa: E731
        here = moments(self.rng, listener.seconds, 2)[1]
        maps = [stop(submit, at) for at in moments(self.rng, listener.seconds, self.count)]
        inside = stop_here(
            lambda run: tasks.explain(self.radiograph, name, {}, model=self.model, run=run), here
        )
        assess = lambda: self._submit("assess", self.image, [found], model=self.model)  # noqa: E731
        card = stop(assess, float(self.rng.uniform(0.0, CARD)))
        parts = (("map", maps), ("in one process", [inside]), ("card", [card]))
        words = "; ".join(f"{what} {_list(some)}" for what, some in parts)
        return _stopped_figure(f"cancel-{name}", title, [*maps, inside, card], words)

    def _whole(self, name: str) -> tuple[Heard, Explanation, float]:
        job = self.worker.submit("xai_engine.bench.stopping:watched", self.image, name, self.model)
        listener = whole(job)
        found, longest = job.result(0.0)
        self.runs[name] = listener, found
        return listener, found, longest

    def _note_silence(self, name: str, listener: Heard, longest: float) -> None:
        found = self.runs[name][1]
        self.silences.append(
            Figure(
                f"silence-{name}",
                f"{SILENT}: {found.title}",
                1000.0 * listener.silence,
                "ms",
                LIMIT,
                note=f"{listener.reports} reports in {number(listener.seconds)} s, {listener.told} with the time left; "
                f"longest between two looks for cancellation {1000.0 * longest:.0f} ms",
                section=SILENT,
            )
        )

    def presets(self) -> list[Figure]:
        """A preset's maps asked for one after another, as the window asks: they share forwards where they can."""
        out = []
        for preset in registry.presets():
            if any(name not in self.runs for name, _ in preset.methods):
                continue
            _say(preset.title)
            together = [(name, dict(params)) for name, params in preset.methods]
            pairs = [self._of_preset(name, params, together) for name, params in together]
            forwards, backwards = (sum(getattr(e, k) for _, e in pairs) for k in ("forwards", "backwards"))
            slowest = max(pairs, key=lambda pair: pair[0].seconds)
            note = f"{len(pairs)} maps, {forwards} forward and {backwards} backward passes; longest: " + (
                f"{slowest[1].title}, {number(slowest[0].seconds)} s"
            )
            seconds = sum(listener.seconds for listener, _ in pairs)
            key, limit = f"preset-{preset.name}", ASKED.get(preset.name)
            out.append(Figure(key, preset.title, seconds, "s", limit, note=note, section=PRESETS))
        return out

    def _of_preset(
        self, name: str, params: dict[str, Any], together: list[tuple[str, dict[str, Any]]]
    ) -> tuple[Heard, Explanation]:
        job = self._submit("explain", self.image, name, params, beside=together, model=self.model)
        listener = whole(job)
        return listener, job.result(0.0)


def _stopped_figure(key: str, title: str, all_: Sequence[Stopped | None], words: str) -> Figure:
    samples = tuple(one.milliseconds for one in all_ if one is not None)
    if not samples:
        note = "over each time before it was asked"
        return Figure(key, title, 0.0, "ms", LIMIT, note=note, section=STOPPED)
    partial = sum(one is not None and one.partial is True for one in all_)
    said = f"{len(samples)} cancels, median {median(samples):.0f} ms; {partial} results marked partial"
    nothing = sum(one is not None and one.partial is None for one in all_)
    if nothing:
        said += f", {nothing} without any"
    note = "; ".join(part for part in (said, words) if part)
    return Figure(key, title, max(samples), "ms", LIMIT, samples=samples, note=note, section=STOPPED)


def _list(some: Sequence[Stopped | None]) -> str:
    return ", ".join("over" if one is None else f"{one.milliseconds:.0f}" for one in some)


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)
