"""Figures of an evaluation as PNG: ROC, reliability diagram, decision curve, confusion matrix. Needs the `train` extra."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xai_engine.train import metrics


def draw(result: Mapping[str, Any]) -> dict[str, bytes]:
    """File name -> PNG bytes, from the surely labelled rows of an evaluation."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data: dict[str, tuple[Any, Any]] = {}
    for population in result["populations"]:
        rows = [r for r in result["rows"] if r["population"] == population and r["sure"]]
        if rows:
            data[population] = (
                np.array([r["label"] >= 0.5 for r in rows]),
                np.array([r["probability"] for r in rows], np.float64),
            )
    files: dict[str, bytes] = {}

    def page(name: str, panels: int = 1) -> tuple[Any, Sequence[Any]]:
        figure = Figure(figsize=(4.4 * panels, 4.2), dpi=110, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, list(np.atleast_1d(figure.subplots(1, panels)))

    def keep(name: str, figure: Any) -> None:
        stream = io.BytesIO()
        figure.savefig(stream, format="png", metadata={"Software": None})
        files[name] = stream.getvalue()

    if not data:
        return files
    figure, (axis,) = page("roc")
    axis.plot([0, 1], [0, 1], ":", color="0.5", label="chance")
    for name, (y, p) in data.items():
        cuts = np.concatenate([[np.inf], np.unique(p)[::-1]])
        axis.plot(
            [float((p[~y] >= t).mean()) if (~y).any() else 0.0 for t in cuts],
            [float((p[y] >= t).mean()) if y.any() else 0.0 for t in cuts],
            label=name,
        )
    axis.set(xlabel="1 − specificity", ylabel="sensitivity", title="ROC", aspect="equal")
    axis.legend()
    keep("roc.png", figure)

    figure, (axis,) = page("reliability")
    axis.plot([0, 1], [0, 1], ":", color="0.5", label="perfect")
    for name, (y, p) in data.items():
        parts = [i for i in np.array_split(np.argsort(p, kind="stable"), min(10, len(p))) if len(i)]
        axis.plot([p[i].mean() for i in parts], [y[i].mean() for i in parts], "o-", ms=4, label=name)
    axis.set(
        xlabel="mean probability", ylabel="share with pneumonia", title="Reliability (tenths)", aspect="equal"
    )
    axis.legend()
    keep("reliability.png", figure)

    figure, axes = page("decision", len(data))
    steps = np.linspace(0.02, 0.9, 45)
    for axis, (name, (y, p)) in zip(axes, data.items(), strict=True):
        axis.plot(steps, [metrics.net_benefit(y, p, float(t)) for t in steps], label="model")
        axis.plot(
            steps, [metrics.net_benefit(y, np.ones(len(y)), float(t)) for t in steps], "--", label="call all"
        )
        axis.axhline(0, color="0.5", ls=":", label="call none")
        axis.set(xlabel="threshold probability", ylabel="net benefit", title=f"Decision curve, {name}")
        axis.set_ylim(-0.1, max(0.1, float(y.mean()) * 1.1))
        axis.legend()
    keep("decision.png", figure)

    figure, axes = page("confusion", len(data))
    for axis, name in zip(axes, data, strict=True):
        points = result["populations"][name]["operating_points"]
        point = "balanced" if "balanced" in points else next(iter(points), None)
        if point is None:
            return files
        c = points[point]
        counts = np.array([[c["tn"], c["fp"]], [c["fn"], c["tp"]]])
        axis.imshow(counts, cmap="cividis", vmin=0)
        for (i, j), n in np.ndenumerate(counts):
            axis.text(
                j, i, str(n), ha="center", va="center", size=14, color="k" if n > counts.max() / 2 else "w"
            )
        axis.set_xticks([0, 1], ["normal", "pneumonia"])
        axis.set_yticks([0, 1], ["normal", "pneumonia"], rotation=90, va="center")
        axis.set(xlabel="model", ylabel="label", title=f"{name}, {point} point")
    keep("confusion.png", figure)
    return files
