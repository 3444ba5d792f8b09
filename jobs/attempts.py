"""An attempt: what of a job's row begins anew with each, and the time in which it is claimed."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.states import FINAL_STATES, JobState

__all__ = ["clock_started", "clock_stopped", "next_attempt"]

_jobs = tables.jobs


def next_attempt() -> dict[str, Any]:
    """The columns of a job that is tried once more, whoever wants that. It is due at once."""
    return {
        "attempt": _jobs.c.attempt + 1,
        "due_at": WallNow(),
        "started_at": None,
        "ended_at": None,
        "begun": 0,
        "interruptions": 0,
        "undo": None,
        "undoing": 0,
        "cancel_requested_at": None,
        "pause_requested_at": None,
        "rewind_to": None,
        "tasks_done": 0,
        "tasks_undone": 0,
        "used_seconds": None,
        "deadline_at": None,
    }


def clock_started() -> dict[str, Any]:
    """The columns of a job that is claimed: from now on its time runs, if it has a limit.

    What it has used up before counts: a drain is no second limit.
    """
    used = sa.func.coalesce(_jobs.c.used_seconds, 0.0)
    return {"deadline_at": WallNow() + _jobs.c.limit_seconds - used}


def clock_stopped(source: JobState, target: JobState) -> dict[str, Any]:
    """The columns that change when a job is not running any more: waiting takes none of its time."""
    if source is not JobState.RUNNING or target is JobState.RUNNING:
        return {}
    if target in FINAL_STATES:
        return {"deadline_at": None}
    # Without a limit all of it is NULL.
    return {
        "used_seconds": _jobs.c.limit_seconds - (_jobs.c.deadline_at - WallNow()),
        "deadline_at": None,
    }
