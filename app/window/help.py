"""Preferences, keys, About."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QDialog

from app.dialogs.about import AboutDialog
from app.dialogs.preferences import PreferencesDialog
from app.dialogs.shortcuts import ShortcutsDialog
from app.settings import Settings

if TYPE_CHECKING:
    from app.main_window import MainWindow


class Help(QObject):
    def __init__(self, window: MainWindow) -> None:
        super().__init__(window)
        self.window = window

    def handlers(self) -> dict[str, Callable[[], object]]:
        return {"preferences": self.preferences, "shortcuts": self.shortcuts, "about": self.about}

    def preferences(self) -> None:
        dialog = PreferencesDialog(self.window, self.window.store.values)
        if dialog.exec() == QDialog.DialogCode.Accepted:
            self.apply(dialog.result_settings())
        dialog.deleteLater()

    def apply(self, values: Settings) -> None:
        """Take new preferences into use at once and remember them."""
        store = self.window.store
        store.values = values
        self.window.theme.apply(values.theme)
        self.window.reading.window = values.default_window
        self.window.finding.set_blind(values.blind_reading)
        self.window.update_blind()
        self.window.engine.device, self.window.engine.threads = values.device, values.threads
        if not store.save():
            self.window.messages.show_message(store.notice, "warning")

    def shortcuts(self) -> None:
        dialog = ShortcutsDialog(self.window, self.window.commands.keys())
        dialog.exec()
        dialog.deleteLater()

    def about(self) -> None:
        reading = self.window.reading
        dialog = AboutDialog(self.window, dict(reading.environment) or None, reading.model)
        dialog.exec()
        dialog.deleteLater()
