"""An evaluation as tables, for one self-contained HTML page and one PDF. Every value comes from the result."""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xai_engine.train import card

_GAP = 7.0  # points between columns
# points that a heading, its note and the first rows take, or all of it begins on the next page
_START = 110.0
Table = tuple[str, str, list[list[str]]]  # title, note, rows (the first is the head)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Every table of the pages that has rows. A naive floor stands in each table that measures separation or localisation."""
    out: list[Table] = []
    populations = result["populations"]
    figures = [["population", "figure", "value", "lower", "upper"]]
    figures += [
        [_text(row[0]), *(_text(c).replace("_", " ") for c in row[1:])]
        for row in card.flat(result)
        if not str(row[1]).startswith("auc ")
    ]
    out.append(("Figures", "Intervals are 95 %: DeLong for AUC (Newcombe where it is 0 or 1), Wilson for proportions, "
                "bootstrap for the others. Floors: auc naive … (models that know no chest), ece if perfect (a perfectly calibrated "
                "model on as many images).", figures))  # fmt: skip
    groups = [["population", "subgroup", "images", "positive", "AUC", "lower", "upper"]]
    for name, entry in populations.items():
        for group, values in entry["subgroups"].items():
            groups.append([name, group, *map(_text, (values["images"], values["positive"], *values["auc"]))])
        for kind, gap in entry.get("subgroup_gaps", {}).items():
            label = f"gap of {kind}: {gap['best']} − {gap['worst']}"
            groups.append([name, label, "", "", _text(gap["gap"]), "", ""])
        for words, area in card.floors(entry):
            groups.append([name, f"floor: {words}, all images", "", "", *map(_text, area)])
    out.append(("Subgroups", "Groups with at least five images of each class.", groups))
    if result.get("conformal"):
        rows = [["population", "coverage", "normal", "pneumonia", "mean size", "empty / one / both"]]
        for name, c in result["conformal"]["populations"].items():
            cells = [card.text_of(c[k]) for k in ("coverage", "coverage_normal", "coverage_pneumonia")]
            rows.append([name, *cells, _text(c["mean_size"]), " / ".join(map(str, c["sizes"]))])
        rate = result["conformal"]["error_rate"]
        out.append(("Conformal prediction sets", f"Chosen error rate {rate:g}; class-conditional limits of the bundle, from "
                    f"{result['conformal']['fitted_on']}. Floor: the set of both classes always covers, with size 2.", rows))  # fmt: skip
    if result.get("shortcuts"):
        rows = [["population", "images", "AUC", "lungs only", "fall", "outside only", "verdict"]]
        for name, c in result["shortcuts"].items():
            cells = [card.text_of(c[k]) for k in ("auc", "auc_lungs_only", "fall", "auc_outside_only")]
            verdict = c["verdict"] + ("" if c["certain"] else ", interval holds the limit")
            rows.append([name, _text(c["images"]), *cells, verdict])
        for name, entry in populations.items():
            rows += [
                [name, "", card.text_of(area), "", "", "", f"floor: {words}"]
                for words, area in card.floors(entry)
            ]
        out.append(("Shortcut check", "Letters, borders and all else outside the lungs erased; the check passes where the AUC falls "
                    "by at most 0.01. Outside only: what the model makes of the rest alone.", rows))  # fmt: skip
    if result.get("gate"):
        found = result["gate"]
        rows = [["kind", "images", "refused", "right reason", "reasons given", "source"]]
        for r in found["kinds"]:
            given = ", ".join(f"{k} {n}" for k, n in r["reasons"].items())
            rows.append(
                [
                    r["kind"],
                    _text(r["images"]),
                    card.text_of(r["refused"]),
                    card.text_of(r["right_reason"]),
                    given,
                    r["note"],
                ]
            )
        for name, share in found["frontal_refused"].items():
            rows.append(
                [
                    f"floor: real frontal radiographs, {name}",
                    "",
                    card.text_of(share),
                    "",
                    "",
                    "to be read, not refused",
                ]
            )
        out.append(("Gate", f"To be refused: {card.text_of(found['refused_all'])} of all, {card.text_of(found['refused_mean_of_kinds'])} "
                    "as mean of the kinds (without the DICOM files). Not measured: " + ", ".join(found["not_measured"]) + ".", rows))  # fmt: skip
    if result.get("localisation"):
        keys = ("images", "empty", "hit_rate", "hit_rate_non_empty", "auprc_mean", "auprc_pooled", "miou", "miou_non_empty", "threshold")  # fmt: skip
        rows = [["map", *(k.replace("_", " ") for k in keys)]]
        rows += [[n, *(_text(f.get(k)) for k in keys)] for n, f in result["localisation"].items()]
        out.append(("Localisation", "Against expert boxes. Floors: random, centre-prior, lung-prior. AUPRC ranks by the signed map; hit "
                    "rate and IoU take the positive part, empty maps count 0 unless a column says non-empty; thresholds come from validation images.", rows))  # fmt: skip
    for name, changes in result.get("robustness", {}).items():
        rows = [["change", "strength", "images", "AUC", "mean |Δp|", "refused"]]
        for r in changes:
            strength = f"{r['strength']:g} {r['unit']}".strip()
            rows.append(
                [
                    r["change"],
                    strength,
                    _text(r["images"]),
                    card.text_of(r["auc"]),
                    _text(r["mean_abs_change"]),
                    _text(r["refused"]),
                ]
            )
        for words, area in card.floors(populations.get(name, {})):
            rows.append([f"floor: {words}", "unchanged, all images", "", card.text_of(area), "", ""])
        out.append((f"Robustness, {name}", "The same images, changed.", rows))
    if result["unreadable"]:
        out.append(("Unreadable images", "", [["problem"], *([p] for p in result["unreadable"])]))
    # a head alone says nothing
    return [
        (title, note, [[_whole(c) for c in row] for row in rows])
        for title, note, rows in out
        if len(rows) > 1
    ]


