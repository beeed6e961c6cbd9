"""Opening and saving: dialogs, recent files, report, picture, analysis folder, and what is asked before closing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QDialog, QFileDialog, QMenu, QMessageBox

from app.dialogs.report import ReportChoice, ReportDialog
from app.engine import Task

if TYPE_CHECKING:
    from app.main_window import MainWindow

IMAGES = "Radiographs (*.dcm *.dicom *.png *.jpg *.jpeg *.tif *.tiff);;All files (*)"


class Files(QObject):
    """`interactive` False (tests, scripts): nothing is asked before closing."""

    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self.window = window
        self.interactive = True
        self._typed: dict[
            Path | None, str
        ] = {}  # impressions of the report dialog, also where it was cancelled

    def handlers(self) -> dict[str, Callable[[], object]]:
        return {
            "open": self.choose_files,
            "open_folder": self.choose_folder,
            "sample": self.window.open_sample,
            "report": self.choose_report,
            "picture": self.choose_picture,
            "analysis": self.choose_analysis,
        }

    # ---- opening -----------------------------------------------------------------------------------------------

    def choose_files(self) -> None:
        names, _ = QFileDialog.getOpenFileNames(self.window, "Open radiographs", self._folder(), IMAGES)
        if names:
            self.window.open([Path(name) for name in names])

    def choose_folder(self) -> None:
        name = QFileDialog.getExistingDirectory(self.window, "Open all images of a folder", self._folder())
        if name:
            self.window.open([Path(name)])

    def fill_recent(self, menu: QMenu) -> None:
        menu.clear()
        recent = self.window.store.values.recent
        for name in recent:
            action = menu.addAction(Path(name).name.replace("&", "&&"))
            action.setToolTip(name)
            action.triggered.connect(lambda _checked=False, n=name: self.window.open([Path(n)]))
        menu.setToolTipsVisible(True)
        if recent:
            menu.addSeparator()
            menu.addAction("Forget these").triggered.connect(self.window.store.values.forget_recent)
        else:
            menu.addAction("Nothing yet").setEnabled(False)

    def _folder(self) -> str:
        return self.window.store.values.folder

    def _suggest(self, ending: str) -> Path:
        """A name that is free: what was signed before is not written over by mistake."""
        radiograph = self.window.case.radiograph
        stem = radiograph.path.stem if radiograph is not None else "radiograph"
        folder = Path(self._folder() or ".").expanduser()
        names = (f"{stem}{ending}", *(f"{stem}-{n}{ending}" for n in range(2, 100)))
        return next((folder / name for name in names if not (folder / name).exists()), folder / names[0])

    # ---- saving ------------------------------------------------------------------------------------------------

    def choose_report(self) -> None:
        typed = self._typed.get(self.window.studies.current, "")
        dialog = ReportDialog(self.window, self.window.store.values, self._suggest(".pdf"), typed)
        accepted = dialog.exec() == QDialog.DialogCode.Accepted
        self._typed[self.window.studies.current] = dialog.impression.toPlainText().strip()
        if accepted:
            self.save_report(dialog.choice())
        dialog.deleteLater()

    def save_report(self, choice: ReportChoice) -> Task | None:
        """Write the PDF (or the whole analysis folder with it) in the engine process."""
        self.window.canvas.measurer.wait()
        values = self.window.store.values
        values.page, values.reader = choice.page, choice.reader
        impression = choice.impression or self.window.finding.impression
        review = self.window.reading.review(choice.reader, impression, values.institution)
        if review is None:
            self.window.messages.show_message("There is no verdict to report yet.", "warning")
            return None
        if choice.folder:
            task = self.window.engine.write(review, choice.path, True, choice.page)
        else:
            task = self.window.engine.report(review, choice.path, choice.page)
        self._announce(task, choice.path)
        return task

    def choose_picture(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self.window, "Save picture", str(self._suggest(".png")), "PNG (*.png)"
        )
        if name:
            self.save_picture(Path(name).with_suffix(".png"))

    def save_picture(self, path: Path) -> None:
        """What is on the screen, maps and texts included, as PNG: whole or not at all."""
        from xai_engine.errors import OutputError
        from xai_engine.runtime import atomic

        image = self.window.canvas.grab_picture()
        try:
            with atomic.file(path) as temporary:
                if not image.save(str(temporary)):
                    raise OutputError(
                        f"{path}: the picture cannot be written; check the folder and the free space"
                    )
        except OutputError as error:
            self.window.messages.show_message(str(error), "error")
            return
        self._saved(path)

    def choose_analysis(self) -> None:
        name, _ = QFileDialog.getSaveFileName(
            self.window, "Save analysis folder", str(self._suggest("-analysis"))
        )
        if name:
            self.save_analysis(Path(name))

    def save_analysis(self, folder: Path) -> Task | None:
        values = self.window.store.values
        typed = self._typed.get(self.window.studies.current, "")
        return self.save_report(ReportChoice(folder, values.page, values.reader, typed, True))

    def _announce(self, task: Task, path: Path) -> None:
        task.done.connect(lambda _value: self._saved(path))
        task.failed.connect(
            lambda error, detail: self.window.messages.show_message(str(error), "error", detail)
        )

    def _saved(self, path: Path) -> None:
        current = self.window.studies.current
        if current is not None:
            self.window.reading.unsaved.discard(current)
        folder = path if path.is_dir() else path.parent
        self.window.messages.show_message(
            f"Saved: {path}",
            "notice",
            "",
            ("Open folder", lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))),
        )

    # ---- closing -----------------------------------------------------------------------------------------------

    def may_close(self) -> bool:
        """Ask where regions were drawn and not exported."""
        count = len(self.window.reading.unsaved)
        if not count or not self.interactive:
            return True
        what = "one image" if count == 1 else f"{count} images"
        box = QMessageBox(self.window)
        box.setIcon(QMessageBox.Icon.Question)
        box.setWindowTitle("Regions are not saved")
        box.setText(f"Regions on {what} are in no report yet.")
        box.setInformativeText("Close and lose them?")
        lose = box.addButton("Close", QMessageBox.ButtonRole.DestructiveRole)
        stay = box.addButton("Keep working", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(stay)
        box.exec()
        chosen = box.clickedButton() is lose
        box.deleteLater()
        return chosen
