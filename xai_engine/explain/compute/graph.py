"""A network as a list of operations that rules of propagation can walk backwards.

torch.fx writes the operations down; they are run here one by one and their values kept. The network itself is only
read: weights with batch norm folded in are new tensors, and nothing works in place. What is found is checked against
the network's own score, so a graph that misses something is an error and never a wrong map.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import fx, nn
from torch.nn import functional as F

from xai_engine.errors import UnsupportedModel
from xai_engine.explain.guard import is_hooked
from xai_engine.explain.session import Session

Kind = Literal["linear", "sum", "move", "maximum", "pass", "gate", "multiply", "softmax"]
AGREEMENT = 1e-3  # between the score of the graph and the network's own, of 1 + |score|


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One operation on what depends on the image.

    kind: linear (apply(x) = map(x, weight) + bias), sum (linear without weights: pooling, addition), move (every value
    goes somewhere unchanged), maximum, pass (a function of each value with f(0) = 0), gate (one with f(0) > 0),
    multiply (of two values), softmax. sources: operands, each once; apply: their tensors -> output.
    """

    node: fx.Node
    name: str
    kind: Kind
    sources: tuple[fx.Node, ...]
    apply: Callable[..., torch.Tensor]
    map: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None = None
    weight: torch.Tensor | None = None
    bias: torch.Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """steps in order; values of one image by node; source: the image's node; output: the head's."""

    steps: tuple[Step, ...]
    values: dict[fx.Node, torch.Tensor]
    source: fx.Node
    output: fx.Node

    def operands(self, step: Step) -> list[torch.Tensor]:
        return [self.values[node] for node in step.sources]


def adjoint(
    function: Callable[..., torch.Tensor], at: Sequence[torch.Tensor], g: torch.Tensor
) -> list[torch.Tensor]:
    """Vector-Jacobian products of `function` at `at` with g, one for each operand."""
    leaves = [x.detach().requires_grad_(True) for x in at]
    with torch.enable_grad():
        y = function(*leaves)
        found = torch.autograd.grad(y, leaves, g.expand_as(y), allow_unused=True)
    return [torch.zeros_like(x) if d is None else d for x, d in zip(at, found, strict=True)]


class _Tracer(fx.Tracer):
    """Knows in which module tracing came to its end. tick: called at every module, some hundreds a second."""

    at = "network"

    def __init__(self, tick: Callable[[], None]) -> None:
        super().__init__()
        self._tick = tick

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        self._tick()
        outer, self.at = self.at, self.path_of_module(m)
        out = super().call_module(m, forward, args, kwargs)
        self.at = outer  # not reached by an error
        return out


