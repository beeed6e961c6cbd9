"""What several methods agree on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from xai_engine.errors import UsageError
from xai_engine.explain import registry
from xai_engine.explain.registry import Family, Method, parameter

if TYPE_CHECKING:
    from xai_engine.explain.session import Attribution, Session


@dataclass(frozen=True)
class Consensus(Method):
    """Mean signed rank over the members' maps, and its spread."""

    name: ClassVar[str] = "consensus"
    title: ClassVar[str] = "Consensus"
    summary: ClassVar[str] = (
        "Runs several methods and shows per pixel on what they agree, and how far they differ."
    )
    family: ClassVar[Family] = "consensus"
    unit: ClassVar[str] = "mean signed rank"
    cost: ClassVar[str] = "the members' costs together"
    reading: ClassVar[str] = (
        "Each method's map is turned into ranks between -1 and 1, so that no method outweighs another, and averaged. "
        "Values near 1 or -1 mean that all methods place the pixel among the strongest, with the same sign; near 0 they "
        "find it weak or contradict each other. "
        "The agreement is the mean rank correlation between the methods; near 0 there is no consensus to speak of. "
        "Methods can agree and be wrong together, for they explain the same network."
    )
    source: ClassVar[str] = (
        "Rieger & Hansen 2020, A simple defense against adversarial attacks on heatmap explanations"
    )
    default_scale: ClassVar[float] = 1.0

    members: str = parameter(
        "integrated-gradients, grad-cam, lrp, lime",
        meaning="Names of at least two methods, separated by commas; each runs with its standard settings.",
    )
    smoothing: float = parameter(
        4.0,
        unit="grid pixels",
        low=0.0,
        high=50.0,
        meaning="Standard deviation of the Gaussian over each map first, so that fine-grained and coarse maps can be compared.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.methods()

    def methods(self) -> list[Method]:
        """The members, in order. Raises UsageError."""
        names = [name.strip() for name in self.members.split(",")]
        out = []
        for name in names:
            kind = registry.method_class(name)
            if kind is Consensus or not kind.signed:
                why = "is one itself" if kind is Consensus else "tells nothing for or against the target"
                raise UsageError(f"{self.name}: {name} cannot be a member, it {why}")
            out.append(registry.create(name, **({"magnitude": False} if name == "saliency" else {})))
        if len(set(names)) < max(2, len(names)):
            raise UsageError(f"{self.name}: members must be at least two different methods")
        return out

    def attribute(self, session: Session) -> Attribution:
        from xai_engine.explain.compute import consensus

        return consensus.explain(self, session)


METHODS: tuple[type[Method], ...] = (Consensus,)
