"""The memory limit of a runner."""

from __future__ import annotations

import resource

__all__ = ["limit_memory", "too_little"]

_MIB = 1 << 20
_STACK_BYTES = 8 * _MIB
# Beside its tasks' threads a runner has one that drives the engine and one that stores progress.
_OWN_THREADS = 2
# For what a run holds of its own: connections, statements, the graph of its flow.
_OWN_BYTES = 32 * _MIB


def limit_memory(mib: int) -> None:
    """Let this process, and each that it starts, have at most so much of memory of its own; 0: no limit.

    Counted are heap, stacks of threads and anonymous mappings, whether used or not. What would go
    beyond is refused: Python raises MemoryError, other programs do as they are written.
    """
    if mib:
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        wanted = mib * _MIB if most == resource.RLIM_INFINITY else min(mib * _MIB, most)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))


def too_little(mib: int, task_threads: int) -> str:
    """Why a runner could not even begin under that limit, in a line; "" if it can.

    Asked in a process that has imported all that a runner needs.
    """
    stack, _ = resource.getrlimit(resource.RLIMIT_STACK)
    stack = _STACK_BYTES if stack == resource.RLIM_INFINITY else stack
    needed = _own_bytes() + (task_threads + _OWN_THREADS) * stack + _OWN_BYTES
    least = -(-needed // _MIB)
    if not mib or mib >= least:
        return ""
    return f"memory_limit_mib ({mib}) is too little: runners need {least} before a task has any"


def _own_bytes() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmData:"))
