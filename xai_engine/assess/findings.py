"""Measures as findings: numbers with a grade and a sentence that a radiologist can act on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from xai_engine.assess import areas, similarity, verdict
from xai_engine.assess.areas import Areas
from xai_engine.assess.blocks import Blocks
from xai_engine.assess.perturbation import AreaEffects, Curves, Removals, Road
from xai_engine.assess.reaction import Reactions
from xai_engine.assess.similarity import Likeness
from xai_engine.assess.types import Finding, Grade
from xai_engine.explain.types import Explanation

Map = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

BEYOND = 50.0  # logits that no trained and calibrated model gives
LARGEST_Z = 99.0
LARGEST_RATIO = 1000.0
LEAST_REACTION = (
    0.15  # logits, standard deviation over hidden parts: no score of use moves less on all images
)
AGREEMENT = 14  # blocks along the longer side on which maps of different methods are compared


def finding(
    name: str,
    value: float | None,
    sentence: str,
    unit: str = "",
    *,
    lower: float | None = None,
    upper: float | None = None,
    grade: Grade | None = None,
) -> Finding:
    return Finding(name, value, unit, _signs(sentence), grade or verdict.grade(name, value), lower, upper)


def _signs(sentence: str) -> str:
    """A true minus before a number, and none before zero, however the figures were put in."""
    text = re.sub(r"(?<![\w.,)])-(?=\d)", "−", sentence)
    return re.sub(r"−(0(?:\.0+)?)(?![.\d])", r"\1", text)


def percent(share: float) -> str:
    value = 100.0 * share
    if 0.0 < value < 0.5:
        return "less than 1 %"
    return f"{value:.0f} %" if value < 1000 else "more than 1000 %"


def logits(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") + " logits"


# ---- from the map alone ------------------------------------------------------------------------------------------


def of_map(e: Explanation, found: Areas) -> list[Finding]:
    """Emptiness, completeness, sparsity and the places where the map lies."""
    values = np.asarray(e.values, np.float64)
    inside = values[found.valid]
    extent = float(np.ptp(inside)) if inside.size else 0.0
    out = []
    if extent == 0.0:
        return [finding("map_range", 0.0, "The map is empty: it has one value everywhere.", e.unit)]
    if e.completeness_error is not None:
        error = float(e.completeness_error)
        verb = "accounts for" if error <= 0.05 else "misses"
        rest = (
            f"the change of the score up to {percent(error)}"
            if error <= 0.05
            else f"{percent(error)} of the change of the score"
        )
        out.append(finding("completeness_error", error, f"The map {verb} {rest}.", "of the change"))
    out += _places(values, found)
    concentration = areas.gini(values, found.valid)
    if concentration is not None:
        how = (
            "very concentrated"
            if concentration > 0.8
            else "concentrated"
            if concentration > 0.5
            else "spread widely"
        )
        out.append(finding("sparsity", concentration, f"The map is {how} (Gini index {concentration:.2f})."))
    return out


def _places(values: Map, found: Areas) -> list[Finding]:
    out = []
    total = max(int(found.valid.sum()), 1)
    if found.lungs is not None:
        part, area = areas.share(values, found.lungs), float(found.lungs.sum()) / total
        if part is not None:
            text = f"{percent(part)} of the attribution lies inside the lungs, which fill {percent(area)} of the image."
            out.append(finding("lungs_share", part, text, "of the attribution"))
            ratio = part / area
            text = f"Inside the lungs the attribution is {ratio:.1f} times as dense as it would be if spread evenly."
            out.append(finding("lungs_enrichment", ratio, text, "times"))
    part, area = areas.share(values, found.border), float(found.border.sum()) / total
    if part is not None and area > 0:
        out.append(
            finding(
                "border_share",
                part,
                f"{percent(part)} lies on the border of the image.",
                "of the attribution",
            )
        )
        ratio = part / area
        text = f"On the border the attribution is {ratio:.1f} times as dense as it would be if spread evenly."
        out.append(finding("border_enrichment", ratio, text, "times"))
    part = areas.share(values, found.text)
    if part is not None:
        text = (
            f"{percent(part)} lies on letters or markers in the image."
            if found.text.any()
            else "No letters or markers were found in the part of the image that the model sees."
        )
        out.append(finding("text_share", part, text, "of the attribution"))
    part = areas.share(values, ~found.valid)
    if part is not None and not found.valid.all():
        out.append(
            finding("padding_share", part, f"{percent(part)} lies outside the image.", "of the attribution")
        )
    return out


def of_agreement(e: Explanation, others: Sequence[Explanation], valid: Mask) -> list[Finding]:
    """Median rank correlation with the other maps over coarse blocks (maps differ in fineness by nature), and overlap of
    the highest tenth. Fewer than three other maps: no grade."""
    if not others:
        return []
    coarse = Blocks(valid, AGREEMENT)
    means = [coarse.means(m.values) for m in (e, *others)]
    everywhere = np.ones(coarse.count, bool)
    ranks = [similarity.spearman(means[0], m, everywhere) for m in means[1:]]
    tops = [similarity.top_overlap(e.values, o.values, valid) for o in others]
    rank, top = float(np.median(ranks)), float(np.median(tops))
    who = f"the {len(others)} other maps" if len(others) > 1 else "the other map"
    how = "agrees well" if rank >= 0.7 else "agrees in part" if rank >= 0.4 else "hardly agrees"
    few: Grade | None = "info" if len(others) < 3 else None
    return [
        finding(
            "agreement",
            rank,
            f"It {how} with {who} (rank correlation {rank:.2f}).",
            lower=min(ranks),
            upper=max(ranks),
            grade=few,
        ),
        finding(
            "top_overlap",
            top,
            f"Its highest tenth and that of {who} overlap by {percent(top)}.",
            lower=min(tops),
            upper=max(tops),
        ),
    ]


# ---- from the shared forward passes ------------------------------------------------------------------------------


def of_model(removals: Removals, effects: AreaEffects) -> list[Finding]:
    """What the score reacts to on this image, whatever the map.

    Effects of areas are in standard deviations of the score over random hidden sets: hiding something always moves a score,
    and an area counts by how far it stands out from any other.
    """
    if not removals.done:
        return []
    ends = removals.ends
    reaction = float(removals.falls().std())
    out = []
    if max(abs(ends.image), abs(ends.grey), abs(ends.blurred)) > BEYOND:
        text = f"The score of {ends.image:.3g} is far beyond what a trained model gives."
        out.append(finding("score_reaction", reaction, text, "logits", grade="poor"))
    else:
        word = "hardly reacts" if verdict.grade("score_reaction", reaction) != "good" else "reacts"
        text = f"The score {word} when parts of the image are hidden (standard deviation {logits(reaction)})."
        out.append(finding("score_reaction", reaction, text, "logits"))
    if not effects.done or reaction <= 0:
        return out
    for name, title in (("text", "letters and markers"), ("border", "the border")):
        fall = effects.fall(name)
        if fall is not None:
            ratio = min(abs(fall) / reaction, LARGEST_RATIO)
            text = f"Taking away {title} alone changes the score {_times(ratio)} as much as hiding random parts does."
            out.append(
                finding(f"{name}_effect", ratio, text + _advice(f"{name}_effect", ratio, title), "times")
            )
    inner, outer = effects.fall("lungs"), effects.fall("outside")
    if inner is not None and outer is not None:
        ratio = min(abs(outer) / reaction, LARGEST_RATIO)
        text = (
            f"Hiding what is outside the lungs changes the score by {_signed(-outer, 2)} logits, hiding the lungs by "
            f"{_signed(-inner, 2)} ({_times(ratio)} and {_times(abs(inner) / reaction)} as much as hiding random parts)."
        )
        advice = _advice("outside_effect", ratio, "what lies outside")
        out.append(finding("outside_effect", ratio, text + advice, "times"))
    return out


def _advice(name: str, ratio: float, title: str) -> str:
    """What to do where an area stands out, "" where it does not."""
    if verdict.grade(name, ratio) == "good":
        return ""
    return f" The model may judge by {title} instead of the lungs: do not rely on its verdict on this image."


def _times(ratio: float) -> str:
    return f"{min(ratio, LARGEST_RATIO):.1f} times"


def of_reaction(found: Reactions) -> Finding:
    """found: on this image and on the synthetic chests. A reaction below LEAST_REACTION counts as none, whatever the copies'."""
    size, chance = found.size(), found.largest_copy()
    ratio = min(size / max(chance, LEAST_REACTION), LARGEST_RATIO)
    verb = {
        "good": "reacts far more strongly to what it is shown than networks",
        "fair": "reacts more strongly to what it is shown than networks",
    }.get(verdict.grade("reaction_over_random", ratio), "reacts to what it is shown much as a network")
    text = (
        f"The model {verb} with random weights (standard deviation {logits(size)}; the largest of "
        f"{len(found.copies)} random ones {logits(chance)})."
    )
    return finding("reaction_over_random", ratio, text, "times")


