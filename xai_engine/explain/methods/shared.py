"""Parameters that several methods have: declared once, so that they mean the same everywhere."""

from __future__ import annotations

from xai_engine.explain.registry import parameter

BASELINES = ("black", "mean", "blurred")


def baseline() -> str:
    """What the image is compared with."""
    value: str = parameter(
        "blurred",
        choices=BASELINES,
        meaning=(
            "What the image is compared with: black (the darkest grey of this image), mean (its average grey) or blurred "
            "(the same image without detail)."
        ),
    )
    return value


def replacement(default: str, choices: tuple[str, ...] = BASELINES) -> str:
    """What hidden parts are replaced with."""
    value: str = parameter(
        default,
        choices=choices,
        meaning=(
            "What hidden parts are replaced with: their own average grey (superpixel), the image's average (mean), "
            "a blurred copy (blurred) or the image's darkest grey (black)."
        ),
    )
    return value


def blur() -> float:
    """Of the blurred image, as a baseline or behind hidden parts."""
    value: float = parameter(
        12.0,
        unit="grid pixels",
        low=1.0,
        high=100.0,
        meaning="Standard deviation of the Gaussian that makes the blurred image.",
    )
    return value


def noise() -> float:
    """Of noisy copies."""
    value: float = parameter(
        0.1,
        unit="of the image's grey range",
        low=0.001,
        high=1.0,
        meaning="Standard deviation of the noise that is added to the image.",
    )
    return value


def samples(default: int, meaning: str = "Noisy copies of the image to average over.") -> int:
    """Of gradient methods."""
    value: int = parameter(default, unit="images", low=2, high=2000, meaning=meaning)
    return value


def channels(default: int, meaning: str = "Channels used, the most active on this image first.") -> int:
    """Of a layer."""
    value: int = parameter(default, unit="channels", low=1, high=4096, meaning=meaning)
    return value
