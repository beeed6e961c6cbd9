"""The window's side of the worker processes: *reader* decodes files, *engine* runs the model. Qt signals, no torch.

Every result arrives in the GUI thread. A worker that dies is restarted by `runtime.worker`; only its running task is lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Qt, Signal
from shiboken6 import isValid

from xai_engine.evidence.case import CaseReview
from xai_engine.explain.types import Explanation
from xai_engine.radiograph.regions import Region
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.job import Died, Done, Event, Failed, Job, Partial
from xai_engine.runtime.run import Progress
from xai_engine.runtime.worker import Once, Worker

TASKS = "xai_engine.analysis.tasks"
Methods = Sequence[tuple[str, Mapping[str, Any]]]
"""(name, parameters) of each"""


class Task(QObject):
    """One job as the window sees it.

    progressed(Progress), partial(value), then exactly one of done(value), failed(error: RadiolucentError, detail: str),
    cancelled(); `ended()` follows in every case. `lost` is True where the worker process died under it. `worker`: the
    name of the process it runs in.
    """

    progressed = Signal(object)
    partial = Signal(object)
    done = Signal(object)
    failed = Signal(object, str)
    cancelled = Signal()
    ended = Signal()
    _event = Signal(object)

    def __init__(self, job: Job, title: str, parent: QObject, worker: str = "") -> None:
        super().__init__(parent)
        self.title = title
        self.worker = worker
        self.lost = False
        self._job = job
        # always queued: listeners run on the worker's thread, and a job may end before the caller has connected
        self._event.connect(self._handle, Qt.ConnectionType.QueuedConnection)
        job.add_listener(self._forward)

    @property
    def job(self) -> Job:
        return self._job

    @property
    def running(self) -> bool:
        return not self._job.finished

    def cancel(self) -> None:
        self._job.cancel()

    def _forward(self, event: Event) -> None:
        if isValid(self):  # the window may have closed meanwhile
            self._event.emit(event)

    def _handle(self, event: Event) -> None:
        from xai_engine.errors import Cancelled

        if isinstance(event, Progress):
            self.progressed.emit(event)
            return
        if isinstance(event, Partial):
            self.partial.emit(event.value)
            return
        if isinstance(event, Done):
            self.done.emit(event.value)
        elif isinstance(event, Failed):
            self.lost = isinstance(event, Died)
            if isinstance(event.error, Cancelled) or (self.lost and self._job.cancel_requested):
                self.cancelled.emit()
            else:
                self.failed.emit(event.error, event.detail)
        self.ended.emit()
        self.deleteLater()


class Engine(QObject):
    """Both workers. `started(Task)` for every task, so that the window can show it; `worker_died(name, title)`."""

    started = Signal(object)
    worker_died = Signal(str, str)

    def __init__(
        self, parent: QObject | None = None, model: str | None = None, device: str = "auto", threads: int = 0
    ) -> None:
        """threads: of the processor, for one computation; 0 for as many as there are cores."""
        super().__init__(parent)
        self.model = model or os.environ.get("RADIOLUCENT_MODEL") or None
        self.device = device
        self.threads = threads
        self.reader = Worker("reader")
        self.engine = Worker("engine")
        self._tasks: list[Task] = []  # of the engine process, oldest first

    def _submit(
        self, worker: Worker, function: str, title: str, *args: Any, quiet: bool = False, **kwargs: Any
    ) -> Task:
        """quiet: work nobody waits for, not announced by `started`."""
        task = Task(worker.submit(f"{TASKS}:{function}", *args, **kwargs), title, self, worker.name)
        task.failed.connect(lambda _error, _detail, t=task, w=worker: self._failed(t, w.name))
        if worker is self.engine and not quiet:
            self._tasks.append(task)
            task.ended.connect(lambda: self._tasks.remove(task))
        if not quiet:
            self.started.emit(task)
        return task

    def ahead_of(self, task: Task) -> str:
        """Title of what the engine is busy with while `task` waits; "" where it waits for nothing."""
        return next((each.title for each in self._tasks if each is not task and each.running), "")

    def _failed(self, task: Task, name: str) -> None:
        if task.lost:
            self.worker_died.emit(name, task.title)

    def _options(self) -> dict[str, Any]:
        return {"model": self.model, "device": self.device, "threads": self.threads}

    def start_reader(self) -> None:
        """Start the reader process beside the window."""
        self.reader.submit(f"{TASKS}:load_reader")

    def read(self, path: Path, quiet: bool = False) -> Task:
        """done(Radiograph)"""
        return self._submit(self.reader, "read_file", f"Reading {path.name}", str(path), quiet=quiet)

    def export_picture(self, radiograph: Radiograph, window: str, path: Path, invert: bool) -> Task:
        """done(None); window: a preset's key"""
        return self._submit(
            self.reader,
            "export_picture",
            f"Writing {path.name}",
            radiograph,
            window,
            str(path),
            invert=invert,
        )

    def warm_up(self) -> Task:
        """done((ModelInfo, environment, methods that cannot explain it and why))"""
        return self._submit(self.engine, "warm_up", "Loading the model", **self._options())

    def predict(self, radiograph: Radiograph, quiet: bool = False) -> Task:
        """done(Prediction). A verdict that a person waits for (not quiet) comes before maps that are only queued."""
        once = Once(radiograph.sha256, radiograph)
        task = self._submit(self.engine, "predict", "Classifying", once, quiet=quiet, **self._options())
        if not quiet:
            self.engine.hurry(task.job)
        return task

    def explain(
        self,
        radiograph: Radiograph,
        method: str,
        title: str,
        params: Mapping[str, Any],
        target: str | None,
        seed: int,
        beside: Methods = (),
    ) -> Task:
        """partial(Explanation), done(Explanation); a cancelled run may be done with a partial map.

        beside: the methods that are asked for together, this one among them; they share forwards where they can.
        """
        once = Once(radiograph.sha256, radiograph)
        together = [(name, dict(values)) for name, values in beside]
        return self._submit(
            self.engine,
            "explain",
            title,
            once,
            method,
            dict(params),
            target,
            seed,
            together,
            **self._options(),
        )

    def channels(self, radiograph: Radiograph, layer: str, count: int, target: str | None) -> Task:
        """done(tuple of Explanation): the strongest channels of a layer ("": the default one)"""
        once = Once(radiograph.sha256, radiograph)
        return self._submit(
            self.engine, "channels", "Strongest channels", once, layer, count, target, **self._options()
        )

    def assess(
        self, radiograph: Radiograph, explanations: Sequence[Explanation], cards: str, seed: int = 0
    ) -> Task:
        """done(tuple of ReliabilityCard), in order; a cancelled run may be done with partial cards.

        explanations: of one target. cards: quick, standard or audit.
        """
        once = Once(radiograph.sha256, radiograph)
        count = f"{len(explanations)} maps" if len(explanations) > 1 else explanations[0].title
        return self._submit(
            self.engine,
            "assess",
            f"Testing {count} ({cards})",
            once,
            list(explanations),
            cards,
            seed,
            **self._options(),
        )

    def midline(self, radiograph: Radiograph) -> Task:
        """done(Midline)"""
        once = Once(radiograph.sha256, radiograph)
        return self._submit(
            self.engine, "midline", "Finding the mid-line", once, quiet=True, **self._options()
        )

    def what_if(self, radiograph: Radiograph, region: Region, fill: str, what: str, seed: int = 0) -> Task:
        """done(WhatIf); a cancelled run may be done with a partial one. what: the region and what is done to it"""
        once = Once(radiograph.sha256, radiograph)
        return self._submit(
            self.engine, "what_if", f"What if: {what}", once, region, fill, seed=seed, **self._options()
        )

    def recall(self, folder: Path, image: Path | None = None) -> Task:
        """done(CaseReview): an earlier result; image: where it is now, None for where it was"""
        where = None if image is None else str(image)
        task = self._submit(
            self.engine, "recall", f"Reopening {folder.name}", str(folder), where, **self._options()
        )
        self.engine.hurry(task.job)
        return task

    def report(self, case: CaseReview, path: Path, page: str) -> Task:
        """done(path as text)"""
        return self._submit(self.engine, "report", f"Writing {path.name}", case, str(path), page)

    def write(self, case: CaseReview, folder: Path, report: bool, page: str) -> Task:
        """done(path as text)"""
        return self._submit(self.engine, "write", f"Writing {folder.name}", case, str(folder), report, page)

    def shutdown(self) -> None:
        """End both processes, side by side; what runs is lost."""
        threads = [threading.Thread(target=worker.shutdown) for worker in (self.reader, self.engine)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
