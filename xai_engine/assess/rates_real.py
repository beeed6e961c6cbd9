"""Verdicts of a shipped model on real radiographs: how often "use", "use with care" and "do not use" appear, and why.

Nobody knows which of these maps deserve which verdict, so these are frequencies, not rates of right and wrong. The same
images are also shown to the model with all its weights shuffled, which must never get anything but "do not use".
"""

from __future__ import annotations

import copy
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xai_engine.assess import randomise, verdict
from xai_engine.assess.card import assess
from xai_engine.assess.options import preset
from xai_engine.explain import registry
from xai_engine.radiograph.types import PixelSpacing, Radiograph
from xai_engine.runtime.run import Run

if TYPE_CHECKING:
    from xai_engine.classifier.predict import Classifier

METHODS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("grad-cam", {}),
    ("layer-cam", {}),
    ("integrated-gradients", {"steps": 16, "max_steps": 64}),
    ("lime", {"samples": 300}),
)
VERDICTS = ("use", "use with care", "do not use")
SETS = (  # folder, column of the class, its values for normal and pneumonia
    ("children", "kermany", "label", ("NORMAL", "PNEUMONIA")),
    ("adults", "nih", "rsna_target", ("0.0", "1.0")),
)
SEED = 81

Case = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Image:
    population: str
    label: str
    path: Path
    aspect: float  # width of a stored pixel over its height

    def read(self) -> Radiograph:
        from xai_engine.radiograph.read import read

        found = read(self.path)
        if self.aspect == 1.0:
            return found
        return replace(
            found, spacing=PixelSpacing(self.aspect, 1.0, "unknown", "proportions from the manifest")
        )


