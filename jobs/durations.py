"""How long the undos of a flow's tasks have taken so far."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import sqlalchemy as sa

from ebbtide.jobs import tables

__all__ = ["Durations", "undo_durations"]

_jobs = tables.jobs
_tasks = tables.job_tasks
# Of how many jobs, the newest ones.
_JOBS = 500


@dataclass(frozen=True)
class Durations:
    """Seconds, over so many undos."""

    count: int
    mean: float
    p95: float

    @classmethod
    def of(cls, seconds: list[float]) -> Durations:
        """Of at least one."""
        ranked = sorted(seconds)
        p95 = ranked[math.ceil(0.95 * len(ranked)) - 1]
        return cls(len(ranked), round(sum(ranked) / len(ranked), 3), round(p95, 3))


def undo_durations(connection: sa.Connection, flow: str) -> dict[str, Durations]:
    """By task, of the newest jobs of a flow, in whichever version; from the first try to success."""
    newest = (
        sa.select(_jobs.c.id).where(_jobs.c.flow == flow).order_by(_jobs.c.created_at.desc()).limit(_JOBS)
    ).subquery()
    query = sa.select(_tasks.c.task, _tasks.c.undo_begun_at, _tasks.c.undo_ended_at).where(
        _tasks.c.job.in_(sa.select(newest.c.id)), _tasks.c.undo_ended_at.is_not(None)
    )
    found: dict[str, list[float]] = defaultdict(list)
    for row in connection.execute(query):
        # Wall time: somebody may have set the clock back meanwhile.
        found[row.task].append(max(0.0, row.undo_ended_at - row.undo_begun_at))
    return {task: Durations.of(seconds) for task, seconds in found.items()}
