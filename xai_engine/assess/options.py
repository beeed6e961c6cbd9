"""How much work an assessment does. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xai_engine.errors import UsageError


@dataclass(frozen=True, slots=True)
class CardOptions:
    """Sizes of the measures; see docs/reliability.md. 0 leaves a measure out. Raises UsageError.

    random_maps: maps of the same smoothness that a map is compared with. curve_steps: steps of deletion and of insertion.
    masks: random sets of hidden blocks for infidelity and for the reaction of the score. road: share of the image imputed.
    companions: cheap maps of other methods made to judge agreement, at most. seeds, noises, shifts: repeated explanations
    per map. stages: of the cascade of the model randomisation; cascade: "model", measured once per model and method on
    synthetic chests and remembered, or "image", measured on this image. copies: models with random weights that the
    score's reaction is compared with, half drawn anew, half shuffled.
    rerun_forwards: a repeated explanation may cost as many forward passes
    (a backward counts as two); methods that sample use fewer samples to stay below it.
    """

    preset: str = "standard"
    random_maps: int = 20
    curve_steps: int = 5
    masks: int = 96
    road: tuple[float, ...] = (0.05, 0.15, 0.3)
    companions: int = 3
    seeds: int = 1
    noises: int = 2
    shifts: int = 1
    stages: int = 3
    cascade: Literal["model", "image"] = "model"
    copies: int = 10
    rerun_forwards: int = 100

    def __post_init__(self) -> None:
        for name, low, high in (
            ("random_maps", 20, 1000),
            ("curve_steps", 4, 200),
            ("masks", 24, 20000),
            ("companions", 0, 3),
            ("seeds", 0, 100),
            ("noises", 0, 100),
            ("shifts", 0, 4),
            ("stages", 0, 50),
            ("copies", 0, 50),
            ("rerun_forwards", 1, 1_000_000),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"card options: {name} = {value!r}: must be between {low} and {high}")
        if self.cascade not in ("model", "image"):
            raise UsageError(f"card options: cascade = {self.cascade!r}: must be model or image")
        if any(not 0.0 < share < 1.0 for share in self.road):
            raise UsageError(f"card options: road = {self.road!r}: shares must lie between 0 and 1")


PRESETS: dict[str, CardOptions] = {
    "quick": CardOptions(
        "quick", curve_steps=4, masks=48, road=(0.15,), seeds=0, noises=0, shifts=0, stages=0, copies=0
    ),
    "standard": CardOptions(),
    "audit": CardOptions(
        "audit",
        random_maps=100,
        curve_steps=20,
        masks=512,
        road=(0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5),
        seeds=4,
        noises=8,
        shifts=4,
        stages=6,
        cascade="image",
        copies=20,
        rerun_forwards=4000,
    ),
}


def preset(name: str) -> CardOptions:
    """Options by name: quick, standard or audit. Raises UsageError."""
    if name not in PRESETS:
        raise UsageError(f"reliability card {name!r}: must be one of {', '.join(PRESETS)}")
    return PRESETS[name]
