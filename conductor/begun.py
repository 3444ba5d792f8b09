"""The begun tasks of one run: what `job_tasks` says, held in memory between commits."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ebbtide.jobs.rounds import undo_owed
from ebbtide.tasks import payload
from ebbtide.tasks.run import INTERRUPTED, Begun, How, Undo
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["BegunTasks", "Row"]


@dataclass
class Row:
    """One row of `job_tasks`: one task in one round of the attempt. Times are unix seconds."""

    task: str
    round: int
    position: int
    epoch: int
    begun_at: float
    ended_at: float | None = None
    how: str | None = None
    fraction: float | None = None
    message: str | None = None
    saved: str | None = None
    undo_begun_at: float | None = None
    undo_ended_at: float | None = None
    undo_tries: int = 0
    error: str | None = None
    undo_error: str | None = None
    stop_by: float | None = None  # seconds since boot: see the table
    undo_failures: int = 0
    undo_skipped: str | None = None
    no_undo: str | None = None


@dataclass(frozen=True)
class _End:
    at: float
    how: How
    error: str | None = None


class BegunTasks:
    """Not locked: the journal calls it under its memory lock.

    An end counts only together with TaskFlow's own record of it. A worker reports the end of a
    body before the engine has stored the result; were that written alone and the runner killed
    between the two, the undo would be promised a result that nobody has. So an end waits here
    until the atom's new state arrives (`settle`), and both go into one transaction.
    """

    def __init__(self, stored: list[Row], texts: dict[str, str], set_back: Iterable[str] = ()) -> None:
        self.no_undo: dict[str, str] = {}  # of tasks that cannot be undone: why
        self._rows: dict[str, Row] = {}
        for row in sorted(stored, key=lambda row: row.round):
            self._rows[row.task] = row
        self._superseded: list[Row] = []  # rows of earlier rounds that no commit has in full
        # By number, not by the clock, which somebody may set between two undos.
        in_order = sorted(self._rows.values(), key=lambda row: row.undo_ended_at or 0.0)
        self._undo_number = {row.task: number for number, row in enumerate(in_order)}
        self._set_back = self._rows.keys() & set(set_back)
        self._stored = {(row.task, row.round) for row in stored}
        self._position = max((row.position for row in stored), default=0)
        #: Whether a person has left an undo out, in whichever round: that work stands.
        self.left_out = any(row.undo_skipped is not None and row.undo_ended_at is None for row in stored)
        self._texts = texts  # task -> JSON text of its result
        self._ends: dict[str, _End] = {}
        self._undo_ends: dict[str, _End] = {}
        self._dirty: set[str] = set()
        self._beginning: dict[str, Row | None] = {}  # task -> its row before, until a commit has it
        # Kept beside the rows: every commit asks how many there are.
        self._done = {task for task, row in self._rows.items() if row.how == How.RETURNED}
        self._undone = {task for task, row in self._rows.items() if row.undo_ended_at is not None}
        self._savepoints = {task for task in self._rows if task.startswith(PREFIX)}
        self.unsaved_results = False
        self.progressed = False

    def begin(self, task: str, epoch: int, at: float, stop_by: float | None = None) -> Begun:
        """Mark `task` as begun; what a commit has not stored can be taken back by `refuse`."""
        before = self._rows.get(task)
        self._position += 1
        interrupted = before is not None and undo_owed(before)
        if interrupted:
            assert before is not None
            if before.how != How.INTERRUPTED:
                raise RuntimeError(
                    f"task {task} is to begin again although it {before.how} and was not undone"
                )
            row = dataclasses.replace(
                before,
                position=self._position,
                epoch=epoch,
                begun_at=at,
                ended_at=None,
                how=None,
                fraction=None,
                stop_by=stop_by,
            )
        else:
            number = before.round + 1 if before else 1
            row = Row(task, number, self._position, epoch, at, stop_by=stop_by)
            row.no_undo = self.no_undo.get(task)
            if before is not None and task in self._dirty:
                self._superseded.append(before)
        self._set_back.discard(task)
        self._rows[task] = row
        self._changed(task, row)
        self._beginning[task] = before
        return Begun(interrupted, _decoded(row.saved))

    def refuse(self, task: str) -> None:
        """Take back a begin that is in no commit: the task did not begin."""
        before = self._beginning.pop(task)
        row = self._rows[task]
        if before is None or before.round != row.round:
            self._stored.discard((task, row.round))
        if before is None:
            del self._rows[task]
        else:
            self._rows[task] = before
            if not undo_owed(before):
                self._set_back.add(task)
            self._changed(task, before)
        self._dirty.discard(task)

    def save(self, task: str, text: str) -> None:
        self._rows[task].saved = text
        self._dirty.add(task)

    def report(self, task: str, fraction: float, message: str) -> None:
        row = self._rows.get(task)
        if row is not None:
            row.fraction, row.message = fraction, message
            self._dirty.add(task)

    def returned(self, task: str, text: str, at: float) -> None:
        self._texts[task] = text
        self._ends[task] = _End(at, How.RETURNED)

    def stopped(self, task: str, how: How, error: str, at: float) -> None:
        self._ends[task] = _End(at, how, error)

    def begin_undo(self, task: str, at: float) -> Undo | None:
        row = self._rows.get(task)
        if row is None or not undo_owed(row):
            return None
        row.undo_begun_at = row.undo_begun_at or at
        row.undo_tries += 1
        row.undo_error = None  # of the try before, which the history tells
        self._dirty.add(task)
        # `returned` stands only beside a stored result (settle), so the text is there.
        result = payload.decode(self._texts[task]) if row.how == How.RETURNED else INTERRUPTED
        return Undo(result, _decoded(row.saved))

    def end_undo(self, task: str, error: str | None, at: float) -> None:
        self._undo_ends[task] = _End(at, How.RAISED if error else How.RETURNED, error)

    def undo_to_try(self, task: str) -> Row | None:
        """The row of a task that is to be undone; None: nothing is."""
        row = self._rows.get(task)
        return row if row is not None and undo_owed(row) else None

    def fail_undo(self, task: str) -> None:
        """A try of its undo has failed, and the engine is not told yet: there is to be another."""
        end = self._undo_ends.pop(task, None)
        if end is not None:
            self._rows[task].undo_error = end.error
            self._rows[task].undo_failures += 1
            self._dirty.add(task)

    def settle(self, task: str, *, succeeded: bool) -> None:
        """The engine has recorded how execute() ended: the end counts from here on."""
        end = self._ends.pop(task, None)
        if end is None:
            return  # it never began: refused at its barrier
        row = self._rows[task]
        row.ended_at, row.how, row.error = end.at, end.how.value, end.error
        if not succeeded and end.how is How.RETURNED:
            row.how, row.error = How.RAISED.value, "its result was not kept"
        if row.how == How.RETURNED:
            row.fraction = 1.0
            self.progressed = True
        self._changed(task, row)
        self.unsaved_results = True

    def settle_undo(self, task: str) -> None:
        """The engine has recorded how revert() ended."""
        end = self._undo_ends.pop(task, None)
        if end is None:
            return
        row = self._rows[task]
        if end.how is How.RETURNED:
            row.undo_ended_at = end.at
            self._undo_number[task] = max(self._undo_number.values(), default=0) + 1
            self.progressed = True
        else:
            row.undo_error = end.error
            row.undo_failures += 1
        self._changed(task, row)
        self.unsaved_results = True

    def set_back(self, task: str) -> None:
        """The engine has set the task back for another round: what became of it before is history."""
        if task in self._rows:
            self._set_back.add(task)

    def result_text(self, task: str) -> str | None:
        """The JSON text of what the task returned in its last round, as it was then; None: it did not."""
        row = self._rows.get(task)
        return self._texts.get(task) if row is not None and row.how == How.RETURNED else None

    def undo_owed(self) -> list[str]:
        """The tasks that are still to be undone, if all is, in order of beginning."""
        return [row.task for row in sorted(self._rows.values(), key=lambda r: r.position) if undo_owed(row)]

    def positions(self) -> dict[str, int]:
        """The order of beginning: task -> number from 1."""
        return {row.task: row.position for row in self._rows.values()}

    def undone(self) -> list[str]:
        """The tasks that are undone, in order of their undo."""
        return sorted(self._undone, key=self._undo_number.__getitem__)

    def first_failure(self) -> Row | None:
        """The task that failed first, of those whose failure no retry controller has made good."""
        failed = [row for row in self._rows.values() if row.how == How.RAISED]
        failed = [row for row in failed if row.task not in self._set_back]
        return min(failed, key=lambda row: row.ended_at or 0.0, default=None)

    def undo_failures(self) -> list[Row]:
        """The tasks whose undo was tried and did not succeed, the newest first."""
        tried = [row for row in self._rows.values() if row.undo_begun_at is not None]
        failed = [row for row in tried if undo_owed(row)]
        return sorted(failed, key=lambda row: row.position, reverse=True)

    def counts(self) -> dict[str, int]:
        """The counters of the job's row. Savepoints are no work, and are not counted as such."""
        return {
            "begun": int(bool(self._rows)),
            "tasks_done": len(self._done) - len(self._done & self._savepoints),
            "tasks_undone": len(self._undone) - len(self._undone & self._savepoints),
        }

    def _changed(self, task: str, row: Row) -> None:
        self._dirty.add(task)
        if task.startswith(PREFIX):
            self._savepoints.add(task)
        for kept, belongs in (
            (self._done, row.how == How.RETURNED),
            (self._undone, row.undo_ended_at is not None),
        ):
            if belongs:
                kept.add(task)
            else:
                kept.discard(task)

    def take(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], set[str]]:
        """What changed since the last call: new rows, changed rows, and the tasks that begin in them."""
        new: list[dict[str, Any]] = []
        changed: list[dict[str, Any]] = []
        rows = [*self._superseded, *(self._rows[task] for task in self._dirty)]
        for row in rows:
            known = (row.task, row.round) in self._stored
            (changed if known else new).append(dict(vars(row)))
            self._stored.add((row.task, row.round))
        self._superseded.clear()
        self._dirty.clear()
        self.unsaved_results = False
        return new, changed, set(self._beginning)

    def begun_in_store(self, tasks: set[str]) -> None:
        """The commit that holds these begins is done: they can no longer be refused."""
        for task in tasks:
            self._beginning.pop(task, None)


def _decoded(text: str | None) -> Any:
    return None if text is None else payload.decode(text)
