"""Methods that follow the gradient from the score to the pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods import shared
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Integrated Gradients by the trapezoid or Gauss-Legendre rule, refined until it adds up.

    The trapezoid rule halves the intervals in which its sum is furthest from the change in score, which is known exactly.
    48 steps refined to 1 % are, in the mean of eight radiographs, as near to the limit of many steps as 64 of captum's
    (docs/decisions/0008-integrating-gradients.md).
    """

    name: ClassVar[str] = "integrated-gradients"
    title: ClassVar[str] = "Integrated Gradients"
    summary: ClassVar[str] = (
        "Splits the difference in score between this image and a featureless one over the pixels; the "
        "values add up to it."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "one forward and one backward pass per step; 48 to 512 steps"
    reading: ClassVar[str] = (
        "Each pixel shows how much it moved the score on the way from the baseline image to this one. "
        "The sum over any region is that region's share of the score, in logits; all pixels together give "
        "the whole difference. "
        "Single bright pixels mean little: look at where many of one colour gather, and at the sum over a region. "
        "A pixel that looks the same in the baseline always gets zero, so with a black baseline dark areas "
        "cannot light up. "
        "Steps are added until the sum is right to 1 %, and nothing is scaled; the completeness error shown is what was measured, "
        "of the sum over all pixels: single ones are less certain, and if the map says that it did not converge, so are sums."
    )
    source: ClassVar[str] = "Sundararajan, Taly & Yan 2017, Axiomatic Attribution for Deep Networks, ICML"
    default_scale: ClassVar[float] = 0.02

    baseline: str = shared.baseline()
    blur: float = shared.blur()
    rule: str = parameter(
        "trapezoid",
        choices=("trapezoid", "gauss-legendre"),
        meaning="How the integral is computed. The trapezoid rule keeps earlier steps and adds further ones where its sum is furthest off.",
    )
    steps: int = parameter(
        48, unit="steps", low=2, high=1024, meaning="Steps between baseline and image before any refinement."
    )
    max_steps: int = parameter(
        512,
        unit="steps",
        low=2,
        high=4096,
        meaning="Steps at which refinement ends; equal to `steps` switches it off.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import path

        return path.integrated_gradients(self, session)


@dataclass(frozen=True)
class ExpectedGradients(Method):
    """Expected gradients (GradientSHAP) over a family of baselines."""

    name: ClassVar[str] = "gradient-shap"
    title: ClassVar[str] = "Expected gradients"
    summary: ClassVar[str] = (
        "Integrated Gradients averaged over many baselines (flat images of its own greys, blurred copies), "
        "drawn at random."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "one forward and one backward pass per sample, a forward pass per baseline"
    reading: ClassVar[str] = (
        "Read it like Integrated Gradients: values add up to the difference between this score and the "
        "average score of the baselines. "
        "Because many baselines are used, no single grey level is blind. "
        "It is an average over random draws: with another seed it changes a little, and the completeness "
        "error says by how much the sum is off."
    )
    source: ClassVar[str] = "Erion et al. 2021, Nature Machine Intelligence 3:620; Lundberg & Lee 2017"
    default_scale: ClassVar[float] = 0.02

    samples: int = shared.samples(128, "Positions on paths from random baselines, four to a baseline.")
    noise: float = shared.noise()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import path

        return path.expected_gradients(self, session)


@dataclass(frozen=True)
class BlurIntegratedGradients(Method):
    """Integrated gradients along the blur scale."""

    name: ClassVar[str] = "blur-ig"
    title: ClassVar[str] = "Blur Integrated Gradients"
    summary: ClassVar[str] = (
        "Follows the score while the image comes into focus, and gives each pixel its part of the rise."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "one forward and one backward pass per step; 32 to 512 steps"
    reading: ClassVar[str] = (
        "The path runs through ever sharper versions of this image, so every image on it looks like a radiograph. "
        "Values add up to the difference in score between the sharp and the fully blurred image. "
        "Strong values lie on edges and fine structure; evenly grey areas stay near zero even if they matter."
    )
    source: ClassVar[str] = "Xu, Venugopalan & Sundararajan 2020, Attribution in Scale and Space, CVPR"
    default_scale: ClassVar[float] = 0.02

    blur: float = parameter(
        20.0,
        unit="grid pixels",
        low=1.0,
        high=100.0,
        meaning="Standard deviation of the blur at which the path begins.",
    )
    steps: int = parameter(
        32, unit="steps", low=2, high=1024, meaning="Steps of the path before any refinement."
    )
    max_steps: int = parameter(256, unit="steps", low=2, high=2048, meaning="Steps at which refinement ends.")

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import path

        return path.blur_integrated_gradients(self, session)


@dataclass(frozen=True)
class Saliency(Method):
    """Gradient of the score, or its magnitude."""

    name: ClassVar[str] = "saliency"
    title: ClassVar[str] = "Saliency"
    summary: ClassVar[str] = (
        "How much the score would change if a pixel were made slightly brighter or darker."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per input unit"
    cost: ClassVar[str] = "one forward and one backward pass"
    reading: ClassVar[str] = (
        "It shows where the score is sensitive, not what made it high: a pixel the score rests on may be dark here. "
        "Maps are grainy; only broad accumulations carry meaning. "
        "With magnitudes (the default) no value speaks for or against the target."
    )
    source: ClassVar[str] = "Simonyan, Vedaldi & Zisserman 2014, Deep Inside Convolutional Networks"
    default_scale: ClassVar[float] = 0.02

    magnitude: bool = parameter(
        True,
        meaning="Show the size of the gradient (largest over the channels); otherwise its sum with sign.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import gradient

        return gradient.saliency(self, session)


@dataclass(frozen=True)
class InputXGradient(Method):
    """(Input - baseline) x gradient: Integrated Gradients with one step at the image."""

    name: ClassVar[str] = "input-x-gradient"
    title: ClassVar[str] = "Input × gradient"
    summary: ClassVar[str] = (
        "The difference to a baseline image times the gradient: a first guess at each pixel's part."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "one forward and one backward pass"
    reading: ClassVar[str] = (
        "A quick, coarse relative of Integrated Gradients. "
        "Its values would add up to the change in score only if the network were linear; the completeness "
        "error tells how far it is from that. "
        "Use it for a first look, not for sums over regions."
    )
    source: ClassVar[str] = "Shrikumar, Greenside & Kundaje 2016, Not Just a Black Box"
    default_scale: ClassVar[float] = 0.04

    baseline: str = parameter(
        "zero",
        choices=("zero", *shared.BASELINES),
        meaning="What the image is compared with; zero is the network's own zero, the mean grey after standardisation.",
    )
    blur: float = shared.blur()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import gradient

        return gradient.input_x_gradient(self, session)


@dataclass(frozen=True)
class SmoothGrad(Method):
    """Mean gradient over noisy copies."""

    name: ClassVar[str] = "smooth-grad"
    title: ClassVar[str] = "SmoothGrad"
    summary: ClassVar[str] = (
        "Saliency averaged over many slightly noisy copies of the image, which calms its grain."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per input unit"
    cost: ClassVar[str] = "one forward and one backward pass per sample"
    reading: ClassVar[str] = (
        "Read it like saliency: where the score is sensitive, not what caused it. "
        "Positive (with sign) means that brightening the pixel raises the score. "
        "Smoothness is made by averaging and says nothing about trust."
    )
    source: ClassVar[str] = "Smilkov et al. 2017, SmoothGrad: removing noise by adding noise"
    default_scale: ClassVar[float] = 0.02

    samples: int = shared.samples(50)
    noise: float = shared.noise()
    average: str = parameter(
        "signed",
        choices=("signed", "absolute", "squared"),
        meaning="What is averaged: the gradient with its sign, its size, or its square.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import gradient

        return gradient.smooth_grad(self, session)


@dataclass(frozen=True)
class VarGrad(Method):
    """Variance of the gradient over noisy copies."""

    name: ClassVar[str] = "var-grad"
    title: ClassVar[str] = "VarGrad"
    summary: ClassVar[str] = "How much the gradient varies over slightly noisy copies of the image."
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "(logit per input unit)²"
    cost: ClassVar[str] = "one forward and one backward pass per sample"
    reading: ClassVar[str] = (
        "High values mark pixels whose influence depends on the rest of the image. "
        "It has no sign: it does not say whether a pixel speaks for or against the target."
    )
    source: ClassVar[str] = "Adebayo et al. 2018, Sanity Checks for Saliency Maps, NeurIPS"
    default_scale: ClassVar[float] = 0.0004
    signed: ClassVar[bool] = False

    samples: int = shared.samples(50)
    noise: float = shared.noise()

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import gradient

        return gradient.var_grad(self, session)


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """Gradient in which every rectifier passes only positive signals back."""

    name: ClassVar[str] = "guided-backprop"
    title: ClassVar[str] = "Guided backpropagation"
    summary: ClassVar[str] = (
        "A gradient that follows only what raises the score at every rectifier; crisp, but partly an edge detector."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "relative, per input unit"
    cost: ClassVar[str] = "one forward and one backward pass"
    reading: ClassVar[str] = (
        "Sharp outlines show which structures excite the network. "
        "Maps of this method look almost the same for untrained networks (Adebayo 2018), so it must not be "
        "used as evidence on its own. "
        "Values are not shares of the score."
    )
    source: ClassVar[str] = "Springenberg et al. 2015, Striving for Simplicity"
    default_scale: ClassVar[float] = 0.05

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import gradient

        return gradient.guided_backprop(self, session)


METHODS: tuple[type[Method], ...] = (
    IntegratedGradients,
    ExpectedGradients,
    BlurIntegratedGradients,
    Saliency,
    InputXGradient,
    SmoothGrad,
    VarGrad,
    GuidedBackprop,
)
