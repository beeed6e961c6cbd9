"""An earlier result on the screen again: image, verdict, maps with their cards, regions and what was asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QFileDialog

from app.window.files import IMAGES
from xai_engine.errors import RadiolucentError, UnreadableImage
from xai_engine.evidence import format
from xai_engine.evidence.case import CaseReview
from xai_engine.evidence.record import FILE_NAME

if TYPE_CHECKING:
    from app.main_window import MainWindow


class Reopen(QObject):
    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self.window = window

    def choose(self) -> None:
        start = self.window.store.values.folder
        name = QFileDialog.getExistingDirectory(self.window, "Reopen an analysis folder", start)
        if name:
            self.open(Path(name))

    def take_results(self, paths: Sequence[Path]) -> list[Path]:
        """Reopen the folders of results among what is to be opened; returns the rest."""
        rest = []
        for path in paths:
            folder = path.parent if path.name == FILE_NAME else path
            if (folder / FILE_NAME).is_file() and (path.is_dir() or path.name == FILE_NAME):
                self.open(folder)
            else:
                rest.append(path)
        return rest

    def open(self, folder: Path, image: Path | None = None) -> None:
        """image: where it is now, None for where it was when the result was made."""
        if not (folder / FILE_NAME).is_file():
            text = f"{folder.name}: holds no {FILE_NAME}; choose a folder written by “Save analysis folder”."
            self.window.messages.show_message(text, "error")
            return
        task = self.window.engine.recall(folder, image)
        task.done.connect(lambda review: self._show(folder, review))
        task.failed.connect(lambda error, detail: self._failed(folder, error, detail))

    def _show(self, folder: Path, review: CaseReview) -> None:
        if not self.window.reading.take_up(review):
            text = f"{review.radiograph.path.name} has regions that are in no report yet: save or close it, then reopen."
            self.window.messages.show_message(text, "warning", "", ("Reopen", lambda: self.open(folder)))
            return
        self.window.messages.show_message(
            f"{folder.name}: as it was saved on {format.moment(review.created)}.", of_image=True
        )

    def _failed(self, folder: Path, error: RadiolucentError, detail: str) -> None:
        text = str(error).partition("; name it with")[0]  # the advice that follows is for the command line
        elsewhere = isinstance(error, UnreadableImage) or "--image" in str(error)
        self.window.messages.show_message(
            f"{folder.name} cannot be reopened. {text}",
            "error",
            detail,
            ("Find the image …", lambda: self._find(folder)) if elsewhere else None,
        )

    def _find(self, folder: Path) -> None:
        name, _ = QFileDialog.getOpenFileName(
            self.window, f"The image of {folder.name}", self.window.store.values.folder, IMAGES
        )
        if name:
            self.open(folder, Path(name))
