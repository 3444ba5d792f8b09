"""What the docstring of a factory says of each parameter."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from ebbtide.wording import one_line

__all__ = ["meanings", "told_plainly"]

_SECTION = re.compile(r"^(Args|Arguments|Parameters):\s*$")
_NAMED = re.compile(r"^(\s+)(\w+)(?:\s*\([^)]*\))?:\s*(.*)$")


def meanings(factory: Callable[..., Any]) -> dict[str, str]:
    """The entries of the section ``Args:``, by name, each on one line; empty where there is none.

    For people who choose parameters, nothing else: whatever is written otherwise is left out.
    """
    lines = iter((inspect.getdoc(factory) or "").splitlines())
    found: dict[str, list[str]] = {}
    if not any(_SECTION.match(line) for line in lines):
        return {}
    depth: int | None = None
    told: list[str] = []
    for line in lines:
        if line and not line[0].isspace():
            break
        named = _NAMED.match(line)
        if named and (depth is None or len(named[1]) <= depth):
            depth = len(named[1])
            told = found.setdefault(named[2], [])
            told.append(named[3])
        else:
            told.append(line)
    return {name: told_plainly(" ".join(parts)) for name, parts in found.items()}


def told_plainly(text: str) -> str:
    """On one line, and without the marks that reStructuredText puts around code."""
    return one_line(text.replace("``", ""))
