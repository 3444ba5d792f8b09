"""Selection: which jobs are meant, by their ids or by what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import sqlalchemy as sa

from ebbtide.errors import UsageError
from ebbtide.jobs import clock, tables
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.states import (
    CANCELLING,
    FINAL_STATES,
    OVERDUE,
    PHASES,
    REVERTING,
    SCHEDULED,
    JobState,
)
from ebbtide.jobs.texts import checked_labels, is_number
from ebbtide.tasks import payload

__all__ = ["Selection", "conditions_of", "has_text", "is_due"]

_jobs = tables.jobs
is_due = _jobs.c.due_at <= WallNow()
_ACTIVE = [state.value for state in JobState if state not in FINAL_STATES and state is not JobState.PARKED]


@dataclass(frozen=True)
class Selection:
    """The jobs that a verb for many is about. Of several filters all have to fit.

        Selection(flow="copy", labels={"team": "a"})
        Selection(ids=[first.id, second.id])

    Attributes:
        ids: whole ids; a filter beside them narrows them down.
        flow: the flow's name, of any version.
        state: a word of state or phase. Without it a verb takes the states that it is good for: a cancel what
            has not ended, a retry what failed or was cancelled, a deletion what has ended, a pause what waits
            or runs, a resumption what is paused.
        labels: each of them has to fit.
        older_than_seconds: posted so long ago, or longer.
        everything: there is no filter, and that is meant.
    """

    ids: Sequence[str] | None = None
    flow: str | None = None
    state: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    older_than_seconds: float | None = None
    everything: bool = False

    def check(self) -> None:
        """Raises UsageError: a filter is none, or nothing at all is named."""
        if self.state is not None and self.state not in PHASES:
            raise UsageError(f"no such state: {self.state[:40]!r}; one of {', '.join(PHASES)}")
        checked_labels(self.labels)
        age = self.older_than_seconds
        if age is not None and not (is_number(age, (int, float)) and 0 <= age < float("inf")):
            raise UsageError("the age should be a number of seconds, 0 or more")
        filtered = self.flow or self.state or self.labels or age is not None
        if self.ids is None and not filtered and not self.everything:
            raise UsageError("which jobs? name ids, a flow, a state, a label or an age, or say that all are")
        if self.everything and (filtered or self.ids is not None):
            raise UsageError("all jobs are meant, and a filter is given too: leave one of them out")

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """What each of these jobs fulfils, the ids apart."""
        found = conditions_of(state=self.state, flow=self.flow, labels=self.labels)
        if self.older_than_seconds is not None:
            found.append(_jobs.c.created_at <= clock.wall() - self.older_than_seconds)
        return found


def conditions_of(
    *, state: str | None, flow: str | None, labels: Mapping[str, str]
) -> list[sa.ColumnElement[bool]]:
    """The conditions for jobs; `state` takes the words of both state and phase."""
    found: list[sa.ColumnElement[bool]] = []
    if state is not None:
        found.append(_in_phase(state))
    if flow is not None:
        # No store takes such a text, so no job has it.
        found.append(_jobs.c.flow == flow if payload.storable(flow) == flow else sa.false())
    for key, value in labels.items():
        of = tables.job_labels
        found.append(sa.exists().where(of.c.job == _jobs.c.id, of.c.key == key, of.c.value == value))
    return found


def _in_phase(word: str) -> sa.ColumnElement[bool]:
    """The condition for a word that is a state or a phase; the mirror of `phase_of`."""
    state, requested = _jobs.c.state, _jobs.c.cancel_requested_at.is_not(None)
    active = state.in_(_ACTIVE)
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
