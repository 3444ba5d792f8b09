"""Processes that serve the whole test session: no test is blamed for them, and none ends them."""

_pids: set[int] = set()


def add(pid: int) -> None:
    _pids.add(pid)


def remove(pid: int) -> None:
    """Once it is reaped: its pid may be another's."""
    _pids.discard(pid)


def is_one(pid: int) -> bool:
    return pid in _pids
