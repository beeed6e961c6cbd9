"""Methods that read the attention weights of transformers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.protocol import Explainable
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class _Attention(Method):
    family: ClassVar[Family] = "attention"
    signed: ClassVar[bool] = False

    @classmethod
    def unsuited(cls, classifier: Explainable) -> str:
        from xai_engine.explain.compute import attention

        try:
            attention.attending(classifier)
        except UnsupportedModel as error:
            return str(error)
        return ""


@dataclass(frozen=True)
class AttentionRollout(_Attention):
    """Attention multiplied through the layers."""

    name: ClassVar[str] = "attention-rollout"
    title: ClassVar[str] = "Attention rollout"
    summary: ClassVar[str] = (
        "Multiplies a transformer's attention through its layers: from where in the image the answer can have come."
    )
    unit: ClassVar[str] = "times an even share"
    cost: ClassVar[str] = "one forward pass"
    reading: ClassVar[str] = (
        "A value of 1 means that the patch is looked at as much as it would be if all patches were looked at alike. "
        "It knows nothing of the class and has no sign: it tells where the network looks, not what it makes of it. "
        "A map of one value per patch tells the zone, never the outline."
    )
    source: ClassVar[str] = "Abnar & Zuidema 2020, Quantifying Attention Flow in Transformers, ACL"
    default_scale: ClassVar[float] = 3.0

    heads: str = parameter(
        "mean",
        choices=("mean", "max", "min"),
        meaning="How the heads of a layer are put together: their mean, the strongest or the weakest for each pair.",
    )

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import attention

        return attention.rollout(self, session)


@dataclass(frozen=True)
class AttentionRelevance(_Attention):
    """Attention weighted by its gradient, carried through the layers."""

    name: ClassVar[str] = "attention-relevance"
    title: ClassVar[str] = "Attention relevance"
    summary: ClassVar[str] = (
        "Attention counts only where raising it would raise the score, carried through the layers of a transformer."
    )
    unit: ClassVar[str] = "relative"
    cost: ClassVar[str] = "one forward and one backward pass"
    reading: ClassVar[str] = (
        "High values mark patches whose attention speaks for the target; what speaks against it is not shown. "
        "Values have no unit: compare them within one model only. "
        "A map of one value per patch tells the zone, never the outline."
    )
    source: ClassVar[str] = (
        "Chefer, Gur & Wolf 2021, Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder "
        "Transformers, ICCV, section 3"
    )
    default_scale: ClassVar[float] = 0.02

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import attention

        return attention.relevance(self, session)


METHODS: tuple[type[Method], ...] = (AttentionRollout, AttentionRelevance)
