"""The report's findings: study, prediction, radiograph, maps, regions, reader."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

import numpy as np
import numpy.typing as npt
from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, PageBreak, Paragraph

from xai_engine.evidence import cards, layout, sets, trust
from xai_engine.evidence import format as fmt
from xai_engine.evidence.case import CaseReview, read_map
from xai_engine.evidence.figures import (
    ColourBar,
    Frame,
    Picture,
    ProbabilityScale,
    frame,
    jpeg,
    map_on_page,
    shrink,
)
from xai_engine.evidence.layout import Heading, Page, bullets, facts, gap, style
from xai_engine.evidence.typeset import paragraph
from xai_engine.radiograph import colour, correct

Grey = npt.NDArray[np.uint8]
DISCLAIMER = "Research use only. Not a medical device."


def study(case: CaseReview, page: Page) -> list[Flowable]:
    r, s = case.radiograph, case.radiograph.study
    examined = " ".join(part for part in (fmt.date(s.study_date), fmt.time(s.study_time)) if part)
    born = ", ".join(part for part in (fmt.date(s.birth_date), fmt.age(s.age), s.sex) if part)
    view = ", ".join(part for part in (s.body_part, s.view_position, s.laterality) if part)
    device = " ".join(part for part in (s.manufacturer, s.model_name) if part)
    rows = [
        ("Patient", fmt.person_name(s.patient_name) or "not stated"),
        ("Patient ID", s.patient_id or "not stated"),
        ("Born, age, sex", born),
        ("Accession no.", s.accession_number),
        ("Examined", examined or "not stated"),
        ("Study", " – ".join(part for part in (s.study_description, s.series_description) if part)),
        ("Institution", s.institution),
        ("View", view),
        ("Modality", r.modality or "not stated"),
        ("Device", device),
        (
            "Image",
            f"{r.columns} × {r.rows} pixels (columns × rows), {r.bits_stored}\u00a0bit, "
            f"{r.source_photometric or r.photometric}",
        ),
        # a picture's compression may have the name of its format: "JPEG" once
        ("File", ", ".join(dict.fromkeys(part for part in (r.file_format, r.transfer_syntax) if part))),
    ]
    out: list[Flowable] = []
    if s.synthetic:
        words = "Synthetic image: computed, not taken. No patient."
        out += [layout.box([Paragraph(words, style("alert"))], page.width, alert=True), gap(5)]
    out += [
        facts(rows, page.width, columns=2, label=24 * mm),
        facts([("Pixel spacing", fmt.spacing(r.spacing))], page.width, label=24 * mm),
    ]
    if r.corrections:
        text = (
            f"Read {correct.words(r.corrections)}: the file's picture was put right first. Classifier, maps, regions and "
            "this report refer to the picture as it is shown here."
        )
        out += [
            gap(4),
            layout.box([paragraph(text, style("alert"), page.width - 16)], page.width, alert=True),
        ]
    if r.notices:
        out += [gap(3), *bullets(r.notices, page.width, limit=400)]
    return out


def finding(case: CaseReview, page: Page) -> list[Flowable]:
    p = case.prediction
    heading = Heading("Finding of the classifier", "heading", "finding")
    model = f"{p.model.title or p.model.name}, version {p.model.version}"
    if not p.readable:
        words = [
            Paragraph("Not judged: this image is outside what the model may read.", style("subheading")),
            paragraph(p.refusal or "No reason was given.", style("alert"), page.width - 16, limit=1000),
            Paragraph("No probability is stated, and no conclusion may be drawn from it.", style("alert")),
        ]
        return [heading, layout.box(words, page.width, alert=True)]
    point = p.operating_point
    above = p.probability >= p.threshold
    held = sets.line(p)
    left: list[Flowable] = [
        paragraph(p.label[:1].upper() + p.label[1:], style("big"), 62 * mm, limit=60),
        paragraph(
            f"{fmt.probability(p.probability)} calibrated probability of pneumonia", style("value"), 62 * mm
        ),
        gap(3),
        ProbabilityScale(
            p.probability, p.uncertainty if isfinite(p.uncertainty) else 0.0, p.threshold, 62 * mm
        ),
    ]
    if held:
        left += [gap(3), paragraph(f"{held}.", style("note"), 62 * mm)]
    sentences = [
        f"At or above the threshold of {fmt.probability(p.threshold)} (operating point “{point.name}”) "
        f"the model calls pneumonia; this image {'reaches' if above else 'stays below'} it.",
        f"At this threshold: sensitivity {fmt.interval(point.sensitivity)}, "
        f"specificity {fmt.interval(point.specificity)}, measured on {point.population}.",
        f"Uncertainty ± {fmt.probability(p.uncertainty)}: standard deviation of the probability over small, "
        f"harmless changes of the image. Logit {fmt.logit(p.logit)}.",
    ]
    if held:
        sentences.append(sets.meaning(p.model))
    if abs(p.probability - p.threshold) <= p.uncertainty:
        sentences.append("The threshold lies within the uncertainty: take the call as undecided.")
    limits = [text for text in p.model.limitations if "medical device" not in text][:1]
    if limits:
        sentences.append(f"Limits: {limits[0]} More under “Model”.")
    right = [paragraph(text, style("note"), page.width - 70 * mm, limit=600) for text in sentences]
    right.append(paragraph(f"Model: {model}", style("small"), page.width - 70 * mm, limit=200))
    return [
        heading,
        layout.side_by_side(left, right, (70 * mm, page.width - 70 * mm)),
    ]


def radiograph(case: CaseReview, page: Page, grey: Grey, room: float) -> list[Flowable]:
    """The radiograph, beside it the map that may be trusted most, in what is left of the first page (`room` points).

    Too little room for pictures that show anything: on the next page, as large as that holds.
    """
    content: list[Flowable] = []
    for space in (room, page.height):
        content = _pictures(case, page, grey, min(max(space - 26 * mm, 40 * mm), 130 * mm))
        if layout.height_of(content, page.width) <= space:
            break
    return [KeepTogether(content)]


def _pictures(case: CaseReview, page: Page, grey: Grey, tall: float) -> list[Flowable]:
    """Heading, pictures of at most `tall` points, captions."""
    key = key_map(case)
    size = frame(case.radiograph, page.width if key is None else 0.5 * page.width - 4 * mm, tall)
    picture = Picture(
        jpeg(shrink(grey, size)), size, case.radiograph, case.regions, names=True, scale_bar=True
    )
    inverted = " Shown inverted." if case.invert else ""
    caption = f"Shown with {fmt.voi(case.voi, case.voi_key)}.{inverted} Not for primary reading in print."
    heading = Heading("Radiograph", "heading", "radiograph")
    if key is not None:
        index, name = key
        e, layer = case.explanations[index], case.style(name)
        painted = colour.blend(shrink(grey, size), map_on_page(e, size), layer, e.full_scale)
        bar = ColourBar(layer, e.full_scale, e.unit, max(size.width, 40 * mm))
        half = 0.5 * page.width
        words = (
            f"{e.title or e.method}, reliability: {trust.word(trust.card(case.reliability.get(name, {})))}."
        )
        left = [picture, gap(2), paragraph(caption, style("small"), half - 8 * mm, limit=400)]
        right = [Picture(jpeg(painted), size, case.radiograph, case.regions), gap(4), bar]
        right += [gap(1), paragraph(words, style("small"), half - 8 * mm, limit=200)]
        heading = Heading("Radiograph and key map", "heading", "radiograph")
        return [heading, layout.side_by_side(left, right, (half, half))]
    beside = page.width - size.width - 6 * mm
    text = paragraph(caption, style("small"), max(beside, 36 * mm), limit=400)
    body: list[Flowable] = [picture, gap(2), paragraph(caption, style("small"), page.width, limit=400)]
    if beside >= 36 * mm:
        body = [layout.side_by_side([picture], [text], (size.width + 6 * mm, beside))]
    return [heading, *body]


def key_map(case: CaseReview) -> tuple[int, str] | None:
    """Index and name of the map for the first page: the first of the best verdict, complete maps first."""
    ranks = {"use": 0, "use with care": 1, None: 2, "do not use": 3}
    ordered = []
    for index, (name, e) in enumerate(zip(case.names(), case.explanations, strict=True)):
        found = trust.card(case.reliability.get(name, {}))
        ordered.append((e.partial, ranks[found.verdict if found else None], index, name))
    return min(ordered)[2:] if ordered else None


def maps(case: CaseReview, page: Page, grey: Grey) -> list[Flowable]:
    """Map by map: picture, facts, how to read it, and its reliability card."""
    if not case.explanations:
        return []
    out: list[Flowable] = [PageBreak(), Heading("Explanation maps", "heading", "maps")]
    assessed = any(case.reliability.values())
    share = 0.26 if assessed else 0.325  # of the page: a card is to end where its map does
    size = frame(case.radiograph, 0.5 * page.width - 6 * mm, share * page.height)
    small = shrink(grey, size)
    for index, name in enumerate(case.names()):
        out += _map(case, page, small, size, index, name, assessed)
    for name, why in case.skipped.items():
        words = f"{name} was asked for and left out, for it cannot explain this network: {why}"
        out.append(paragraph(words, style("note"), page.width, limit=400))
    return out


def _map(
    case: CaseReview, page: Page, grey: Grey, size: Frame, index: int, name: str, assessed: bool
) -> list[Flowable]:
    e, layer = case.explanations[index], case.style(name)
    column = 0.5 * page.width
    # reduced first, painted then: contours keep their width on paper
    painted = colour.blend(grey, map_on_page(e, size), layer, e.full_scale)
    picture = Picture(jpeg(painted), size, case.radiograph, case.regions)
    bar = ColourBar(layer, e.full_scale, e.unit, max(size.width, 40 * mm))
    rows = [
        ("Method", e.method if name == e.method else f"{e.method} (map {name})"),
        ("Target", e.target),
        ("Unit", e.unit),
        ("Colour scale", f"± {fmt.exact(e.full_scale)} {e.unit}, absolute"),
        ("Shown", _shown(layer.opacity, layer.threshold, layer.mode, layer.sign)),
        ("Seed", str(e.seed)),
        ("Completeness error", _completeness(e.completeness_error, e.converged)),
        ("Effort", _effort(e.forwards, e.backwards, e.seconds)),
        ("Computed on", f"{e.device}, {e.precision}"),
    ]
    rows += [(fmt.label(key), fmt.number(value)) for key, value in list(e.extra.items())[:4]]
    right = page.width - column
    body: list[Flowable] = [Heading(e.title or e.method, "subheading", f"map-{index}", level=1)]
    warnings = list(e.notes)
    if e.partial:
        warnings.insert(0, "Partial: the computation was stopped before its end.")
    if not e.converged:
        warnings.insert(0, "Not converged: the values may change with more steps or samples.")
    if warnings:
        texts = [paragraph(text, style("alert"), page.width - 16, limit=600) for text in warnings]
        body += [layout.box(texts, page.width, alert=True), gap(4)]
    settings = "; ".join(
        f"{key.replace('_', ' ')} {fmt.parameter(_value(case, key, value))}"
        for key, value in e.params.items()
    )
    table = facts(rows, right - 1, label=29 * mm, limit=140)
    words = [
        (f"Parameters: {settings or 'none'}.", "note", 3000),
        (f"How to read it: {read_map(case.prediction.model, e.method)}", "small", 1500),
    ]

    def prose(room: float) -> list[Flowable]:
        return [paragraph(text, style(kind), room, limit=limit) for text, kind, limit in words]

    beside: list[Flowable] = [table, gap(6), *prose(right)]
    below: list[Flowable] = []
    long = sum(item.wrap(right, 1e5)[1] for item in beside) > 0.8 * page.height  # a table row cannot be split
    if long or assessed:
        beside, below = [table], [gap(4), *prose(page.width)]
    body.append(layout.side_by_side([picture, gap(4), bar], beside, (column, right)))
    spread = _uncertainty(case, page, grey, size, index, name)
    return [KeepTogether([*body, *below, gap(10)]), *spread, *cards.card(case, page, name), gap(14)]


def _value(case: CaseReview, key: str, value: object) -> object:
    """A parameter as it was used: an empty layer stands for the model's default one."""
    return case.prediction.model.default_layer if key == "layer" and value == "" else value


