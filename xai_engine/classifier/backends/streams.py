"""Scores and gradients at the image on the processor, without autograd and its memory: one image per thread.

torch's own backward pass of a convolutional network spends more time on memory than on arithmetic: batch normalisation
and rectifiers are passes of their own, every tensor is a fresh one whose pages the system has to clear, 1x1 convolutions
on one thread go through a slow path. Here batch normalisation is folded, rectifiers work in place, 1x1
convolutions are matrix products into buffers that the next image uses again, and operations that are not known here are
left to autograd, one at a time. Images are independent, so each thread takes its own and waits for nobody: the bits of
an image depend neither on the number of threads nor on the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from threading import Event
from typing import Any

import torch
from torch import fx, nn

from xai_engine.classifier.backends.nodes import Looked, Score, WayBack, bounds, is_sum

POLL = 0.05  # seconds between two looks of the caller

aten = torch.ops.aten
_SAME = (nn.Identity, nn.Dropout)  # in eval mode


class Stopped(Exception):
    """The caller asked to stop in the middle of an image."""


class _Buffers:
    """Matrices (rows, columns) float32 that are used again."""

    def __init__(self) -> None:
        self._free: dict[int, list[torch.Tensor]] = {}

    def take(self, rows: int, columns: int) -> torch.Tensor:
        free = self._free.setdefault(rows * columns, [])
        return (free.pop() if free else torch.empty(rows * columns)).view(rows, columns)

    def give(self, matrix: torch.Tensor) -> None:
        self._free.setdefault(matrix.numel(), []).append(matrix.view(-1))


@dataclass(slots=True)
class _Gradient:
    """value: of the score by a tensor; own: nobody else reads it, so it may be changed in place; buffer: to give back."""

    value: torch.Tensor
    own: bool
    buffer: torch.Tensor | None = None


@dataclass(slots=True)
class _Pass:
    """One image on its way: results by step, buffers to give back, graphs of single operations."""

    values: list[Any]
    gradients: dict[int, _Gradient] = field(default_factory=dict)
    taken: list[torch.Tensor] = field(default_factory=list)
    graphs: dict[int, tuple[list[tuple[int, torch.Tensor]], torch.Tensor]] = field(default_factory=dict)

    def add(self, at: int, gradient: _Gradient, buffers: _Buffers) -> None:
        """Add to what has come from other users of the tensor."""
        before = self.gradients.get(at)
        if before is None:
            self.gradients[at] = gradient
        elif before.own:
            before.value.add_(gradient.value)
            if gradient.buffer is not None:
                buffers.give(gradient.buffer)
        elif gradient.own:
            gradient.value.add_(before.value)
            self.gradients[at] = gradient
        else:
            self.gradients[at] = _Gradient(before.value + gradient.value, True)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(1, channels, rows, columns) -> (rows * columns, channels), a view where the tensor lies channels-last."""
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1])


