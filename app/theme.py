"""Colours of the window. Two hand-made palettes on Qt's Fusion style and a short style sheet; no theme library.

Text on its background keeps a contrast of at least 4.5:1 (WCAG 2.2, 1.4.3) in both themes, borders of controls and
status marks at least 3:1 (1.4.11): a test computes it. The image area is black in both, so that a radiograph looks the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtGui import QColor, QFont, QFontDatabase, QPalette
from PySide6.QtWidgets import QApplication

from app.settings import ThemeChoice
from xai_engine.paths import resources_dir


@dataclass(frozen=True)
class Tokens:
    """Named colours, as #rrggbb."""

    dark: bool
    window: str
    panel: str
    raised: str
    field: str
    text: str
    muted: str
    border: str
    control: str
    accent: str
    on_accent: str
    selected: str
    positive: str
    warning: str
    error: str
    good: str
    image: str = "#000000"


DARK = Tokens(
    dark=True,
    window="#16181b",
    panel="#1c1f23",
    raised="#282c32",
    field="#121416",
    text="#d9dde3",
    muted="#9aa3ae",
    border="#30353c",
    control="#68727f",
    accent="#6cb2e8",
    on_accent="#0b1218",
    selected="#1a3b54",
    positive="#f0a35c",
    warning="#e6b450",
    error="#f08a80",
    good="#7cc48d",
)

LIGHT = Tokens(
    dark=False,
    window="#e9ebee",
    panel="#f7f8f9",
    raised="#ffffff",
    field="#ffffff",
    text="#1c2126",
    muted="#545e69",
    border="#cdd2d8",
    control="#7b8591",
    accent="#14619c",
    on_accent="#ffffff",
    selected="#cfe3f3",
    positive="#a34f00",
    warning="#7d5600",
    error="#ad2a1f",
    good="#1f6b37",
)


def contrast(first: str, second: str) -> float:
    """WCAG 2.2 contrast ratio of two #rrggbb colours, 1 … 21."""

    def luminance(name: str) -> float:
        colour = QColor(name)
        parts = (colour.redF(), colour.greenF(), colour.blueF())
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def palette(tokens: Tokens) -> QPalette:
    """A full Fusion palette, disabled group included."""
    result = QPalette()
    role = QPalette.ColorRole
    colours = {
        role.Window: tokens.window,
        role.WindowText: tokens.text,
        role.Base: tokens.field,
        role.AlternateBase: tokens.panel,
        role.Text: tokens.text,
        role.PlaceholderText: tokens.muted,
        role.Button: tokens.raised,
        role.ButtonText: tokens.text,
        role.BrightText: tokens.error,
        role.ToolTipBase: tokens.raised,
        role.ToolTipText: tokens.text,
        role.Highlight: tokens.selected,
        role.HighlightedText: tokens.text,
        role.Link: tokens.accent,
        role.LinkVisited: tokens.accent,
        role.Accent: tokens.accent,
        role.Light: tokens.border,
        role.Midlight: tokens.border,
        role.Mid: tokens.border,
        role.Dark: tokens.border,
        role.Shadow: "#000000",
    }
    for each, name in colours.items():
        result.setColor(each, QColor(name))
    for each in (role.WindowText, role.Text, role.ButtonText, role.HighlightedText):
        result.setColor(QPalette.ColorGroup.Disabled, each, QColor(tokens.control))
    return result


def tick(t: Tokens) -> str:
    """Path of the tick that lies on the accent colour in this theme (a style sheet cannot tint a picture)."""
    return (resources_dir() / "icons" / f"tick-{'dark' if t.dark else 'light'}.svg").as_posix()


