"""Scores and gradients at the image as one graph of forward operations, written for OpenVINO node by node.

The network's operations are followed, then the same list backwards: what a convolution does to a gradient is a convolution
with the kernel turned by 180° and its channels exchanged (at larger strides a transposed convolution), a rectifier lets
pass where it put out something strictly between its bounds. Nothing is traced or converted, so it is written in
hundredths of a second and compiled in tenths. What is not known here raises Unavailable, never a wrong gradient;
`gradients` verifies the rest against autograd before it is used.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import fx, nn
from torch.nn import functional as F

from xai_engine.classifier.backends.base import Unavailable
from xai_engine.classifier.backends.compiled import settings
from xai_engine.classifier.backends.nodes import Looked, Score, WayBack, bounds, is_sum

POLL = 50  # milliseconds between two looks for cancellation
EACH = 16  # images of one call, for each thread: at its end some threads wait for the others
MOST = 2**26  # bytes of them

Array = npt.NDArray[np.float32]


class OpenVinoGradients:
    """`threads` images at a time, each on a thread of its own, in fp32 (extra `openvino`)."""

    name = "openvino"

    def __init__(self, network: fx.GraphModule, score: Score, shape: tuple[int, ...], threads: int) -> None:
        """network: traced, frozen, in eval mode, on the CPU; its output is (n, outputs). shape: of one image.

        Raises Unavailable where OpenVINO is not installed, or the network or the score has something unheard of.
        """
        if importlib.util.find_spec("openvino") is None:
            raise Unavailable("OpenVINO is not installed (pip install radiolucent[openvino])")
        import openvino

        writer = _Writer(network, shape)
        outputs = writer.outputs
        self._score, self._single = score, outputs == 1
        model = writer.backwards(np.ones((1, 1), np.float32) if self._single else _direction(score, outputs))
        compiled = openvino.Core().compile_model(model, "CPU", settings(threads))
        self._requests = [compiled.create_infer_request() for _ in range(max(1, threads))]
        self.size = max(1, min(EACH * len(self._requests), MOST // (4 * int(np.prod(shape)))))

    def __call__(
        self, batch: torch.Tensor, looked: Looked | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        images = np.ascontiguousarray(batch.detach().float().numpy())
        outputs: list[Array] = []
        gradients = np.empty_like(images)
        requests = self._requests
        begun = 0
        try:
            for done in range(len(images)):
                while begun < min(len(images), done + len(requests)):
                    requests[begun % len(requests)].start_async(
                        [images[begun : begun + 1]], share_inputs=True
                    )
                    begun += 1
                request = requests[done % len(requests)]
                while not request.wait_for(POLL):
                    if looked is not None:
                        looked(0)
                outputs.append(np.array(request.get_output_tensor(0).data, np.float32))
                gradients[done] = request.get_output_tensor(1).data[0]
                if looked is not None:
                    looked(1)
        except BaseException:
            for at in range(len(outputs), begun):
                requests[at % len(requests)].cancel()
                _ended(requests[at % len(requests)])
            raise
        scores, slopes = self._scored(torch.from_numpy(np.concatenate(outputs)))
        found = torch.from_numpy(gradients)
        return scores, found * slopes[:, None, None, None] if self._single else found

    def _scored(self, outputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores and, where the network has one output, their slopes by it; both (n,)."""
        with torch.enable_grad():
            leaf = outputs.requires_grad_(True)
            scores = self._score(leaf)
            (slopes,) = torch.autograd.grad(scores.sum(), [leaf])
        return scores.detach(), slopes[:, 0]


def _ended(request: Any) -> None:
    """Wait for a request that was told to stop: it says so by raising."""
    try:
        request.wait()
    except RuntimeError:
        return