def of_faithfulness(
    curves: Curves, removals: Removals, sums: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> list[Finding]:
    """The map (first row of `sums`) against random maps (the rest) by deletion, insertion, correlation, and all together.

    sums: (1 + random maps, blocks); sizes: (blocks,).
    """
    deletion, insertion = curves.deletion(), curves.insertion()
    told = removals.foretelling(sums, sizes)
    gains = np.stack([-deletion, insertion, told])  # high is good
    z, better = against_random(gains)
    measures = (
        ("deletion", "logits", deletion, "Blurring the highest areas first lowers the score more than"),
        (
            "insertion",
            "logits",
            insertion,
            "Bringing the highest areas back first raises the score more than",
        ),
        ("foretelling", "", told, "It foretells which hidden parts matter better than"),
    )
    out = []
    for index, (name, unit, raw, what) in enumerate(measures):
        sentence = f"{what} {better[index]} of {len(deletion) - 1} random maps (z = {_signed(z[index])})."
        out.append(finding(f"{name}_z", float(z[index]), sentence, "standard deviations"))
        low, high = (float(v) for v in np.percentile(raw[1:], (2.5, 97.5)))
        title = (
            f"Mean score during {name}" if unit else "Correlation of foretold and real changes of the score"
        )
        sentence = (
            f"{title}: {_signed(raw[0], 2)} (95 % of random maps: {_signed(low, 2)} to {_signed(high, 2)})."
        )
        suffix = "_auc" if unit else ""
        out.append(finding(f"{name}{suffix}", float(raw[0]), sentence, unit, lower=low, upper=high))
    missed = float(removals.infidelity(sums[:1])[0])
    sentence = f"The map leaves {percent(missed)} of the changes of the score untold when parts are hidden."
    out.append(finding("infidelity", missed, sentence, "of the changes"))
    together = combined(gains)
    text = {
        "good": "The marked areas drive the score: the map is better than random maps of the same smoothness",
        "fair": "The marked areas seem to drive the score, but the map is only a little better than random maps",
        "poor": _unfaithful(together, bool((sums[0] >= 0).all()), curves.ends.image),
        "info": "",
    }[verdict.grade("faithfulness", together)]
    sentence = f"{text} (z = {_signed(together)})."
    return [finding("faithfulness", together, sentence, "standard deviations"), *out]


def _unfaithful(z: float, one_sign: bool, score: float) -> str:
    """Why, and what to look at instead. one_sign: the map has no negative values; score: logit of the target."""
    if one_sign and score < 0:
        # Layer-CAM keeps positive parts only, by its ReLU, also where all that moves the score speaks against the finding
        return (
            "The score speaks against the finding, and this map marks only what speaks for it: it does not show what drives "
            "the score. Use a map with both signs, such as Integrated Gradients or LIME"
        )
    if z <= -verdict.LIMITS["faithfulness"].fair:
        return "The map points away from what drives the score: random maps of the same smoothness do better. Use another map"
    return (
        "The map does not show what drives the score: it is no better than random maps of the same smoothness. "
        "Use another map"
    )


def _signed(value: float, digits: int = 1) -> str:
    return f"{value:.{digits}f}".replace("-", "−")


def against_random(gains: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], list[int]]:
    """(measures, 1 + random maps), high is good -> z of the first column and how many random maps it beats."""
    own, random = gains[:, 0], gains[:, 1:]
    z = _standardised(own - random.mean(1), random.std(1, ddof=1), np.abs(gains).max(1))
    return z, [int(n) for n in (own[:, None] > random).sum(1)]


