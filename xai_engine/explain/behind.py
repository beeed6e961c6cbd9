"""What lies behind a cut through the network: passes that begin with an activation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from xai_engine.classifier.backends.base import Backend
from xai_engine.errors import UnsupportedModel
from xai_engine.explain.scoring import Finished

if TYPE_CHECKING:
    from xai_engine.explain.session import Session


# what a part of a network raises that is not its graph: torch.fx cannot tell, for example, that a test of a tensor's type failed
# only because it was being traced (MONAI's BasicUNet)
BROKEN = (RuntimeError, TypeError, ValueError, LookupError, AttributeError)


class Behind:
    """A part of the network on the backend that the policy asks for. backend: None where that is torch.

    Reduced precision begins with its first layer: those that suffer most from it lie before the cut (backends.mixed).
    """

    def __init__(self, session: Session, rest: nn.Module, backend: Backend | None) -> None:
        self.session, self.backend = session, backend
        self.rest = rest.to(memory_format=torch.channels_last)

    @staticmethod
    def of(session: Session, rest: nn.Module, shape: tuple[int, int, int], count: int) -> Behind:
        """rest: from the activation, of this shape for an image, to the head. count: passes that are to come."""
        backend = session.compiled_for(count, rest, shape, entrance=False)
        if backend is not None:
            session.alone()
        return Behind(session, rest, backend)

    def __call__(self, cut: torch.Tensor, precision: str) -> Finished:
        """Begin with (n, channels, rows, columns) at the cut; the returned function waits for the scores."""
        session, backend = self.session, self.backend
        if backend is not None and precision in backend.precisions:
            session.backend = backend.name
            outputs = backend.start(cut, precision)
            return lambda: session.classifier.score_of(outputs(), session.target)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            found = self.rest(cut.contiguous(memory_format=torch.channels_last)).float()
        return lambda: session.classifier.score_of(found, session.target)

    def agrees(self, cut: torch.Tensor, images: torch.Tensor, tolerance: float) -> bool:
        """Whether the scores from the cut on are those of the whole network, to `tolerance` of 1 + |score| and, where scores are
        small, to ten times that of the larger."""
        expected = self.session.scores(images)
        try:
            found = self.session.taken(self(cut, "fp32"))
        except (*BROKEN, UnsupportedModel):
            return False
        apart = abs(found - expected)
        close = bool((apart <= tolerance * (1.0 + abs(expected))).all())
        return close and float(apart.max()) <= 10.0 * tolerance * float(abs(expected).max())
