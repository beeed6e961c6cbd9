"""Class activation mapping: the network's own score of each cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.explain.methods.activation import _Cam
from xai_engine.explain.registry import Method

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class Cam(_Cam):
    """CAM: the score that each cell would give alone; the mean of the cells is the image's score, exactly."""

    name: ClassVar[str] = "cam"
    title: ClassVar[str] = "Class activation map"
    summary: ClassVar[str] = "The network's own score of each cell; their average is the score of the image."
    unit: ClassVar[str] = "logit"
    cost: ClassVar[str] = "five forward passes and a backward pass to the layer"
    reading: ClassVar[str] = (
        "Each value is the score that the network would give if the whole image looked like this cell: above zero it "
        "would say the finding is there, below zero that it is not. The average of the cells is the score of the image; "
        "nothing is left out, though cells over what the network was not shown are left uncoloured. "
        "A blurred map of a few cells across: it tells the zone, never the outline. "
        "A cell sees well beyond its own area, so colour may lie beside the structure that caused it."
    )
    source: ClassVar[str] = "Zhou et al. 2016, Learning Deep Features for Discriminative Localization, CVPR"
    default_scale: ClassVar[float] = 3.0

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import cam

        return cam.cam(self, session)


METHODS: tuple[type[Method], ...] = (Cam,)
