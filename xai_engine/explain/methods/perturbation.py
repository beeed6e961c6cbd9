"""Methods that change the image and watch the score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods import shared
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session

SEGMENTATIONS = ("slic", "quickshift", "felzenszwalb", "watershed")


@dataclass(frozen=True)
class _Superpixels(Method):
    family: ClassVar[Family] = "perturbation"
    unit: ClassVar[str] = "logit per superpixel"
    default_scale: ClassVar[float] = 0.3

    segmentation: str = parameter(
        "slic", choices=SEGMENTATIONS, meaning="How scikit-image divides the image into superpixels."
    )
    segments: int = parameter(
        60,
        unit="superpixels",
        low=2,
        high=400,
        meaning="Superpixels aimed at; never more, small ones are merged.",
    )
    compactness: float = parameter(
        0.1,
        low=0.001,
        high=10.0,
        meaning="SLIC and watershed: high values give squares, low values follow edges.",
    )
    replacement: str = shared.replacement("superpixel", ("superpixel", *shared.BASELINES))
    blur: float = shared.blur()


@dataclass(frozen=True)
class Lime(_Superpixels):
    """LIME on superpixels; the surrogate is solved as the lime package does."""

    name: ClassVar[str] = "lime"
    title: ClassVar[str] = "LIME"
    summary: ClassVar[str] = (
        "Hides random sets of superpixels and fits a linear model to the scores: how much each superpixel "
        "adds to the score."
    )
    cost: ClassVar[str] = "one forward pass per sample"
    reading: ClassVar[str] = (
        "Each superpixel has one value: by about how much the score falls, in logits, when it is replaced. "
        "The division into superpixels is arbitrary; a finding cut by its borders is shared between neighbours. "
        "The fit (R²) tells how well a simple sum describes the network around this image: below 0.5 the "
        "map must not be relied on. "
        "Repeating it with another seed shows how far it is chance."
    )
    source: ClassVar[str] = "Ribeiro, Singh & Guestrin 2016, KDD; Covert & Lee 2021 for stopping"

    samples: int = parameter(
        1000, unit="images", low=20, high=20000, meaning="Changed images to score, at most."
    )
    kernel_width: float = parameter(
        0.25,
        low=0.01,
        high=10.0,
        meaning="How fast images with more hidden parts lose weight (cosine distance).",
    )
    ridge: float = parameter(
        1.0, low=0.0, high=1000.0, meaning="Penalty of the linear model, as in the lime package."
    )
    tolerance: float = parameter(
        0.0,
        unit="of the largest value",
        low=0.0,
        high=1.0,
        meaning="Stop when every 95 % confidence interval is this narrow (half width); 0 uses all samples.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import lime

        return lime.explain(self, session)


@dataclass(frozen=True)
class KernelShap(_Superpixels):
    """Shapley values of superpixels by paired sampling, exact where they can be enumerated."""

    name: ClassVar[str] = "kernel-shap"
    title: ClassVar[str] = "KernelSHAP"
    summary: ClassVar[str] = (
        "Shares the difference in score to the fully replaced image fairly among the superpixels (Shapley values)."
    )
    cost: ClassVar[str] = "one forward pass per sample"
    reading: ClassVar[str] = (
        "Each superpixel has one value, in logits; all of them add up exactly to the difference between "
        "this image and the one in which everything is replaced. "
        "Superpixels that matter only together share the credit. "
        "The division into superpixels is arbitrary; the standard error tells how far values are chance."
    )
    source: ClassVar[str] = "Lundberg & Lee 2017, NeurIPS; Covert & Lee 2021, Improving KernelSHAP, AISTATS"

    samples: int = parameter(
        1000,
        unit="images",
        low=20,
        high=20000,
        meaning="Changed images to score; enough for all sets, the result is exact.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import shap

        return shap.kernel_shap(self, session)


@dataclass(frozen=True)
class Occlusion(Method):
    """Occlusion by a sliding window."""

    name: ClassVar[str] = "occlusion"
    title: ClassVar[str] = "Occlusion"
    summary: ClassVar[str] = (
        "Slides a window over the image, replaces what is under it, and records how far the score falls."
    )
    family: ClassVar[Family] = "perturbation"
    unit: ClassVar[str] = "logit per window"
    cost: ClassVar[str] = "one forward pass per position of the window"
    reading: ClassVar[str] = (
        "A value is the mean fall of the score, in logits, over the windows that covered the pixel. "
        "Positive areas speak for the target: the score falls when they are taken away. "
        "Findings larger than the window may stay unseen because what remains suffices. "
        "The patch itself is unusual to the network and may move the score."
    )
    source: ClassVar[str] = "Zeiler & Fergus 2014, Visualizing and Understanding Convolutional Networks"
    default_scale: ClassVar[float] = 0.5

    window: int = parameter(32, unit="grid pixels", low=1, high=256, meaning="Side of the square window.")
    stride: int = parameter(
        12, unit="grid pixels", low=1, high=256, meaning="Distance from one position to the next."
    )
    replacement: str = shared.replacement("mean")
    blur: float = shared.blur()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import windows

        return windows.occlusion(self, session)


@dataclass(frozen=True)
class Rise(Method):
    """RISE with contrast between shown and hidden."""

    name: ClassVar[str] = "rise"
    title: ClassVar[str] = "RISE"
    summary: ClassVar[str] = (
        "Scores the image through many random soft masks and compares where a pixel was shown with where "
        "it was hidden."
    )
    family: ClassVar[Family] = "perturbation"
    unit: ClassVar[str] = "logit"
    cost: ClassVar[str] = "one forward pass per mask"
    reading: ClassVar[str] = (
        "A value is the mean score of the masks that showed the pixel less that of the masks that hid it, in logits. "
        "Positive areas speak for the target. The map is smooth because the masks are: it tells the zone, "
        "not the outline. "
        "Spots that change with the seed are chance; more masks calm them."
    )
    source: ClassVar[str] = "Petsiuk, Das & Saenko 2018, RISE, BMVC"
    default_scale: ClassVar[float] = 0.5

    masks: int = parameter(2000, unit="images", low=20, high=20000, meaning="Random masks to score.")
    cells: int = parameter(8, unit="cells", low=2, high=32, meaning="Cells of a mask along each side.")
    shown: float = parameter(0.5, low=0.05, high=0.95, meaning="Share of the cells that are shown.")
    replacement: str = shared.replacement("blurred")
    blur: float = shared.blur()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import rise

        return rise.rise(self, session)


METHODS: tuple[type[Method], ...] = (Lime, KernelShap, Occlusion, Rise)
