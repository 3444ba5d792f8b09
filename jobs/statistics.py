"""How many jobs were posted, and what became of them; by flow, over a window of time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import UsageError
from ebbtide.jobs import tables
from ebbtide.jobs.moments import WallNow
from ebbtide.jobs.records import Record
from ebbtide.jobs.states import FINAL_STATES, JobState
from ebbtide.jobs.store import Store

__all__ = ["FlowStatistics", "Statistics", "statistics"]

_jobs = tables.jobs
_parks = tables.job_parks
_SHARE = 0.95


@dataclass(frozen=True)
class FlowStatistics(Record):
    """Of one flow, or of all together, where `flow` is None.

    `posted`, `completed`, `failed` and `cancelled` count jobs that were posted, or have ended so, in the
    window; `parked` those that were parked in it, whatever became of them since. `pending`, `running`,
    `paused` and `parked_now` are as things stand. Durations are of the completed ones, in seconds from
    the first claim of their last attempt to their end; None: there are none. `p95_seconds`: so long or
    shorter took 95 of 100.
    """

    flow: str | None
    posted: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    parked: int = 0
    pending: int = 0
    running: int = 0
    paused: int = 0
    parked_now: int = 0
    mean_seconds: float | None = None
    p95_seconds: float | None = None


@dataclass(frozen=True)
class Statistics(Record):
    """What the store holds of a window of time; jobs that were removed are in none of it."""

    window_seconds: float | None  # back from now; None: all there is
    total: FlowStatistics
    flows: list[FlowStatistics]


def statistics(store: Store, *, window_seconds: float | None, flow: str | None = None) -> Statistics:
    """Count, in one look at the store.

    Args:
        window_seconds: how far back; None: all that the store holds.
        flow: only jobs of that one.

    Raises:
        UsageError: the window is no number of seconds above 0.
    """
    number = isinstance(window_seconds, (int, float)) and not isinstance(window_seconds, bool)
    if window_seconds is not None and not (number and window_seconds > 0):
        raise UsageError("the window should be a number of seconds above 0")
    with store.read() as connection:
        counts = _Counts(connection, window_seconds, flow)
        return Statistics(window_seconds, counts.total(), counts.by_flow())


class _Counts:
    """The numbers of one look, by flow."""

    def __init__(self, connection: sa.Connection, window_seconds: float | None, flow: str | None) -> None:
        self._connection = connection
        self._since = None if window_seconds is None else WallNow() - window_seconds
        self._flow = flow
        self._rows: dict[str, dict[str, Any]] = {}
        posted = self._select(sa.func.count()).where(*self._in_window(_jobs.c.created_at))
        self._fill(posted.group_by(_jobs.c.flow), lambda row: {"posted": row[1]})
        final = [state.value for state in FINAL_STATES]
        ended = self._select(_jobs.c.state, sa.func.count()).where(_jobs.c.state.in_(final))
        self._fill(
            ended.where(*self._in_window(_jobs.c.ended_at)).group_by(_jobs.c.flow, _jobs.c.state),
            lambda row: {row[1]: row[2]},
        )
        parked = self._select(sa.func.count(sa.distinct(_jobs.c.id))).join(_parks, _parks.c.job == _jobs.c.id)
        self._fill(
            parked.where(*self._in_window(_parks.c.parked_at)).group_by(_jobs.c.flow),
            lambda row: {"parked": row[1]},
        )
        now = self._select(_jobs.c.state, sa.func.count()).where(_jobs.c.state.not_in(final))
        self._fill(
            now.group_by(_jobs.c.flow, _jobs.c.state),
            lambda row: {"parked_now" if row[1] == JobState.PARKED else row[1]: row[2]},
        )
        self._fill(self._durations(_jobs.c.flow), _durations)

    def by_flow(self) -> list[FlowStatistics]:
        return [FlowStatistics(flow, **self._rows[flow]) for flow in sorted(self._rows)]

    def total(self) -> FlowStatistics:
        numbers = [field.name for field in fields(FlowStatistics) if field.type == "int"]
        sums: dict[str, Any] = {
            name: sum(row.get(name, 0) for row in self._rows.values()) for name in numbers
        }
        overall = self._connection.execute(self._durations(sa.literal(""))).first()
        return FlowStatistics(None, **sums | ({} if overall is None else _durations(overall)))

    def _select(self, *columns: Any) -> sa.Select[Any]:
        query = sa.select(_jobs.c.flow, *columns).select_from(_jobs)
        return query if self._flow is None else query.where(_jobs.c.flow == self._flow)

    def _in_window(self, moment: sa.ColumnElement[Any]) -> Iterable[sa.ColumnElement[bool]]:
        return () if self._since is None else (moment >= self._since,)

    def _durations(self, group: sa.ColumnElement[Any]) -> sa.Select[Any]:
        """For each group its name, the mean, and the shortest that no more than 5 in 100 exceed."""
        took = _jobs.c.ended_at - _jobs.c.started_at
        ranked = (
            self._select(
                group.label("part"),
                took.label("took"),
                sa.func.row_number().over(partition_by=group, order_by=took).label("place"),
                sa.func.count().over(partition_by=group).label("of"),
            )
            .where(
                _jobs.c.state == JobState.COMPLETED.value,
                _jobs.c.started_at.is_not(None),
                *self._in_window(_jobs.c.ended_at),
            )
            .subquery()
        )
        enough = sa.case((ranked.c.place >= _SHARE * ranked.c.of, ranked.c.took))
        return sa.select(ranked.c.part, sa.func.avg(ranked.c.took), sa.func.min(enough)).group_by(
            ranked.c.part
        )

    def _fill(self, query: sa.Select[Any], values: Any) -> None:
        for row in self._connection.execute(query):
            self._rows.setdefault(row[0], {}).update(values(row))


def _durations(row: Any) -> dict[str, float]:
    _, mean, p95 = row
    return {"mean_seconds": round(mean, 6), "p95_seconds": round(p95, 6)}
