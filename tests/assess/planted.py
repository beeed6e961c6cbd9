"""Small images with planted truth, and networks that learned to look at it, at a marker, or at nothing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from xai_engine.classifier.network import SmallNet
from xai_engine.classifier.types import ModelInput
from xai_engine.explain.adapter import ModuleClassifier, input_of

SIDE = 64


@dataclass(frozen=True)
class Planted:
    image: npt.NDArray[np.float32]  # (64, 64)
    lungs: npt.NDArray[np.bool_]
    lesion: npt.NDArray[np.bool_]
    marker: npt.NDArray[np.bool_]

    @property
    def input(self) -> ModelInput:
        return input_of(self.image[None])


def lungs() -> npt.NDArray[np.bool_]:
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    out = np.zeros((SIDE, SIDE), bool)
    for centre in (20.0, 44.0):
        out |= ((rows - 33) / 23) ** 2 + ((columns - centre) / 10) ** 2 < 1
    return out


def chest(rng: np.random.Generator, lesion: bool, marker: bool) -> Planted:
    """Dark ellipses on a bright ground with smooth noise; a soft bright spot in a lung, a white letter in a corner."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    frequency = np.hypot(np.fft.fftfreq(SIDE)[:, None], np.fft.rfftfreq(SIDE)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((SIDE, SIDE))) / frequency, s=(SIDE, SIDE))
    inside = lungs()
    image = np.where(inside, -0.8, 0.3) + 0.35 * noise / noise.std()
    spot, letter = np.zeros_like(inside), np.zeros_like(inside)
    if lesion:
        row, column = rng.uniform(20, 46), rng.choice([20.0, 44.0]) + rng.uniform(-3, 3)
        bump = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 3.5**2))
        image += 1.8 * bump
        spot = bump > 0.3
    if marker:
        top, left = rng.integers(2, 5), rng.choice([2, 55])
        letter[top : top + 6, left : left + 2] = True
        letter[top + 4 : top + 6, left : left + 5] = True
        image[letter] = 3.0
    return Planted(np.clip(image, -3, 3).astype(np.float32), inside, spot, letter)


def _distracted(p: Planted, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The image with what is not the lesion blurred or taken from another: a network learns not to care."""
    image = p.image.copy()
    blurred = gaussian_filter(image, rng.uniform(2, 8))
    other = chest(rng, False, bool(rng.random() < 0.5)).image
    replacement = (blurred, np.full_like(image, image.mean()), other)[rng.integers(3)]
    where = np.zeros((SIDE, SIDE), bool)
    if rng.random() < 0.5:
        where |= ~p.lungs
    if rng.random() < 0.7:
        coarse = rng.random((8, 8)) < rng.uniform(0.1, 0.9)
        where |= np.kron(coarse, np.ones((8, 8), bool))
    image[where & ~p.lesion] = replacement[where & ~p.lesion]
    return image


@cache
def trained(cause: str, seed: int = 0, steps: int = 200) -> nn.Module:
    """A network whose training labels were "there is a lesion" or "there is a marker"; the other was a coin toss."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.manual_seed(seed)
    rng = np.random.default_rng([11, seed])
    try:
        net = SmallNet(1, 1, 8).train()
        optimiser = torch.optim.Adam(net.parameters(), 5e-3)
        for _ in range(steps):
            flags = rng.random((32, 2)) < 0.5
            if cause == "lesion":
                images = np.stack([_distracted(chest(rng, *f), rng) for f in flags])[:, None]
            else:
                images = np.stack([chest(rng, *f).image for f in flags])[:, None]
            labels = torch.from_numpy(flags[:, 0 if cause == "lesion" else 1].astype(np.float32))
            loss = nn.functional.binary_cross_entropy_with_logits(net(torch.from_numpy(images))[:, 0], labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return net.eval()
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads)


def classifier(network: nn.Module, batch_size: int = 32) -> ModuleClassifier:
    return ModuleClassifier(network, (1, SIDE, SIDE), default_layer="stages.2", batch_size=batch_size)
