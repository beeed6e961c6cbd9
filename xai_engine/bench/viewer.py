"""Frames of the canvas while the mouse is dragged, measured by the canvas itself in a process of its own.

The engine does not import the window, so this goes through an interpreter, as start-up does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from xai_engine.bench.figures import Figure, unmeasured

IMAGE = "3000×3000 16-bit, three maps"
LIMIT = 33.0
DRAGS = {
    "window": "Window/level drag at 1:1",
    "window_fitted": "Window/level drag, fitted",
    "pan": "Pan",
    "zoom": "Zoom",
    "opacity": "Opacity slider",
}
CODE = "import json; from app.canvas.bench import measure_drag; print(json.dumps(measure_drag(3000, 3)))"


def measure(timeout: float = 300.0) -> list[Figure]:
    """Per kind of drag the time within which 95 % of the frames are drawn, in milliseconds."""
    titles = {key: f"{title}, {IMAGE}: 95 % of frames within" for key, title in DRAGS.items()}
    frames, why = _frames(timeout)
    if not frames:
        return [unmeasured(f"drag-{key}", title, "ms", why, LIMIT) for key, title in titles.items()]
    return [
        Figure(
            f"drag-{key}",
            title,
            float(frames[key]["p95"]),
            "ms",
            LIMIT,
            note=f"median {frames[key]['median']:.3g}, within 16 ms: {frames[key]['share_16']:.0%}",
        )
        for key, title in titles.items()
    ]


def _frames(timeout: float) -> tuple[dict[str, dict[str, float]], str]:
    """What the canvas measured, or nothing and the reason."""
    if getattr(sys, "frozen", False):
        return {}, "not measured in a frozen folder; use an installation with pip"
    environment = {"QT_QPA_PLATFORM": "offscreen", **os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {timeout:.0f} s"
    try:
        found = json.loads(done.stdout.splitlines()[-1])
        return {key: found[key] for key in DRAGS}, ""
    except (IndexError, KeyError, ValueError):
        return {}, (done.stderr.strip().splitlines() or ["ended without an answer"])[-1]