def _image(matrix: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """The way back."""
    return matrix.view(1, rows, columns, matrix.shape[1]).permute(0, 3, 1, 2)


@dataclass(slots=True, eq=False)
class _Step:
    """at: its own place among the values; of: where its inputs are."""

    at: int
    of: tuple[int, ...]

    def forward(self, p: _Pass, buffers: _Buffers) -> None:
        raise NotImplementedError

    def backward(self, p: _Pass, gradient: _Gradient, buffers: _Buffers) -> None:
        raise NotImplementedError


@dataclass(slots=True, eq=False)
class _Same(_Step):
    def forward(self, p: _Pass, buffers: _Buffers) -> None:
        p.values[self.at] = p.values[self.of[0]]

    def backward(self, p: _Pass, gradient: _Gradient, buffers: _Buffers) -> None:
        p.add(self.of[0], gradient, buffers)


@dataclass(slots=True, eq=False)
class _Add(_Step):
    def forward(self, p: _Pass, buffers: _Buffers) -> None:
        p.values[self.at] = p.values[self.of[0]] + p.values[self.of[1]]

    def backward(self, p: _Pass, gradient: _Gradient, buffers: _Buffers) -> None:
        for place in self.of:  # the buffer, if there is one, is not given back: two read it
            p.add(place, _Gradient(gradient.value, False), buffers)


@dataclass(slots=True, eq=False)
class _Convolution(_Step):
    """A convolution and the rectifier behind it. bounds: (low, high) or None; product: 1x1, a matrix product."""

    weight: torch.Tensor
    bias: torch.Tensor | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    bounds: tuple[float, float] | None
    product: bool
    way_back: WayBack
    turned: torch.Tensor | None  # its kernel, channels last; None where it has none

    @staticmethod
    def of_module(
        at: int, of: int, module: nn.Conv2d, bounds: tuple[float, float] | None
    ) -> _Convolution | None:
        """None where the module is not of the kind."""
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            return None
        weight = module.weight.detach()
        stride, padding, groups = tuple(module.stride), tuple(module.padding), module.groups
        product = tuple(weight.shape[2:]) == (1, 1) and stride == (1, 1) and padding == (0, 0) and groups == 1
        way_back, turned = WayBack.of(module), None
        if product:
            weight = weight[:, :, 0, 0].contiguous()
        else:
            if way_back.turned is not None:
                turned = way_back.turned.contiguous(memory_format=torch.channels_last)
            weight = weight.contiguous(memory_format=torch.channels_last)
        bias = None if module.bias is None else module.bias.detach()
        about = (stride, padding, tuple(module.dilation), groups)
        return _Convolution(at, (of,), weight, bias, *about, bounds, product, way_back, turned)

    def forward(self, p: _Pass, buffers: _Buffers) -> None:
        x = p.values[self.of[0]]
        if self.product:
            matrix = buffers.take(x.shape[2] * x.shape[3], self.weight.shape[0])
            p.taken.append(matrix)
            if self.bias is None:
                torch.mm(_rows(x), self.weight.t(), out=matrix)
            else:
                torch.addmm(self.bias, _rows(x), self.weight.t(), out=matrix)
            y = _image(matrix, x.shape[2], x.shape[3])
        else:
            y = torch.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if self.bounds is not None:
            y.clamp_(*self.bounds)
        p.values[self.at] = y

    def backward(self, p: _Pass, gradient: _Gradient, buffers: _Buffers) -> None:
        g, y, buffer = gradient.value, p.values[self.at], gradient.buffer
        x = p.values[self.of[0]]
        place = None
        if self.bounds is not None:
            if not gradient.own:
                g = g.clone(memory_format=torch.channels_last)
            # from what was put out: strictly between the bounds exactly where the input was
            aten.hardtanh_backward.grad_input(g, y, *self.bounds, grad_input=g)
        if self.product:
            place = buffers.take(x.shape[2] * x.shape[3], self.weight.shape[1])
            torch.mm(_rows(g), self.weight, out=place)
            found = _image(place, x.shape[2], x.shape[3])
        elif self.turned is not None:
            found = torch.conv2d(g, self.turned, None, 1, self.way_back.around, self.dilation, self.groups)
        else:
            left = self.way_back.left(x.shape[2:], g.shape[2:])
            found = torch.conv_transpose2d(
                g, self.weight, None, self.stride, self.padding, left, self.groups, self.dilation
            )
        if buffer is not None:
            buffers.give(buffer)
        p.add(self.of[0], _Gradient(found, True, place), buffers)


@dataclass(slots=True, eq=False)
class _Other(_Step):
    """Any operation, by autograd. call: (values) -> its result."""

    call: Callable[[Callable[[int], Any]], Any]

    def forward(self, p: _Pass, buffers: _Buffers) -> None:
        leaves: list[tuple[int, torch.Tensor]] = []

        def value(at: int) -> Any:
            found = p.values[at]
            if not isinstance(found, torch.Tensor) or not found.is_floating_point():
                return found
            leaves.append((at, found.detach().requires_grad_(True)))
            return leaves[-1][1]

        with torch.enable_grad():
            result = self.call(value)
        if isinstance(result, torch.Tensor) and result.requires_grad:
            p.graphs[self.at] = (leaves, result)
            result = result.detach()
        p.values[self.at] = result

    def backward(self, p: _Pass, gradient: _Gradient, buffers: _Buffers) -> None:
        leaves, result = p.graphs.pop(self.at)
        found = torch.autograd.grad(result, [leaf for _, leaf in leaves], gradient.value, allow_unused=True)
        for (place, _), each in zip(leaves, found, strict=True):
            if each is not None:
                p.add(place, _Gradient(each, False), buffers)


class Program:
    """The steps of a network; shared by the threads, each with its own `_Buffers`."""

    def __init__(self, network: fx.GraphModule, score: Score) -> None:
        """network: traced, frozen, in eval mode, on the CPU, one input. Raises where there is something unheard of."""
        self.steps: list[_Step] = []
        self.score = score
        places: dict[fx.Node, int] = {}
        modules = dict(network.named_modules())
        for module in modules.values():
            if hasattr(module, "inplace"):
                module.inplace = False
        constants: dict[int, torch.Tensor] = {}
        merged: set[fx.Node] = set()
        self.input = self.output = -1
        for at, node in enumerate(network.graph.nodes):
            places[node] = at
            if node.op == "placeholder":
                if self.input >= 0:
                    raise NotImplementedError("more than one input")
                self.input = at
            elif node.op == "output":
                self.output = places[node.args[0]]
            elif node.op == "get_attr":
                found: Any = network
                for part in str(node.target).split("."):
                    found = getattr(found, part)
                constants[at] = found.detach()
            elif node in merged:
                places[node] = places[node.args[0]]
            else:
                self.steps.append(self._step(at, node, places, modules, merged))
        self.constants = constants
        self.count = len(places)

    @staticmethod
    def _step(
        at: int,
        node: fx.Node,
        places: dict[fx.Node, int],
        modules: dict[str, nn.Module],
        merged: set[fx.Node],
    ) -> _Step:
        module = modules[str(node.target)] if node.op == "call_module" else None
        of = tuple(places[n] for n in node.all_input_nodes)
        if isinstance(module, _SAME) and len(of) == 1:
            return _Same(at, of)
        if isinstance(module, nn.Conv2d) and len(of) == 1:
            users = list(node.users)
            limits = bounds(users[0], modules) if len(users) == 1 else None
            step = _Convolution.of_module(at, of[0], module, limits)
            if step is not None:
                if limits is not None:
                    merged.add(users[0])
                return step
        if is_sum(node) and len(of) == 2:
            return _Add(at, of)

        def call(value: Callable[[int], Any]) -> Any:
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: value(places[n]))
            if module is not None:
                return module(*args, **kwargs)
            if node.op == "call_method":
                return getattr(args[0], str(node.target))(*args[1:], **kwargs)
            return node.target(*args, **kwargs)  # type: ignore[operator]

        return _Other(at, of, call)

    def __call__(
        self, x: torch.Tensor, buffers: _Buffers, stop: Event | None = None
    ) -> tuple[float, torch.Tensor]:
        """One image (1, channels, rows, columns) -> its score and the gradient there. Raises Stopped."""
        p = _Pass([None] * self.count)
        p.values[self.input] = x.clone(memory_format=torch.channels_last)
        for at, constant in self.constants.items():
            p.values[at] = constant
        with torch.no_grad():
            for step in self.steps:
                if stop is not None and stop.is_set():
                    raise Stopped
                step.forward(p, buffers)
            with torch.enable_grad():
                outputs = p.values[self.output].detach().requires_grad_(True)
                score = self.score(outputs)
                (above,) = torch.autograd.grad(score.sum(), [outputs])
            p.add(self.output, _Gradient(above, False), buffers)
            for step in reversed(self.steps):
                if stop is not None and stop.is_set():
                    raise Stopped
                gradient = p.gradients.pop(step.at, None)
                if gradient is not None:
                    step.backward(p, gradient, buffers)
            found = p.gradients[self.input].value.clone(memory_format=torch.contiguous_format)
        for matrix in p.taken:
            buffers.give(matrix)
        return float(score.detach()[0]), found