def _uncertainty(
    case: CaseReview, page: Page, grey: Grey, size: Frame, index: int, name: str
) -> list[Flowable]:
    """How far the members of a consensus differ, pixel by pixel, as a picture of its own."""
    e = case.explanations[index]
    if e.uncertainty is None:
        return []
    scale = e.full_scale
    layer = colour.LayerStyle(colour.SEQUENTIAL[0], 0.6, 0.0, "fill", "positive")
    spread = replace(e, values=e.uncertainty, segments=None)
    painted = colour.blend(grey, map_on_page(spread, size), layer, scale)
    small = frame(case.radiograph, 0.3 * page.width, 0.2 * page.height)
    column = 0.5 * page.width
    unit = f"standard deviation, {e.unit}"
    words = (
        "Uncertainty of this map: the standard deviation of its value per pixel, in the map's own unit. Where it is as "
        "large as the value itself, the members contradict each other and the map says nothing there. "
        f"Median over the image {fmt.number(float(np.median(e.uncertainty)))}, "
        f"95th percentile {fmt.number(float(np.percentile(e.uncertainty, 95)))}."
    )
    left = [
        Picture(jpeg(shrink(painted, small)), small, case.radiograph),
        gap(4),
        ColourBar(layer, scale, unit, max(small.width, 40 * mm)),
    ]
    right = [paragraph(words, style("note"), page.width - column, limit=600)]
    return [KeepTogether([layout.side_by_side(left, right, (column, page.width - column))]), gap(10)]


