"""Small networks whose cause is known, for measuring how often the card is right: phantoms, planted shortcuts, training.

Images are synthetic chests (`radiograph.phantom`), each with and without its consolidation, 96 pixels along the side. A
shortcut is drawn on them, or not. A "sound" network was trained on the consolidation, with shortcuts present at random; a
"shortcut" network on the presence of one shortcut, with consolidations at random. What a network learned is proven, not
assumed: by exchanging the consolidation and the shortcut in images of patients that it has not seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from xai_engine.classifier.network import SmallNet
from xai_engine.classifier.preprocess import PreprocessSpec, standardise
from xai_engine.classifier.types import ModelInput
from xai_engine.explain.adapter import ModuleClassifier, input_of
from xai_engine.radiograph import phantom

SIDE = 96
PATIENTS, UNSEEN = (
    150,
    60,
)  # the last UNSEEN patients are never trained on; half of them serve each half of the cases
STEPS, BATCH = {"lesion": 360, "shortcut": 180}, {"lesion": 24, "shortcut": 20}
EVERYWHERE = np.ones((SIDE, SIDE), bool)

Grey = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """pictures: (patients, 2, SIDE, SIDE) grey in [0, 1] without and with the lesion; lungs, lesions: masks."""

    pictures: Grey
    lungs: Mask
    lesions: Mask


def world(store: Path | None = None, patients: int = PATIENTS) -> World:
    """The patients; remembered in the file `store` where one is given."""
    if store is not None and store.is_file():
        with np.load(store) as data:
            if len(data["pictures"]) == patients:
                return World(data["pictures"], data["lungs"], data["lesions"])
    pictures, lungs, lesions = [], [], []
    for index in range(patients):
        rng = np.random.default_rng([61, index])
        lesion = phantom.Consolidation(
            phantom.ZONES[int(rng.integers(len(phantom.ZONES)))],  # type: ignore[arg-type]
            float(rng.uniform(30, 48)),
            float(rng.uniform(0.6, 0.9)),
        )
        pair = [
            phantom.make(1000 + index, consolidation=c, rows=192, columns=192, side="")
            for c in (None, lesion)
        ]
        pictures.append([_shrunk(p.pixels.astype(np.float32) / (2**phantom.BITS - 1)) for p in pair])
        lungs.append(_shrunk(pair[0].lungs.astype(np.float32)) > 0.5)
        lesions.append(_shrunk(pair[1].lesion.astype(np.float32)) > 0.5)
    out = World(np.array(pictures, np.float32), np.array(lungs), np.array(lesions))
    if store is not None:
        np.savez(store, pictures=out.pictures, lungs=out.lungs, lesions=out.lesions)
    return out


def _shrunk(image: npt.NDArray[np.floating[Any]]) -> Grey:
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float32)


# ---- shortcuts ---------------------------------------------------------------------------------------------------


def _letters(text: str, height: float, pen: int) -> Callable[[Grey, Mask, np.random.Generator], None]:
    def draw(image: Grey, lungs: Mask, rng: np.random.Generator) -> None:
        fine = np.zeros((4 * SIDE, 4 * SIDE), np.uint8)
        scale = 4 * height / 21  # Hershey's capitals are 21 units high
        (width, tall), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 4 * pen)
        left = (
            int(rng.integers(12, 24)) if rng.random() < 0.5 else 4 * SIDE - width - int(rng.integers(12, 24))
        )
        base = tall + int(rng.integers(12, 28))
        cv2.putText(fine, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 4 * pen, cv2.LINE_AA)
        level = _shrunk(fine.astype(np.float32) / 255)
        image[:] = np.maximum(image, level)

    return draw


def _tag(image: Grey, lungs: Mask, rng: np.random.Generator) -> None:
    """A blank lead tag in a lower corner."""
    rows, columns = rng.integers(4, 7), rng.integers(6, 10)
    top = SIDE - int(rng.integers(2, 5)) - rows
    left = int(rng.integers(2, 6)) if rng.random() < 0.5 else SIDE - int(rng.integers(2, 6)) - columns
    image[top : top + rows, left : left + columns] = 1.0


def _frame(level: float) -> Callable[[Grey, Mask, np.random.Generator], None]:
    def draw(image: Grey, lungs: Mask, rng: np.random.Generator) -> None:
        width = int(rng.integers(3, 5))
        inner = image[width:-width, width:-width].copy()
        image[:] = level
        image[width:-width, width:-width] = inner

    return draw


def _tissue(image: Grey, lungs: Mask, rng: np.random.Generator) -> None:
    """Soft tissue outside the lungs exposed otherwise, as by another device."""
    far = cv2.dilate(lungs.astype(np.uint8), np.ones((5, 5), np.uint8)) == 0
    soft = cv2.GaussianBlur(far.astype(np.float32), (0, 0), 2)
    image *= 1.0 - rng.uniform(0.25, 0.35) * soft


SHORTCUTS: dict[str, Callable[[Grey, Mask, np.random.Generator], None]] = {
    "side letter": _letters("L", 8, 1),
    "burned-in text": _letters("AP SUPINE", 5, 1),
    "lead tag": _tag,
    "dark border": _frame(0.0),
    "bright border": _frame(0.95),
    "tissue outside the lungs": _tissue,
}
NO_PLACE = (
    "tissue outside the lungs",
)  # an exposure, seen against the lungs: no area holds it, reported apart


def picture(w: World, patient: int, lesion: bool, shortcut: str, rng: np.random.Generator) -> Grey:
    """Grey values (SIDE, SIDE); shortcut "" for none."""
    out = w.pictures[patient, int(lesion)].copy()
    if shortcut:
        SHORTCUTS[shortcut](out, w.lungs[patient], rng)
    return out


def shown(grey: Grey) -> Grey:
    """What a network is shown of it: standardised as the shipped models' input is."""
    return standardise(grey, EVERYWHERE, PreprocessSpec(SIDE))


