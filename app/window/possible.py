"""What can be done now: commands and panels are enabled by what is on the screen, and say why where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.main_window import MainWindow

_WITH_IMAGE = (
    "picture", "close_study", "fit", "actual", "invert", "rotate_right", "rotate_left", "flip_h", "flip_v", "reset", "hide",
    "two", "four", "six", "nine",
)  # fmt: skip
_WITH_VERDICT = ("report", "analysis")
_WITH_READABLE = ("quick", "standard", "audit")
_WITH_MAPS = ("hide_maps", "compare", "trust")


def update(window: MainWindow) -> None:
    """Blind reading: while the verdict is hidden, nothing that tells it can be done."""
    case, hidden = window.case, window.finding.hidden
    image, prediction = case.radiograph is not None, case.prediction
    readable = prediction is not None and prediction.readable and not hidden
    for keys, can in (
        (_WITH_IMAGE, image),
        (_WITH_VERDICT, prediction is not None and not hidden),
        (_WITH_READABLE, readable),
        (_WITH_MAPS, bool(case.layers)),
        (("undo",), case.can_undo),
        (("redo",), case.can_redo),
        (("delete",), case.selected_region is not None),
        (("put_right",), window.put_right.can_take),
        (("as_stored",), window.put_right.can_undo),
    ):
        for key in keys:
            window.commands.actions[key].setEnabled(can)
    reason = "Open a radiograph first." if not image else "Waiting for the verdict."
    if prediction is not None:
        reason = "Blind reading: put down your impression first." if hidden else prediction.refusal
    for panel in (window.explain_panel, window.channels):
        panel.set_enabled_for_image(readable, reason)
    window.regions.what_if.set_enabled(readable, reason)
