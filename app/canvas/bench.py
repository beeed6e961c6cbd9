"""How fast the image follows the hand: whole frames (windowing, maps, texts, blit), measured in a real widget."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication

from app.canvas.view import CanvasView
from app.model.case import CaseModel
from app.theme import load_fonts
from xai_engine.explain.types import Explanation
from xai_engine.radiograph.geometry import GridTransform
from xai_engine.radiograph.types import PixelSpacing, Radiograph, StudyInfo, Window

VIEWPORT = (1600, 1000)


def measure_drag(size: int = 3000, overlays: int = 3, frames: int = 200) -> dict[str, Any]:
    """Times of frames while the mouse is dragged, in ms, by kind of drag.

    size: rows and columns of a 16-bit image, shown at 1:1 so that it fills a viewport of 1600 x 1000. overlays: maps
    of 224 x 224, filled, all visible. frames: of each drag. Returns `{"size", "overlays", "frames", "viewport",
    "p50_ms", "p95_ms", "window": {…}, "window_fitted": {…}, "pan": {…}, "zoom": {…}, "opacity": {…}}`, each drag with
    median, p95, max and `share_33`, `share_16`: parts of the frames that took at most 33 and 16 ms. `p50_ms` and
    `p95_ms` are those of "window", a drag of the window and level.
    """
    if QApplication.instance() is None and not os.environ.get("DISPLAY") and sys.platform.startswith("linux"):
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    application = QApplication.instance() or QApplication([])
    load_fonts(cast(QApplication, application))
    case = CaseModel()
    canvas = CanvasView(case)
    try:
        canvas.resize(*VIEWPORT)
        canvas.show()
        case.set_radiograph(_image(size))
        for number in range(overlays):
            case.add_layer(_map(number, size))
        application.processEvents()
        canvas.actual_size()
        result: dict[str, Any] = {
            "size": size,
            "overlays": overlays,
            "frames": frames,
            "viewport": list(VIEWPORT),
        }
        result["window"] = _drag(canvas, frames, Qt.MouseButton.LeftButton)
        result |= {"p50_ms": result["window"]["median"], "p95_ms": result["window"]["p95"]}
        canvas.fit()
        result["window_fitted"] = _drag(canvas, frames, Qt.MouseButton.LeftButton)
        canvas.actual_size()
        result["pan"] = _drag(canvas, frames, Qt.MouseButton.MiddleButton)
        result["zoom"] = _drag(canvas, frames, Qt.MouseButton.RightButton)
        canvas.actual_size()
        if overlays:
            result["opacity"] = _times(canvas, frames, lambda n: _set_opacity(case, n))
        return result
    finally:
        canvas.close()
        canvas.deleteLater()
        application.processEvents()


def _image(size: int) -> Radiograph:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    pixels = (
        30000 + 20000 * np.sin(7 * x) * np.cos(5 * y) + rng.normal(0, 500, (size, size)).astype(np.float32)
    )
    return Radiograph(
        path=Path("bench.dcm"),
        sha256="",
        file_format="DICOM",
        pixels=pixels.clip(0, 65535).astype(np.uint16),
        photometric="MONOCHROME2",
        source_photometric="MONOCHROME2",
        bits_stored=16,
        modality="DX",
        unit="",
        voi=(Window(30000, 40000),),
        padding=None,
        spacing=PixelSpacing(0.14, 0.14, "detector"),
        orientation=("L", "F"),
        frames=1,
        transfer_syntax="",
        study=StudyInfo(patient_name="BENCH^Synthetic", synthetic=True),
        tags=(),
        notices=(),
    )


def _map(number: int, size: int) -> Explanation:
    values = np.random.default_rng(number).normal(0, 1, (224, 224)).astype(np.float32)
    return Explanation(
        method=f"map-{number}",
        title=f"Map {number}",
        values=values,
        transform=GridTransform(0.0, 0.0, size / 224, size / 224, (224, 224), (size, size)),
        target="pneumonia",
        unit="logit per pixel",
        full_scale=2.0,
        params={},
        seed=0,
        seconds=0.0,
        forwards=0,
        backwards=0,
        partial=False,
        completeness_error=None,
        converged=True,
        image_sha256="",
        model_sha256="",
        engine_version="",
        device="cpu",
        precision="fp32",
    )


def _set_opacity(case: CaseModel, number: int) -> None:
    from dataclasses import replace

    layer = case.layers[-1]
    case.set_style(layer.id, replace(layer.style, opacity=0.2 + 0.7 * (number % 50) / 50))


def _drag(canvas: CanvasView, frames: int, button: Qt.MouseButton) -> dict[str, float]:
    """A drag along a small figure, back and forth, through the widget's own mouse events."""
    middle = QPoint(canvas.width() // 2, canvas.height() // 2)
    QTest.mousePress(canvas, button, pos=middle)

    def move(number: int) -> None:
        angle = number / 15
        QTest.mouseMove(canvas, middle + QPoint(round(90 * np.sin(angle)), round(60 * np.sin(2 * angle))))

    result = _times(canvas, frames, move)
    QTest.mouseRelease(canvas, button, pos=middle)
    return result


def _times(canvas: CanvasView, frames: int, act: Callable[[int], None]) -> dict[str, float]:
    taken = []
    for number in range(frames + 5):
        start = time.perf_counter()
        act(number)
        canvas.repaint()
        taken.append((time.perf_counter() - start) * 1000)
    ms = np.array(taken[5:])
    return {
        "median": round(float(np.median(ms)), 2),
        "p95": round(float(np.percentile(ms, 95)), 2),
        "max": round(float(ms.max()), 2),
        "share_33": round(float((ms <= 33).mean()), 4),
        "share_16": round(float((ms <= 16).mean()), 4),
    }
