"""A refused image that was stored inverted or turned is offered to be read put right. Never by itself, always undoable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from xai_engine.radiograph import correct
from xai_engine.radiograph.types import Radiograph

if TYPE_CHECKING:
    from app.main_window import MainWindow


class PutRight(QObject):
    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self.window = window
        self._as_stored: dict[str, Radiograph] = {}
        self._said = ""
        window.case.changed.connect(self._changed)

    def _changed(self, field: str) -> None:
        messages = self.window.messages
        if field == "radiograph":  # an offer for an image that is gone
            for row in [row for row in messages.rows if row.text == self._said]:
                messages.dismiss(row)
        elif field == "prediction" and self.can_take:
            prediction = self.window.case.prediction
            assert prediction is not None
            self._said = (
                f"{prediction.refusal} The file stays as it is; image, maps and report say what was done."
            )
            action = f"Read it {correct.words(prediction.offer)}"
            messages.show_message(self._said, "warning", "", (action, self.take_offer))

    @property
    def can_take(self) -> bool:
        """True where a correction is on offer and the verdict may be seen."""
        prediction = self.window.case.prediction
        return prediction is not None and bool(prediction.offer) and not self.window.finding.hidden

    def offer_again(self) -> None:
        """After the reader's own impression in blind reading: what was not said before."""
        self._changed("prediction")

    def take_offer(self) -> None:
        case = self.window.case
        if self.can_take and case.radiograph is not None and case.prediction is not None:
            self.take(case.radiograph, case.prediction.offer)

    def take(self, radiograph: Radiograph, corrections: tuple[str, ...]) -> None:
        """Read the corrected image in place of the one on the screen."""
        corrected = correct.apply(radiograph, corrections)
        self._as_stored[corrected.sha256] = radiograph
        self._show(corrected, corrections)
        done = correct.words(corrections)
        self.window.messages.show_message(
            f"Read {done}. The probability holds for the corrected image.",
            "warning",
            "",
            ("Undo", lambda: self.undo(corrected)),
        )

    def undo(self, corrected: Radiograph) -> None:
        """The image as it is in the file."""
        stored = self._as_stored.get(corrected.sha256)
        if stored is not None and self.window.case.radiograph is corrected:
            back = tuple(_opposite(each) for each in reversed(corrected.corrections))
            self._show(stored, back)

    def undo_current(self) -> None:
        if self.window.case.radiograph is not None:
            self.undo(self.window.case.radiograph)

    @property
    def can_undo(self) -> bool:
        radiograph = self.window.case.radiograph
        return radiograph is not None and radiograph.sha256 in self._as_stored

    def _show(self, radiograph: Radiograph, corrections: tuple[str, ...]) -> None:
        """Another orientation of the image on the screen: regions stay on their anatomy, the verdict is asked anew."""
        case, reading = self.window.case, self.window.reading
        assert case.radiograph is not None
        shape = (case.radiograph.rows, case.radiograph.columns)
        regions = [correct.turned_region(region, shape, corrections) for region in case.regions]
        said = self.window.finding.impression
        case.set_radiograph(radiograph, reading.window)
        self.window.finding.set_impression(said)  # blind reading: the reader has seen the anatomy already
        self.window.update_blind()
        for region in regions:
            case.add_region(region)
        case.select_region(None)
        reading.corrected(radiograph)


def _opposite(correction: str) -> str:
    quarter = correct.turns(correction)
    return f"rotate-{90 * (4 - quarter)}" if quarter else correction
