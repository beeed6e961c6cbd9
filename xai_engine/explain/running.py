"""Running a method: its map with its provenance."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from xai_engine import __version__
from xai_engine.classifier.types import ModelInput
from xai_engine.errors import ModelError
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.registry import Method
from xai_engine.explain.session import Attribution, Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.explain.pool import Pool


def explain(
    method: Method,
    classifier: Explainable,
    model_input: ModelInput,
    target: str,
    run: Run,
    shared: Pool | None = None,
) -> Explanation:
    """Run a method and give its map its provenance. See Method.explain. shared: forwards had in common with others."""
    began = time.perf_counter()
    session = Session(classifier, model_input, target, run, shared)
    try:
        with session:
            found = method.attribute(session)
    except Interrupted:
        found = Attribution(np.zeros(model_input.valid.shape), converged=False)
    if session.partial:
        found_notes = (*found.notes, "Stopped before the end: this map is partial.")
    else:
        found_notes = found.notes
        run.step(1.0, method.title)
    values = np.ascontiguousarray(found.values, dtype=np.float32)
    if values.shape != model_input.valid.shape or not np.isfinite(values).all():
        raise ModelError(f"{method.name}: gave no finite map of the input's shape; please report this")
    values.setflags(write=False)
    if found.segments is not None:
        found.segments.setflags(write=False)
    uncertainty = None
    if found.uncertainty is not None:
        uncertainty = np.ascontiguousarray(found.uncertainty, dtype=np.float32)
        uncertainty.setflags(write=False)
    info = classifier.info
    return Explanation(
        method=method.name,
        title=method.title,
        values=values,
        transform=model_input.transform,
        target=target,
        unit=method.unit,
        full_scale=float(info.map_scales.get(method.name, method.default_scale)),
        params=dict(method.values()),
        seed=run.seed,
        seconds=time.perf_counter() - began,
        forwards=session.forwards,
        backwards=session.backwards,
        partial=session.partial,
        completeness_error=found.completeness_error,
        converged=found.converged and not session.partial,
        image_sha256=model_input.image_sha256,
        model_sha256=info.sha256,
        engine_version=__version__,
        device=classifier.device,
        precision=session.precision,
        backend=session.backend,
        notes=(*session.notices(), *session.notes, *found_notes),
        segments=found.segments,
        extra={key: float(value) for key, value in found.extra.items()},
        uncertainty=uncertainty,
        shared_with=shared.asked if shared is not None and shared.serves(method) else (),
    )
