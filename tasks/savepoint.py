"""A savepoint: a place in a flow to which its jobs can be rewound."""

from __future__ import annotations

import re

from ebbtide.tasks.base import CancelableTask

__all__ = ["PREFIX", "Savepoint"]

# Names no task but savepoints: the records of a job tell by it which of them were reached.
PREFIX = "savepoint:"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")


class Savepoint(CancelableTask):
    """Changes nothing, and has nothing to undo: what comes after it can be undone alone.

    Args:
        name: letters, digits, ``_``, ``.`` and ``-``; no other savepoint of the flow has it.

    Raises:
        ValueError: it is no such name.
    """

    def __init__(self, name: str) -> None:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise ValueError(f"a savepoint is named with letters, digits, _ . and -, not {name!r:.60}")
        super().__init__(name=PREFIX + name)

    def execute(self) -> None:
        """It is reached."""

    def revert(self) -> None:
        """It is as if it had not been reached."""
