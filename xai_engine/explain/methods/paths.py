"""Relatives of Integrated Gradients: another path, or regions instead of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods import shared
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class GuidedIntegratedGradients(Method):
    """Integrated gradients along a path that moves the least sensitive pixels first."""

    name: ClassVar[str] = "guided-ig"
    title: ClassVar[str] = "Guided Integrated Gradients"
    summary: ClassVar[str] = (
        "Integrated Gradients on a path chosen by the network: pixels to which the score is least sensitive move first."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "one forward and one backward pass per step, one after the other; 64 to 256 steps"
    reading: ClassVar[str] = (
        "Read it like Integrated Gradients: values add up to the difference in score between the baseline and this image. "
        "Steep places that have nothing to do with the finding are avoided on the way, so the map is less grainy. "
        "The path belongs to this image, which makes values of two images less comparable than with the straight path. "
        "If the map says it did not converge, sums are off by the completeness error shown."
    )
    source: ClassVar[str] = (
        "Kapishnikov et al. 2021, Guided Integrated Gradients: An Adaptive Path Method for Removing Noise, CVPR"
    )
    default_scale: ClassVar[float] = 0.02

    baseline: str = shared.baseline()
    blur: float = shared.blur()
    steps: int = parameter(
        64, unit="steps", low=2, high=1024, meaning="Steps of the path before any refinement."
    )
    max_steps: int = parameter(
        256,
        unit="steps",
        low=2,
        high=2048,
        meaning="Steps at which refinement ends; equal to `steps` switches it off.",
    )
    fraction: float = parameter(
        0.25,
        low=0.01,
        high=1.0,
        meaning="Share of the pixels that may move at a time, the least sensitive first.",
    )
    deviation: float = parameter(
        0.02,
        low=0.0,
        high=1.0,
        meaning="How far a pixel may be ahead of or behind the straight path; 0 gives Integrated Gradients.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import guided_path

        return guided_path.explain(self, session)


@dataclass(frozen=True)
class Xrai(Method):
    """Regions ranked by the integrated gradients in them."""

    name: ClassVar[str] = "xrai"
    title: ClassVar[str] = "XRAI regions"
    summary: ClassVar[str] = (
        "Cuts the image into overlapping regions of several sizes and orders them by the Integrated Gradients in them."
    )
    family: ClassVar[Family] = "gradient"
    unit: ClassVar[str] = "logit per pixel"
    cost: ClassVar[str] = "two Integrated Gradients: one forward and one backward pass per step and baseline"
    reading: ClassVar[str] = (
        "Each region has one value, the mean attribution of its pixels; value times area is the region's share of the score. "
        "Regions follow edges of the image, so they are easier to name than single pixels. "
        "The sum over the image is the difference in score to a black and to a white image, averaged. "
        "Where a region ends is a property of the picture, not of the network."
    )
    source: ClassVar[str] = "Kapishnikov et al. 2019, XRAI: Better Attributions Through Regions, ICCV"
    default_scale: ClassVar[float] = 0.005

    steps: int = parameter(
        32, unit="steps", low=2, high=1024, meaning="Steps per baseline before any refinement."
    )
    max_steps: int = parameter(
        128, unit="steps", low=2, high=2048, meaning="Steps per baseline at which refinement ends."
    )
    smallest: float = parameter(
        0.3,
        unit="% of the image",
        low=0.02,
        high=20.0,
        meaning="Area of the smallest region that is cut out.",
    )
    margin: int = parameter(
        5,
        unit="grid pixels",
        low=0,
        high=30,
        meaning="By how much regions are widened, so that edges lie inside.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import xrai

        return xrai.explain(self, session)


METHODS: tuple[type[Method], ...] = (GuidedIntegratedGradients, Xrai)