class Graph:
    """The operations of a session's network. Raises UnsupportedModel (names the node)."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.network = session.network
        tracer = _Tracer(session.tick)
        try:
            self.graph = tracer.trace(session.network)
        except (
            fx.proxy.TraceError, TypeError, NameError, ValueError, AttributeError, LookupError, RuntimeError, AssertionError,
        ) as error:  # fmt: skip
            reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
            raise UnsupportedModel(
                f"layer {tracer.at!r} of {session.classifier.info.architecture}: its operations cannot be written down, "
                f"so nothing can be propagated through it ({reason})"
            ) from None
        _in_place_takes_over(self.graph, self.network)

    @torch.no_grad()
    def run(self, x: torch.Tensor, score: float) -> Tape:
        """Run on one image (1, channels, rows, columns); `score`: the network's own for it. Counts one forward pass."""
        everything: dict[fx.Node, Any] = {}
        values: dict[fx.Node, torch.Tensor] = {}
        steps: dict[fx.Node, Step] = {}
        source: fx.Node | None = None
        for node in self.graph.nodes:
            self.session.tick()
            if node.op == "placeholder":
                if source is None:
                    source = node
                    everything[node] = values[node] = x
                elif node.args:
                    everything[node] = node.args[0]
                else:
                    raise UnsupportedModel(
                        f"layer {node.name!r}: a second input, and there is only one image"
                    )
            elif node.op == "output":
                break
            elif node.op == "get_attr":
                everything[node] = operator.attrgetter(node.target)(self.network)
            elif not any(n in values for n in node.all_input_nodes) or _asks(node):
                everything[node] = self._plain(node, everything)
            else:
                step = self._step(node, everything, values, steps)
                out = step.apply(*(values[n] for n in step.sources))
                if not isinstance(out, torch.Tensor) or not out.is_floating_point():
                    raise UnsupportedModel(
                        f"layer {step.name!r}: gives something else than a tensor of values"
                    )
                everything[node] = values[node] = out
                steps[node] = step
        output = node.args[0]
        if source is None or not isinstance(output, fx.Node) or output not in steps:
            raise UnsupportedModel(
                f"layer {node.name!r}: the network does not give one tensor that depends on the image"
            )
        found = float(self.session.classifier.score_of(values[output].float(), self.session.target)[0])
        last = steps[output]
        own = [values[n] for n in last.sources]
        terms = sum(
            float((a * b).abs().sum())
            for a, b in zip(own, adjoint(last.apply, own, torch.ones_like(values[output])), strict=True)
        )
        if not abs(found - score) <= AGREEMENT * (min(1.0, terms) + abs(score)):
            raise UnsupportedModel(
                f"{self.session.classifier.info.architecture}: its operations, written down, give {found:.4g} instead of "
                f"{score:.4g}; an operation in place or a hook hides something"
            )
        self.session.count(1)
        return Tape(tuple(steps.values()), values, source, output)

    def _plain(self, node: fx.Node, known: dict[fx.Node, Any]) -> Any:
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda n: known[n])
        if node.op == "call_module":
            return self.network.get_submodule(str(node.target))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        assert callable(node.target)
        return node.target(*args, **kwargs)

    def _step(
        self,
        node: fx.Node,
        known: dict[fx.Node, Any],
        values: dict[fx.Node, torch.Tensor],
        steps: dict[fx.Node, Step],
    ) -> Step:
        sources = tuple(n for n in node.all_input_nodes if n in values)

        def apply(*tensors: torch.Tensor) -> torch.Tensor:
            # clones, because an operation in place must not change what is kept
            given = known | dict(zip(sources, (t.clone() for t in tensors), strict=True))
            return self._plain(node, given)

        if node.op == "call_module":
            module = self.network.get_submodule(str(node.target))
            if is_hooked(module):
                raise UnsupportedModel(f"layer {str(node.target)!r}: a hook may change its values; remove it")
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
                return _weighted(node, module, sources)
            if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)):
                return _batch_norm(node, module, sources, values, steps)
            kind = next((k for types, k in _MODULES.items() if isinstance(module, types)), None)
            name = str(node.target)
            what = type(module).__name__
        else:
            name, what = _where(node), str(node.target)
            if node.op == "call_function":
                what = getattr(node.target, "__name__", what)
            kind = _kind(what.removesuffix("_"), node, len(sources))
            if kind == "linear":
                return _constant(node, name, what, sources[0], known)
        if kind is None:
            raise UnsupportedModel(f"layer {name!r}: no rule to propagate through {what}")
        return Step(node, name, kind, sources, apply)


# ---- what an operation is ------------------------------------------------------------------------------------------

