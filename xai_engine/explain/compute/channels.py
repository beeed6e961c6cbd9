"""What the channels of a layer respond to on one image, and how much each of them moves the score."""

from __future__ import annotations

import time

import numpy as np

from xai_engine import __version__
from xai_engine.classifier.types import ModelInput
from xai_engine.errors import Cancelled, UsageError
from xai_engine.explain.compute.activation import _Layer
from xai_engine.explain.methods.activation import GradCam
from xai_engine.explain.progress import Interrupted
from xai_engine.explain.protocol import Explainable
from xai_engine.explain.session import Session
from xai_engine.explain.types import Explanation
from xai_engine.runtime.run import Run

MOST = 64


def strongest_channels(
    classifier: Explainable, model_input: ModelInput, target: str, layer: str, count: int, run: Run
) -> tuple[Explanation, ...]:
    """The `count` channels (1 … 64) that move the score most, as maps of their activation, the largest |contribution| first.

    layer: as `ModelInfo.layers` names it, "" for the default one. Each map's `extra` holds "channel", "contribution" (logits:
    the sum over the cells of gradient x activation, to first order what is lost when the channel is silenced; exact where
    only averaging and a linear head follow) and "share" (|contribution| over the sum over all channels). The colour scale is
    the largest activation among the maps returned, on this image. method: "channel-<layer>-<index>", which no registry knows.
    Raises UsageError, UnsupportedModel (the layer is no stack of maps, or no gradient reaches it), Cancelled.
    """
    if not 1 <= count <= MOST:
        raise UsageError(f"channels: {count}; ask for 1 to {MOST}")
    began = time.perf_counter()
    with Session(classifier, model_input, target, run) as session:
        try:
            taken = _Layer(GradCam(layer=layer), session)
        except Interrupted:
            raise Cancelled("cancelled") from None
        contributions = (taken.gradient * taken.activation).sum((1, 2)).cpu().numpy()
        order = np.argsort(-np.abs(contributions), kind="stable")[:count]
        maps = [taken.to_image(taken.activation[int(k)]).astype(np.float32) for k in order]
        whole = float(np.abs(contributions).sum())
        scale = max((float(np.abs(values).max()) for values in maps), default=0.0) or 1.0
        info = classifier.info
        seconds = (time.perf_counter() - began) / len(maps)
        out = []
        for k, values in zip(order, maps, strict=True):
            values.flags.writeable = False
            contribution = float(contributions[k])
            extra = {"channel": float(k), "contribution": contribution}
            extra["share"] = abs(contribution) / whole if whole > 0 else 0.0
            out.append(
                Explanation(
                    method=f"channel-{taken.name.replace('.', '_')}-{int(k)}",
                    title=f"{taken.name} · channel {int(k)}",
                    values=values,
                    transform=model_input.transform,
                    target=target,
                    unit="activation",
                    full_scale=scale,
                    params={"layer": taken.name, "channel": int(k)},
                    seed=run.seed,
                    seconds=seconds,
                    forwards=session.forwards,
                    backwards=session.backwards,
                    partial=False,
                    completeness_error=None,
                    converged=True,
                    image_sha256=model_input.image_sha256,
                    model_sha256=info.sha256,
                    engine_version=__version__,
                    device=classifier.device,
                    precision=session.precision,
                    notes=(
                        "The activation of one channel: no explanation of the score. Colours are scaled to this image.",
                        *session.notices(),
                    ),
                    extra=extra,
                )
            )
    run.step(1.0, "channels found")
    return tuple(out)
