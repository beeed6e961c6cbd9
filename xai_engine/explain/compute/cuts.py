"""Cutting a network that was written down (`backends.base.written`) in two, where all that follows depends on one activation."""

from __future__ import annotations

from weakref import WeakKeyDictionary

from torch import fx

# by graph: its parts, by the name of the node behind which it is cut
_PARTS: WeakKeyDictionary[fx.GraphModule, dict[tuple[str, str], fx.GraphModule]] = WeakKeyDictionary()


def narrow(graph: fx.GraphModule) -> list[fx.Node]:
    """Nodes whose value is all that is needed of what came before, in order; without the input and the last one."""
    nodes = [n for n in graph.graph.nodes if n.op != "output"]
    place = {node: index for index, node in enumerate(graph.graph.nodes)}
    last_use = {node: max((place[user] for user in node.users), default=-1) for node in nodes}
    found, reaches = [], -1  # the furthest use of anything before
    for node in nodes:
        if (
            node.op not in ("placeholder", "get_attr")
            and reaches <= place[node] < last_use[node] < len(place) - 1
        ):
            found.append(node)
        if node.op != "get_attr":
            reaches = max(reaches, last_use[node])
    return found


def front(graph: fx.GraphModule, cut: fx.Node) -> fx.GraphModule:
    """From the input to the cut's activation."""
    return _part(graph, cut, "front")


def rest(graph: fx.GraphModule, cut: fx.Node) -> fx.GraphModule:
    """From the cut's activation to the output. The same object again for the same graph and cut, as what is compiled is kept by
    network."""
    return _part(graph, cut, "rest")


def behind_layer(graph: fx.GraphModule, layer: str) -> fx.GraphModule | None:
    """From the output of a named module on; None where it is no single activation on which all that follows depends.

    A module that ends in a function of its own is cut before that function: whoever uses this compares the scores.
    """
    inside = [
        node
        for node in graph.graph.nodes
        if node.op == "call_module" and f"{node.target}.".startswith(f"{layer}.")
    ]
    return rest(graph, inside[-1]) if inside and inside[-1] in narrow(graph) else None


def _part(graph: fx.GraphModule, cut: fx.Node, which: str) -> fx.GraphModule:
    kept = _PARTS.setdefault(graph, {})
    if (cut.name, which) not in kept:
        new, mapped, behind = fx.Graph(), dict[fx.Node, fx.Node](), False
        if which == "rest":
            mapped[cut] = new.placeholder("activation")
        for node in graph.graph.nodes:
            # what is no result of the network, a constant of it, may be needed on both sides
            here = behind is (which == "rest") and node.op != "output"
            if here or node.op == "get_attr":
                mapped[node] = new.node_copy(node, lambda n: mapped[n])
            behind = behind or node is cut
        last = cut if which == "front" else next(n for n in graph.graph.nodes if n.op == "output").args[0]
        new.output(fx.node.map_arg(last, lambda n: mapped[n]))
        kept[cut.name, which] = fx.GraphModule(graph, new).eval()
    return kept[cut.name, which]
