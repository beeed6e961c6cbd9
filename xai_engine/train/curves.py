"""Learning curves of a run: log.csv drawn as curves.png, and as TensorBoard events in events/.

Both need the `train` extra; without it the CSV alone is written, and the run says so once.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from xai_engine.runtime import atomic
from xai_engine.train import checkpoint

PICTURE = "curves.png"
EVENTS = "events"
INKS = ("#1b6ca8", "#c2571a", "#3a7d44", "#7a4fa3", "#555555")


def missing() -> str:
    """What cannot be written here and how to change that; "" where everything can."""
    lacking = [
        (package, what)
        for package, what in (("matplotlib", "curves.png"), ("tensorboardX", "TensorBoard events"))
        if find_spec(package) is None
    ]
    if not lacking:
        return ""
    return (
        f"{' and '.join(what for _, what in lacking)} left out: "
        f"pip install {' '.join(package for package, _ in lacking)}"
    )


class Curves:
    """Writes what is known after each epoch. start: finished epochs of a run that goes on."""

    def __init__(self, folder: Path, start: int) -> None:
        self.folder = folder
        self.writer: Any = None
        if find_spec("tensorboardX") is not None:
            from tensorboardX import SummaryWriter

            # events of epochs that a kill took back are struck out when TensorBoard reads them
            self.writer = SummaryWriter(str(folder / EVENTS), purge_step=start + 1 if start else None)

    def add(self, row: dict[str, float]) -> None:
        """One epoch's figures: into the CSV, the picture and the events. Raises OutputError."""
        checkpoint.log(self.folder, row)
        if find_spec("matplotlib") is not None:
            draw(self.folder)
        if self.writer is not None:
            for name, value in row.items():
                if name != "epoch" and value == value:
                    self.writer.add_scalar(_tag(name), float(value), int(row["epoch"]))
            self.writer.flush()

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


def draw(folder: Path) -> None:
    """Losses, validation AUC and learning rate over the epochs, from log.csv. Raises OutputError."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    rows = checkpoint.read_log(folder)
    epochs = [int(r["epoch"]) for r in rows]
    names = list(rows[0]) if rows else []
    panels = (
        ("loss", [n for n in names if n in ("loss", "val_loss")]),
        ("AUC on validation", [n for n in names if n.startswith("val_auc_")]),
        ("learning rate", [n for n in names if n == "lr"]),
    )
    labels = {"loss": "training", "val_loss": "validation", "lr": "learning rate"}
    shown = [(title, columns) for title, columns in panels if columns]
    figure = Figure(figsize=(4.2 * max(1, len(shown)), 3.2), dpi=120, layout="constrained")
    for index, (title, columns) in enumerate(shown):
        axes = figure.add_subplot(1, len(shown), index + 1)
        for ink, column in zip(INKS * 4, columns, strict=False):
            points = [(e, float(r[column])) for e, r in zip(epochs, rows, strict=True) if r.get(column)]
            label = labels.get(column, column.removeprefix("val_auc_"))
            axes.plot(*zip(*points, strict=True), color=ink, marker="o", markersize=3, label=label)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("epoch", fontsize=9)
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.grid(alpha=0.3)
        for edge in ("top", "right"):
            axes.spines[edge].set_visible(False)
        if title == "learning rate":
            axes.set_ylim(bottom=0)
        else:
            axes.legend(fontsize=8, frameon=False)
    with atomic.file(folder / PICTURE) as path:
        figure.savefig(path)


def _tag(name: str) -> str:
    """TensorBoard groups by what stands before the slash."""
    return {"loss": "loss/train", "val_loss": "loss/val"}.get(name, name.replace("val_auc_", "auc/"))