def input_for(grey: Grey) -> ModelInput:
    return input_of(shown(grey)[None], EVERYWHERE)


# ---- networks ----------------------------------------------------------------------------------------------------


def _augmented(w: World, grey: Grey, patient: int, lesion: bool, rng: np.random.Generator) -> Grey:
    """For sound networks: what is not the lesion varies, so that the lesion is all that the label follows."""
    out = np.clip(grey * rng.uniform(0.8, 1.2) + rng.uniform(-0.08, 0.08), 0, 1).astype(np.float32)
    keep = cv2.dilate(w.lesions[patient].astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    where = np.zeros((SIDE, SIDE), bool)
    if rng.random() < 0.3:
        where |= ~w.lungs[patient]
    if rng.random() < 0.4:
        where |= np.kron(rng.random((8, 8)) < rng.uniform(0.1, 0.5), np.ones((12, 12))) > 0
    if lesion:
        where &= ~keep
    kind = int(rng.integers(3))
    if kind == 0:
        other = w.pictures[int(rng.integers(len(w.pictures) - UNSEEN)), 0]
        same = w.lungs[
            patient
        ]  # tissue for tissue: a piece of chest wall within a lung would look like a lesion
        where &= ~same
    elif kind == 1:
        other = np.asarray(cv2.GaussianBlur(out, (0, 0), rng.uniform(3, 12)), np.float32)
    else:
        other = np.full_like(out, out.mean())
    return np.where(where, other, out).astype(np.float32)


def train(w: World, cause: str, seed: int, tick: Callable[[], object] = lambda: None) -> nn.Module:
    """A network that learned "lesion" or one of SHORTCUTS. The global random state is left alone."""
    rng = np.random.default_rng([62, seed])
    names = list(SHORTCUTS)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        net = SmallNet(1, 1, 8).train()
        optimiser = torch.optim.AdamW(net.parameters(), 4e-3, weight_decay=1e-3)
        kind = "lesion" if cause == "lesion" else "shortcut"
        steps = STEPS[kind]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 6e-3, steps)
        for _ in range(steps):
            tick()
            images, labels = [], []
            for index in range(BATCH[kind]):
                if index % 2 == 0:
                    patient, lesion = int(rng.integers(len(w.pictures) - UNSEEN)), bool(rng.random() < 0.5)
                elif cause == "lesion":
                    lesion = not lesion  # the same patient, before or after
                else:
                    lesion = bool(rng.random() < 0.5)
                present = bool(rng.random() < 0.5)
                which = cause if cause != "lesion" else names[int(rng.integers(len(names)))]
                grey = picture(w, patient, lesion, which if present else "", rng)
                if cause == "lesion":
                    grey = _augmented(w, grey, patient, lesion, rng)
                image = shown(grey)
                images.append(image[:, ::-1] if rng.random() < 0.5 else image)
                labels.append(lesion if cause == "lesion" else present)
            x = torch.from_numpy(np.ascontiguousarray(np.stack(images)[:, None]))
            y = torch.tensor(labels, dtype=torch.float32)
            loss = nn.functional.binary_cross_entropy_with_logits(net(x)[:, 0], y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return net.eval()


@dataclass(frozen=True, slots=True)
class Proof:
    """lesion, shortcut: mean change of the logit when the lesion comes, when the shortcut comes, in unseen patients (the
    largest over the shortcuts for a sound network). right: share of the images that its own cause puts on the right side.
    """

    lesion: float
    shortcut: float
    right: float

    def holds(self, cause: str) -> bool:
        """The cause moves the score at least four times as much as the other, and decides it."""
        own, other = (self.lesion, self.shortcut) if cause == "lesion" else (self.shortcut, self.lesion)
        return self.right >= 0.85 and own > 0 and abs(other) <= own / 4


def prove(w: World, network: nn.Module, cause: str, seed: int) -> Proof:
    rng = np.random.default_rng([63, seed])
    patients = range(len(w.pictures) - UNSEEN, len(w.pictures))
    tried = list(SHORTCUTS) if cause == "lesion" else [cause]

    def logits(lesion: bool, shortcut: str) -> npt.NDArray[np.float64]:
        images = np.stack([shown(picture(w, p, lesion, shortcut, rng)) for p in patients])[:, None]
        with torch.no_grad():
            return network(torch.from_numpy(images))[:, 0].double().numpy()

    plain = [logits(False, ""), logits(True, "")]
    marked = {s: [logits(False, s), logits(True, s)] for s in tried}
    lesion = float(np.mean([plain[1] - plain[0], *(m[1] - m[0] for m in marked.values())]))
    moves = [float(np.mean([m[0] - plain[0], m[1] - plain[1]])) for m in marked.values()]
    everything = [plain, *marked.values()]
    if cause == "lesion":
        right = np.mean([np.concatenate([m[0] < 0, m[1] > 0]).mean() for m in everything])
    else:
        right = np.mean(
            [np.concatenate([v < 0 for v in plain]), np.concatenate([v > 0 for v in marked[cause]])]
        )
    return Proof(lesion, max(moves, key=abs), float(right))


def randomised(network: nn.Module, how: str, seed: int) -> nn.Module:
    """A copy with weights that know nothing. how: "reset" (initialised anew), "shuffled", "redrawn"."""
    other = SmallNet(1, 1, 8)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        if how == "reset":
            return SmallNet(1, 1, 8).eval()
        other.load_state_dict(network.state_dict())
        for p in other.parameters():
            if how == "shuffled":
                p.copy_(p.flatten()[torch.randperm(p.numel())].view_as(p))
            elif p.ndim > 1:
                p.copy_(torch.randn_like(p) * p.std())
    return other.eval()


def classifier(network: nn.Module) -> ModuleClassifier:
    return ModuleClassifier(network, (1, SIDE, SIDE), default_layer="stages.3")
