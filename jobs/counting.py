"""Counting: how many jobs there are of each phase."""

from __future__ import annotations

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.selection import is_due
from ebbtide.jobs.states import FINAL_STATES, PHASES, JobState, phase_of
from ebbtide.jobs.store import Store

__all__ = ["counts_of_phases"]

_jobs = tables.jobs
# Those of which there are most by far: an index tells how many, and of pending ones is read only which are
# something else besides.
_MANY = [*(state.value for state in FINAL_STATES), JobState.PARKED.value, JobState.PENDING.value]
_is_more_than_pending = sa.and_(
    _jobs.c.state == JobState.PENDING.value, sa.or_(_jobs.c.cancel_requested_at.is_not(None), ~is_due)
)
_is_other = sa.or_(
    _jobs.c.state.in_([state for state in JobState if state not in _MANY]), _is_more_than_pending
)
_KINDS = (
    _jobs.c.state,
    _jobs.c.cancel_requested_at.is_not(None).label("cancel_requested"),
    is_due.label("is_due"),
    (_jobs.c.undoing == 1).label("undoing"),
    _jobs.c.overdue_at.is_not(None).label("overdue"),
)


def counts_of_phases(store: Store, jobs_of: str | None = None) -> dict[str, int]:
    """From one state of the store; every phase is there.

    Args:
        jobs_of: whose jobs are counted; None: everybody's.
    """
    mine = () if jobs_of is None else (_jobs.c.posted_by == jobs_of,)
    many = sa.select(_jobs.c.state, sa.func.count()).where(_jobs.c.state.in_(_MANY), *mine)
    others = sa.select(*_KINDS, sa.func.count()).where(_is_other, *mine)
    found = {str(phase): 0 for phase in PHASES}
    with store.read() as connection:
        for state, count in connection.execute(many.group_by(_jobs.c.state)):
            found[state] = count
        for state, requested, due, undoing, overdue, count in connection.execute(others.group_by(*_KINDS)):
            phase = phase_of(
                JobState(state),
                cancel_requested=bool(requested),
                due=bool(due),
                undoing=bool(undoing),
                overdue=bool(overdue),
            )
            if state == JobState.PENDING:
                found[state] -= count
            found[str(phase)] += count
    return found
