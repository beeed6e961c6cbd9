"""One set of changed images for several methods: LIME and KernelSHAP of the same superpixels share their forwards.

Half of the sets of superpixels are drawn as LIME draws (fair coins), half as KernelSHAP draws (sizes by the Shapley
kernel), each followed by its complement. So a set z has the probability

    q(z) = c(z) / 2 + k(z) / 2,     c(z) = 2^-n,     k(z) = s(|z|) / C(n, |z|),     s(j) ~ 1 / (j (n - j)), 0 < j < n

and a mean under c or k is estimated from all of them with the weights c/q or k/q (multiple importance sampling with the
balance heuristic, Veach & Guibas 1995, SIGGRAPH): E_q[c/q f] = sum over z of c f, unbiased; the weights never exceed
2, so no image counts for more than two drawn by the method itself. c, k and q depend on |z| only and are the same for z
and its complement but for LIME's own kernel, which is a function of z and multiplies f as ever. The normal equations of
both regressions are such means, so both surrogates are consistent; on a score that is a sum over superpixels they are
exact, as with own samples.

RISE's soft masks on a grid cannot be sets of superpixels, and taking sets for masks would make another quantity of its map.
What the sets cost serves it nevertheless, as a control variate: they tell how the score goes with what is shown, as a sum
over pixels, and what such a sum does to RISE's map is known in closed form (`rise.shared_cells`). RISE's own masks then need to
tell only the rest, so fewer of them give a map that is as precise (`rise.enough_masks`). Its expectation is that of RISE alone,
whatever the sets say and whatever they hide with; a bad sum saves nothing and spoils nothing.

Infidelity (Yeh et al. 2019) needs random sets of hidden parts and what they did to the score: it is read off the fair-coin
mean of this pool, without a further forward pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from xai_engine.explain.methods.perturbation import KernelShap, Lime, Rise
from xai_engine.explain.methods.perturbation import _Superpixels as Superpixels
from xai_engine.explain.registry import Method, create

FloatArray = npt.NDArray[np.float64]
Sets = npt.NDArray[np.bool_]
FAMILY = ("segmentation", "segments", "compactness", "replacement", "blur")


def log_coin(sizes: FloatArray, players: int) -> FloatArray:
    """log c(z) of sets of these sizes: every set is as likely."""
    return np.full(np.shape(sizes), -players * np.log(2.0))


def log_kernel(sizes: FloatArray, players: int) -> FloatArray:
    """log k(z): the Shapley kernel's probability of one set of this size; -inf for the empty and the full set."""
    inner = np.arange(1, players)
    total = float((1.0 / (inner * (players - inner))).sum())
    clipped = np.clip(sizes, 1, players - 1)
    one = -np.log(clipped * (players - clipped) * total)
    ways = gammaln(players + 1) - gammaln(clipped + 1) - gammaln(players - clipped + 1)
    return np.where((sizes > 0) & (sizes < players), one - ways, -np.inf)


def importance(sets: Sets) -> tuple[FloatArray, FloatArray]:
    """(c/q, k/q) of each set; both at most 2, and c/q + k/q = 2."""
    players = sets.shape[1]
    sizes = sets.sum(1).astype(np.float64)
    coin, kernel = log_coin(sizes, players), log_kernel(sizes, players)
    mixture = np.logaddexp(coin, kernel) - np.log(2.0)
    return np.exp(coin - mixture), np.exp(kernel - mixture)


