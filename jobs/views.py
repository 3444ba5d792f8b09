"""Reading the ledger: jobs with their phase and progress, tasks, history, logs, results."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import AmbiguousJob, EdgeRefused, JobNotFound
from ebbtide.flows.policies import Policies
from ebbtide.jobs import tables
from ebbtide.jobs.ledger import flow_detail_id
from ebbtide.jobs.queue import live_conductors, paused_flows
from ebbtide.jobs.records import CancelRequest, Entry, Job, LogLine, TaskRecord
from ebbtide.jobs.rounds import failure_of, latest_rounds, left_out_before, not_undone
from ebbtide.jobs.selection import conditions_of, has_text, is_due
from ebbtide.jobs.shapes import shape_in
from ebbtide.jobs.states import FINAL_STATES, JobState, phase_of
from ebbtide.jobs.store import Store
from ebbtide.jobs.waits import waits_of
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["Views"]

_jobs = tables.jobs
_tasks = tables.job_tasks
_is_due = is_due.label("is_due")
_CLAIMABLE = (JobState.PENDING.value, JobState.RUNNING.value)
_COPIED = (
    *("id", "flow", "version", "attempt", "priority", "undo", "retries"),
    *("posted_by", "exclusive_key", "parent"),
    *("tasks_total", "tasks_done", "tasks_undone"),
    *("created_at", "due_at", "started_at", "ended_at", "deadline_at"),
)
# How many jobs one statement may name: a database takes a limited number of values.
_AT_ONCE = 500
# Of this length an id is whole.
_FULL = 36


class Views:
    """Every method reads one state of the store. Safe to use from several threads.

    Args:
        posted_by: whose jobs exist to whom reads through this; None: everybody's. It is asked of the store
            where a job's id comes from outside: in `resolve`, and in lists.
    """

    def __init__(self, store: Store, posted_by: str | None = None) -> None:
        self._store = store
        self._posted_by = posted_by

    def resolve(self, job_id_or_prefix: str, *, changed: bool = False) -> str:
        """The full id of the one job that begins so.

        Args:
            changed: whoever changes the job finds out whether it is there. Where everybody's may be seen, an
                id that is full already is not looked for then.

        Raises:
            JobNotFound, AmbiguousJob.
        """
        wanted = job_id_or_prefix.lower()
        if not wanted or not set(wanted) <= set("0123456789abcdef-") or len(wanted) > _FULL:
            raise JobNotFound(job_id_or_prefix)
        if changed and len(wanted) == _FULL and not self._mine():
            return wanted
        # A range, not LIKE: it uses the primary key, and nothing in the text is a pattern.
        query = (
            sa.select(_jobs.c.id)
            .where(_jobs.c.id >= wanted, _jobs.c.id < wanted + "g")
            .order_by(_jobs.c.id)
            .limit(5)
        )
        query = query.where(*self._mine())
        with self._store.read() as connection:
            found = list(connection.scalars(query))
        if not found:
            raise JobNotFound(job_id_or_prefix)
        if len(found) > 1 and found[0] != wanted:
            raise AmbiguousJob(job_id_or_prefix, found)
        return str(found[0])

    def job(self, job_id: str) -> Job:
        """The job of that full id. Raises JobNotFound."""
        found = self._jobs(sa.select(_jobs, _is_due).where(_jobs.c.id == job_id))
        if not found:
            raise JobNotFound(job_id)
        return found[0]

    def jobs(
        self,
        *,
        state: str | None = None,
        flow: str | None = None,
        labels: Mapping[str, str] | None = None,
        text: str | None = None,
        after: tuple[float, str] | None = None,
        limit: int = 100,
        with_params: bool = True,
    ) -> list[Job]:
        """Jobs, newest first. `state` takes the words of both state and phase; all filters must fit.

        Args:
            text: is in the flow's name or in a label, or begins the id.
            after: time of creation and id of the job after which these come.
            with_params: False: their parameters are not read, and empty.
        """
        wanted = conditions_of(state=state, flow=flow, labels=labels or {})
        query = sa.select(_jobs, _is_due).where(*self._mine(), *wanted)
        if text is not None:
            query = query.where(has_text(text.lower()))
        if after is not None:
            at, job_id = after
            later = sa.and_(_jobs.c.created_at == at, _jobs.c.id > job_id)
            query = query.where(_jobs.c.created_at <= at, sa.or_(_jobs.c.created_at < at, later))
        return self._jobs(query.order_by(_jobs.c.created_at.desc(), _jobs.c.id).limit(limit), with_params)

    def graph(self, job_id: str) -> dict[str, Any] | None:
        """What the runner of the present attempt has stored of its flow's shape."""
        of = tables.flowdetails
        with self._store.read() as connection:
            attempt = connection.scalar(sa.select(_jobs.c.attempt).where(_jobs.c.id == job_id))
            if attempt is None:
                raise JobNotFound(job_id)
            text = connection.scalar(sa.select(of.c.meta).where(of.c.uuid == flow_detail_id(job_id, attempt)))
        return shape_in(_mapping(text or "{}"))

    def visible(self, ids: Iterable[str]) -> list[str]:
        """Those of these jobs that exist to whom reads."""
        query = sa.select(_jobs.c.id).where(_jobs.c.id.in_(list(ids)), *self._mine()).order_by(_jobs.c.id)
        with self._store.read() as connection:
            return list(connection.scalars(query))

    def _mine(self) -> tuple[sa.ColumnElement[bool], ...]:
        return () if self._posted_by is None else (_jobs.c.posted_by == self._posted_by,)

    def tasks(self, job_id: str, attempt: int | None = None) -> list[TaskRecord]:
        """What began, in order of beginning; of one attempt or of all."""
        query = sa.select(_tasks).where(_tasks.c.job == job_id).order_by(_tasks.c.attempt, _tasks.c.position)
        if attempt is not None:
            query = query.where(_tasks.c.attempt == attempt)
        with self._store.read() as connection:
            return [_record(TaskRecord, row) for row in connection.execute(query)]

    def entries(self, job_id: str, after: int = 0) -> list[Entry]:
        """The history beyond entry number `after`, in order."""
        of = tables.job_entries
        query = sa.select(of).where(of.c.job == job_id, of.c.number > after).order_by(of.c.number)
        with self._store.read() as connection:
            return [_record(Entry, row, detail=json.loads(row.detail)) for row in connection.execute(query)]

    def logs(self, job_id: str, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """Captured lines beyond number `after`, in order."""
        of = tables.job_logs
        query = (
            sa.select(of).where(of.c.job == job_id, of.c.number > after).order_by(of.c.number).limit(limit)
        )
        with self._store.read() as connection:
            return [_record(LogLine, row) for row in connection.execute(query)]

    def tail(self, job_id: str, limit: int) -> list[LogLine]:
        """The last captured lines, in order."""
        of = tables.job_logs
        query = sa.select(of).where(of.c.job == job_id).order_by(of.c.number.desc()).limit(limit)
        with self._store.read() as connection:
            return [_record(LogLine, row) for row in connection.execute(query)][::-1]

    def marks(self, job_ids: Iterable[str]) -> dict[str, object]:
        """By id, for each job that there is, something that is another after each change of it."""
        wanted = list(job_ids)
        found: dict[str, object] = {}
        with self._store.read() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                query = sa.select(_jobs.c.id, _jobs.c.write, _jobs.c.entries).where(
                    _jobs.c.id.in_(some), *self._mine()
                )
                found |= {row.id: (row.write, row.entries) for row in connection.execute(query)}
        return found

    def result(self, job_id: str) -> Any:
        """The result of a completed job.

        Raises:
            EdgeRefused: it has not completed.
        """
        of = tables.job_outcomes
        with self._store.read() as connection:
            row = connection.execute(
                sa.select(_jobs.c.state, _jobs.c.attempt).where(_jobs.c.id == job_id)
            ).first()
            if row is None:
                raise JobNotFound(job_id)
            if row.state != JobState.COMPLETED.value:
                raise EdgeRefused(job_id, row.state, "result")
            text = connection.scalar(
                sa.select(of.c.result).where(of.c.job == job_id, of.c.attempt == row.attempt)
            )
        return None if text is None else json.loads(text)

    def _jobs(self, query: sa.Select[Any], with_params: bool = True) -> list[Job]:
        with self._store.read() as connection:
            rows = connection.execute(query).all()
            claimable = any(row.state in _CLAIMABLE for row in rows)
            live = live_conductors(connection) if claimable else {}
            paused = paused_flows(connection) if claimable else frozenset()
            return [
                job
                for start in range(0, len(rows), _AT_ONCE)
                for job in _jobs_of(
                    connection,
                    rows[start : start + _AT_ONCE],
                    live,
                    paused,
                    with_params=with_params,
                    names_holders=self._posted_by is None,
                )
            ]


def _jobs_of(
    connection: sa.Connection,
    rows: Sequence[sa.Row[Any]],
    live: Mapping[str, frozenset[str]],
    paused: frozenset[tuple[str, int]],
    *,
    with_params: bool,
    names_holders: bool,
) -> list[Job]:
    ids = [row.id for row in rows]
    parameters = _parameters(connection, ids, with_params)
    policies = _by_job(connection, tables.job_policies, ids)
    cancels = _by_attempt(connection, tables.job_cancels, rows)
    outcomes = _by_attempt(connection, tables.job_outcomes, rows)
    standing = [row for row in rows if _left_standing(row)]
    parks = _by_attempt(connection, tables.job_parks, standing, tables.job_parks.c.number)
    left_out = left_out_before(connection, standing)
    waits = waits_of(connection, rows, live, paused, names_holders=names_holders)
    untold = [row for row in rows if JobState(row.state) not in FINAL_STATES or _left_standing(row)]
    tasks = latest_rounds(connection, untold)
    return [
        _job(
            row,
            parameters.get(row.id),
            cancels.get((row.id, row.attempt)),
            outcomes.get((row.id, row.attempt)),
            parks.get((row.id, row.attempt)),
            tasks.get((row.id, row.attempt), []),
            left_out.get((row.id, row.attempt), []),
            waits.get(row.id),
            policies.get(row.id),
        )
        for row in rows
    ]


def _job(
    row: sa.Row[Any],
    stored: sa.Row[Any] | None,
    cancel: sa.Row[Any] | None,
    outcome: sa.Row[Any] | None,
    park: sa.Row[Any] | None,
    tasks: list[sa.Row[Any]],
    left_out: list[sa.Row[Any]],
    waiting_for: str | None,
    policies: sa.Row[Any] | None,
) -> Job:
    state = JobState(row.state)
    error, error_task = _error(outcome, park, tasks)
    return Job(
        **{name: getattr(row, name) for name in _COPIED},
        state=state.value,
        phase=_phase(row),
        labels=_mapping(stored.labels if stored else ""),
        params=_mapping(stored.parameters if stored else ""),
        progress=_progress(state, row.tasks_total, tasks),
        error=error,
        error_task=error_task,
        park_reason=park.reason if park else None,
        current=[task.task for task in tasks if state is JobState.RUNNING and _runs(task)],
        owner=row.owner if state is JobState.RUNNING else None,
        cancel=_record(CancelRequest, cancel) if cancel else None,
        not_undone=not_undone([*left_out, *tasks]) if _left_standing(row) else [],
        waits_for=waiting_for,
        held=bool(state is JobState.PARKED and park is not None and park.held),
        policies=_mapping(policies.policies) if policies else Policies().as_dict(),
    )


def _phase(row: sa.Row[Any]) -> str:
    return str(
        phase_of(
            JobState(row.state),
            cancel_requested=row.cancel_requested_at is not None,
            due=bool(row.is_due),
            undoing=bool(row.undoing),
            overdue=row.overdue_at is not None,
        )
    )


def _mapping(text: str) -> dict[str, Any]:
    """What a poster stored. Altered by others it may be anything, and keeps no job from being listed."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"(cannot be read)": text[:200]}


def _left_standing(row: sa.Row[Any]) -> bool:
    """Whether the job rests with work in place that was to be undone, or may be: parked, or accepted so."""
    return bool(row.state == JobState.PARKED.value or row.undo == "accepted")


def _error(
    outcome: sa.Row[Any] | None, park: sa.Row[Any] | None, tasks: list[sa.Row[Any]]
) -> tuple[str | None, str | None]:
    """What failed, and in which task: as it was settled, else as the tasks tell."""
    settled = outcome or (park if park is not None and park.error is not None else None)
    if settled is not None:
        return settled.error, settled.error_task
    failed = failure_of(tasks)
    return (failed.error, failed.task) if failed is not None else (None, None)


def _progress(state: JobState, total: int, tasks: list[sa.Row[Any]]) -> float:
    if state is JobState.COMPLETED:
        return 1.0
    if not total:
        return 0.0
    counted = [task for task in tasks if not task.task.startswith(PREFIX)]
    standing = sum(_standing(task) for task in counted if task.undo_ended_at is None)
    return min(1.0, round(standing / total, 4))


def _standing(task: sa.Row[Any]) -> float:
    return 1.0 if task.how == "returned" else float(task.fraction or 0.0)


def _runs(task: sa.Row[Any]) -> bool:
    if task.undo_begun_at is not None:
        return task.undo_ended_at is None
    return task.ended_at is None


def _by_job(connection: sa.Connection, table: sa.Table, ids: list[str]) -> dict[str, sa.Row[Any]]:
    if not ids:
        return {}
    return {row.job: row for row in connection.execute(sa.select(table).where(table.c.job.in_(ids)))}


def _parameters(connection: sa.Connection, ids: list[str], with_params: bool) -> dict[str, sa.Row[Any]]:
    """Parameters and labels by job."""
    if not ids:
        return {}
    of = tables.job_parameters
    text = of.c.parameters if with_params else sa.literal("{}").label("parameters")
    query = sa.select(of.c.job, text, of.c.labels).where(of.c.job.in_(ids))
    rows: Iterable[sa.Row[Any]] = connection.execute(query)
    return {row.job: row for row in rows}


def _by_attempt(
    connection: sa.Connection,
    table: sa.Table,
    rows: Iterable[sa.Row[Any]],
    order: sa.Column[Any] | None = None,
) -> dict[tuple[str, int], sa.Row[Any]]:
    """The table's row of each job and attempt; the last in `order` where there are several."""
    ids = [row.id for row in rows]
    if not ids:
        return {}
    query = sa.select(table).where(table.c.job.in_(ids))
    if order is not None:
        query = query.order_by(order)
    return {(row.job, row.attempt): row for row in connection.execute(query)}


def _record(kind: type[Any], row: sa.Row[Any], **decoded: Any) -> Any:
    """A record of the columns that it names; the others are of no interest to it."""
    values = {name: getattr(row, name) for name in kind.__dataclass_fields__ if name not in decoded}
    return kind(**values, **decoded)