def _shown(opacity: float, threshold: float, mode: str, sign: str) -> str:
    signs = {"both": "both signs", "positive": "positive only", "negative": "negative only"}[sign]
    parts = ["contours" if mode == "contour" else "fill", signs, f"opacity {fmt.percent(opacity)}"]
    if threshold:
        parts.append(f"hidden below {fmt.percent(threshold)} of the scale")
    return ", ".join(parts)


def _completeness(error: float | None, converged: bool) -> str:
    if error is None:
        return "the method promises no sum"
    return f"{fmt.percent(error)} of the change in output{'' if converged else ', not converged'}"


def _effort(forwards: int, backwards: int, seconds: float) -> str:
    back = f", {backwards} backward" if backwards else ""
    return f"{forwards} forward{back} passes, {fmt.duration(seconds)}"


def reader(case: CaseReview, page: Page) -> list[Flowable]:
    heading = Heading("Reader", "heading", "reader")
    impression = case.impression.strip()
    words: list[Flowable] = []
    if impression:
        for part in impression.split("\n\n"):
            words += [paragraph(part.strip(), style("body"), page.width, justify_rtl=True), gap(4)]
    else:
        words = [Paragraph("No impression was recorded.", style("note"))]
    name = case.reader.strip()
    return [CondPageBreak(50 * mm), heading, *words, KeepTogether([gap(6), SignatureLine(name, page.width)])]


class SignatureLine(Flowable):
    """Lines for name, date and signature."""

    def __init__(self, name: str, width: float) -> None:
        super().__init__()
        self.name, self.width, self.height = name, width, 34.0

    def wrap(self, _width: float, _height: float) -> tuple[float, float]:
        return self.width, self.height

    def draw(self) -> None:
        from xai_engine.evidence import typeset
        from xai_engine.evidence.figures import INK, SOFT, draw_text

        canvas = self.canv
        columns = ((0.0, 0.40, "Name"), (0.44, 0.60, "Date"), (0.64, 1.0, "Signature"))
        for start, stop, label in columns:
            canvas.setStrokeColor(SOFT)
            canvas.setLineWidth(0.5)
            canvas.line(start * self.width, 11, stop * self.width, 11)
            canvas.setFillColor(SOFT)
            draw_text(canvas, start * self.width, 2, label, 6.5)
        text = typeset.line(self.name, 80)
        size = 8.5 * min(1.0, 0.40 * self.width / max(typeset.width(text, 8.5), 1.0))
        canvas.setFillColor(INK)
        draw_text(canvas, 0, 14, text, size)
