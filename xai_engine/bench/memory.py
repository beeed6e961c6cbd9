"""What the engine process weighs after the whole job: prediction and the three shipped methods."""

from __future__ import annotations

from pathlib import Path

from xai_engine.bench.figures import Figure, unmeasured
from xai_engine.bench.machine import peak_memory
from xai_engine.runtime.run import Run
from xai_engine.runtime.worker import Worker

METHODS = ("grad-cam", "integrated-gradients", "lime")
KEY, TITLE, LIMIT = "engine-memory", "Engine process, peak memory after three methods", 2500.0


def job(model: str | None, image: str, *, run: Run) -> int:
    """Runs in the worker: read, predict, explain with every method's defaults. Returns the number of maps."""
    from xai_engine.classifier import bundle
    from xai_engine.explain import registry
    from xai_engine.radiograph import read
    from xai_engine.runtime import device

    classifier = bundle.load(bundle.find(model), device.choose())
    radiograph = read.read(Path(image))
    classifier.predict([radiograph], run)
    prepared = classifier.prepare(radiograph)
    target = classifier.info.classes[-1]
    maps = [
        registry.create(name).explain(classifier, prepared, target, run.part(i / 3, (i + 1) / 3))
        for i, name in enumerate(METHODS)
    ]
    return len(maps)


def measure(model: str | None, image: Path) -> list[Figure]:
    """Peak resident size in MB, read from the system while the worker still lives."""
    with Worker("bench") as worker:
        worker.submit("xai_engine.bench.memory:job", model, str(image)).result()
        size = peak_memory(worker.pid) if worker.pid is not None else None
    if size is None:
        return [unmeasured(KEY, TITLE, "MB", "this system does not say", LIMIT)]
    return [Figure(KEY, TITLE, size, "MB", LIMIT)]
