"""Icons: our own one-colour SVGs, tinted with the palette and drawn at every scale that screens use."""

from __future__ import annotations

from functools import lru_cache

from PySide6.QtCore import QByteArray, QRectF, Qt
from PySide6.QtGui import QIcon, QPainter, QPixmap
from PySide6.QtSvg import QSvgRenderer

from app.theme import Tokens
from xai_engine.paths import resources_dir

_SIZES = (16, 20, 24, 32)
_RATIOS = (1.0, 1.5, 2.0, 3.0)


@lru_cache(maxsize=256)
def _source(name: str) -> str:
    return (resources_dir() / "icons" / f"{name}.svg").read_text(encoding="utf-8")


def pixmap(name: str, colour: str, size: int = 20, ratio: float = 1.0) -> QPixmap:
    """`name`.svg in one colour; `size` in device-independent pixels. FileNotFoundError for an unknown name."""
    renderer = QSvgRenderer(QByteArray(_source(name).replace("currentColor", colour).encode()))
    side = round(size * ratio)
    picture = QPixmap(side, side)
    picture.fill(Qt.GlobalColor.transparent)
    painter = QPainter(picture)
    renderer.render(painter, QRectF(0, 0, side, side))
    painter.end()
    picture.setDevicePixelRatio(ratio)
    return picture


@lru_cache(maxsize=256)
def _icon(name: str, normal: str, disabled: str) -> QIcon:
    # Pixmaps, not an icon engine in Python: Qt may call an engine while the interpreter collects garbage.
    result = QIcon()
    for ratio in _RATIOS:
        for size in _SIZES:
            result.addPixmap(pixmap(name, normal, size, ratio), QIcon.Mode.Normal)
            result.addPixmap(pixmap(name, disabled, size, ratio), QIcon.Mode.Disabled)
    return result


def icon(name: str, tokens: Tokens, colour: str = "") -> QIcon:
    """A tinted icon; `colour` (#rrggbb) overrides the text colour."""
    return _icon(name, colour or tokens.text, tokens.control)
