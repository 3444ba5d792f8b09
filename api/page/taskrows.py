"""Task rows: the records of tasks in words, as the table shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ebbtide.api.graph import state_of
from ebbtide.api.page.drawing import STATE_WORDS
from ebbtide.jobs import Job, TaskRecord
from ebbtide.tasks.savepoint import PREFIX
from ebbtide.wording import span

__all__ = ["TaskRow", "task_rows"]


@dataclass(frozen=True)
class TaskRow:
    """One task. `state` is that of the graph; `share` is None where nothing is known of it."""

    name: str
    state: str
    word: str
    share: float | None = None
    message: str = ""
    took: str = ""
    undo: str = ""
    error: str = ""


def task_rows(
    job: Job, records: Sequence[TaskRecord], never_begun: Sequence[str], order: Mapping[str, int], now: float
) -> list[TaskRow]:
    """A row for each record, in order of beginning, then those that have not begun."""
    rows = [_row(job, record, order, now) for record in records]
    waiting = [TaskRow(_name(name), "pending", STATE_WORDS["pending"]) for name in never_begun]
    return rows + waiting


def _row(job: Job, record: TaskRecord, order: Mapping[str, int], now: float) -> TaskRow:
    state = state_of(job, record)
    share = 1.0 if record.how == "returned" else record.fraction
    ended = record.ended_at if record.ended_at is not None else now if state == "running" else None
    name = _name(record.task)
    return TaskRow(
        name=name if record.round <= 1 else f"{name} (round {record.round})",
        state=state,
        word=STATE_WORDS.get(state, state),
        share=0.0 if state == "undone" else share,
        message="" if state == "undone" else record.message or "",
        took="" if ended is None else span(ended - record.begun_at),
        undo=_undo(record, order.get(record.task), now),
        error=record.undo_error or (record.error if record.how == "raised" else None) or "",
    )


def _name(task: str) -> str:
    return f"savepoint {task.removeprefix(PREFIX)}" if task.startswith(PREFIX) else task


def _undo(record: TaskRecord, number: int | None, now: float) -> str:
    if record.undo_begun_at is None:
        return ""
    tries = f", {record.undo_tries} tries" if record.undo_tries > 1 else ""
    place = f"number {number}" if number is not None else "undone"
    if record.undo_ended_at is not None:
        return f"{place}, in {span(record.undo_ended_at - record.undo_begun_at)}{tries}"
    return f"{place}, {'failed' if record.undo_error else 'for ' + span(now - record.undo_begun_at)}{tries}"
