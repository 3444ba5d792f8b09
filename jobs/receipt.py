"""The receipt of a cancel, or of any other undo: who wanted it, when what happened, and what was undone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ebbtide.errors import JobNotFound
from ebbtide.jobs import tables
from ebbtide.jobs.records import CancelRequest, Record
from ebbtide.jobs.rounds import latest_rounds, left_out_before
from ebbtide.jobs.store import Store
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["NotUndone", "Receipt", "Undone", "receipt"]


@dataclass(frozen=True)
class Undone(Record):
    """A task whose undo succeeded; `seconds` are those from its first try."""

    task: str
    undo_begun_at: float
    undo_ended_at: float
    seconds: float
    tries: int


@dataclass(frozen=True)
class NotUndone(Record):
    """A task whose work stands, or may stand, and why."""

    task: str
    why: str
    tries: int
    error: str | None = None


@dataclass(frozen=True)
class Receipt(Record):
    """What became of the undo of a job's attempt. It may be under way: then `complete` is False.

    Attributes:
        cancel: the request with its four times; None: nobody has asked for one.
        forwarded_seconds, delivered_seconds, reverted_seconds: from the request on; None: not so far.
        undone: in order of the undo.
        not_undone: every other task that began, newest first; then what was left out in earlier rounds, after
            which the task began anew.
        complete: whether the attempt has ended with all undone that can be.
        error: what had failed, where that led to the undo.
        reason: why a person accepted the job as it is.
        accepted_by: who did so.
    """

    job: str
    flow: str
    attempt: int
    state: str
    undo: str | None
    complete: bool
    cancel: CancelRequest | None
    forwarded_seconds: float | None
    delivered_seconds: float | None
    reverted_seconds: float | None
    undone: tuple[Undone, ...]
    not_undone: tuple[NotUndone, ...]
    error: str | None = None
    error_task: str | None = None
    accepted_by: str | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        values = super().as_dict()
        lists = {"undone": self.undone, "not_undone": self.not_undone}
        return values | {name: [each.as_dict() for each in found] for name, found in lists.items()}


def receipt(store: Store, job_id: str) -> Receipt:
    """Of the job's present attempt, from one state of the store. Raises JobNotFound."""
    with store.read() as connection:
        job = connection.execute(sa.select(tables.jobs).where(tables.jobs.c.id == job_id)).first()
        if job is None:
            raise JobNotFound(job_id)
        rows = latest_rounds(connection, [job]).get((job.id, job.attempt), [])
        before = left_out_before(connection, [job]).get((job.id, job.attempt), [])
        cancel = _of_attempt(connection, tables.job_cancels, job)
        outcome = _of_attempt(connection, tables.job_outcomes, job)
        accepted = _accepted(connection, job) if job.undo == "accepted" else None
    rows = [row for row in rows if not row.task.startswith(PREFIX)]
    asked = cancel.requested_at if cancel is not None else None
    undone = sorted((row for row in rows if _is_undone(row)), key=lambda row: row.undo_ended_at)
    left = [*_not_undone(job, rows), *(_left_out_before(row) for row in reversed(before))]
    return Receipt(
        job=job.id,
        flow=f"{job.flow}@{job.version}",
        attempt=job.attempt,
        state=job.state,
        undo=job.undo,
        complete=job.undo in ("none", "complete"),
        cancel=None if cancel is None else _request(cancel),
        forwarded_seconds=_since(asked, cancel, "forwarded_at"),
        delivered_seconds=_since(asked, cancel, "delivered_at"),
        reverted_seconds=_since(asked, cancel, "reverted_at"),
        undone=tuple(_undone(row) for row in undone),
        not_undone=tuple(left),
        error=outcome.error if outcome is not None else None,
        error_task=outcome.error_task if outcome is not None else None,
        accepted_by=accepted[0] if accepted else None,
        reason=accepted[1] if accepted else None,
    )


def _of_attempt(connection: sa.Connection, table: sa.Table, job: sa.Row[Any]) -> sa.Row[Any] | None:
    query = sa.select(table).where(table.c.job == job.id, table.c.attempt == job.attempt)
    return connection.execute(query).first()


def _accepted(connection: sa.Connection, job: sa.Row[Any]) -> tuple[str, str] | None:
    """Who accepted the attempt as it is, and why; None: an undo was left out, and each row says why."""
    entries = tables.job_entries
    row = connection.execute(
        sa.select(entries.c.actor, sa.cast(entries.c.detail, sa.Text).label("detail")).where(
            entries.c.job == job.id,
            entries.c.attempt == job.attempt,
            entries.c.name.in_(("accepted_as_failed", "accepted_as_cancelled")),
        )
    ).first()
    return None if row is None else (row.actor, str(_decoded(row.detail).get("reason", "")))


def _decoded(text: str) -> Mapping[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


def _request(row: sa.Row[Any]) -> CancelRequest:
    return CancelRequest(**{name: getattr(row, name) for name in CancelRequest.__dataclass_fields__})


def _since(asked: float | None, cancel: sa.Row[Any] | None, name: str) -> float | None:
    at = getattr(cancel, name) if cancel is not None else None
    return None if at is None or asked is None else round(max(0.0, at - asked), 6)


def _is_undone(row: sa.Row[Any]) -> bool:
    return row.undo_ended_at is not None and row.no_undo is None


def _undone(row: sa.Row[Any]) -> Undone:
    took = max(0.0, row.undo_ended_at - row.undo_begun_at)
    return Undone(row.task, row.undo_begun_at, row.undo_ended_at, round(took, 6), row.undo_tries)


def _not_undone(job: sa.Row[Any], rows: Sequence[sa.Row[Any]]) -> list[NotUndone]:
    unwanted = job.undo in (None, "none") and job.cancel_requested_at is None
    if unwanted and not job.undoing and job.state != "parked":
        return []  # nobody has wanted anything undone
    failed = [row.task for row in rows if row.undo_error is not None and row.undo_ended_at is None]
    return [
        NotUndone(row.task, _why(job, row, failed), row.undo_tries, row.undo_error)
        for row in reversed(rows)
        if not _is_undone(row)
    ]


def _left_out_before(row: sa.Row[Any]) -> NotUndone:
    why = f"left out in round {row.round}: {row.undo_skipped}"
    return NotUndone(row.task, why, row.undo_tries, row.undo_error)


def _why(job: sa.Row[Any], row: sa.Row[Any], failed: Sequence[str]) -> str:
    if row.undo_skipped is not None:
        return f"left out: {row.undo_skipped}"
    if row.undo_ended_at is not None:
        return "it is irreversible" if row.no_undo == "irreversible" else "it has no undo"
    if row.undo_error is not None:
        tries = f" ({row.undo_tries} tries)" if row.undo_tries > 1 else ""
        return f"its undo failed{tries}: {row.undo_error}"
    if job.state == "parked" or job.undo == "accepted":
        return f"held by {', '.join(failed)}" if failed else "it was not come to"
    if row.undo_begun_at is not None:
        return "it is being undone"
    return "it is still to be undone"
