"""Scores of images in which superpixels are hidden, without computing the first layers again for each.

A place of an early activation sees a few superpixels only, and what stands there depends on which of these are hidden, on
no others. So the first layers are computed for every combination that any place can see, once; what they make of an image
with any set of superpixels hidden is then looked up, place by place: the same numbers, not an approximation. To have all
combinations in few images, superpixels that no place sees together are hidden together: they get one colour (a colouring
of the graph of superpixels that are seen together; Brélaz 1979, DSATUR, Communications of the ACM 22:251), and 2^colours
images hold every combination everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import fx

from xai_engine.classifier.backends.base import Unavailable, written
from xai_engine.explain.behind import BROKEN, Behind
from xai_engine.explain.compute import cuts, receptive
from xai_engine.explain.compute.receptive import AGREEMENT
from xai_engine.explain.compute.superpixels import Hider
from xai_engine.explain.session import Session

FEWEST = 300  # images below which looking for a cut costs more than it saves
SHARE = 6  # of the images that are to come, one in so many may be computed beforehand
LARGEST = 2  # times the pixels of the image: larger activations take longer to put together than to compute
MEMORY = 128 << 20  # bytes for what was computed beforehand
VERIFIED = 2  # images computed both ways

Sets = npt.NDArray[np.bool_]
FloatArray = npt.NDArray[np.float64]


def scored(
    session: Session,
    parts: Hider,
    shown: Sets,
    *,
    before: int = 0,
    likely: int | None = None,
) -> Iterator[tuple[int, int, FloatArray]]:
    """As Session.scored: the images in which the superpixels of each row are shown. likely: how many will be asked for, where
    a series may end early."""

    def features(start: int, stop: int) -> FloatArray:
        return shown[start:stop].astype(float)

    ready = Combinations.of(session, parts, shown[:VERIFIED], min(len(shown), likely or len(shown)))
    if ready is None:
        yield from session.scored(
            len(shown), lambda a, b: parts.images(shown[a:b]), features=features, before=before
        )
    else:
        yield from session.scored(
            len(shown), lambda a, b: ready.activations(shown[a:b]), ready.behind, features, before=before
        )


class Combinations:
    """An early activation for every combination of superpixels that any of its places sees.

    table: (2^colours * places, channels); code: which superpixel of each colour a place sees, or the one behind the last.
    """

    def __init__(
        self,
        behind: Behind,
        table: torch.Tensor,
        shape: tuple[int, int, int],
        seen: npt.NDArray[np.bool_],
        colours: npt.NDArray[np.int64],
    ) -> None:
        self.behind, self.table, self.shape = behind, table, shape
        count, places = seen.shape
        owners = np.full((int(colours.max()) + 1, places), count, np.int64)
        for superpixel, colour in enumerate(colours):
            owners[colour, seen[superpixel]] = superpixel
        # places that see the same superpixels share their code
        self.owners, self.like = np.unique(owners, axis=1, return_inverse=True)
        self.like = self.like.ravel()
        self.place = np.arange(places)

    @staticmethod
    def of(session: Session, parts: Hider, shown: Sets, count: int) -> Combinations | None:
        """None where whole passes are right or cheaper. shown: the first sets that will be asked for, count: how many there are
        to come."""
        if count < FEWEST or session.x.device.type != "cpu" or session.is_tapped() or parts.count < 2:
            return None
        try:
            graph = written(session.network, session.tick)
        except Unavailable:
            return None
        most = int(np.log2(max(count / SHARE, 1.0)))
        found = session.awaited(lambda: _cut(graph, parts, most))
        if found is None:
            return None
        cut, seen, colours = found
        try:
            shape, table = _table(session, cuts.front(graph, cut), parts, colours, count)
            behind = Behind.of(session, cuts.rest(graph, cut), shape, count)
        except BROKEN:
            return None
        ready = Combinations(behind, table, shape, seen, colours)
        right = behind.agrees(ready.activations(shown), parts.images(shown), AGREEMENT)
        return ready if right else None

    def activations(self, shown: Sets) -> torch.Tensor:
        """(n, superpixels) -> (n, channels, rows, columns) float32 at the cut, channels last."""
        channels, rows, columns = self.shape
        padded = np.concatenate([shown, np.zeros((len(shown), 1), bool)], axis=1)
        code = np.zeros((len(shown), self.owners.shape[1]), np.int64)
        for colour, owner in enumerate(self.owners):
            code |= padded[:, owner].astype(np.int64) << colour
        rows_of_table = code[:, self.like] * len(self.place) + self.place
        found = self.table.index_select(0, torch.from_numpy(rows_of_table.ravel()))
        return found.view(len(shown), rows, columns, channels).permute(0, 3, 1, 2)


def _cut(
    graph: fx.GraphModule, parts: Hider, most: int
) -> tuple[fx.Node, npt.NDArray[np.bool_], npt.NDArray[np.int64]] | None:
    """The last cut that takes at most `most` colours, which superpixels (superpixels, places) its places see, and their colours."""
    labels = np.stack([parts.labels == k for k in range(parts.count)])
    narrow, best = set(cuts.narrow(graph)), None
    last: torch.Tensor | None = None
    for sight in receptive.walk(graph, labels, int(parts.x.shape[1])):
        if last is not sight.seen:
            last = sight.seen
            places = last[:, 0].flatten(1).numpy() > 0
            colours = coloured(places)
        if int(colours.max()) >= most:  # further on places only see more
            break
        size = places.shape[1] * sight.channels
        small = size <= LARGEST * parts.labels.size and 4 * size << int(colours.max()) + 1 <= MEMORY
        if sight.node in narrow and small:
            best = sight.node, places, colours
    return best


def coloured(seen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """(superpixels, places) -> a colour of each superpixel, from 0; those that a place sees together have different ones.

    The superpixel with the most colours around it is next, of these the one with the most neighbours.
    """
    together = seen.astype(np.float32) @ seen.T.astype(np.float32) > 0
    np.fill_diagonal(together, False)
    count = len(seen)
    colours, around = np.full(count, -1, np.int64), np.zeros((count, count + 1), bool)
    neighbours = together.sum(1)
    for _ in range(count):
        worth = np.where(colours < 0, around.sum(1) * (count + 1) + neighbours, -1)
        chosen = int(worth.argmax())
        colours[chosen] = int((~around[chosen]).argmax())
        around[together[chosen], colours[chosen]] = True
    return colours


def _table(
    session: Session, front: fx.GraphModule, parts: Hider, colours: npt.NDArray[np.int64], count: int
) -> tuple[tuple[int, int, int], torch.Tensor]:
    """The shape of the activation for one image, and its values (2^colours * places, channels), always in fp32: the first
    layers suffer most from less, see backends.mixed."""
    sets = np.arange(2 ** (int(colours.max()) + 1))[:, None] >> colours & 1 > 0
    size = (int(parts.x.shape[1]), int(parts.x.shape[2]), int(parts.x.shape[3]))
    value = fronts(session, front, size, len(sets), lambda a, b: parts.images(sets[a:b]), count)
    _, channels, rows, columns = value.shape
    return (int(channels), int(rows), int(columns)), value.permute(0, 2, 3, 1).reshape(-1, int(channels))


def fronts(
    session: Session,
    front: fx.GraphModule,
    shape: tuple[int, int, int],
    images: int,
    make: Callable[[int, int], torch.Tensor],
    count: int,
) -> torch.Tensor:
    """What the first layers make of each image, float32, always computed in fp32: they suffer most from less, see backends.mixed.

    make: (start, stop) -> (stop - start, channels, rows, columns). count: passes of the rest that are to come.
    """
    backend = session.compiled_for(count, front, shape)
    found = []
    with session.all_threads() if backend is None else nullcontext(), torch.inference_mode():
        for start in range(0, images, session.batch_size):
            session.tick()
            batch = make(start, min(start + session.batch_size, images))
            if backend is None:
                found.append(front(batch.contiguous(memory_format=torch.channels_last)))
            else:
                found.append(backend.outputs(batch, "fp32"))
    return torch.cat(found)
