"""Conditions by which jobs are looked for."""

from __future__ import annotations

import sqlalchemy as sa

from ebbtide.jobs import tables
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.states import CANCELLING, FINAL_STATES, OVERDUE, REVERTING, SCHEDULED, JobState

__all__ = ["has_text", "in_phase", "is_due"]

_jobs = tables.jobs
_UNENDED = tuple(state.value for state in JobState if state not in FINAL_STATES)

is_due = _jobs.c.due_at <= WallNow()


def in_phase(word: str) -> sa.ColumnElement[bool]:
    """The condition for a word that is a state or a phase; the mirror of `phase_of`."""
    state, requested = _jobs.c.state, _jobs.c.cancel_requested_at.is_not(None)
    active = state.in_([s for s in _UNENDED if s != JobState.PARKED.value])
    overdue = sa.and_(state == JobState.RUNNING.value, requested, _jobs.c.overdue_at.is_not(None))
    if word == OVERDUE:
        return overdue
    if word == CANCELLING:
        return sa.and_(active, requested, ~overdue)
    if word == SCHEDULED:
        return sa.and_(state == JobState.PENDING.value, ~requested, ~is_due)
    if word == REVERTING:
        return sa.and_(state == JobState.RUNNING.value, ~requested, _jobs.c.undoing == 1)
    return state == word


def has_text(text: str) -> sa.ColumnElement[bool]:
    """The condition of `text`, in lower case; nothing in it is a pattern."""
    of = tables.job_labels
    return sa.or_(
        sa.func.lower(_jobs.c.flow).contains(text, autoescape=True),
        _jobs.c.id.startswith(text, autoescape=True),
        sa.exists().where(
            of.c.job == _jobs.c.id,
            sa.or_(
                sa.func.lower(of.c.key).contains(text, autoescape=True),
                sa.func.lower(of.c.value).contains(text, autoescape=True),
            ),
        ),
    )