def images(data: Path, count: int) -> list[Image]:
    """`count` validation images, children and adults, normal and pneumonia in turns, drawn with a fixed seed."""
    groups: list[list[Image]] = []
    for population, folder, column, values in SETS:
        with (data / folder / "manifest.csv").open(newline="", encoding="utf-8") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] == "val"]
        for label, value in zip(("normal", "pneumonia"), values, strict=True):
            members = [row for row in rows if row[column] == value]
            order = np.random.default_rng([SEED, len(groups)]).permutation(len(members))
            groups.append([_image(data / folder, population, label, members[i]) for i in order])
    rounds = -(-count // len(groups))
    return [group[i] for i in range(rounds) for group in groups if i < len(group)][:count]


def _image(folder: Path, population: str, label: str, row: dict[str, str]) -> Image:
    """Both sets were squashed to a square; the manifests tell the proportions they had."""
    width, height = row["orig_width"], row["orig_height"]
    return Image(
        population, label, folder / row["file"], float(width) / float(height) if width and height else 1.0
    )


def measure(
    cases: Path, data: Path, count: int, shuffled: int, of: Callable[[Any, Any], Case], model: str | None
) -> None:
    """Append what is missing, one line of JSON per image and network. of: what is kept of a card and its map."""
    from xai_engine.classifier import bundle
    from xai_engine.runtime import device

    classifier = bundle.load(bundle.find(model), device.choose())
    chance = copy.copy(classifier)
    chance.network = randomise.randomised(classifier, 1.0, SEED, 0, how="shuffled").network
    done = {(c["network"], c["index"]) for c in load(cases)}
    with cases.open("a", encoding="utf-8") as out:
        for index, image in enumerate(images(data, count)):
            for network, member in (("shipped", classifier), ("shuffled", chance)):
                if (network, index) in done or (network == "shuffled" and index >= shuffled):
                    continue
                case = _case(classifier, member, image, of)
                out.write(json.dumps({"network": network, "index": index, **case}) + "\n")
                out.flush()
                verdicts = ", ".join(f"{m['method']}: {m['verdict']}" for m in case["maps"])
                about = f"{network} {index}: {image.population}, {image.label}"
                print(f"{about}; {verdicts or 'refused by the gate'}", file=sys.stderr)


def _case(owner: Classifier, member: Classifier, image: Image, of: Callable[[Any, Any], Case]) -> Case:
    """owner: whose gate and lungs decide what is shown; member: the network that is explained."""
    radiograph = image.read()
    prepared = owner.prepared([radiograph])[0]
    case: Case = {"population": image.population, "label": image.label, "maps": []}
    case["refused"] = bool(prepared.refusal)
    if prepared.refusal:
        return case
    shown = prepared.input
    target = owner.info.classes[-1]
    case["score"] = float(member.scores(member.tensor(shown), target)[0])
    lungs = None if prepared.lungs is None else prepared.lungs.in_grid(shown.transform)
    maps = [
        registry.create(name, **params).explain(member, shown, target, Run(SEED)) for name, params in METHODS
    ]
    cards = assess(member, shown, maps, lungs, preset("standard"), Run(SEED))
    case["maps"] = [of(c, e) for c, e in zip(cards, maps, strict=True)]
    return case


# ---- reading off -------------------------------------------------------------------------------------------------


def load(cases: Path) -> list[Case]:
    if not cases.is_file():
        return []
    return [json.loads(line) for line in cases.read_text(encoding="utf-8").splitlines() if line.strip()]


def block(cases: Sequence[Case], decided: Callable[..., str]) -> list[str]:
    """Lines of the document. decided(map, without=names): the verdict by the limits of today."""
    names = [name for name, _ in METHODS]
    out = [
        "Maps that got *use* / *use with care* / *do not use*; validation radiographs, which did not train the model. A map that is"
        " not faithful here is no false alarm: hidden in its order, the score moves no more than in a random one.",
        "",
        "| network | population | class | images | " + " | ".join(names) + " |",
        "|---|---|---|---|" + "---|" * len(names),
    ]
    groups = [("shipped", p, label) for p, *_ in SETS for label in ("normal", "pneumonia")]
    for network, population, label in [*groups, ("shipped", "all", "both"), ("shuffled", "all", "both")]:
        chosen = [
            c
            for c in cases
            if c["network"] == network
            and c["maps"]
            and population in ("all", c["population"])
            and label in ("both", c["label"])
        ]
        cells = []
        for name in names:
            found = [decided(m) for c in chosen for m in c["maps"] if m["method"] == name]
            cells.append(" / ".join(str(found.count(v)) for v in VERDICTS))
        out.append(f"| {network} | {population} | {label} | {len(chosen)} | " + " | ".join(cells) + " |")
    shipped = [m for c in cases if c["network"] == "shipped" for m in c["maps"]]
    every = Counter(decided(m) for m in shipped)
    refused = sum(c["refused"] for c in cases if c["network"] == "shipped")
    share = ", ".join(f"*{v}* {every[v]} ({100 * every[v] / max(len(shipped), 1):.0f} %)" for v in VERDICTS)
    out += [
        "",
        f"Of {len(shipped)} maps of the shipped model: {share}; images refused by the gate: {refused}.",
    ]
    for wanted in ("do not use", "use with care"):
        why = Counter(n for m in shipped if decided(m) == wanted for n in _reasons(m, wanted))
        listed = ", ".join(f"`{name}` {count}" for name, count in why.most_common(8))
        out.append(f"What led to *{wanted}* (a map may have several): {listed or 'nothing'}.")
    chance = [m for c in cases if c["network"] == "shuffled" for m in c["maps"]]
    alone = sum(decided(m, without=("weights_on_record",)) == "do not use" for m in chance)
    flagged = sum(decided(m) == "do not use" for m in chance)
    out.append(
        f"Shuffled weights: {flagged}/{len(chance)} maps *do not use*; {alone}/{len(chance)} by the other measures alone."
    )
    return out


def _reasons(found: Case, wanted: str) -> list[str]:
    grades = {
        n: grade if forced else verdict.grade(n, value)
        for n, (value, grade, forced) in found["findings"].items()
    }
    decisive = {n for n, limit in verdict.LIMITS.items() if limit.decisive}
    if wanted == "do not use":
        return [n for n, g in grades.items() if g == "poor" and n in decisive]
    caveat = [] if found["converged"] else ["not converged"]
    return caveat + [n for n, g in grades.items() if (g == "fair" and n in decisive) or g == "poor"]