def style_sheet(t: Tokens) -> str:
    """What a palette cannot say: spacing, hairlines, flat tool buttons."""
    return f"""
QToolTip {{ background: {t.raised}; color: {t.text}; border: 1px solid {t.control}; padding: 3px 5px; }}
QMainWindow::separator {{ background: {t.window}; width: 5px; height: 5px; }}
QMainWindow::separator:hover {{ background: {t.accent}; }}
QToolBar {{ background: {t.window}; border: 0; border-bottom: 1px solid {t.border}; spacing: 2px; padding: 3px 6px; }}
QToolBar::separator {{ background: {t.border}; width: 1px; margin: 5px 6px; }}
QToolButton {{ border: 1px solid transparent; border-radius: 4px; padding: 4px; color: {t.text}; }}
QToolButton:hover {{ background: {t.raised}; border-color: {t.border}; }}
QToolButton:pressed, QToolButton:checked {{ background: {t.selected}; border-color: {t.accent}; }}
QToolButton:focus {{ border-color: {t.accent}; }}
QToolButton[fold="true"]:checked {{ background: transparent; border-color: transparent; }}
QToolButton[fold="true"]:focus {{ border-color: {t.accent}; }}
QToolButton:disabled {{ color: {t.control}; }}
QToolButton[popupMode="1"] {{ padding-right: 16px; }}
QToolButton::menu-button {{ border: 0; width: 14px; }}
QDockWidget {{ color: {t.muted}; }}
QDockWidget::title {{ background: {t.window}; padding: 5px 8px; text-align: left; }}
QTabWidget::pane {{ border: 0; border-top: 1px solid {t.border}; background: {t.panel}; }}
QTabBar::tab {{ background: transparent; color: {t.muted}; padding: 6px 10px; border-bottom: 2px solid transparent; }}
QTabBar::tab:selected {{ color: {t.text}; border-bottom-color: {t.accent}; }}
QTabBar::tab:hover {{ color: {t.text}; }}
QTabBar::tab:focus {{ color: {t.accent}; }}
QStatusBar {{ background: {t.window}; border-top: 1px solid {t.border}; color: {t.muted}; }}
QStatusBar::item {{ border: 0; }}
QProgressBar {{ background: {t.field}; border: 1px solid {t.border}; border-radius: 3px; color: {t.text}; text-align: center; }}
QProgressBar::chunk {{ background: {t.selected}; border-radius: 2px; }}
QMenu {{ background: {t.raised}; border: 1px solid {t.border}; padding: 4px; }}
QMenu::item {{ padding: 5px 26px 5px 24px; border-radius: 3px; }}
QMenu::item:selected {{ background: {t.selected}; }}
QMenu::item:disabled {{ color: {t.control}; }}
QMenu::separator {{ height: 1px; background: {t.border}; margin: 4px 8px; }}
QScrollArea, QScrollArea > QWidget > QWidget {{ background: transparent; }}
QAbstractItemView {{ border: 1px solid {t.border}; outline: 0; }}
QHeaderView {{ border: 0; }}
QHeaderView::section {{ background: {t.window}; color: {t.muted}; border: 0; border-bottom: 1px solid {t.border}; padding: 4px 6px; }}
QTableView QTableCornerButton::section {{ background: {t.window}; border: 0; border-bottom: 1px solid {t.border}; }}
QScrollBar {{ background: transparent; border: 0; }}
QScrollBar:vertical {{ width: 10px; }}
QScrollBar:horizontal {{ height: 10px; }}
QScrollBar::handle {{ background: {t.control}; border-radius: 3px; margin: 2px; }}
QScrollBar::handle:hover {{ background: {t.muted}; }}
QScrollBar::handle:vertical {{ min-height: 24px; }}
QScrollBar::handle:horizontal {{ min-width: 24px; }}
QScrollBar::add-line, QScrollBar::sub-line {{ width: 0; height: 0; }}
QScrollBar::add-page, QScrollBar::sub-page {{ background: transparent; }}
QWidget[panel="true"] {{ background: {t.panel}; }}
QLineEdit, QPlainTextEdit, QTextEdit {{ background: {t.field}; border: 1px solid {t.control}; border-radius: 3px; padding: 2px 4px; }}
QLineEdit:focus, QPlainTextEdit:focus, QTextEdit:focus {{ border-color: {t.accent}; }}
QSpinBox QLineEdit, QDoubleSpinBox QLineEdit, QComboBox QLineEdit {{ border: 0; padding: 0; }}
QCheckBox::indicator, QRadioButton::indicator {{ width: 12px; height: 12px; border: 1px solid {t.control}; background: {t.field}; }}
QCheckBox::indicator {{ border-radius: 2px; }}
QRadioButton::indicator {{ border-radius: 6px; }}
QCheckBox::indicator:checked, QRadioButton::indicator:checked {{ background: {t.accent}; border: 1px solid {t.accent}; }}
QCheckBox::indicator:checked {{ image: url("{tick(t)}"); }}
QCheckBox::indicator:disabled, QRadioButton::indicator:disabled {{ border-color: {t.border}; }}
QLabel[tone="muted"] {{ color: {t.muted}; }}
QLabel[tone="warning"] {{ color: {t.warning}; }}
QLabel[tone="error"] {{ color: {t.error}; }}
QLabel[tone="good"] {{ color: {t.good}; }}
QLabel[tone="heading"] {{ color: {t.muted}; font-weight: 600; }}
QLabel[tone="verdict"] {{ font-size: 15pt; font-weight: 600; }}
QLabel[tone="number"] {{ font-size: 22pt; font-weight: 600; }}
QFrame[message="notice"] {{ background: {t.raised}; border-left: 3px solid {t.accent}; }}
QFrame[message="warning"] {{ background: {t.raised}; border-left: 3px solid {t.warning}; }}
QFrame[message="error"] {{ background: {t.raised}; border-left: 3px solid {t.error}; }}
QFrame[badge] {{ border: 1px solid {t.control}; border-radius: 7px; }}
QFrame[badge="good"] {{ border-color: {t.good}; }}
QFrame[badge="warning"] {{ border-color: {t.warning}; }}
QFrame[badge="error"] {{ border-color: {t.error}; }}
QFrame[card="true"] {{ background: {t.raised}; border: 1px solid {t.border}; border-radius: 5px; }}
"""