def draw(rng: np.random.Generator, count: int, players: int) -> Sets:
    """(count rounded down to a multiple of four, at least 4; players): coin pair, kernel pair, coin pair, … ."""
    from xai_engine.explain.compute.shap import paired_sets

    rounds = max(1, count // 4)
    coin = rng.integers(0, 2, (rounds, players), dtype=np.uint8).astype(bool)
    kernel = paired_sets(rng, rounds, players).reshape(rounds, 2, players)
    mixed = np.stack([coin, ~coin, kernel[:, 0], kernel[:, 1]], 1)
    return mixed.reshape(4 * rounds, players)


def once(sets: Sets) -> tuple[Sets, npt.NDArray[np.int64]]:
    """(the different rows in the order of their first appearance, which of them each row is)."""
    _, first, inverse = np.unique(np.packbits(sets, axis=1), axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return sets[first[order]], rank[inverse.ravel()]


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Scored sets of superpixels. parts: what hides them; sets (n, superpixels), scores (n,); full, empty: the ends.

    coin, kernel: importance weights (n,) of means under LIME's and KernelSHAP's distribution.
    precision, backend: of the scores.
    """

    parts: Any
    sets: Sets
    scores: FloatArray
    full: float
    empty: float
    precision: str
    backend: str
    notes: tuple[str, ...]
    forwards: int  # images scored: sets that were drawn twice are scored once

    @property
    def coin(self) -> FloatArray:
        return importance(self.sets)[0]

    @property
    def kernel(self) -> FloatArray:
        return importance(self.sets)[1]

    def infidelity(self, values: npt.NDArray[np.floating[Any]]) -> float:
        """Share of the falls that a map (rows, columns) does not tell, in [0, 1]; see assess.perturbation.infidelity.

        Sets of hidden superpixels as LIME draws them; predicted: the sum of the map over what is hidden.
        """
        labels = np.asarray(self.parts.labels)
        inside = labels >= 0
        sums = np.bincount(labels[inside], weights=values[inside], minlength=self.sets.shape[1])
        predicted, falls = (~self.sets) @ sums, self.full - self.scores
        weight = self.coin
        power, size = float(weight @ predicted**2), float(weight @ falls**2)
        if power == 0.0 or size == 0.0:
            return 1.0
        return 1.0 - max(0.0, float(weight @ (predicted * falls))) ** 2 / (power * size)

    def slope(self) -> FloatArray:
        """(rows, columns): what a pixel that is shown adds to the score, as a sum over pixels tells it best in the mean over
        fair coins; the same everywhere in a superpixel. 0 in the padding."""
        weight = self.coin
        z = self.sets - np.average(self.sets, axis=0, weights=weight)
        y = self.scores - float(np.average(self.scores, weights=weight))
        found = np.linalg.pinv((z * weight[:, None]).T @ z) @ (z.T @ (weight * y))
        labels = np.asarray(self.parts.labels)
        sizes = np.bincount(labels[labels >= 0], minlength=len(found))
        return np.append(found / np.maximum(sizes, 1), 0.0)[labels]


@dataclass
class Pool:
    """Forwards that the methods of one analysis have in common. One image, one target, one seed.

    sizes: sets wanted, by family; members: one method of each, by which others of the analysis may ask for the sets.
    asked: (name, parameters) of all that made it so; `of` these methods gives the same pool, and so the same maps, again.

    Only methods that can share do; anything else, and a method alone, computes as if there were no pool.
    """

    sizes: dict[tuple[Any, ...], int]
    members: dict[tuple[Any, ...], Superpixels]
    asked: tuple[tuple[str, dict[str, Any]], ...] = ()
    found: dict[tuple[Any, ...], Shared] = field(default_factory=dict)

    @staticmethod
    def of(methods: Sequence[Method]) -> Pool:
        """Families with at least two methods; the pool is as large as the largest of their requests."""
        families: dict[tuple[Any, ...], list[Method]] = {}
        for method in methods:
            if _shares(method):
                families.setdefault(family(method), []).append(method)
        shared = {key: members for key, members in families.items() if len({type(m) for m in members}) > 1}
        return Pool(
            {key: max(int(getattr(m, "samples")) for m in group) for key, group in shared.items()},  # noqa: B009
            {key: group[0] for key, group in shared.items() if isinstance(group[0], (Lime, KernelShap))},
            tuple((method.name, method.values()) for group in shared.values() for method in group),
        )

    @staticmethod
    def again(asked: Sequence[tuple[str, Mapping[str, Any]]]) -> Pool:
        """The pool of which `asked` was recorded (Explanation.shared_with). Raises UsageError."""
        return Pool.of([create(name, **params) for name, params in asked])

    def serves(self, method: Method) -> bool:
        """Whether the map of this method draws from the pool."""
        if isinstance(method, Rise):
            return bool(self.sizes)
        return _shares(method) and family(method) in self.sizes

    def help(self, session: Any) -> Shared | None:
        """For RISE: the sets of a family in which others share, scored now where they have not been; None where there is none
        or the run was cancelled. Which comes first when maps are asked for in another order changes nothing."""
        for key in self.sizes:
            with session.aside():
                shared = self.take(self.members[key], session)
            if shared is not None or session.partial:
                return shared
        return None

    def take(self, method: Superpixels, session: Any) -> Shared | None:
        """The scored sets. None where this method shares with nobody, where so few superpixels were found that KernelSHAP
        enumerates them, or where the run was cancelled meanwhile.
        """
        from xai_engine.explain.compute import combinations
        from xai_engine.explain.compute.shap import MOST_PLAYERS
        from xai_engine.explain.compute.superpixels import hider

        if not self.serves(method):
            return None
        key = family(method)
        image = (session.input.image_sha256, id(session.input), session.target, session.run.seed)
        if (*key, image) in self.found:
            return self.found[*key, image]
        session.plan(1, "superpixels", 0.02)
        parts = hider(method, session)
        count = parts.count
        if count < 2 or (count <= MOST_PLAYERS and 2**count <= self.sizes[key]):
            return None
        sets = draw(session.run.rng(42), self.sizes[key], count)
        ends = np.stack([np.ones(count, bool), np.zeros(count, bool)])
        rows, place = once(np.concatenate([ends, sets]))
        scored: list[float] = []
        session.plan(len(rows), "scoring changed images for several maps")
        with session.stoppable():
            for _, _, scores in combinations.scored(session, parts, rows):
                scored += scores.tolist()
        gaps = np.flatnonzero(place >= len(scored))  # of a run that was stopped: the first ends what is known
        values = np.array(scored, np.float64)[place[: gaps[0] if len(gaps) else len(place)]]
        if len(values) < 6:
            return None
        done = 2 + (len(values) - 2) // 4 * 4
        found = Shared(
            parts,
            sets[: done - 2],
            values[2:done],
            float(values[0]),
            float(values[1]),
            session.precision,
            session.backend,
            tuple(session.notes),
            len(scored),
        )
        if not session.partial:
            self.found[*key, image] = found
        return found


def _shares(method: Method) -> bool:
    """LIME that may stop early draws sets of its own."""
    return isinstance(method, KernelShap) or (isinstance(method, Lime) and method.tolerance == 0)


def family(method: Method) -> tuple[Any, ...]:
    """What makes the changed images of two methods the same."""
    values = {name: getattr(method, name, None) for name in FAMILY}
    if values["replacement"] != "blurred":
        values["blur"] = None  # hides nothing
    return tuple(values.values())