def _direction(score: Score, outputs: int) -> Array:
    """The gradient of the score by the outputs, (1, outputs), where it is the same everywhere. Raises Unavailable."""
    leaf = torch.randn(8, outputs, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    with torch.enable_grad():
        (found,) = torch.autograd.grad(score(leaf).sum(), [leaf])
    if not torch.equal(found, found[:1].expand_as(found)):
        raise Unavailable("the score is no linear function of the network's outputs")
    return found[:1].numpy()


class _Writer:
    """A network's operations as OpenVINO's: forwards when made, backwards once."""

    def __init__(self, network: fx.GraphModule, shape: tuple[int, ...]) -> None:
        from openvino import opset13

        self.ops = opset13
        self.modules = dict(network.named_modules())
        self.values: dict[fx.Node, Any] = {}
        self.gradients: dict[fx.Node, Any] = {}
        self.nodes: list[fx.Node] = []
        for node in network.graph.nodes:
            if node.op == "placeholder":
                if self.values:
                    raise Unavailable("the network has more than one input")
                self.first = node
                self.values[node] = self.input = self.ops.parameter([1, *shape], np.float32)
            elif node.op == "output":
                self.last = node.args[0]
            else:
                self.nodes.append(node)
                self.values[node] = self._forward(node)
        if not isinstance(self.last, fx.Node) or len(self.shape(self.last)) != 2:
            raise Unavailable("the network's output is no row of numbers")
        self.outputs = self.shape(self.last)[1]

    def backwards(self, above: Array) -> Any:
        """openvino.Model: image (1, channels, rows, columns) -> outputs, gradient there of their product with `above`."""
        import openvino

        self.gradients[self.last] = self._constant(above)
        for node in reversed(self.nodes):
            if node in self.gradients:
                self._backward(node, self.gradients[node])
        if self.first not in self.gradients:
            raise Unavailable("the score does not depend on the image")
        found = [self.ops.result(self.values[self.last]), self.ops.result(self.gradients[self.first])]
        return openvino.Model(found, [self.input])

    # ---- forwards --------------------------------------------------------------------------------------------------

    def _forward(self, node: fx.Node) -> Any:
        module = self._module(node)
        inputs = [self.values.get(n) for n in node.all_input_nodes]
        if not inputs or inputs[0] is None:
            raise Unavailable(f"{node.name}: takes no result of the network")
        x = inputs[0]
        if isinstance(module, nn.Conv2d):
            return self._convolution(module, x)
        limits = bounds(node, self.modules)
        if limits is not None:
            return self.ops.clamp(x, *limits) if limits[1] < float("inf") else self.ops.relu(x)
        if is_sum(node) and all(v is not None for v in inputs):
            terms = [self.values[n] for n in _both(node)]
            if terms[0].output(0).get_shape() != terms[1].output(0).get_shape():
                raise Unavailable(f"{node.name}: adds tensors of unlike shapes")
            return self.ops.add(*terms)
        if isinstance(module, (nn.Identity, nn.Dropout)):  # in eval mode
            return x
        if isinstance(module, nn.Linear):
            product = self.ops.matmul(x, self._constant(module.weight), False, True)
            return product if module.bias is None else self.ops.add(product, self._constant(module.bias))
        if _is_pooled(node, module) or _is_mean(node):
            return self.ops.reduce_mean(x, self._integers([2, 3]), _is_pooled(node, module))
        if _is_flat(node, module):
            return self.ops.reshape(x, self._integers([1, -1]), False)
        raise Unavailable(f"{node.name}: an operation that is not known here")

    def _convolution(self, module: nn.Conv2d, x: Any) -> Any:
        if module.padding_mode != "zeros" or isinstance(module.padding, str):
            raise Unavailable("a convolution with padding that is not known here")
        stride, padding, dilation = (list(n) for n in (module.stride, module.padding, module.dilation))
        way, kernel = self._kernel(_numbers(module.weight), module.groups)
        y = way(x, kernel, stride, padding, padding, dilation)
        return y if module.bias is None else self.ops.add(y, self._constant(module.bias.reshape(1, -1, 1, 1)))

    def _kernel(self, weight: Array, groups: int, back: bool = False) -> tuple[Any, Any]:
        """The operation and its kernel; weight: (outputs, inputs per group, rows, columns)."""
        if groups == 1:
            way = self.ops.convolution_backprop_data if back else self.ops.convolution
            return way, self._constant(weight)
        way = self.ops.group_convolution_backprop_data if back else self.ops.group_convolution
        return way, self._constant(weight.reshape(groups, len(weight) // groups, *weight.shape[1:]))

    # ---- backwards -------------------------------------------------------------------------------------------------

    def _backward(self, node: fx.Node, gradient: Any) -> None:
        module, x = self._module(node), node.all_input_nodes[0]
        shape = self.shape(x)
        if isinstance(module, nn.Conv2d):
            self._add(x, self._convolution_backward(module, shape, gradient))
        elif (limits := bounds(node, self.modules)) is not None:
            self._add(x, self._passed(self.values[node], gradient, *limits))
        elif is_sum(node):
            for each in _both(node):
                self._add(each, gradient)
        elif isinstance(module, (nn.Identity, nn.Dropout)):
            self._add(x, gradient)
        elif isinstance(module, nn.Linear):
            self._add(x, self.ops.matmul(gradient, self._constant(module.weight), False, False))
        elif _is_pooled(node, module) or _is_mean(node):
            each = self.ops.reshape(gradient, self._integers([*shape[:2], 1, 1]), False)
            each = self.ops.multiply(each, self._constant(np.full((1, 1, 1, 1), 1 / (shape[2] * shape[3]))))
            self._add(x, self.ops.broadcast(each, self._integers(shape)))
        else:  # flattened, see `_forward`
            self._add(x, self.ops.reshape(gradient, self._integers(shape), False))

    def _add(self, node: fx.Node, gradient: Any) -> None:
        before = self.gradients.get(node)
        self.gradients[node] = gradient if before is None else self.ops.add(before, gradient)

    def _passed(self, put_out: Any, gradient: Any, low: float, high: float) -> Any:
        """From what was put out: strictly between the bounds exactly where the input was."""
        passing = self.ops.greater(put_out, self._constant(np.full((1, 1, 1, 1), low)))
        if high < float("inf"):
            below = self.ops.less(put_out, self._constant(np.full((1, 1, 1, 1), high)))
            passing = self.ops.logical_and(passing, below)
        return self.ops.select(passing, gradient, self._constant(np.zeros((1, 1, 1, 1))))

    def _convolution_backward(self, module: nn.Conv2d, shape: tuple[int, ...], gradient: Any) -> Any:
        way_back = WayBack.of(module)
        if way_back.turned is not None:
            way, kernel = self._kernel(_numbers(way_back.turned), module.groups)
            around = list(way_back.around)
            return way(gradient, kernel, [1, 1], around, around, list(module.dilation))
        left = way_back.left(shape[2:], tuple(gradient.output(0).get_shape())[2:])
        stride, padding, dilation = (list(n) for n in (module.stride, module.padding, module.dilation))
        way, kernel = self._kernel(_numbers(module.weight), module.groups, back=True)
        return way(gradient, kernel, stride, None, padding, padding, dilation, output_padding=left)

    # ---- helpers ---------------------------------------------------------------------------------------------------

    def shape(self, node: fx.Node) -> tuple[int, ...]:
        return tuple(int(n) for n in self.values[node].output(0).get_shape())

    def _module(self, node: fx.Node) -> nn.Module | None:
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def _constant(self, values: torch.Tensor | npt.NDArray[Any]) -> Any:
        return self.ops.constant(_numbers(values))

    def _integers(self, values: Sequence[int]) -> Any:
        return self.ops.constant(np.array(values, np.int64))


def _numbers(values: torch.Tensor | npt.NDArray[Any]) -> Array:
    if isinstance(values, torch.Tensor):
        values = values.detach().numpy()
    return np.ascontiguousarray(values, np.float32)


def _both(node: fx.Node) -> list[fx.Node]:
    """The terms of a sum; the same one twice, where it is added to itself."""
    return [n for n in node.args if isinstance(n, fx.Node)]


def _is_pooled(node: fx.Node, module: nn.Module | None) -> bool:
    """The mean over all rows and columns, which stay as one each."""
    if module is not None:
        return isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1))
    return node.target is F.adaptive_avg_pool2d and node.args[1:] in ((1,), ((1, 1),)) and not node.kwargs


def _is_mean(node: fx.Node) -> bool:
    """The mean over all rows and columns, which are gone."""
    axes = node.args[1] if len(node.args) > 1 else node.kwargs.get("dim")
    plain = node.target in ("mean", torch.mean) and not node.kwargs.keys() - {"dim"} and len(node.args) <= 2
    return plain and isinstance(axes, (tuple, list)) and sorted(int(a) % 4 for a in axes) == [2, 3]


def _is_flat(node: fx.Node, module: nn.Module | None) -> bool:
    """Everything of an image in one row."""
    if module is not None:
        return isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1)
    return node.target in (torch.flatten, "flatten") and node.args[1:] == (1,) and not node.kwargs
