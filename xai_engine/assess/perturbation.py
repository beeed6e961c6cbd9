"""What happens to the score when parts of the image are taken away: deletion, insertion, infidelity, ROAD, whole areas.

All maps of one image share the image, its replacements and the random sets. Everything is planned first (`plan_*` adds
requests to a pool), and read off when the pool has run.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from xai_engine.assess.areas import Areas
from xai_engine.assess.blocks import Blocks
from xai_engine.assess.imputation import impute
from xai_engine.assess.pool import Pool, Request
from xai_engine.explain.compute.baselines import baseline
from xai_engine.explain.session import Session

Scores = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

BLUR = (
    1 / 10
)  # standard deviation of the blur, share of the longer side: wider than most opacities, narrower than a lung


class Scene:
    """One image with its replacements. `grey`: every valid pixel is the valid mean; `blurred`: a blurred copy.

    Parts are hidden by the blurred copy: it keeps the brightness of the anatomy, so the network meets no hard-edged holes,
    which move scores whatever lay there.
    """

    def __init__(self, session: Session, valid: Mask) -> None:
        self.x = session.x
        self.valid = valid
        self.blocks = Blocks(valid)
        self.grey = baseline(session, "mean", 0.0)
        self.blurred = baseline(session, "blurred", BLUR * max(valid.shape))

    def mix(self, base: torch.Tensor, other: torch.Tensor, where: Mask) -> torch.Tensor:
        """`other` in the pixels `where` (n, rows, columns), `base` elsewhere -> (n, channels, rows, columns)."""
        chosen = torch.from_numpy(where).to(self.x.device)[:, None]
        return torch.where(chosen, other, base)

    def hide(self, sets: Mask) -> torch.Tensor:
        """The image with the blocks of each set (n, count) replaced by the blurred copy."""
        return self.mix(self.x, self.blurred, self.blocks.expand(sets))


@dataclass(frozen=True, slots=True, eq=False)
class Ends:
    """Scores of the image, of grey and of the blurred copy: ends of every curve."""

    request: Request

    @property
    def image(self) -> float:
        return float(self.request.scores[0])

    @property
    def grey(self) -> float:
        return float(self.request.scores[1])

    @property
    def blurred(self) -> float:
        return float(self.request.scores[2])


def plan_ends(scene: Scene, pool: Pool) -> Ends:
    images = torch.cat([scene.x, scene.grey, scene.blurred])
    return Ends(pool.add(3, lambda start, stop: images[start:stop]))


# ---- deletion and insertion (Petsiuk et al. 2018) ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Curves:
    """Deletion and insertion of several orders. shares: (points,) of the area, from 0 to 1."""

    shares: Scores
    ends: Ends
    deleted: Request
    inserted: Request

    @property
    def done(self) -> bool:
        return self.deleted.done and self.inserted.done

    def deletion(self) -> Scores:
        """(orders,) area under the score while blocks are blurred, highest first. Low is good."""
        return self._area(self.deleted, self.ends.image, self.ends.blurred)

    def insertion(self) -> Scores:
        """(orders,) area under the score while blocks return into the blurred copy, highest first. High is good."""
        return self._area(self.inserted, self.ends.blurred, self.ends.image)

    def _area(self, request: Request, first: float, last: float) -> Scores:
        inner = request.scores.reshape(-1, len(self.shares) - 2)
        edge = np.ones((len(inner), 1))
        curve = np.concatenate([first * edge, inner, last * edge], 1)
        widths = np.diff(self.shares)
        return np.asarray((0.5 * (curve[:, 1:] + curve[:, :-1]) * widths).sum(1), np.float64)


def plan_curves(scene: Scene, pool: Pool, ends: Ends, orders: npt.NDArray[np.int64], steps: int) -> Curves:
    """orders: (n, blocks), highest first. Steps are finer at the start, where the map says most: share (i/steps)²."""
    count = scene.blocks.count
    counts = np.unique(np.round(count * (np.arange(steps + 1) / steps) ** 2).astype(np.int64))
    inner = counts[(counts > 0) & (counts < count)]
    shares = np.concatenate([[0.0], inner / count, [1.0]])

    def sets(start: int, stop: int) -> Mask:
        which, step = np.divmod(np.arange(start, stop), len(inner))
        return np.concatenate(
            [scene.blocks.first(orders[w], inner[s : s + 1]) for w, s in zip(which, step, strict=True)]
        )

    def inserted(start: int, stop: int) -> torch.Tensor:
        return scene.mix(scene.blurred, scene.x, scene.blocks.expand(sets(start, stop)))

    total = len(orders) * len(inner)
    return Curves(
        shares,
        ends,
        pool.add(total, lambda start, stop: scene.hide(sets(start, stop))),
        pool.add(total, inserted),
    )


# ---- infidelity (Yeh et al. 2019) --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Removals:
    """Random sets of hidden blocks (n, blocks) and what they did to the score."""

    sets: Mask
    ends: Ends
    request: Request

    @property
    def done(self) -> bool:
        return self.request.done

    def falls(self) -> Scores:
        """(n,) score of the image less the score with the set hidden."""
        return np.asarray(self.ends.image - self.request.scores, np.float64)

    def infidelity(self, sums: Scores) -> Scores:
        """(maps,) in [0, 1] from (maps, blocks) sums: see `infidelity`."""
        falls = self.falls()
        return np.array([infidelity(self.sets @ block_sums, falls) for block_sums in sums])

    def foretelling(self, sums: Scores, sizes: Scores) -> Scores:
        """(maps,) in [-1, 1] from (maps, blocks) sums: see `foretelling`."""
        falls = self.falls()
        return np.array([foretelling(self.sets, block_sums, sizes, falls) for block_sums in sums])


def infidelity(predicted: Scores, falls: Scores) -> float:
    """Mean of (β·predicted - fall)² over the mean of fall²: the part of the falls that the map does not tell, in [0, 1].

    β ≥ 0 scales the map as well as can be, because maps have different units (Yeh et al. 2019, section 3.3); a map that
    points the wrong way gets β = 0. 1 where the score never moves.
    """
    power, size = float(predicted @ predicted), float(falls @ falls)
    if power == 0.0 or size == 0.0:
        return 1.0
    return 1.0 - max(0.0, float(predicted @ falls)) ** 2 / (power * size)


def foretelling(sets: Mask, sums: Scores, sizes: Scores, falls: Scores) -> float:
    """Faithfulness correlation (Bhatt, Weller & Moura 2020) between what a map says of hidden sets and the falls, [-1, 1].

    The share of the image that a set hides is partialled out: a map should tell where, and hiding more moves a score more
    whatever the map. 0 where either does not vary.
    """
    amount = sets @ sizes
    nuisance = np.stack([np.ones_like(amount), amount], 1)
    projector = nuisance @ np.linalg.pinv(nuisance)
    a, b = (v - projector @ v for v in (sets @ sums, falls))
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    scale = float(np.linalg.norm(sets @ sums) * np.linalg.norm(falls))
    return float(a @ b) / size if size > 1e-12 * scale else 0.0


def plan_removals(scene: Scene, pool: Pool, ends: Ends, count: int, rng: np.random.Generator) -> Removals:
    sets = scene.blocks.random_sets(count, rng)
    return Removals(sets, ends, plan_sets(scene, pool, sets))


def plan_sets(scene: Scene, pool: Pool, sets: Mask) -> Request:
    """Scores of the image with each of the sets (n, blocks) hidden."""
    return pool.add(len(sets), lambda start, stop: scene.hide(sets[start:stop]))


# ---- ROAD (Rong et al. 2022) -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Road:
    """Scores after imputing the highest (first half) and the lowest blocks (second half) of one map."""

    request: Request

    @property
    def done(self) -> bool:
        return self.request.done

    def value(self) -> float:
        """Mean over the shares of (score without the lowest - score without the highest) / 2."""
        highest, lowest = self.request.scores.reshape(2, -1)
        return float((lowest - highest).mean() / 2.0)


def plan_road(
    scene: Scene,
    pool: Pool,
    session: Session,
    order: npt.NDArray[np.int64],
    shares: tuple[float, ...],
    noise: list[int],
) -> Road:
    counts = np.clip(
        np.round(np.array(shares) * scene.blocks.count).astype(np.int64), 1, scene.blocks.count - 1
    )
    image = scene.x[0].float().cpu().numpy()
    directions = (order, order[::-1])

    def make(start: int, stop: int) -> torch.Tensor:
        out = []
        for index in range(start, stop):
            session.tick()
            which, step = divmod(index, len(counts))
            hidden = scene.blocks.expand(scene.blocks.first(directions[which], counts[step : step + 1]))[0]
            # the same noise for both directions: only the place differs
            filled = impute(image, hidden, scene.valid, np.random.default_rng([*noise, step]))
            out.append(torch.from_numpy(filled))
        return torch.stack(out).to(scene.x.device)

    return Road(pool.add(2 * len(counts), make))


# ---- whole areas -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class AreaEffects:
    """What the score loses when a whole area is taken away."""

    names: tuple[str, ...]
    ends: Ends
    request: Request

    @property
    def done(self) -> bool:
        return self.request.done

    def fall(self, name: str) -> float | None:
        """Score of the image less the score without the area, of the smallest size over the ways to take it away.

        Any one way may move the score by being unusual; what depends on the area moves with all of them. None where there
        is no such area.
        """
        found = [
            self.ends.image - float(s)
            for n, s in zip(self.names, self.request.scores, strict=True)
            if n == name
        ]
        return min(found, key=abs) if found else None


def plan_areas(scene: Scene, pool: Pool, ends: Ends, areas: Areas) -> AreaEffects:
    """Text is filled in from around; the border is blurred, made grey, and filled in; what is outside the lungs is blurred,
    made grey, made its own mean, and blurred with a soft edge. The lungs are made grey only: what fills a lung outlasts
    the blur.
    """
    names: list[str] = []
    images: list[torch.Tensor] = []

    def add(name: str, where: Mask, ways: list[torch.Tensor]) -> None:
        if where.any() and not where[scene.valid].all():
            names.extend([name] * len(ways))
            images.extend(ways)

    def of(where: Mask, *others: torch.Tensor) -> list[torch.Tensor]:
        return [scene.mix(scene.x, other, where[None]) for other in others]

    def filled(where: Mask) -> torch.Tensor:
        return torch.from_numpy(impute(image, where, scene.valid))[None].to(scene.x.device)

    image = scene.x[0].float().cpu().numpy()
    if areas.text.any():
        add("text", areas.text, [filled(areas.text)])
    add("border", areas.border, [*of(areas.border, scene.blurred, scene.grey), filled(areas.border)])
    if areas.lungs is not None:
        outside = scene.valid & ~areas.lungs
        add("lungs", areas.lungs, of(areas.lungs, scene.grey))
        if outside.any():
            inside = torch.from_numpy(outside).to(scene.x.device)
            mean = torch.where(inside, scene.x, 0.0).sum((2, 3), keepdim=True) / int(outside.sum())
            weight = torch.from_numpy(_soft(areas.lungs, scene.valid)).to(scene.x.device)
            blended = scene.x + weight * (scene.blurred - scene.x)
            add("outside", outside, [*of(outside, scene.blurred, scene.grey, mean), blended])
    stacked = torch.cat(images) if images else scene.x[:0]
    return AreaEffects(tuple(names), ends, pool.add(len(images), lambda start, stop: stacked[start:stop]))


def _soft(lungs: Mask, valid: Mask) -> npt.NDArray[np.float32]:
    """1 far from the lungs, 0 within, without an edge that a network has never seen. Zero where not valid."""
    side = max(valid.shape)
    margin = 2 * max(1, round(side / 96)) + 1
    far = cv2.dilate(lungs.astype(np.uint8), np.ones((margin, margin), np.uint8)) == 0
    return np.where(valid, cv2.GaussianBlur(far.astype(np.float32), (0, 0), side / 48), 0.0).astype(
        np.float32
    )
