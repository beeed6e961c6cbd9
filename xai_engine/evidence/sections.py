"""The report's findings: study, prediction, radiograph, maps, regions, reader."""

from __future__ import annotations

from math import isfinite

import numpy as np
import numpy.typing as npt
from reportlab.lib.units import mm
from reportlab.platypus import CondPageBreak, Flowable, KeepTogether, Paragraph

from xai_engine.evidence import format as fmt
from xai_engine.evidence import layout
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
from xai_engine.evidence.layout import Heading, Page, bullets, facts, gap, grid, style
from xai_engine.evidence.record import region_ids
from xai_engine.evidence.typeset import paragraph
from xai_engine.radiograph import colour

Grey = npt.NDArray[np.uint8]
_MAPS_ABREAST = 4


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
        ("File", f"{r.file_format}, {r.transfer_syntax}" if r.transfer_syntax else r.file_format),
    ]
    out: list[Flowable] = []
    if s.synthetic:
        words = "Synthetic image: computed, not taken. No patient."
        out += [layout.box([Paragraph(words, style("alert"))], page.width, alert=True), gap(5)]
    out += [
        facts(rows, page.width, columns=2, label=24 * mm),
        facts([("Pixel spacing", fmt.spacing(r.spacing))], page.width, label=24 * mm),
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
    left = [
        paragraph(p.label[:1].upper() + p.label[1:], style("big"), 62 * mm, limit=60),
        paragraph(
            f"{fmt.probability(p.probability)} calibrated probability of pneumonia", style("value"), 62 * mm
        ),
        gap(3),
        ProbabilityScale(
            p.probability, p.uncertainty if isfinite(p.uncertainty) else 0.0, p.threshold, 62 * mm
        ),
    ]
    sentences = [
        f"At or above the threshold of {fmt.probability(p.threshold)} (operating point “{point.name}”) "
        f"the model calls pneumonia; this image {'reaches' if above else 'stays below'} it.",
        f"At this threshold: sensitivity {fmt.interval(point.sensitivity)}, "
        f"specificity {fmt.interval(point.specificity)}, measured on {point.population}.",
        f"Uncertainty ± {fmt.probability(p.uncertainty)}: standard deviation of the probability over small, "
        f"harmless changes of the image. Logit {fmt.logit(p.logit)}.",
    ]
    if abs(p.probability - p.threshold) <= p.uncertainty:
        sentences.append("The threshold lies within the uncertainty: take the call as undecided.")
    right = [paragraph(text, style("note"), page.width - 70 * mm, limit=1000) for text in sentences]
    right.append(paragraph(f"Model: {model}", style("small"), page.width - 70 * mm, limit=200))
    return [
        heading,
        KeepTogether([layout.side_by_side(left, right, (70 * mm, page.width - 70 * mm))]),
    ]


def radiograph(case: CaseReview, page: Page, grey: Grey) -> list[Flowable]:
    size = frame(case.radiograph, page.width, page.height - 127 * mm)
    picture = Picture(
        jpeg(shrink(grey, size)), size, case.radiograph, case.regions, names=True, scale_bar=True
    )
    inverted = " Shown inverted." if case.invert else ""
    caption = f"Shown with {fmt.voi(case.voi, case.voi_key)}.{inverted} Not for primary reading in print."
    beside = page.width - size.width - 6 * mm
    text = paragraph(caption, style("small"), max(beside, 36 * mm), limit=400)
    body: list[Flowable] = [picture, gap(2), paragraph(caption, style("small"), page.width, limit=400)]
    if beside >= 36 * mm:
        body = [layout.side_by_side([picture], [text], (size.width + 6 * mm, beside))]
    return [KeepTogether([Heading("Radiograph", "heading", "radiograph"), *body])]


def maps(case: CaseReview, page: Page, grey: Grey) -> list[Flowable]:
    if not case.explanations:
        return []
    out: list[Flowable] = [CondPageBreak(120 * mm), Heading("Explanation maps", "heading", "maps")]
    size = frame(case.radiograph, 0.5 * page.width - 6 * mm, 0.325 * page.height)
    small = shrink(grey, size)
    for index, name in enumerate(case.names()):
        out += _map(case, page, small, size, index, name)
    return out


def _map(case: CaseReview, page: Page, grey: Grey, size: Frame, index: int, name: str) -> list[Flowable]:
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
    for key, value in list(case.reliability.get(name, {}).items())[:4]:
        rows.append((f"Trust: {key.replace('_', ' ')}", fmt.parameter(value)))
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
    settings = "; ".join(f"{key.replace('_', ' ')} {fmt.parameter(value)}" for key, value in e.params.items())
    table = facts(rows, right - 1, label=29 * mm, limit=140)
    words = [
        (f"Parameters: {settings or 'none'}.", "note", 3000),
        (f"How to read it: {read_map(case.prediction.model, e.method)}", "small", 1500),
    ]

    def prose(room: float) -> list[Flowable]:
        return [paragraph(text, style(kind), room, limit=limit) for text, kind, limit in words]

    beside: list[Flowable] = [table, gap(6), *prose(right)]
    below: list[Flowable] = []
    if sum(item.wrap(right, 1e5)[1] for item in beside) > 0.8 * page.height:  # a table row cannot be split
        beside, below = [table], [gap(4), *prose(page.width)]
    body.append(layout.side_by_side([picture, gap(4), bar], beside, (column, right)))
    return [KeepTogether([*body, *below, gap(14)])]


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


def regions(case: CaseReview, page: Page) -> list[Flowable]:
    if not case.regions:
        return []
    unit = case.radiograph.unit or "pixel value"
    rows = []
    for number, (key, region) in enumerate(zip(region_ids(case.regions), case.regions, strict=True), 1):
        s = case.statistics.get(key)
        kind = f"{number}  {region.name} ({region.kind})" if region.name else f"{number}  {region.kind}"
        if s is None:
            rows.append([kind, *[fmt.NONE] * 7])
            continue
        values = (s.mean, s.sd, s.minimum, s.maximum, s.median)
        rows.append([kind, fmt.area(s.area_mm2), str(s.pixels), *map(fmt.number, values)])
    number_width = (page.width - 42 * mm) / 7
    spacing = case.radiograph.spacing
    where = fmt.SPACING_MEANING[spacing.source] if spacing else "the file states no pixel spacing: no areas"
    out: list[Flowable] = [
        CondPageBreak(45 * mm),
        Heading("Regions", "heading", "regions"),
        grid(
            ["Region", "Area (mm²)", "Pixels", "Mean", "SD", "Min", "Max", "Median"],
            rows,
            [42 * mm, *[number_width] * 7],
        ),
        gap(3),
        paragraph(
            f"Mean to median in {unit}. Area: {where}. SD: of the sample (n − 1). "
            "A pixel belongs to a region when its centre lies inside; padding is left out.",
            style("small"),
            page.width,
        ),
    ]
    return out + _shares(case, page)


def _shares(case: CaseReview, page: Page) -> list[Flowable]:
    """For each region and map the share of the map's positive and negative attribution inside."""
    names = [name for name in case.names() if any(name in s.maps for s in case.statistics.values())]
    titles = dict(zip(case.names(), (e.title or e.method for e in case.explanations), strict=True))
    out: list[Flowable] = []
    for start in range(0, len(names), _MAPS_ABREAST):
        part = names[start : start + _MAPS_ABREAST]
        rows = []
        for number, (key, region) in enumerate(zip(region_ids(case.regions), case.regions, strict=True), 1):
            s = case.statistics.get(key)
            cells = [s.maps.get(name) if s else None for name in part]
            rows.append(
                [f"{number}  {region.name or region.kind}"]
                + [
                    f"{fmt.percent(c.share_positive)} / {fmt.percent(c.share_negative)}" if c else fmt.NONE
                    for c in cells
                ]
            )
        each = min(36 * mm, (page.width - 42 * mm) / len(part))
        out += [gap(5), grid(["Region", *(titles[n] for n in part)], rows, [42 * mm, *[each] * len(part)])]
    if not out:
        return []
    words = "Share of all positive / of all negative attribution in the image that lies inside the region."
    return [
        gap(8),
        CondPageBreak(30 * mm),
        Heading("Attribution inside the regions", "subheading", "shares", level=1),
        *out[1:],
        gap(3),
        Paragraph(words, style("small")),
    ]


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
