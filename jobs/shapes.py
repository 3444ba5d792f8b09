"""The shape of a flow, as its runner stores it with an attempt: tasks, and what comes before what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["SHAPE", "shape_in"]

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
