"""Methods that weight the maps inside the network (class activation maps)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods import shared
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


def _layer() -> str:
    value: str = parameter(
        "",
        meaning="Layer whose maps are used, by its name in the network; empty takes the model's default layer.",
    )
    return value


def _alignment() -> str:
    value: str = parameter(
        "receptive-field",
        choices=("receptive-field", "cells"),
        meaning=(
            "How the coarse map is laid over the image: at the centres of what each cell sees (strided "
            "convolutions look "
            "up and left of the cell's own area), or each cell over its own area, as other programs do."
        ),
    )
    return value


@dataclass(frozen=True)
class _Cam(Method):
    family: ClassVar[Family] = "activation"
    layer: str = _layer()
    alignment: str = _alignment()


@dataclass(frozen=True)
class GradCam(_Cam):
    """Grad-CAM with sign, in logits."""

    name: ClassVar[str] = "grad-cam"
    title: ClassVar[str] = "Grad-CAM"
    summary: ClassVar[str] = "Coarse map of where the network's late features raise or lower the score."
    unit: ClassVar[str] = "logit"
    cost: ClassVar[str] = "one forward pass and a backward pass to the layer"
    reading: ClassVar[str] = (
        "A blurred map of a few cells across: it tells the zone, never the outline. "
        "At the last layer of a network that averages its features, each value is what the score would be "
        "if the whole image looked "
        "like this cell (less a constant), and the cells' average is the score itself less that constant. "
        "At earlier layers it is a rough indication. "
        "A cell sees well beyond its own area, so colour may lie beside the structure that caused it."
    )
    source: ClassVar[str] = "Selvaraju et al. 2017, Grad-CAM, ICCV"
    default_scale: ClassVar[float] = 3.0

    relu: bool = parameter(
        False,
        meaning="Hide what speaks against the target, as the original method does; otherwise both signs are shown.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.grad_cam(self, session)


@dataclass(frozen=True)
class GradCamPlusPlus(_Cam):
    """Grad-CAM++."""

    name: ClassVar[str] = "grad-cam-plus-plus"
    title: ClassVar[str] = "Grad-CAM++"
    summary: ClassVar[str] = "Grad-CAM with weights that give several small findings a fairer share."
    unit: ClassVar[str] = "relative"
    cost: ClassVar[str] = "one forward pass and a backward pass to the layer"
    reading: ClassVar[str] = (
        "Read it like Grad-CAM: the zone, not the outline. It shows only what speaks for the target. "
        "Its values have no unit; compare them within one model only."
    )
    source: ClassVar[str] = "Chattopadhay et al. 2018, Grad-CAM++, WACV"
    default_scale: ClassVar[float] = 0.1
    signed: ClassVar[bool] = False

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.grad_cam_plus_plus(self, session)


@dataclass(frozen=True)
class LayerCam(_Cam):
    """LayerCAM."""

    name: ClassVar[str] = "layer-cam"
    title: ClassVar[str] = "LayerCAM"
    summary: ClassVar[str] = (
        "Weights every cell by its own gradient, so that earlier, finer layers can be shown too."
    )
    unit: ClassVar[str] = "logit"
    cost: ClassVar[str] = "one forward pass and a backward pass to the layer"
    reading: ClassVar[str] = (
        "Read it like Grad-CAM; with an earlier layer it is finer and closer to edges. "
        "It shows only what speaks for the target, so values do not add up to the score."
    )
    source: ClassVar[str] = "Jiang et al. 2021, LayerCAM, IEEE TIP"
    default_scale: ClassVar[float] = 10.0
    signed: ClassVar[bool] = False

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.layer_cam(self, session)


@dataclass(frozen=True)
class EigenCam(_Cam):
    """Eigen-CAM: first principal component of the layer's maps."""

    name: ClassVar[str] = "eigen-cam"
    title: ClassVar[str] = "Eigen-CAM"
    summary: ClassVar[str] = (
        "Where the layer's strongest common pattern lies; it knows nothing of the target."
    )
    unit: ClassVar[str] = "relative"
    cost: ClassVar[str] = "one forward pass"
    reading: ClassVar[str] = (
        "It shows what dominates the layer on this image, whatever the class. "
        "Agreement with the other maps is a hint, this map alone explains no decision."
    )
    source: ClassVar[str] = "Muhammad & Yeasin 2020, Eigen-CAM, IJCNN"
    default_scale: ClassVar[float] = 10.0
    signed: ClassVar[bool] = False

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.eigen_cam(self, session)


