"""What happens to an image in the window: opened, classified, explained, kept while another one is shown.

Owns no widget. `app.main_window` shows what the signals say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PySide6.QtCore import QObject, Signal

from app.engine import Engine, Methods, Task
from app.model.case import CaseModel
from app.model.studies import StudyList
from app.window import kept
from app.window.record import review
from xai_engine.assess.types import ReliabilityCard
from xai_engine.classifier.types import ModelInfo, Prediction
from xai_engine.errors import RadiolucentError
from xai_engine.evidence import format
from xai_engine.evidence.case import CaseReview
from xai_engine.evidence.record import FILE_NAME
from xai_engine.explain.types import Explanation
from xai_engine.radiograph import display
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.types import Radiograph
from xai_engine.runtime.run import Progress

SUFFIXES = {".dcm", ".dicom", ".png", ".jpg", ".jpeg", ".tif", ".tiff", ""}
LARGEST_FOLDER = 5_000


class Reading(QObject):
    """Signals: message(text, kind, details) for the message bar; busy(text) while the verdict is awaited ("" when it
    is there or has failed), verdict_failed(text); noticed(text): of the image just opened; model_ready(ModelInfo), no_model(text, details); opened(path)."""

    message = Signal(str, str, str)
    busy = Signal(str)
    verdict_failed = Signal(str)
    model_ready = Signal(object)
    no_model = Signal(str, str)
    opened = Signal(object)
    noticed = Signal(str)

    def __init__(self, case: CaseModel, studies: StudyList, engine: Engine, parent: QObject) -> None:
        super().__init__(parent)
        self.case = case
        self.studies = studies
        self.engine = engine
        self.window = "default"
        self.model: ModelInfo | None = None
        self.environment: Mapping[str, Any] = {}
        self.unsuited: Mapping[str, str] = {}
        self.unsaved: set[Path] = set()
        self.impressions: dict[Path, str] = {}
        self._shelf = kept.Shelf(lambda path: path == studies.current or path in self.unsaved)
        self._reading: dict[Path, Task] = {}
        self._predicting: set[str] = set()
        self._wanted: Path | None = None
        self._warming = False
        self._loading = ""  # what the model is doing before it can classify
        self._behind: Path | None = None
        engine.worker_died.connect(self._worker_died)
        case.changed.connect(self._case_changed)

    # ---- the model ---------------------------------------------------------------------------------------------

    def warm_up(self) -> None:
        """Load the model in the background."""
        if self._warming:
            return
        self._warming = True
        task = self.engine.warm_up()
        task.progressed.connect(self._tell)
        task.done.connect(self._warm)
        task.failed.connect(self._no_model)
        task.ended.connect(self._warm_ended)

    def _warm(self, value: tuple[ModelInfo, Mapping[str, Any], Mapping[str, str]]) -> None:
        self.model, self.environment, self.unsuited = value
        self.model_ready.emit(self.model)

    def _warm_ended(self) -> None:
        self._warming = False
        self._loading = ""

    def _no_model(self, error: RadiolucentError, detail: str) -> None:
        self.no_model.emit(f"There is no usable model: {error}", detail)

    def _worker_died(self, name: str, title: str) -> None:
        what = "reading images" if name == "reader" else "the model"
        self.message.emit(
            f"The process for {what} ended unexpectedly and was started again. Lost: “{title}”. Everything else is kept.",
            "warning",
            "",
        )
        if name == "engine":
            self.warm_up()

    # ---- opening -----------------------------------------------------------------------------------------------

    def open(self, paths: Sequence[Path]) -> None:
        """Add files (and the images in folders) to the list; show the first."""
        files: list[Path] = []
        for path in paths:
            if path.is_dir():
                found = sorted(p for p in path.rglob("*") if _may_be_image(p))
                if not found:
                    self.message.emit(f"{path.name}: there are no images in this folder.", "warning", "")
                files += found[:LARGEST_FOLDER]
            else:
                files.append(path)
        if files:
            added = self.studies.add(files)
            self.show(added[0])
            self._work_ahead()

    def show(self, path: Path) -> None:
        """Bring an image of the list to the screen, reading it first if need be."""
        self._keep()
        self._wanted = path
        known = self._shelf.get(path)
        if known is not None:
            self._restore(path, known)
        elif path not in self._reading:
            self.studies.update(path, status="reading")
            task = self.engine.read(path)
            self._reading[path] = task
            task.done.connect(lambda value, p=path: self._read(p, value))
            task.failed.connect(lambda error, detail, p=path: self._unreadable(p, error, detail))
            task.cancelled.connect(lambda p=path: self.studies.update(p, status="waiting"))
            task.ended.connect(lambda p=path: self._reading.pop(p, None))

    def _read(self, path: Path, radiograph: Radiograph) -> None:
        self._describe(path, radiograph)
        if path == self._wanted:
            self.studies.set_current(path)
            self.case.set_radiograph(radiograph, self.window)
            self.opened.emit(path)
            self._work_ahead()
            for notice in radiograph.notices:
                self.noticed.emit(notice)
            self.predict()
        else:
            self._shelf.put(path, kept.Kept(radiograph))

    def _unreadable(self, path: Path, error: RadiolucentError, detail: str) -> None:
        self.studies.update(path, status="error", note=str(error))
        self.message.emit(str(error), "error", "")
        if path == self._wanted:
            self._wanted = self.studies.current
        self._work_ahead()

    # ---- the rest of the list: one image at a time, while nothing else is read or classified ------------------------

    def _work_ahead(self) -> None:
        """Read and classify the next waiting image, so that the list can be searched and sorted."""
        if self._behind is not None or self._reading or self._predicting:
            return
        waiting = next((s.path for s in self.studies.studies if s.status == "waiting"), None)
        if waiting is None:
            return
        self._behind = waiting
        task = self.engine.read(waiting, quiet=True)
        task.done.connect(lambda value: self._read_ahead(waiting, value))
        task.failed.connect(lambda error, _detail: self._ahead_done(waiting, status="error", note=str(error)))
        task.cancelled.connect(lambda: self._ahead_done(waiting))

    def _read_ahead(self, path: Path, radiograph: Radiograph) -> None:
        self._describe(path, radiograph)
        task = self.engine.predict(radiograph, quiet=True)
        task.done.connect(lambda value: self._predicted_ahead(path, radiograph, value))
        task.failed.connect(lambda _error, _detail: self._ahead_done(path))
        task.cancelled.connect(lambda: self._ahead_done(path))

    def _predicted_ahead(self, path: Path, radiograph: Radiograph, prediction: Prediction) -> None:
        if path != self.studies.current and self._shelf.get(path) is None:
            self._shelf.put(path, kept.Kept(radiograph, prediction))
        self._score(path, prediction)
        self._ahead_done(path)

    def _ahead_done(self, path: Path, **changes: object) -> None:
        self._behind = None
        if changes:
            self.studies.update(path, **changes)
        self._work_ahead()

    def _describe(self, path: Path, radiograph: Radiograph) -> None:
        """What the list shows of an image that was read."""
        name = radiograph.study.patient_name
        parts = (format.date(radiograph.study.study_date), radiograph.modality, path.name if name else "")
        self.studies.update(
            path,
            title=name or path.name,
            subtitle=" · ".join(part for part in parts if part),
            thumbnail=thumbnail(radiograph),
            status="unread",
            note="",
        )

    def _score(self, path: Path, prediction: Prediction) -> None:
        """What the list shows of a verdict. "read" means that a person has had it on the screen."""
        seen = path == self.studies.current
        self.studies.update(
            path,
            status="refused" if not prediction.readable else "read" if seen else "unread",
            probability=prediction.probability if prediction.readable else None,
            note=prediction.refusal,
        )

    def close_study(self, path: Path) -> None:
        """Take an image off the list."""
        self._shelf.drop(path)
        self.unsaved.discard(path)
        current = path == self.studies.current
        after = self.studies.neighbour(1) or self.studies.neighbour(-1) if current else None
        self.studies.remove(path)
        if current:
            self.case.set_radiograph(None)
            self.busy.emit("")
            if after is not None and after != path:
                self.show(after)

    def _keep(self) -> None:
        """Remember the image on the screen before another one takes its place."""
        shown = kept.of_case(self.case)
        if self.studies.current is not None and shown is not None:
            self._shelf.put(self.studies.current, shown)

    def _restore(self, path: Path, known: kept.Kept) -> None:
        self._shelf.put(path, known)
        self.studies.set_current(path)
        unsaved = path in self.unsaved
        kept.show(self.case, known, self.window)
        if not unsaved:
            self.unsaved.discard(path)
        if known.prediction is not None:
            self._score(path, known.prediction)
        self.opened.emit(path)
        self.busy.emit("")
        if known.prediction is None:
            self.predict()

    def take_up(self, review: CaseReview) -> bool:
        """Show an earlier result in place of what there is of its image. False where regions of it would be lost."""
        path = self.studies.add([review.radiograph.path])[0]
        if path in self.unsaved:
            return False
        self._keep()
        self._wanted = path
        if review.impression:
            self.impressions[path] = review.impression
        self._describe(path, review.radiograph)
        self._restore(path, kept.of_review(review))
        return True

    def _case_changed(self, field: str) -> None:
        if field == "regions" and self.case.regions and self.studies.current is not None:
            self.unsaved.add(self.studies.current)

    def corrected(self, radiograph: Radiograph) -> None:
        """The image on the screen was put right, or back: another thumbnail, another verdict."""
        if self.studies.current is not None:
            self._describe(self.studies.current, radiograph)
        self.predict()

    # ---- the verdict -------------------------------------------------------------------------------------------

    def predict(self) -> None:
        """Classify the image on the screen; the verdict reaches `case.prediction` and the list."""
        radiograph = self.case.radiograph
        if radiograph is None or radiograph.sha256 in self._predicting:
            return
        path = self.studies.current
        sha = radiograph.sha256
        self._predicting.add(sha)
        task = self.engine.predict(radiograph)
        ahead = self.engine.ahead_of(task)
        self.busy.emit(self._loading or (f"Waiting for: {ahead} …" if ahead else "Classifying …"))
        task.progressed.connect(lambda value: self._tell(value, sha))
        task.done.connect(lambda value: self._predicted(path, sha, value))
        task.failed.connect(lambda error, detail: self._not_predicted(sha, error, detail))
        task.cancelled.connect(lambda: self.verdict_failed.emit("Classification was cancelled."))
        task.ended.connect(lambda: self._classified(sha))

    def _tell(self, progress: Progress, sha: str = "") -> None:
        """What is being done for the verdict that is awaited; sha: for which image, "" for the model, for all."""
        text = (
            f"{progress.message[:1].upper()}{progress.message[1:]} …" if progress.message else "Classifying …"
        )
        if not sha:
            self._loading = text if self._warming else ""
        shown = self.case.radiograph.sha256 if self.case.radiograph is not None else ""
        if shown in self._predicting and sha in ("", shown):
            self.busy.emit(text)

    def _classified(self, sha: str) -> None:
        self._predicting.discard(sha)
        self._work_ahead()

    def _predicted(self, path: Path | None, sha: str, prediction: Prediction) -> None:
        if self.model is None:
            self.model = prediction.model
            self.model_ready.emit(prediction.model)
        if path is not None:
            self._score(path, prediction)
            self._shelf.set_prediction(path, sha, prediction)
        if self.case.radiograph is not None and self.case.radiograph.sha256 == sha:
            self.case.set_prediction(prediction)
            self.busy.emit("")

    def _not_predicted(self, sha: str, error: RadiolucentError, detail: str) -> None:
        if self.case.radiograph is not None and self.case.radiograph.sha256 == sha:
            self.verdict_failed.emit(str(error))
        self.message.emit(str(error), "error", detail)

    # ---- maps --------------------------------------------------------------------------------------------------

    def explain(
        self,
        method: str,
        title: str,
        params: Mapping[str, Any],
        target: str | None,
        seed: int,
        style: LayerStyle | None = None,
        behind: str = "",
        beside: Methods = (),
    ) -> Task | None:
        """Compute a map of the image on the screen; it becomes a layer, also when it is only partly done.

        behind: the method whose map stays in sight where it is there already, and not this one. beside: see Engine.explain.
        """
        radiograph = self.case.radiograph
        if radiograph is None:
            return None
        sha = radiograph.sha256
        task = self.engine.explain(radiograph, method, title, params, target, seed, beside)
        task.partial.connect(lambda value: self._explained(sha, value, style, behind))
        task.done.connect(lambda value: self._finished(sha, value, style, behind))
        task.failed.connect(lambda error, detail: self._not_explained(task, f"{title}: {error}", detail))
        return task

    def _not_explained(self, task: Task, text: str, detail: str) -> None:
        if not task.lost:  # of a lost process `_worker_died` has told, in plain words and once
            self.message.emit(text, "error", detail)

    def _finished(self, sha: str, explanation: Explanation, style: LayerStyle | None, behind: str) -> None:
        self._explained(sha, explanation, style, behind)
        if explanation.partial:
            self.message.emit(f"{explanation.title}: stopped early; the map is marked partial.", "notice", "")

    def _explained(self, sha: str, explanation: Explanation, style: LayerStyle | None, behind: str) -> None:
        if self.case.radiograph is not None and self.case.radiograph.sha256 == sha:
            layer = self.case.add_layer(explanation, style=style)
            if behind != explanation.method and any(x.explanation.method == behind for x in self.case.layers):
                self.case.set_visible(layer.id, False)
            else:
                self.case.show_only(
                    layer.id
                )  # one map at a time reads best; the panel brings the others back
        else:  # the reader has moved on to another image
            self._shelf.add_layer(sha, explanation, style)

    def assessed(
        self, sha: str, explanations: Sequence[Explanation], cards: Sequence[ReliabilityCard]
    ) -> None:
        """Put each card on its map, also where the reader has moved on to another image. A map that has gone is passed over."""
        known = dict(zip(map(id, explanations), cards, strict=True))
        if self.case.radiograph is not None and self.case.radiograph.sha256 == sha:
            for layer in self.case.layers:
                if id(layer.explanation) in known:
                    self.case.set_card(layer.id, known[id(layer.explanation)])
        else:
            self._shelf.set_cards(sha, known)

    # ---- the record --------------------------------------------------------------------------------------------

    def review(self, reader: str, impression: str, institution: str = "") -> CaseReview | None:
        """Everything on the screen as the record that report and JSON are made of; None before a verdict."""
        return review(self.case, self.environment, reader, impression, institution)


def _may_be_image(path: Path) -> bool:
    """By its name; pictures of maps that lie in the folder of a result are none."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not (path.parent / FILE_NAME).exists()


def thumbnail(radiograph: Radiograph, side: int = 96) -> npt.NDArray[np.uint8]:
    """uint8 picture of at most `side` pixels, in the file's own window."""
    step = max(1, -(-max(radiograph.rows, radiograph.columns) // side))
    small = radiograph.pixels[step // 2 :: step, step // 2 :: step]
    return display.to_grey(small, display.select(radiograph, "default"), radiograph.inverted)
