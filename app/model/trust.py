"""How the trust in a map is said in a word: on its card, over the image, in the grid. Knows no Qt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.model.layer import Layer
from xai_engine.assess.types import Grade, Verdict
from xai_engine.classifier.types import ModelInfo
from xai_engine.explain import registry

Tone = Literal["good", "warning", "error", "muted"]


@dataclass(frozen=True, slots=True)
class Mark:
    """A word, a colour of the theme and an icon: each of them alone tells the state."""

    word: str
    tone: Tone
    icon: str


_VERDICTS: dict[Verdict, Mark] = {
    "use": Mark("use", "good", "check"),
    "use with care": Mark("use with care", "warning", "warning"),
    "do not use": Mark("do not use", "error", "refused"),
}
GRADES: dict[Grade, Mark] = {
    "good": Mark("good", "good", "check"),
    "fair": Mark("fair", "warning", "warning"),
    "poor": Mark("poor", "error", "error"),
    "info": Mark("no limit", "muted", "notice"),
}
NOT_ASSESSED = Mark("not assessed", "muted", "unknown")
ASSESSING = Mark("being assessed", "muted", "waiting")
NO_MAP = Mark("no explanation", "muted", "notice")


def assessable(layer: Layer) -> bool:
    """An activation of one channel is no explanation of the score: there is nothing to assess."""
    return layer.explanation.method in registry.names()


def testable(layer: Layer, model: ModelInfo | None) -> bool:
    """A map that was reopened from its folder lies on the image's pixels; only on the classifier's grid can it be assessed anew."""
    return assessable(layer) and (
        model is None or layer.explanation.values.shape == tuple(model.input_shape[1:3])
    )


def mark(layer: Layer, assessing: bool = False) -> Mark:
    """The trust state of a map. A card that is being renewed holds until the new one is there."""
    if layer.card is None:
        if not assessable(layer):
            return NO_MAP
        return ASSESSING if assessing else NOT_ASSESSED
    found = _VERDICTS[layer.card.verdict]
    return Mark(f"{found.word} (partial)", found.tone, found.icon) if layer.card.partial else found
