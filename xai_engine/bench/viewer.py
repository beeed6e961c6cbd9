"""Frames of a window/level drag, measured by the canvas itself in a process of its own.

The engine does not import the window, so this goes through an interpreter, as start-up does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from xai_engine.bench.figures import Figure, unmeasured

TITLE = "Window/level drag, 3000×3000 16-bit, three overlays"
CODE = "import json; from app.canvas.bench import measure_drag; print(json.dumps(measure_drag()))"


def measure(timeout: float = 300.0) -> list[Figure]:
    """Median and 95th percentile of the time of one frame, in milliseconds."""
    keys = (
        ("drag-p50", f"{TITLE}, median frame", None),
        ("drag-p95", f"{TITLE}, 95 % of frames within", 33.0),
    )
    if getattr(sys, "frozen", False):
        why = "not measured in a frozen folder; use an installation with pip"
        return [unmeasured(key, title, "ms", why, limit) for key, title, limit in keys]
    environment = {"QT_QPA_PLATFORM": "offscreen", **os.environ}
    try:
        done = subprocess.run(
            [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, timeout=timeout
        )
        frames = json.loads(done.stdout.splitlines()[-1])
        values = (float(frames["p50_ms"]), float(frames["p95_ms"]))
    except (subprocess.TimeoutExpired, IndexError, KeyError, ValueError) as error:
        last = (
            done.stderr.strip().splitlines()[-1:] if not isinstance(error, subprocess.TimeoutExpired) else []
        )
        why = last[0] if last else f"no answer within {timeout:.0f} s"
        return [unmeasured(key, title, "ms", why, limit) for key, title, limit in keys]
    return [Figure(key, title, v, "ms", limit) for (key, title, limit), v in zip(keys, values, strict=True)]