def combined(gains: npt.NDArray[np.float64]) -> float:
    """z of the mean of the standardised measures; the null is the same mean over the random maps."""
    random = gains[:, 1:]
    centre, spread = random.mean(1, keepdims=True), random.std(1, ddof=1, keepdims=True)
    scale = np.abs(gains).max(1)
    standard = np.stack(
        [_standardised(column - centre[:, 0], spread[:, 0], scale) for column in gains.T], axis=1
    ).mean(0)
    spread_of_mean = np.array([standard[1:].std(ddof=1)])
    return float(_standardised(standard[:1], spread_of_mean, np.ones(1))[0])


def _standardised(
    difference: npt.NDArray[np.float64], spread: npt.NDArray[np.float64], scale: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """difference / spread within ± LARGEST_Z; 0 where the random maps do not differ beyond rounding."""
    usable = spread > 1e-9 * np.maximum(scale, 1e-30)
    return np.clip(
        np.divide(difference, spread, out=np.zeros_like(difference), where=usable), -LARGEST_Z, LARGEST_Z
    )


def of_road(road: Road) -> Finding:
    value = road.value()
    text = "falls more" if value > 0 else "does not fall more"
    return finding(
        "road",
        value,
        f"With the gaps filled in, the score {text} when the highest areas go than when the lowest go (half the difference: {logits(value)}).",
        "logits",
    )


# ---- from repeated explanations ----------------------------------------------------------------------------------


def of_seeds(found: Sequence[Likeness], identical: bool, reduced: str) -> list[Finding]:
    if identical:
        return [
            finding("seed_stability", 1.0, "The method uses no chance: the same image gives the same map.")
        ]
    value = float(np.mean([f.value for f in found]))
    word = (
        "nearly the same"
        if value >= 0.9
        else "a similar"
        if value >= 0.8
        else "a rather different"
        if value >= 0.5
        else "another"
    )
    text = f"With another random seed the method draws {word} map (correlation {_signed(value, 2)}{_with(reduced)})."
    grade = verdict.grade("seed_stability", value)
    if reduced and grade == "poor":
        grade = "fair"  # fewer samples are less stable than the map itself: no proof against it
    return [
        finding(
            "seed_stability",
            value,
            text,
            lower=min(f.value for f in found),
            upper=max(f.value for f in found),
            grade=grade,
        ),
        *_details("seed", "between seeds", found),
    ]


def of_perturbation(found: Sequence[Likeness], changes: Sequence[float], reduced: str) -> list[Finding]:
    """changes: ‖change of the map‖ / ‖map‖ under each noise."""
    value = float(np.mean([f.value for f in found]))
    word = "hardly changes" if value >= 0.9 else "changes somewhat" if value >= 0.7 else "changes much"
    text = f"The map {word} under noise and a shift too small to see (correlation {_signed(value, 2)}{_with(reduced)})."
    out = [
        finding(
            "perturbation_stability",
            value,
            text,
            lower=min(f.value for f in found),
            upper=max(f.value for f in found),
        ),
        *_details("perturbation", "under noise and shift", found),
    ]
    if changes:
        text = f"Noise too small to see changes the map by up to {percent(max(changes))} of its size."
        out.append(finding("max_sensitivity", max(changes), text, "of the map"))
    return out


def _details(name: str, when: str, found: Sequence[Likeness]) -> list[Finding]:
    rank = float(np.mean([f.rank for f in found]))
    out = [finding(f"{name}_spearman", rank, f"Rank correlation {when}: {_signed(rank, 2)}.")]
    alike = [f.ssim for f in found if f.ssim is not None]
    if alike:
        value = float(np.mean(alike))
        out.append(finding(f"{name}_ssim", value, f"Structural similarity {when}: {_signed(value, 2)}."))
    return out


def of_randomisation(
    shares: Sequence[float], ranks: Sequence[float], alike: Sequence[float], reduced: str, where: str
) -> list[Finding]:
    """shares: of the layers randomised, the last one largest; ranks: similarity to the original map at each.

    where: on which images it was measured.
    """
    last = float(ranks[-1])
    how = percent(shares[-1])
    word = "changes" if last <= 0.5 else "changes only in part" if last <= 0.8 else "hardly changes"
    text = f"The method's map {word} when {how} of the network's layers get random weights (rank correlation {last:.2f} on {where}{_with(reduced)})."
    if last > 0.8:
        text = f"The method shows the image more than the model: its map {word} when the network's weights are random (rank correlation {last:.2f} on {where})."
    steps = ", ".join(f"{percent(s)}: {r:.2f}" for s, r in zip(shares, ranks, strict=True))
    out = [finding("randomisation", last, text, lower=min(ranks), upper=max(ranks))]
    out.append(
        finding(
            "randomisation_cascade",
            float(np.mean(ranks)),
            f"Rank correlation with the map of partly random networks, from the output down: {steps}.",
        )
    )
    if alike:
        text = f"Structural similarity to the map of the random network: {alike[-1]:.2f}."
        out.append(finding("randomisation_ssim", float(alike[-1]), text))
    return out


def _with(reduced: str) -> str:
    return f", with {reduced}" if reduced else ""
