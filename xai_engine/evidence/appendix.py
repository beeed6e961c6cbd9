"""The report's back matter: the model card in short, and how to make the result again."""

from __future__ import annotations

from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, Paragraph

from xai_engine.evidence import format as fmt
from xai_engine.evidence.case import CaseReview
from xai_engine.evidence.layout import Heading, Page, box, bullets, facts, gap, grid, style
from xai_engine.evidence.record import command, untold
from xai_engine.evidence.typeset import paragraph


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def model_card(case: CaseReview, page: Page) -> list[Flowable]:
    m = case.prediction.model
    rows = [
        ("Model", f"{m.title or m.name} ({m.name}), version {m.version}"),
        ("Architecture", f"{m.architecture}, {m.parameters:,} parameters"),
        ("Input", f"{m.input_shape[1]} × {m.input_shape[2]} pixels, {_channels(m.input_shape[0])}"),
        ("Classes", ", ".join(m.classes)),
        ("Intended use", m.intended_use),
    ]
    out: list[Flowable] = [
        CondPageBreak(60 * mm),
        Heading("Model", "heading", "model"),
        facts(rows, page.width, label=30 * mm),
    ]
    if m.limitations:
        out += [gap(7), Heading("Known limitations", "subheading", "limitations", level=1)]
        out += bullets(m.limitations, page.width, limit=1500)
    if m.training_data:
        out += [gap(7), Heading("Training data", "subheading", "training-data", level=1)]
        out += bullets(m.training_data, page.width, limit=1500)
    if m.operating_points:
        table = [
            [
                point.name,
                point.population,
                fmt.probability(point.threshold),
                fmt.interval(point.sensitivity),
                fmt.interval(point.specificity),
            ]
            for point in m.operating_points
        ]
        out += [
            gap(7),
            CondPageBreak(30 * mm),
            Heading("Operating points", "subheading", "operating-points", level=1),
            grid(
                ["Name", "Measured on", "Threshold", "Sensitivity", "Specificity"],
                table,
                [26 * mm, page.width - 138 * mm, 20 * mm, 46 * mm, 46 * mm],
                texts=2,
            ),
        ]
    if m.metrics:
        values = [
            (fmt.label(key), value if isinstance(value, str) else fmt.number(value))
            for key, value in m.metrics.items()
        ]
        out += [
            gap(7),
            CondPageBreak(30 * mm),
            Heading("Measured performance", "subheading", "metrics", level=1),
            facts(values, page.width, columns=2, label=50 * mm),
        ]
    return out


def provenance(case: CaseReview, page: Page) -> list[Flowable]:
    r, m, e = case.radiograph, case.prediction.model, case.environment
    digests = [
        ("Image SHA-256", r.file_sha256),
        ("Model SHA-256", m.sha256),
        ("Image file", str(r.path)),
    ]
    machine = [(fmt.label(key), fmt.parameter(v)) for key, v in e.items()]
    machine += [("Seed", str(case.seed)), ("Created", fmt.moment(case.created))]
    again = [
        paragraph("Run this to make maps and report again:", style("note"), page.width - 16),
        paragraph(command(case), style("mono"), page.width - 16, limit=4000),
    ]
    missing = untold(case)
    if missing:
        words = f"Not told by this command: {'; '.join(missing)}."
        again.append(paragraph(words, style("note"), page.width - 16, limit=2000))
    return [
        CondPageBreak(70 * mm),
        Heading("Provenance", "heading", "provenance"),
        facts(digests, page.width, label=30 * mm, mono=True),
        facts(machine, page.width, columns=2, label=30 * mm),
        gap(7),
        box(again, page.width),
        gap(4),
        Paragraph(
            "The same image, model, engine, seed, device and precision give the same numbers; another device or "
            "precision gives numbers that differ in the last digits.",
            style("small"),
        ),
    ]