_PASS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.CELU, nn.SELU, nn.SiLU, nn.GELU, nn.Mish, nn.Hardswish, nn.Tanh,
)  # fmt: skip
_MODULES: dict[tuple[type[nn.Module], ...], Kind] = {
    _PASS: "pass",
    (nn.Sigmoid, nn.Hardsigmoid): "gate",
    (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d): "sum",
    (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d): "maximum",
    (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.Identity, nn.Flatten): "move",
    (nn.Softmax,): "softmax",
}  # fmt: skip
# functions and methods of tensors, without the underscore of those that work in place
_NAMES: dict[str, Kind] = {
    **dict.fromkeys(
        ("relu", "relu6", "leaky_relu", "elu", "celu", "selu", "silu", "gelu", "mish", "hardswish", "tanh"), "pass"
    ),
    **dict.fromkeys(("sigmoid", "hardsigmoid"), "gate"),
    **dict.fromkeys(
        ("mean", "sum", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d"), "sum"
    ),
    **dict.fromkeys(("max_pool1d", "max_pool2d", "adaptive_max_pool2d", "boolean_dispatch"), "maximum"),
    **dict.fromkeys(
        ("flatten", "view", "reshape", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "getitem", "cat",
         "concat", "dropout", "stochastic_depth"), "move",
    ),
    "softmax": "softmax",
}  # fmt: skip


def _kind(name: str, node: fx.Node, operands: int) -> Kind | None:
    if name in ("add", "iadd"):
        two = operands == 2 or (len(node.args) == 2 and node.args[0] is node.args[1])
        return None if node.kwargs else "sum" if two else "linear"
    if name in ("mul", "imul"):
        both = operands == 2 or (len(node.args) == 2 and node.args[0] is node.args[1])
        return "multiply" if both else "linear"
    if name in ("truediv", "itruediv", "div"):
        first = bool(node.args) and node.args[0] in node.all_input_nodes
        return "linear" if operands == 1 and first and not node.kwargs else None
    return _NAMES.get(name)


def _asks(node: fx.Node) -> bool:
    """Whether a node asks for the form of a tensor, not for its values."""
    if node.op == "call_method":
        return node.target in ("size", "dim", "numel", "stride")
    return node.target is getattr


def _where(node: fx.Node) -> str:
    """The module in which a function is called, with the function's name."""
    stack = node.meta.get("nn_module_stack") or {}
    inside = [str(entry[0]) for entry in stack.values() if entry[0]]
    return f"{inside[-1]}.{node.name}" if inside else node.name


def _in_place_takes_over(graph: fx.Graph, network: nn.Module) -> None:
    """Whoever reads a tensor after an operation in place reads that operation's result."""
    position = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        if node.op == "call_module":
            in_place = bool(getattr(network.get_submodule(node.target), "inplace", False))
        else:
            name = getattr(node.target, "__name__", str(node.target))
            in_place = bool(node.kwargs.get("inplace")) or (name.endswith("_") and not name.endswith("__"))
        if in_place and node.args and isinstance(node.args[0], fx.Node):
            for user in list(node.args[0].users):
                if position[user] > position[node]:
                    user.replace_input_with(node.args[0], node)


# ---- operations with weights ---------------------------------------------------------------------------------------

_CONVOLUTIONS: dict[type[nn.Module], Callable[..., torch.Tensor]] = {
    nn.Conv1d: F.conv1d, nn.Conv2d: F.conv2d, nn.Conv3d: F.conv3d,
}  # fmt: skip


def _weighted(node: fx.Node, module: nn.Module, sources: tuple[fx.Node, ...]) -> Step:
    name = str(node.target)
    if isinstance(module, nn.Linear):
        flat = None if module.bias is None else module.bias.detach()
        return _linear(node, name, sources, F.linear, module.weight.detach(), flat)
    convolve = next((f for kind, f in _CONVOLUTIONS.items() if isinstance(module, kind)), None)
    if (
        convolve is None
        or not isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d))
        or module.padding_mode != "zeros"
    ):
        raise UnsupportedModel(f"layer {name!r}: a convolution whose padding is not zeros")
    bias = None if module.bias is None else _over_channels(module.bias.detach(), module.weight.ndim)

    def mapping(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return convolve(x, weight, None, module.stride, module.padding, module.dilation, module.groups)

    return _linear(node, name, sources, mapping, module.weight.detach(), bias)


def _batch_norm(
    node: fx.Node,
    module: nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d,
    sources: tuple[fx.Node, ...],
    values: dict[fx.Node, torch.Tensor],
    steps: dict[fx.Node, Step],
) -> Step:
    """a x + c per channel, folded into the layer before where that feeds nothing else."""
    name = str(node.target)
    mean, variance = module.running_mean, module.running_var
    if mean is None or variance is None or module.training:
        raise UnsupportedModel(f"layer {name!r}: batch norm without running statistics depends on the batch")
    a = torch.rsqrt(variance + module.eps)
    if module.weight is not None:
        a = a * module.weight.detach()
    c = -mean * a + (0.0 if module.bias is None else module.bias.detach())
    before = steps.get(sources[0])
    if (
        before is not None
        and before.kind == "linear"
        and before.map is not None
        and before.weight is not None
    ):
        weighted = (
            before.map is not torch.mul
        )  # constant factors and other batch norms have no output channels
        if weighted and len(sources[0].users) == 1 and before.weight.shape[0] == len(a):
            del steps[sources[0]], values[sources[0]]
            weight = before.weight * a.view(-1, *([1] * (before.weight.ndim - 1)))
            form = (1, -1, *([1] * (before.weight.ndim - 2))) if before.weight.ndim > 2 else (-1,)
            bias = c.view(form) if before.bias is None else before.bias * a.view(form) + c.view(form)
            return _linear(node, before.name, before.sources, before.map, weight, bias)
    dimensions = values[sources[0]].ndim
    return _linear(
        node, name, sources, torch.mul, _over_channels(a, dimensions), _over_channels(c, dimensions)
    )


def _constant(node: fx.Node, name: str, what: str, source: fx.Node, known: dict[fx.Node, Any]) -> Step:
    """x + k, x k and x / k with a constant k."""
    other = [known[n] if isinstance(n, fx.Node) else n for n in node.args if n is not source]
    if len(other) != 1:
        raise UnsupportedModel(
            f"layer {name!r}: no rule to propagate through {what} of {len(other) + 1} operands"
        )
    like = known[source]
    k = torch.as_tensor(other[0], dtype=like.dtype, device=like.device).detach()
    one = torch.ones((), dtype=like.dtype, device=like.device)
    if what.strip("_") in ("add", "iadd"):
        return _linear(node, name, (source,), torch.mul, one, k)
    return _linear(node, name, (source,), torch.mul, 1.0 / k if "div" in what else k, None)


def _linear(
    node: fx.Node,
    name: str,
    sources: tuple[fx.Node, ...],
    mapping: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
) -> Step:
    def apply(x: torch.Tensor) -> torch.Tensor:
        y = mapping(x, weight)
        return y if bias is None else y + bias

    return Step(node, name, "linear", sources, apply, mapping, weight, bias)


def _over_channels(vector: torch.Tensor, dimensions: int) -> torch.Tensor:
    return vector.view(1, -1, *([1] * (dimensions - 2)))
