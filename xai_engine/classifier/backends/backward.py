"""Scores and gradients at the image as one graph of forward operations, written for OpenVINO node by node.

The network's operations are followed, then the same list backwards: what a convolution does to a gradient is a convolution
with the kernel turned by 180° and its channels exchanged (at larger strides a transposed convolution), a rectifier lets
pass where it put out something strictly between its bounds. Nothing is traced or converted, so it is written in
hundredths of a second and compiled in tenths. What is not known here raises Unavailable, never a wrong gradient;
`gradients` verifies the rest against autograd before it is used.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from xai_engine.classifier.backends.base import Unavailable
from xai_engine.classifier.backends.compiled import settings
from xai_engine.classifier.backends.nodes import Looked, Score, WayBack, bounds, is_sum
from xai_engine.classifier.backends.writer import Array, Writer, both, is_flat, is_mean, is_pooled, numbers

POLL = 50  # milliseconds between two looks for cancellation
EACH = 16  # images of one call, for each thread: at its end some threads wait for the others
MOST = 2**26  # bytes of them
FEW = 8  # channels of an image, whose transposed convolution is written otherwise


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

        writer = _Backwards(network, shape)
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


class _Backwards(Writer):
    """The same, and once the way back."""

    def __init__(self, network: fx.GraphModule, shape: tuple[int, ...]) -> None:
        """network: its output is (n, outputs). Raises Unavailable."""
        super().__init__(network, shape)
        if len(self.shape(self.last)) != 2:
            raise Unavailable("the network's output is no row of numbers")
        self.outputs = self.shape(self.last)[1]
        self.gradients: dict[fx.Node, Any] = {}

    def backwards(self, above: Array) -> Any:
        """openvino.Model: image (1, channels, rows, columns) -> outputs, gradient there of their product with `above`."""
        import openvino

        self.gradients[self.last] = self.constant(above)
        for node in reversed(self.nodes):
            if node in self.gradients:
                self._backward(node, self.gradients[node])
        if self.first not in self.gradients:
            raise Unavailable("the score does not depend on the image")
        found = [self.ops.result(self.values[self.last]), self.ops.result(self.gradients[self.first])]
        return openvino.Model(found, [self.input])

    def _backward(self, node: fx.Node, gradient: Any) -> None:
        module, x = self.module(node), node.all_input_nodes[0]
        shape = self.shape(x)
        if isinstance(module, nn.Conv2d):
            self._add(x, self._convolution_backward(module, shape, gradient))
        elif (limits := bounds(node, self.modules)) is not None:
            self._add(x, self._passed(self.values[node], gradient, *limits))
        elif is_sum(node):
            for each in both(node):
                self._add(each, gradient)
        elif isinstance(module, (nn.Identity, nn.Dropout)):
            self._add(x, gradient)
        elif isinstance(module, nn.Linear):
            self._add(x, self.ops.matmul(gradient, self.constant(module.weight), False, False))
        elif is_pooled(node, module) or is_mean(node):
            each = self.ops.reshape(gradient, self.integers([*shape[:2], 1, 1]), False)
            each = self.ops.multiply(each, self.constant(np.full((1, 1, 1, 1), 1 / (shape[2] * shape[3]))))
            self._add(x, self.ops.broadcast(each, self.integers(shape)))
        elif is_flat(node, module):
            self._add(x, self.ops.reshape(gradient, self.integers(shape), False))
        else:
            raise Unavailable(f"{node.name}: an operation whose way back is not known here")

    def _add(self, node: fx.Node, gradient: Any) -> None:
        before = self.gradients.get(node)
        self.gradients[node] = gradient if before is None else self.ops.add(before, gradient)

    def _passed(self, put_out: Any, gradient: Any, low: float, high: float) -> Any:
        """From what was put out: strictly between the bounds exactly where the input was."""
        passing = self.ops.greater(put_out, self.constant(np.full((1, 1, 1, 1), low)))
        if high < float("inf"):
            below = self.ops.less(put_out, self.constant(np.full((1, 1, 1, 1), high)))
            passing = self.ops.logical_and(passing, below)
        return self.ops.select(passing, gradient, self.constant(np.zeros((1, 1, 1, 1))))

    def _convolution_backward(self, module: nn.Conv2d, shape: tuple[int, ...], gradient: Any) -> Any:
        way_back = WayBack.of(module)
        if way_back.turned is not None:
            way, kernel = self.kernel(numbers(way_back.turned), module.groups)
            around = list(way_back.around)
            return way(gradient, kernel, [1, 1], around, around, list(module.dilation))
        stride, padding, dilation = (list(n) for n in (module.stride, module.padding, module.dilation))
        if module.groups == 1 and dilation == [1, 1] and stride[0] == stride[1] and shape[1] < FEW:
            return self._interleaved(module, shape, gradient)
        left = way_back.left(shape[2:], tuple(gradient.output(0).get_shape())[2:])
        way, kernel = self.kernel(numbers(module.weight), module.groups, back=True)
        return way(gradient, kernel, stride, None, padding, padding, dilation, output_padding=left)

    def _interleaved(self, module: nn.Conv2d, shape: tuple[int, ...], gradient: Any) -> Any:
        """A transposed convolution of stride s as a plain one that gives s * s pictures, interleaved (Shi et al. 2016, CVPR,
        sub-pixel convolution): OpenVINO's own fills its vectors with channels, and an image has few.

        Row Y = y + padding of the image takes from rows o of the gradient by the kernel's row Y - s o: with Y = s q + a, the
        kernel's row a + s t from o = q - t.
        """
        weight, s = numbers(module.weight), int(module.stride[0])
        outputs, inputs = weight.shape[:2]
        taps = [-(-n // s) for n in weight.shape[2:]]
        kernel = np.zeros((inputs, s, s, outputs, *taps), np.float32)
        for i in range(weight.shape[2]):
            for j in range(weight.shape[3]):
                at = kernel[:, i % s, j % s, :, taps[0] - 1 - i // s, taps[1] - 1 - j // s]
                at[:] = weight[:, :, i, j].T
        sizes = tuple(gradient.output(0).get_shape())[2:]
        around = [int(n) for n in module.padding]
        # rows q there must be: as many as the image has, and as the gradient reaches
        rows = [max((shape[2 + k] - 1 + around[k]) // s + 1, sizes[k]) for k in (0, 1)]
        after = [rows[k] - sizes[k] for k in (0, 1)]
        flat = kernel.reshape(inputs * s * s, outputs, *taps)
        before = [taps[0] - 1, taps[1] - 1]
        pictures = self.ops.convolution(gradient, self.constant(flat), [1, 1], before, after, [1, 1])
        whole = self.ops.depth_to_space(pictures, "depth_first", s)
        ends = [around[k] + shape[2 + k] for k in (0, 1)]
        axes = self.integers([2, 3])
        return self.ops.slice(whole, self.integers(around), self.integers(ends), self.integers([1, 1]), axes)
