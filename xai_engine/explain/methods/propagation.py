"""Methods that hand the score back layer by layer, with a rule for each kind of layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods import shared
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class Lrp(Method):
    """Layer-wise relevance propagation with conservation checked on every map."""

    name: ClassVar[str] = "lrp"
    title: ClassVar[str] = "Layer-wise relevance propagation"
    summary: ClassVar[str] = (
        "Hands the score back through the network, each layer sharing it among its inputs by what they contributed."
    )
    family: ClassVar[Family] = "propagation"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "two forward passes and about three backward passes"
    reading: ClassVar[str] = (
        "Each pixel shows its share of the score itself, not of a change against another image. "
        "The sum over a region is that region's share in logits; all pixels together give the score. "
        "What the network's biases contribute belongs to no pixel: it is spread over the area that the bias sees, "
        "which gives a smooth background, or left out if so asked. "
        "Other rules give other maps, so name the rule when you show one."
    )
    source: ClassVar[str] = (
        "Bach et al. 2015, PLOS ONE 10:e0130140; Montavon et al. 2019, Layer-Wise Relevance Propagation: An Overview"
    )
    default_scale: ClassVar[float] = 0.01

    rule: str = parameter(
        "composite",
        choices=("composite", "epsilon", "gamma"),
        meaning="composite: gamma in convolutions, epsilon elsewhere; or one rule everywhere.",
    )
    input: str = parameter(
        "box",
        choices=("box", "flat", "same"),
        meaning="Rule of the first convolution: box (between this image's darkest and brightest grey), flat (evenly over "
        "the pixels it sees) or the same as in the rest.",
    )
    gamma: float = parameter(
        0.25,
        low=0.0,
        high=100.0,
        meaning="By how much contributions in the direction of the sum are favoured.",
    )
    epsilon: float = parameter(
        0.01,
        unit="of the layer's typical value",
        low=0.0,
        high=1.0,
        meaning="How much weak, contradicting contributions are damped.",
    )
    bias: str = parameter(
        "shared",
        choices=("shared", "absorbed"),
        meaning="What biases contribute is spread over the area they see (shared), or left out of the map (absorbed).",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import relevance

        with session.one_thread():  # ratios of small sums make much of a last digit
            return relevance.explain(self, session)


@dataclass(frozen=True)
class DeepLift(Method):
    """DeepLIFT, rescale rule."""

    name: ClassVar[str] = "deep-lift"
    title: ClassVar[str] = "DeepLIFT"
    summary: ClassVar[str] = (
        "Compares every unit of the network with its state for a baseline image and shares the change in score by that."
    )
    family: ClassVar[Family] = "propagation"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "four forward passes and one to two backward passes"
    reading: ClassVar[str] = (
        "Values add up to the difference in score between this image and the baseline image. "
        "It is close to Integrated Gradients at a small part of the cost, and can differ where the network saturates. "
        "A pixel that looks the same in the baseline always gets zero. "
        "Look at sums over regions, not at single pixels."
    )
    source: ClassVar[str] = (
        "Shrikumar, Greenside & Kundaje 2017, Learning Important Features Through Propagating Activation Differences, ICML"
    )
    default_scale: ClassVar[float] = 0.02

    baseline: str = shared.baseline()
    blur: float = shared.blur()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import deeplift

        with session.one_thread():  # ratios of small sums make much of a last digit
            return deeplift.explain(self, session)


@dataclass(frozen=True)
class DeepShap(Method):
    """DeepLIFT averaged over random baselines."""

    name: ClassVar[str] = "deep-shap"
    title: ClassVar[str] = "Deep SHAP"
    summary: ClassVar[str] = (
        "DeepLIFT averaged over many baselines (flat images of its own greys, blurred copies), drawn at random."
    )
    family: ClassVar[Family] = "propagation"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "two forward passes and one to two backward passes per baseline"
    reading: ClassVar[str] = (
        "Read it like DeepLIFT: values add up to the difference between this score and the average score of the baselines. "
        "Because many baselines are used, no single grey level is blind. "
        "With another seed other baselines are drawn and it changes a little."
    )
    source: ClassVar[str] = (
        "Lundberg & Lee 2017, A Unified Approach to Interpreting Model Predictions, NeurIPS"
    )
    default_scale: ClassVar[float] = 0.02

    baselines: int = parameter(16, unit="images", low=1, high=500, meaning="Baseline images to compare with.")
    noise: float = shared.noise()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import deeplift

        with session.one_thread():  # ratios of small sums make much of a last digit
            return deeplift.explain_many(self, session)


METHODS: tuple[type[Method], ...] = (Lrp, DeepLift, DeepShap)
