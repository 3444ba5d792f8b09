"""The shape of a flow, as its runner stores it with an attempt: tasks, and what comes before what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["SHAPE", "order_in", "shape_in"]

SHAPE = "ebbtide_shape"
"""Under which key of a flow detail's meta it is."""


def shape_in(meta: Mapping[str, Any]) -> dict[str, Any] | None:
    """The shape in a flow detail's meta. Altered by others it is none, and keeps no job from being shown."""
    try:
        stored = meta[SHAPE]
        tasks = [{"name": str(task["name"]), "kind": str(task["kind"])} for task in stored["tasks"]]
        return {"tasks": tasks, "links": [[str(first), str(then)] for first, then in stored["links"]]}
    except (TypeError, KeyError, ValueError):
        return None


def order_in(shape: Mapping[str, Any]) -> dict[str, set[str]]:
    """For each task of a shape, all that have to be done before it."""
    before: dict[str, set[str]] = {task["name"]: set() for task in shape["tasks"]}
    direct: dict[str, list[str]] = {}
    for first, then in shape["links"]:
        direct.setdefault(then, []).append(first)
    # In an order in which they may run: what comes before is known by then.
    for name in before:
        for first in direct.get(name, ()):
            before[name] |= {first} | before.get(first, set())
    return before
