"""The shape of a flow, stored with each attempt: its tasks, and what comes before what."""

from __future__ import annotations

from typing import Any

from ebbtide.jobs.shapes import SHAPE

__all__ = ["SHAPE", "shape_of"]

# Of more than that nobody sees anything in a picture.
_TASKS, _LINKS = 2000, 5000
_ATOMS = frozenset({"task", "retry"})


def shape_of(graph: Any) -> dict[str, Any]:
    """The atoms of an execution graph in an order in which they may run, and its links between them.

    What TaskFlow puts between them, the begin and end of each flow, is left out. Of a flow that is too large
    for a picture nothing, or no link, is told.
    """
    nodes = graph.topological_sort()
    # For each node, the atoms that come last before it.
    before: dict[Any, list[str]] = {}
    tasks: list[dict[str, str]] = []
    links: list[list[str]] = []
    for node in nodes:
        kind = graph.nodes[node]["kind"]
        found = list(dict.fromkeys(name for each in graph.predecessors(node) for name in before[each]))
        if kind not in _ATOMS:
            before[node] = found
            continue
        before[node] = [node.name]
        tasks.append({"name": node.name, "kind": kind})
        links += [[name, node.name] for name in found]
        if len(tasks) > _TASKS:
            return {"tasks": [], "links": []}
    return {"tasks": tasks, "links": links if len(links) <= _LINKS else []}
