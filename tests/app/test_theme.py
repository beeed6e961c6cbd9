"""Contrast of both themes, computed; switching reaches open widgets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from itertools import product

import numpy as np
import pytest
from PySide6.QtGui import QColor, QFontInfo, QPalette
from PySide6.QtWidgets import QApplication, QLabel, QWidget
from pytestqt.qtbot import QtBot

from app.settings import ThemeChoice
from app.theme import DARK, LIGHT, Theme, Tokens, contrast, current_tokens, load_fonts, palette

THEMES = [pytest.param(DARK, id="dark"), pytest.param(LIGHT, id="light")]
TEXTS = ("text", "muted", "accent", "positive", "warning", "error", "good")
GROUNDS = ("window", "panel", "raised", "field")


def wcag(first: str, second: str) -> float:
    """WCAG 2.2, "contrast ratio", written down from the standard's definition, without Qt."""

    def luminance(name: str) -> float:
        srgb = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    a, b = luminance(first), luminance(second)
    return (max(a, b) + 0.05) / (min(a, b) + 0.05)


@pytest.fixture
def theme(qapp: QApplication) -> Iterator[Theme]:
    before = qapp.palette(), qapp.styleSheet()
    made = Theme(qapp)
    yield made
    qapp.styleHints().colorSchemeChanged.disconnect(made._system_changed)
    qapp.styleHints().unsetColorScheme()
    qapp.setStyleSheet(before[1])
    qapp.setPalette(before[0])
    made.deleteLater()


def test_contrast_as_the_standard_defines_it() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#777777") == pytest.approx(1.0)
    for first, second in product((DARK.text, DARK.window, LIGHT.accent), (LIGHT.field, DARK.error)):
        assert contrast(first, second) == pytest.approx(wcag(first, second), rel=1e-4)


@pytest.mark.parametrize("tokens", THEMES)
@pytest.mark.parametrize(("text", "ground"), list(product(TEXTS, GROUNDS)))
def test_text_can_be_read(tokens: Tokens, text: str, ground: str) -> None:
    assert wcag(getattr(tokens, text), getattr(tokens, ground)) >= 4.5


@pytest.mark.parametrize("tokens", THEMES)
def test_selected_text_can_be_read(tokens: Tokens) -> None:
    for tone in (tokens.text, tokens.muted, tokens.warning, tokens.error, tokens.good):
        assert wcag(tone, tokens.selected) >= 4.5
    assert wcag(tokens.on_accent, tokens.accent) >= 4.5


@pytest.mark.parametrize("tokens", THEMES)
@pytest.mark.parametrize("ground", ["window", "panel", "field"])
def test_edges_of_controls_can_be_seen(tokens: Tokens, ground: str) -> None:
    assert wcag(tokens.control, getattr(tokens, ground)) >= 3.0
    assert wcag(tokens.accent, getattr(tokens, ground)) >= 3.0


@pytest.mark.parametrize("tokens", THEMES)
def test_tokens_are_colours(tokens: Tokens) -> None:
    for each in fields(tokens):
        value = getattr(tokens, each.name)
        assert isinstance(value, bool) or (QColor(value).isValid() and len(value) == 7), each.name


def test_the_image_lies_on_black_in_both() -> None:
    assert DARK.image == LIGHT.image == "#000000"


@pytest.mark.parametrize("tokens", THEMES)
def test_the_palette_leaves_nothing_to_the_system(tokens: Tokens) -> None:
    made = palette(tokens)
    roles = QPalette.ColorRole
    for text, ground in (
        (roles.WindowText, roles.Window),
        (roles.Text, roles.Base),
        (roles.Text, roles.AlternateBase),
        (roles.ButtonText, roles.Button),
        (roles.ToolTipText, roles.ToolTipBase),
        (roles.HighlightedText, roles.Highlight),
        (roles.PlaceholderText, roles.Base),
        (roles.Link, roles.Base),
    ):
        for group in (QPalette.ColorGroup.Active, QPalette.ColorGroup.Inactive):
            assert wcag(made.color(group, text).name(), made.color(group, ground).name()) >= 4.5, (
                group,
                text,
            )


@pytest.mark.parametrize(("choice", "tokens"), [("light", LIGHT), ("dark", DARK)])
def test_switching_reaches_open_widgets(
    qtbot: QtBot, theme: Theme, choice: ThemeChoice, tokens: Tokens
) -> None:
    theme.apply("dark" if choice == "light" else "light")
    widget = QWidget()
    qtbot.addWidget(widget)
    label = QLabel("words", widget)
    label.setProperty("tone", "error")
    widget.resize(80, 40)
    widget.show()
    with qtbot.waitSignal(theme.changed) as heard:
        theme.apply(choice)
    assert heard.args == [tokens]
    assert theme.tokens is current_tokens() is tokens
    QApplication.processEvents()
    picture = widget.grab().toImage()
    assert picture.pixelColor(70, 35).name() == tokens.window
    assert label.palette().color(QPalette.ColorRole.WindowText).name() == tokens.error


def test_a_system_that_does_not_say_gets_dark(qapp: QApplication, theme: Theme) -> None:
    theme.apply("light")
    theme.apply("system")
    assert theme.tokens is DARK  # the offscreen platform knows no colour scheme


def test_our_fonts_are_used_where_the_system_has_none(qapp: QApplication) -> None:
    load_fonts(qapp)
    assert "DejaVu" in QFontInfo(qapp.font()).family()