def page(result: Mapping[str, Any], pictures: Mapping[str, bytes]) -> str:
    """One HTML page: pictures inside, everything escaped, nothing fetched."""
    model = result["model"]
    title = html.escape(f"{model['name']} {model['version']}, split {result['split']}")
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>"
        "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>body{{font:15px sans-serif;max-width:70em;margin:2em auto;padding:0 1em}}"
        "table{border-collapse:collapse;font-variant-numeric:tabular-nums}td,th{border-bottom:1px solid #ccc;"
        "padding:.2em .7em;text-align:left;vertical-align:top}th{vertical-align:bottom;border-color:#000}img{max-width:100%}</style>"
        f"<h1>{title}</h1><p>Model SHA-256 <code>{html.escape(model['sha256'])}</code>. Research use only.</p>"
    ]
    for name, data in pictures.items():
        code = base64.b64encode(data).decode()
        parts.append(f"<img alt='{html.escape(Path(name).stem)}' src='data:image/png;base64,{code}'>")
    for heading, note, rows in tables(result):
        parts.append(f"<h2>{html.escape(heading)}</h2><p>{html.escape(note)}</p><table>")
        for number, row in enumerate(rows):
            tag = "td" if number else "th"
            parts.append("<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in row) + "</tr>")
        parts.append("</table>")
    return "\n".join(parts) + "</html>\n"


def pdf(result: Mapping[str, Any], pictures: Mapping[str, bytes], path: Path) -> None:
    """The same as PDF, A4, with the report's fonts."""
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.platypus import CondPageBreak, Image, Paragraph, SimpleDocTemplate, Spacer
    from reportlab.platypus import Table as Grid

    from xai_engine.evidence import layout, typeset

    typeset.register()
    margin = 42.0
    width = A4[0] - 2 * margin
    body = ParagraphStyle("body", fontName=typeset.TEXT, fontSize=7.5, leading=10, splitLongWords=True)
    head = ParagraphStyle("head", parent=body, fontSize=12, leading=16, spaceBefore=10, keepWithNext=True)
    model = result["model"]

    def text(value: str, style: ParagraphStyle = body) -> Paragraph:
        return Paragraph(typeset.markup(typeset.clean(value)), style)

    story: list[Any] = [
        text(f"Evaluation of {model['name']} {model['version']}, split {result['split']}", head),
        text(f"Model SHA-256 {model['sha256']}. Research use only."),
        Spacer(1, 8),
    ]
    for row in _abreast(pictures.values(), width):
        images = [Image(io.BytesIO(data), w, h) for data, w, h in row]
        plain = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), 0)]
        story += [Grid([images], colWidths=[w for _, w, _ in row], style=plain, hAlign="LEFT"), Spacer(1, 6)]
    style = [("LINEBELOW", (0, 0), (-1, 0), 0.7, colors.black), ("LINEBELOW", (0, 1), (-1, -1), 0.25, colors.lightgrey),
             ("VALIGN", (0, 0), (-1, 0), "BOTTOM"), ("VALIGN", (0, 1), (-1, -1), "TOP"),
             ("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (0, 0), (-1, -1), _GAP),
             ("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5)]  # fmt: skip
    for heading, note, rows in tables(result):
        widths = layout.column_widths(rows, width, body.fontSize, _GAP + 0.5)
        cells = [[text(c) for c in row] for row in rows]
        story += [CondPageBreak(_START), text(heading, head), text(note), Spacer(1, 4)]
        whole = [*style, *layout.together(len(cells))]
        story.append(Grid(cells, colWidths=widths, repeatRows=1, style=whole, hAlign="LEFT"))
    SimpleDocTemplate(
        str(path), pagesize=A4, leftMargin=margin, rightMargin=margin, topMargin=margin, bottomMargin=margin,
        title=f"Evaluation of {model['name']}", invariant=1,
    ).build(story)  # fmt: skip


def _whole(cell: str) -> str:
    """A cell whose intervals, "0.93 (0.84–0.97)", stay on one line."""
    return re.sub(r"(?<=\d) (?=\()", "\u00a0", cell)


def _abreast(pictures: Iterable[bytes], width: float) -> Iterator[list[tuple[bytes, float, float]]]:
    """Rows of pictures with the size of each in points, as many beside each other as fit."""
    from reportlab.lib.utils import ImageReader

    row: list[tuple[bytes, float, float]] = []
    for data in pictures:
        w, h = ImageReader(io.BytesIO(data)).getSize()
        shown = min(width / 2 if w < 1.4 * h else width, w * 0.6)
        if row and sum(each[1] for each in row) + shown > width:
            yield row
            row = []
        row.append((data, shown, h * shown / w))
    if row:
        yield row


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
