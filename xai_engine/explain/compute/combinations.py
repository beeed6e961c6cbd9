"""Scores of images in which superpixels are hidden, without computing the first layers again for each.

A place of an early activation sees a few superpixels only, and what stands there depends on which of these are hidden, on
no others. So the first layers are computed for every combination that any place can see, once; what they make of an image
with any set of superpixels hidden is then looked up, place by place: the same numbers, not an approximation. To have all
combinations in few images, superpixels that no place sees together are hidden together: they get one colour (a colouring
of the graph of superpixels that are seen together; Brélaz 1979, DSATUR, Communications of the ACM 22:251), and 2^colours
images hold every combination everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from xai_engine.classifier.backends.base import Unavailable, written
from xai_engine.explain.behind import BROKEN, Behind
from xai_engine.explain.compute import cuts
from xai_engine.explain.compute.local import ADDS, AGREEMENT, ALIKE, ALIKE_FUNCTIONS, pair
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
    pixels = parts.labels.size
    labels = torch.from_numpy(parts.labels)
    seen = {
        next(iter(graph.graph.nodes)): torch.stack([labels == k for k in range(parts.count)])[:, None].float()
    }
    narrow, best = set(cuts.narrow(graph)), None
    channels: dict[fx.Node, int] = {}
    last: torch.Tensor | None = None
    for node in graph.graph.nodes:
        if node.op == "placeholder":
            channels[node] = int(parts.x.shape[1])
            continue
        try:
            seen[node] = _seen(graph, node, seen)
            channels[node] = _channels(graph, node, channels)
        except _Unknown:
            break
        if last is not seen[node]:
            last = seen[node]
            places = last[:, 0].flatten(1).numpy() > 0
            colours = coloured(places)
        if int(colours.max()) >= most:  # further on places only see more
            break
        size = places.shape[1] * channels[node]
        if node in narrow and size <= LARGEST * pixels and 4 * size << int(colours.max()) + 1 <= MEMORY:
            best = node, places, colours
    return best


class _Unknown(Exception):
    """An operation of which it is not known what it sees."""


def _seen(graph: fx.GraphModule, node: fx.Node, seen: dict[fx.Node, torch.Tensor]) -> torch.Tensor:
    """(superpixels, 1, rows, columns): 1 where the node's value depends on what the superpixel shows."""
    sources = [seen[n] for n in node.all_input_nodes if n in seen]
    if not sources or len(sources) < len(node.all_input_nodes):
        raise _Unknown
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if (
        isinstance(module, nn.Conv2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    ):
        return _widened(sources[0], module.kernel_size, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.MaxPool2d) and not module.ceil_mode and not module.return_indices:
        return _widened(sources[0], module.kernel_size, module.stride, module.padding, module.dilation)
    if isinstance(module, nn.AvgPool2d) and not module.ceil_mode:
        return _widened(sources[0], module.kernel_size, module.stride, module.padding, 1)
    if isinstance(module, ALIKE):
        return sources[0]
    if node.op == "call_function" and not set(node.kwargs) - {"inplace", "dim"}:
        if node.target in ALIKE_FUNCTIONS and len(node.args) == 1:
            return sources[0]
        joined = node.target in ADDS or (
            node.target is torch.cat and 1 in (node.args[-1], node.kwargs.get("dim"))
        )
        if joined and all(s.shape == sources[0].shape for s in sources):
            return torch.stack(sources).amax(0)
    raise _Unknown


def _channels(graph: fx.GraphModule, node: fx.Node, channels: dict[fx.Node, int]) -> int:
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, nn.Conv2d):
        return module.out_channels
    if node.target is torch.cat:
        return sum(channels[n] for n in node.all_input_nodes)
    return channels[node.all_input_nodes[0]]


def _widened(
    seen: torch.Tensor,
    kernel: int | tuple[int, ...],
    stride: int | tuple[int, ...],
    padding: int | tuple[int, ...],
    dilation: int | tuple[int, ...],
) -> torch.Tensor:
    if pair(kernel) == pair(stride) == (1, 1) and pair(padding) == (0, 0):
        return seen
    rows, columns = pair(padding)
    around = F.pad(seen, (columns, columns, rows, rows))
    return F.max_pool2d(around, pair(kernel), pair(stride), 0, pair(dilation))


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
    backend = session.compiled_for(count, front, size)
    found = []
    with session.all_threads() if backend is None else nullcontext(), torch.inference_mode():
        for start in range(0, len(sets), session.batch_size):
            session.tick()
            images = parts.images(sets[start : start + session.batch_size])
            if backend is None:
                value = front(images.contiguous(memory_format=torch.channels_last))
            else:
                value = backend.outputs(images, "fp32")
            found.append(value.permute(0, 2, 3, 1).reshape(-1, value.shape[1]))
    _, channels, rows, columns = value.shape
    return (int(channels), int(rows), int(columns)), torch.cat(found)
