"""`savepoint`, what a flow's author writes for one."""

from ebbtide.tasks.savepoint import Savepoint

__all__ = ["savepoint"]


def savepoint(name: str) -> Savepoint:
    """An atom for a flow, to which its jobs can be rewound: what comes after it is undone, then begun anew.

        linear_flow.Flow("import").add(Download(), savepoint("downloaded"), Load(), Check())

    What is undone is what comes after it, near or far. What stands beside it, in another branch, stays.

    Args:
        name: letters, digits, ``_``, ``.`` and ``-``; no other savepoint of the flow has it.

    Raises:
        ValueError: it is no such name.
    """
    return Savepoint(name)