class Streams:
    """`threads` images at a time, each on a thread of its own."""

    name = "torch"

    def __init__(self, program: Program, threads: int) -> None:
        self.program = program
        self.threads = max(1, threads)
        self.size = 4 * self.threads
        self._buffers = [_Buffers() for _ in range(self.threads)]

    def __call__(
        self, batch: torch.Tensor, looked: Looked | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        stop, free, count = Event(), list(self._buffers), len(batch)
        batch = batch.detach().float()
        results: list[tuple[float, torch.Tensor] | None] = [None] * count

        def work(index: int) -> None:
            buffers = free.pop() if free else _Buffers()
            try:
                results[index] = self.program(batch[index : index + 1], buffers, stop)
            finally:
                free.append(buffers)

        before = torch.get_num_threads()
        torch.set_num_threads(1)  # of each thread that begins now; the caller's own again at the end
        try:
            with ThreadPoolExecutor(min(self.threads, count)) as threads:
                left: set[Future[None]] = {threads.submit(work, i) for i in range(count)}
                try:
                    while left:
                        done, left = wait(left, POLL, FIRST_COMPLETED)
                        for future in done:
                            future.result()
                        if looked is not None:
                            looked(len(done))
                except BaseException:
                    stop.set()
                    raise
        finally:
            torch.set_num_threads(before)
        scores, gradients = zip(*(r for r in results if r is not None), strict=True)
        return torch.tensor(scores), torch.cat(gradients)