def load_fonts(app: QApplication) -> None:
    """Register the fonts that we ship; use them only where the system brings none (the offscreen platform, bare containers)."""
    families: list[str] = []
    folder = resources_dir() / "fonts"
    for path in sorted(folder.glob("*.ttf")):
        number = QFontDatabase.addApplicationFont(str(path))
        if number >= 0:
            families += QFontDatabase.applicationFontFamilies(number)
    if not families:
        return
    chosen = app.font()
    if chosen.family() in ("", "Sans Serif") or app.platformName() in ("offscreen", "minimal"):
        ours = [name for name in families if "Sans" in name and "Mono" not in name] or families
        chosen = QFont()
        chosen.setFamilies(list(dict.fromkeys([*ours, *families])))
        chosen.setPointSizeF(9.5)
        app.setFont(chosen)


class Theme(QObject):
    """The theme in force. `changed` follows every switch, also when the system's scheme changes under "system"."""

    changed = Signal(object)

    def __init__(self, app: QApplication, choice: ThemeChoice = "dark") -> None:
        super().__init__(app)
        self._app = app
        self.choice: ThemeChoice = choice
        self.tokens = DARK
        app.setStyle("Fusion")
        app.styleHints().colorSchemeChanged.connect(self._system_changed)
        self.apply(choice)

    def apply(self, choice: ThemeChoice) -> None:
        """Switch to `choice`; every open widget follows at once."""
        self.choice = choice
        hints = self._app.styleHints()
        if choice == "system":
            hints.unsetColorScheme()
        else:
            # Native title bars and file dialogs follow the scheme, our palette colours the rest.
            hints.setColorScheme(Qt.ColorScheme.Dark if choice == "dark" else Qt.ColorScheme.Light)
        self._use(self._resolve())

    def _resolve(self) -> Tokens:
        if self.choice == "dark":
            return DARK
        if self.choice == "light":
            return LIGHT
        # A desktop that does not say gets the dark theme: reading rooms are dark.
        return LIGHT if self._app.styleHints().colorScheme() == Qt.ColorScheme.Light else DARK

    def _use(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self._app.setPalette(palette(tokens))
        self._app.setStyleSheet(style_sheet(tokens))
        self.changed.emit(tokens)

    def _system_changed(self) -> None:
        if self.choice == "system" and self._resolve() is not self.tokens:
            self._use(self._resolve())


def current_tokens() -> Tokens:
    """Tokens that fit the application's palette, for widgets that paint themselves."""
    app = cast(QApplication, QApplication.instance())
    return DARK if app.palette().color(QPalette.ColorRole.Window).lightness() < 128 else LIGHT
