"""Methods that look for what decides: a smallest set of superpixels, or a mask that is optimised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods import shared
from xai_engine.explain.methods.perturbation import _Superpixels
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class Anchors(_Superpixels):
    """Anchors: the superpixels that hold the answer, found by a bandit's beam search."""

    name: ClassVar[str] = "anchors"
    title: ClassVar[str] = "Anchors"
    summary: ClassVar[str] = (
        "Finds few superpixels that keep the model's answer when everything else is hidden at random."
    )
    unit: ClassVar[str] = "gain in precision"
    cost: ClassVar[str] = "one forward pass per sample; stops when sure"
    reading: ClassVar[str] = (
        "Where these superpixels are left as they are, the answer stays the same in the share of images that is given as "
        "precision, with its interval, whatever else is hidden. "
        "A superpixel's value is what the precision loses without it; all others are zero. "
        "It explains the answer at the operating point, not the score. "
        "Another anchor may do as well; that a superpixel is not in it does not mean that it does not matter."
    )
    source: ClassVar[str] = (
        "Ribeiro, Singh & Guestrin 2018, Anchors: High-Precision Model-Agnostic Explanations, AAAI"
    )
    default_scale: ClassVar[float] = 0.5
    signed: ClassVar[bool] = False

    segments: int = parameter(
        30,
        unit="superpixels",
        low=2,
        high=400,
        meaning="Superpixels aimed at; never more, small ones are merged.",
    )
    replacement: str = shared.replacement("black", ("superpixel", *shared.BASELINES))
    precision: float = parameter(
        0.95,
        low=0.55,
        high=0.999,
        meaning="Share of the changed images in which the answer must stay the same.",
    )
    confidence: float = parameter(
        0.95,
        low=0.5,
        high=0.999,
        meaning="How sure the search must be of its choices, and the interval's confidence.",
    )
    tolerance: float = parameter(
        0.1, low=0.01, high=0.5, meaning="Differences in precision below this are not pursued."
    )
    beam: int = parameter(
        3, unit="sets", low=1, high=10, meaning="Sets of superpixels that are followed at a time."
    )
    largest: int = parameter(
        8, unit="superpixels", low=1, high=50, meaning="Superpixels in an anchor, at most."
    )
    samples: int = parameter(
        4000, unit="images", low=20, high=50000, meaning="Changed images to score, at most."
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import anchors

        return anchors.explain(self, session)


@dataclass(frozen=True)
class MeaningfulPerturbation(Method):
    """A smooth mask, optimised to change or to keep the answer."""

    name: ClassVar[str] = "meaningful-perturbation"
    title: ClassVar[str] = "Meaningful perturbation"
    summary: ClassVar[str] = (
        "Optimises a smooth mask: the least that must be hidden for the score to fall, or shown for it to stay."
    )
    family: ClassVar[Family] = "perturbation"
    unit: ClassVar[str] = "share of the mask"
    cost: ClassVar[str] = "one forward and one backward pass per iteration, one after the other"
    reading: ClassVar[str] = (
        "1 means part of the answer found, 0 not needed for it. "
        "With `hide`, hiding the marked area lowers the score as far as the figures say; with `keep`, the marked area alone "
        "holds it. "
        "The mask is one solution of several, made smooth by a penalty; it tells the zone, not the outline. "
        "Values have no sign."
    )
    source: ClassVar[str] = (
        "Fong & Vedaldi 2017, Interpretable Explanations of Black Boxes by Meaningful Perturbation, ICCV; `keep`: Fong, "
        "Patrick & Vedaldi 2019, Understanding Deep Networks via Extremal Perturbations, ICCV"
    )
    default_scale: ClassVar[float] = 1.0
    signed: ClassVar[bool] = False

    aim: str = parameter(
        "hide",
        choices=("hide", "keep"),
        meaning="hide: the smallest area whose loss lowers the score; keep: an area of given size that keeps it.",
    )
    replacement: str = shared.replacement("blurred")
    blur: float = shared.blur()
    cells: int = parameter(
        28,
        unit="cells",
        low=2,
        high=112,
        meaning="Cells of the mask along each side; fewer make it smoother.",
    )
    iterations: int = parameter(
        150, unit="iterations", low=5, high=2000, meaning="Steps of the optimisation."
    )
    area: float = parameter(
        0.1, unit="of the image", low=0.005, high=0.9, meaning="keep: size of the area that is shown."
    )
    area_weight: float = parameter(
        1.0,
        low=0.0,
        high=100.0,
        meaning="hide: penalty on the hidden area, against the whole fall of the score.",
    )
    smoothness: float = parameter(
        0.2,
        low=0.0,
        high=100.0,
        meaning="Penalty on differences between neighbouring cells (total variation).",
    )
    jitter: int = parameter(
        4,
        unit="grid pixels",
        low=0,
        high=32,
        meaning="The image is shifted at random by up to this much, so that no mask fits single pixels.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import mask

        return mask.explain(self, session)


METHODS: tuple[type[Method], ...] = (Anchors, MeaningfulPerturbation)