@dataclass(frozen=True)
class ScoreCam(_Cam):
    """Score-CAM."""

    name: ClassVar[str] = "score-cam"
    title: ClassVar[str] = "Score-CAM"
    summary: ClassVar[str] = (
        "Weights each inner map by the score of the image seen through it; needs no gradient."
    )
    unit: ClassVar[str] = "relative"
    cost: ClassVar[str] = "one forward pass per channel used"
    reading: ClassVar[str] = (
        "Read it like Grad-CAM: the zone, not the outline, and only what speaks for the target. "
        "The weights of the channels add up to one, so values compare within one model only."
    )
    source: ClassVar[str] = "Wang et al. 2020, Score-CAM, CVPR Workshops"
    default_scale: ClassVar[float] = 2.0
    signed: ClassVar[bool] = False

    channels: int = shared.channels(256)
    background: str = parameter(
        "mean",
        choices=("zero", "black", "mean"),
        meaning="Grey behind the parts of the image that a channel hides.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.score_cam(self, session)


@dataclass(frozen=True)
class AblationCam(_Cam):
    """Ablation-CAM."""

    name: ClassVar[str] = "ablation-cam"
    title: ClassVar[str] = "Ablation-CAM"
    summary: ClassVar[str] = (
        "Weights each inner map by how far the score falls when that map is switched off."
    )
    unit: ClassVar[str] = "relative"
    cost: ClassVar[str] = "one forward pass per channel used"
    reading: ClassVar[str] = (
        "Read it like Grad-CAM: the zone, not the outline. Positive zones hold features whose loss lowers the score. "
        "It measures real changes instead of gradients, and so is right where gradients vanish."
    )
    source: ClassVar[str] = "Desai & Ramaswamy 2020, Ablation-CAM, WACV"
    default_scale: ClassVar[float] = 1.0

    channels: int = shared.channels(256)

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.ablation_cam(self, session)


@dataclass(frozen=True)
class GuidedGradCam(_Cam):
    """Guided backpropagation times the positive part of Grad-CAM."""

    name: ClassVar[str] = "guided-grad-cam"
    title: ClassVar[str] = "Guided Grad-CAM"
    summary: ClassVar[str] = "The fine lines of guided backpropagation inside the zone of Grad-CAM."
    unit: ClassVar[str] = "relative"
    cost: ClassVar[str] = "two forward and two backward passes"
    reading: ClassVar[str] = (
        "Grad-CAM says where, the lines say which structures there excite the network. "
        "The lines inherit the weakness of guided backpropagation: they are partly an edge detector. "
        "Values have no unit."
    )
    source: ClassVar[str] = "Selvaraju et al. 2017, Grad-CAM, ICCV"
    default_scale: ClassVar[float] = 0.1

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.guided_grad_cam(self, session)


@dataclass(frozen=True)
class Activations(_Cam):
    """What the channels that matter most respond to."""

    name: ClassVar[str] = "activations"
    title: ClassVar[str] = "Strongest channels"
    summary: ClassVar[str] = "Where the channels of a layer that move the score most respond on this image."
    unit: ClassVar[str] = "logit"
    cost: ClassVar[str] = "one forward pass and a backward pass to the layer"
    reading: ClassVar[str] = (
        "Each channel's contribution to the score, in logits, is laid where that channel responds; their sum is shown, or the "
        "strongest one alone. "
        "Warm areas hold features that raise the score. The average of the cells is what the channels shown contribute. "
        "Read it like Grad-CAM: the zone, not the outline. "
        "Which structure a channel stands for is not known; the grid of single channels helps to guess."
    )
    source: ClassVar[str] = (
        "Zeiler & Fergus 2014, Visualizing and Understanding Convolutional Networks; contributions: gradient × activation, "
        "Shrikumar et al. 2016"
    )
    default_scale: ClassVar[float] = 3.0

    channels: int = shared.channels(16, "Channels shown, the largest contribution first.")
    show: str = parameter(
        "sum",
        choices=("sum", "strongest"),
        meaning="All these channels together, or the strongest of them alone.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import activation

        return activation.activations(self, session)


METHODS: tuple[type[Method], ...] = (
    GradCam,
    GradCamPlusPlus,
    LayerCam,
    EigenCam,
    ScoreCam,
    AblationCam,
    GuidedGradCam,
    Activations,
)
