"""Pictures of canvas and panels in both themes: `python -m tests.app.screenshots FOLDER [IMAGE.dcm]`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np
from PySide6.QtWidgets import QApplication, QHBoxLayout, QVBoxLayout, QWidget

from app.canvas.view import CanvasView
from app.model.case import CaseModel
from app.panels.layers import LayersPanel
from app.panels.regions import RegionsPanel
from app.theme import Theme, load_fonts
from tests.app import cases
from xai_engine.radiograph import phantom
from xai_engine.radiograph.colour import LayerStyle
from xai_engine.radiograph.read import read
from xai_engine.radiograph.regions import Region


def fill(case: CaseModel, image: str | None) -> None:
    if image:
        case.set_radiograph(read(Path(image)))
    else:
        pixels = phantom.make(7, consolidation=phantom.Consolidation("right lower")).pixels
        from xai_engine.radiograph.types import StudyInfo

        study = StudyInfo(
            "PHANTOM^Seven",
            "P-7",
            study_date="20261122",
            study_time="101500",
            body_part="CHEST",
            view_position="PA",
            synthetic=True,
        )
        case.set_radiograph(cases.radiograph(pixels, study=study, voi=()))
    assert case.radiograph is not None
    shape = (case.radiograph.rows, case.radiograph.columns)
    case.add_layer(
        cases.explanation(shape, method="grad-cam", unit="logit per cell", full_scale=0.7),
        style=LayerStyle("cividis"),
    )
    rng = np.random.default_rng(1)
    blocks = np.kron(rng.normal(0, 3e-5, (8, 8)), np.ones((28, 28))).astype(np.float32)
    case.add_layer(
        cases.explanation(
            shape,
            blocks,
            method="lime",
            unit="logit per superpixel",
            full_scale=6e-5,
            notes=("Partial: 400 of 1000 samples.",),
            partial=True,
        ),
        style=LayerStyle("purple-green", mode="contour", opacity=0.9),
    )
    case.add_layer(cases.explanation(shape))
    rows, columns = shape
    size = np.array([rows, columns])
    ellipse = np.array([(0.45, 0.2), (0.7, 0.4)]) * size
    outline = np.array([(0.2, 0.6), (0.3, 0.75), (0.5, 0.7), (0.4, 0.55)]) * size
    case.add_region(Region("ellipse", ellipse, "Right base", "a"))
    case.add_region(Region("polygon", outline, "Left upper zone", "b"))


def main(folder: Path, image: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    application = QApplication.instance() or QApplication([])
    assert isinstance(application, QApplication)
    load_fonts(application)
    theme = Theme(application)
    for choice in ("dark", "light"):
        theme.apply(choice)
        case = CaseModel()
        window = QWidget()
        line = QHBoxLayout(window)
        canvas = CanvasView(case)
        side = QVBoxLayout()
        layers, regions = LayersPanel(case), RegionsPanel(case)
        layers.setFixedWidth(300)
        regions.setFixedWidth(300)
        side.addWidget(layers, 3)
        side.addWidget(regions, 2)
        line.addWidget(canvas, 1)
        line.addLayout(side)
        window.resize(1500, 1000)
        window.show()
        application.processEvents()
        window.grab().save(str(folder / f"{choice}-empty.png"))
        fill(case, image)
        canvas.measurer.wait()
        application.processEvents()
        window.grab().save(str(folder / f"{choice}-maps.png"))
        case.show_only(case.layers[-1].id)
        canvas.rotate(90)
        canvas.flip("h")
        canvas.toggle_invert()
        application.processEvents()
        window.grab().save(str(folder / f"{choice}-turned.png"))
        window.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
