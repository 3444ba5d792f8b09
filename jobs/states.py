"""The life of a job as data: its states, the edges between them, and how a run's end is settled."""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = [
    "EDGES",
    "FINAL_STATES",
    "PHASES",
    "Edge",
    "Ending",
    "JobState",
    "edge",
    "phase_of",
    "settle",
]


class JobState(enum.StrEnum):
    """Where a job is in its life. A final state never changes within its attempt."""

    PENDING = "pending"  # waits for a conductor
    RUNNING = "running"  # claimed; its tasks run, or are being undone
    PAUSED = "paused"  # stopped between tasks, nothing undone, until somebody resumes it
    PARKED = "parked"  # needs a person; nothing runs
    COMPLETED = "completed"  # final: all done
    FAILED = "failed"  # final: a task failed, everything undone
    CANCELLED = "cancelled"  # final: stopped on request, everything undone


FINAL_STATES = frozenset({JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED})


@dataclass(frozen=True)
class Edge:
    """One way a job's state may change. The name is what history, logs and API show."""

    name: str
    sources: frozenset[JobState]  # empty: the job does not exist yet
    target: JobState
    who: str
    only_if: str


def _edge(name: str, sources: tuple[JobState, ...], target: JobState, who: str, only_if: str) -> Edge:
    return Edge(name, frozenset(sources), target, who, only_if)


_S = JobState

EDGES: tuple[Edge, ...] = (
    _edge("posted", (), _S.PENDING, "client", "the parameters fit the flow's schema"),
    _edge(
        "claimed",
        (_S.PENDING,),
        _S.RUNNING,
        "conductor",
        "due, and its flow@version is known here; epoch + 1",
    ),
    _edge(
        "reclaimed",
        (_S.RUNNING,),
        _S.RUNNING,
        "conductor",
        "the holder's lease is over, or its runner is dead; epoch + 1",
    ),
    _edge(
        "released",
        (_S.RUNNING,),
        _S.PENDING,
        "holder",
        "suspended between tasks by a drain, or nothing has begun; uses up no attempt",
    ),
    _edge("completed", (_S.RUNNING,), _S.COMPLETED, "holder", "no cancel request, nothing to rewind"),
    _edge(
        "failed",
        (_S.RUNNING,),
        _S.FAILED,
        "holder",
        "no cancel request, or a limit was passed; every begun task undone",
    ),
    _edge(
        "retry_scheduled",
        (_S.RUNNING,),
        _S.PENDING,
        "holder",
        "no cancel request, or a limit was passed; all undone; retries left; attempt + 1, due later",
    ),
    _edge("cancelled", (_S.RUNNING,), _S.CANCELLED, "holder", "a cancel request; every begun task undone"),
    _edge(
        "cancelled_unclaimed",
        (_S.PENDING, _S.PAUSED),
        _S.CANCELLED,
        "holder, client",
        "nothing of this attempt has begun",
    ),
    _edge(
        "paused",
        (_S.RUNNING, _S.PENDING),
        _S.PAUSED,
        "holder, client",
        "no cancel request; nothing is undone",
    ),
    _edge("resumed", (_S.PAUSED,), _S.PENDING, "client", ""),
    _edge(
        "parked",
        (_S.RUNNING,),
        _S.PARKED,
        "holder, conductor",
        "an undo failed for good, three interruptions without progress, the stored run cannot be read, or "
        "a task failed and the job is to hold",
    ),
    _edge(
        "unparked",
        (_S.PARKED,),
        _S.PENDING,
        "operator, client",
        "after repair; of a job that holds: from its failure, or a cancel request",
    ),
    _edge(
        "accepted_as_failed",
        (_S.PARKED,),
        _S.FAILED,
        "operator",
        "a reason; no cancel request, or a limit was passed",
    ),
    _edge("accepted_as_cancelled", (_S.PARKED,), _S.CANCELLED, "operator", "a reason; a cancel request"),
    _edge("retried", (_S.FAILED, _S.CANCELLED), _S.PENDING, "client", "attempt + 1"),
)

_BY_NAME = {e.name: e for e in EDGES}


def edge(name: str) -> Edge:
    """The edge of that name. KeyError: the table lacks it, which is a fault of the caller's code."""
    return _BY_NAME[name]


SCHEDULED, CANCELLING, REVERTING, OVERDUE = "scheduled", "cancelling", "reverting", "overdue"
PHASES = (*JobState, SCHEDULED, CANCELLING, REVERTING, OVERDUE)


def phase_of(
    state: JobState, *, cancel_requested: bool, due: bool, undoing: bool, overdue: bool = False
) -> str:
    """The word people see: the state, or what a bare state would hide."""
    if state in FINAL_STATES or state is JobState.PARKED:
        return state
    if cancel_requested:
        return OVERDUE if overdue and state is JobState.RUNNING else CANCELLING
    if state is JobState.PENDING and not due:
        return SCHEDULED
    if state is JobState.RUNNING and undoing:
        return REVERTING
    return state


class Ending(enum.StrEnum):
    """How the engine came to rest."""

    FINISHED = "finished"  # every task is done
    UNDONE = "undone"  # every begun task is undone
    STUCK = "stuck"  # an undo failed: some begun task is neither
    HELD = "held"  # a task failed, and nothing is undone: the job was posted to hold


def settle(ending: Ending, *, cancel_requested: bool, limit_passed: bool = False) -> str | None:
    """The edge a run ends by, or None: it has to turn round and undo first.

    | ending   | request    | edge                                     |
    | -------- | ---------- | ---------------------------------------- |
    | finished | no         | completed                                |
    | finished | yes, limit | None: finished work is undone, then      |
    |          |            | asked again                              |
    | undone   | no         | failed                                   |
    | undone   | yes        | cancelled (a failure is kept beside it)  |
    | undone   | limit      | failed                                   |
    | stuck    | any        | parked                                   |
    | held     | no         | parked                                   |
    | held     | yes, limit | None: it is undone, then asked again     |

    Pure: the race against a request that is being stored at this moment is decided by the
    statement that applies the edge, which repeats the condition.

    Args:
        limit_passed: the request is no person's: a limit of the job was passed.
    """
    if ending is Ending.STUCK:
        return "parked"
    if ending is Ending.HELD:
        return None if cancel_requested else "parked"
    if ending is Ending.FINISHED:
        return None if cancel_requested else "completed"
    return "cancelled" if cancel_requested and not limit_passed else "failed"
