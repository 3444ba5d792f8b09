"""The journal: TaskFlow's persistence for one run, committed at barriers and fenced.

TaskFlow writes four transactions for each task. Between "A succeeded", "A is at 100 %" and "B is running"
nothing outside happens, so here they share one. Changed details stay in memory and are committed before an
execute or a revert begins, when the engine goes to wait with unsaved results, at checkpoints, at the end.

Two locks. `_mutex` is held through a commit; who waits for it often finds its own changes committed by the
one before. `_memory` guards what is collected, for moments only. Order: _mutex, then _memory. TaskFlow's
storage lock is never taken here; its holders call in and take `_memory`.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import sqlalchemy as sa
from oslo_serialization import jsonutils
from taskflow import states as taskflow_states
from taskflow.persistence import models

from ebbtide import faults
from ebbtide.conductor.batch import Batch, atom_row, write_fenced, write_unfenced
from ebbtide.conductor.begun import BegunTasks
from ebbtide.conductor.capture import LogBuffer
from ebbtide.conductor.chunks import ChunkBuffer
from ebbtide.conductor.enginerun import GoesBackwards
from ebbtide.conductor.readback import is_stored, request_of
from ebbtide.conductor.redaction import Redactor
from ebbtide.conductor.stored import StoredRun
from ebbtide.errors import ClaimLost, CommitUnknown, EdgeRefused, StoreUnavailable
from ebbtide.jobs import clock
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.ledger import logbook_of
from ebbtide.jobs.store import Store
from ebbtide.tasks.event import LOST, CancelEvent, Cancelled
from ebbtide.tasks.payload import storable
from ebbtide.tasks.run import Begun, How, Undo

__all__ = ["Journal"]

Outcome = Callable[[sa.Connection, Mapping[str, Any]], None]

_ENDED = {taskflow_states.SUCCESS: True, taskflow_states.FAILURE: False}
_LOST = ("this run has lost its job; another goes on with it", LOST)
_UNDO_ENDED = (taskflow_states.REVERTED, taskflow_states.REVERT_FAILURE)


class _CancelSeen(Exception):
    """The fence found a cancel request in a transaction in which tasks were to begin: roll it back."""


class Journal:
    """What one run has to store. Every method may be called from any thread."""

    def __init__(
        self,
        store: Store,
        claim: Claim,
        event: CancelEvent,
        run: StoredRun,
        *,
        patience_seconds: float,
        log_lines: int,
        redactor: Redactor | None = None,
    ) -> None:
        self._store = store
        self._claim = claim
        self._event = event
        self._patience = patience_seconds
        self._mutex = threading.Lock()
        self._memory = threading.Lock()
        self._write = claim.write
        self._tasks = BegunTasks(run.rows, run.texts, run.set_back)
        self._known_atoms = set(run.atom_ids)
        self._new_logbook = not run.logbook_stored
        self._flow_stored = run.flow_stored
        self._flow_id = run.flow.uuid
        self._flow: models.FlowDetail | None = None
        self._atoms: dict[str, dict[str, Any]] = {}
        self._refused: set[str] = set()
        self._backwards = False
        self._delivered: tuple[str, float] | None = None
        self._request: tuple[str, str] | None = None  # reason and source, once the fence brought one back
        self._undoing = run.undoing
        self._interruptions = run.interruptions
        self.tasks_total = run.tasks_total
        self.allowed_seconds: dict[str, float] = {}  # of tasks with a limit: that, and their grace
        self.logs = LogBuffer(claim.job_id, claim.attempt, run.logs, log_lines, redactor or Redactor())
        self.chunks = ChunkBuffer(store, claim)
        self.commits = 0
        self.lost: Exception | None = None

    # What the engine's storage hands in (under its own lock).

    def change_flow(self, flow: models.FlowDetail) -> None:
        with self._memory:
            self._flow = flow
            for atom in flow:
                if atom.uuid not in self._known_atoms and atom.uuid not in self._atoms:
                    self._atoms[atom.uuid] = atom_row(atom, None)

    def change_atom(self, atom: models.AtomDetail) -> None:
        with self._memory:
            if atom.state in _ENDED:
                self._tasks.settle(atom.name, succeeded=_ENDED[atom.state])
            elif atom.state in _UNDO_ENDED:
                self._tasks.settle_undo(atom.name)
            elif atom.state == taskflow_states.PENDING:
                self._tasks.set_back(atom.name)
            self._atoms[atom.uuid] = atom_row(atom, self._tasks.result_text(atom.name))

    # What tasks hand in.

    def begin(self, task: str) -> Begun:
        """See `Run.begin`."""
        with self._memory:
            self._event.check()
            if self._backwards:
                raise GoesBackwards(f"{task} does not begin: the run goes backwards")
            allowed = self.allowed_seconds.get(task)
            stop_by = None if allowed is None else clock.boot_seconds() + allowed
            begun = self._tasks.begin(task, self._claim.epoch, clock.wall(), stop_by)
            self._undoing = False
        self.commit()
        with self._memory:
            if task not in self._refused:
                return begun
            self._refused.discard(task)
        raise Cancelled(self._event.reason, self._event.source)

    def goes_backwards(self, *, undoing: bool = False) -> None:
        """From now on no task begins, not even one in the pool; `undoing`: the job's row says so, too."""
        with self._memory:
            self._backwards, self._undoing = True, self._undoing or undoing

    def begin_undo(self, task: str) -> Undo | None:
        """See `Run.begin_undo`."""
        with self._memory:
            undo = self._tasks.begin_undo(task, clock.wall())
            if undo is None:
                return None
            self._undoing = True
        self.commit()
        return undo

    def returned(self, task: str, text: str) -> None:
        with self._memory:
            self._tasks.returned(task, text, clock.wall())

    def stopped(self, task: str, how: How, error: str) -> None:
        with self._memory:
            self._tasks.stopped(task, how, storable(error), clock.wall())

    def end_undo(self, task: str, error: str | None) -> None:
        with self._memory:
            self._tasks.end_undo(task, storable(error) if error else None, clock.wall())

    def undo_failures(self, task: str) -> tuple[int, str | None]:
        """How many tries of an undo have failed since the job was last unparked, and how the last one did."""
        with self._memory:
            row = self._tasks.undo_to_try(task)
            return (0, None) if row is None else (row.undo_failures, row.undo_error)

    def undo_failed(self, task: str) -> None:
        """Store that a try of an undo has failed after which there is another."""
        with self._memory:
            self._tasks.fail_undo(task)
        self.commit()

    def save(self, task: str, text: str) -> None:
        with self._memory:
            self._tasks.save(task, text)
        self.commit()

    def report(self, task: str, fraction: float, message: str) -> None:
        with self._memory:
            self._tasks.report(task, fraction, storable(message)[:500])

    def delivered(self, task: str) -> None:
        with self._memory:
            if self._delivered is None:
                self._delivered = (task, clock.wall())

    # What the run asks.

    @property
    def unsaved_results(self) -> bool:
        """Whether a task has ended since the last commit."""
        with self._memory:
            return self._tasks.unsaved_results

    @property
    def undoing(self) -> bool:
        """Whether the latest barrier was that of an undo."""
        with self._memory:
            return self._undoing

    def undo_owed(self) -> list[str]:
        with self._memory:
            return self._tasks.undo_owed()

    def cannot_undo(self, tasks: Mapping[str, str]) -> None:
        """What the flow says of its tasks: which of them are not undone, and why."""
        with self._memory:
            self._tasks.no_undo = dict(tasks)

    def positions(self) -> dict[str, int]:
        """In which order the tasks began: the higher, the newer."""
        with self._memory:
            return self._tasks.positions()

    def summary(self) -> BegunTasks:
        """The begun tasks, for reading once the engine is at rest."""
        return self._tasks

    # Commits.

    def commit(self) -> None:
        """Store what is collected, if anything; returns once it is stored.

        Whoever began a task has to look into `_refused` afterwards. A cancel request that the
        fence brings back sets the event before this returns.

        Raises:
            ClaimLost: another holder has the job, or the store stayed away for longer than this
                run may go on without it. Nothing more of this run will be stored; the event is set.
        """
        with self._telling(), self._mutex:
            self._refuse_when_lost()
            batch = self._take()
            if not batch.empty:
                self._store_batch(batch, None)

    def finish(self, outcome: Outcome) -> bool:
        """Store what is collected together with the run's outcome, in one transaction.

        Args:
            outcome: applies an edge; it is given the columns the fence would have written.

        Returns:
            False when the ledger refused the edge: a cancel request came first. What was
            collected is stored then, and the event is set.
        """
        with self._telling(), self._mutex:
            self._refuse_when_lost()
            batch = self._take()
            try:
                faults.point("outcome.committing")
                self._store_batch(batch, outcome)
                faults.point("outcome.committed")
                return True
            except EdgeRefused:
                self._store_batch(batch, None)
        return False

    def give_up(self, error: Exception) -> None:
        """Store nothing more, and have the bodies at work leave: another run goes on with the job."""
        with self._telling(), self._memory:
            self.lost = self.lost or error

    def _refuse_when_lost(self) -> None:
        # What an earlier commit could not store is out of memory: nothing may be stored over the gap.
        if self.lost is not None:
            raise ClaimLost(self._claim.job_id, self._claim.epoch) from self.lost

    def _take(self) -> Batch:
        claim = self._claim
        batch = Batch(claim.job_id, claim.attempt, claim.epoch)
        with self._memory:
            if self._flow is not None:
                self._take_flow(batch)
            for uuid, row in self._atoms.items():
                if uuid in self._known_atoms:
                    batch.atoms.append(row)
                else:
                    batch.new_atoms.append(row | {"parent_uuid": self._flow_id})
            self._known_atoms.update(self._atoms)
            self._atoms = {}
            progressed, self._tasks.progressed = self._tasks.progressed, False
            batch.new_tasks, batch.tasks, batch.beginning = self._tasks.take()
            batch.delivered, self._delivered = self._delivered, None
            batch.logs, last_line = self.logs.take()
            batch.keep_logs_after = last_line - self.logs.limit
            batch.chunks, batch.keep_chunks_after = self.chunks.take()
            if progressed:
                self._interruptions = 0
            batch.job = self._tasks.counts() | {
                "tasks_total": self.tasks_total,
                "undoing": int(self._undoing),
                "logs": last_line,
                "interruptions": self._interruptions,
            }
        return batch

    def _take_flow(self, batch: Batch) -> None:
        flow, self._flow = self._flow, None
        assert flow is not None
        book = logbook_of(self._claim.job_id)
        row = {"uuid": flow.uuid, "name": flow.name, "state": flow.state, "meta": jsonutils.dumps(flow.meta)}
        if self._flow_stored:
            batch.flow = row
            return
        self._flow_stored = True
        batch.new_flow = row | {"parent_uuid": book}
        if self._new_logbook:
            self._new_logbook = False
            batch.logbook = {"uuid": book, "name": self._claim.key, "meta": "{}"}

    def _store_batch(self, batch: Batch, outcome: Outcome | None) -> None:
        """Write until it is stored or given up."""
        faults.point("journal.committing")
        deadline = time.monotonic() + self._patience
        pause = 0.01
        number = batch.job["write"] = self._write + 1
        # An outcome removes a job whose deletion waits for it. We may have, once its answer was lost.
        or_gone = False
        while True:
            try:
                self._transact(batch, outcome)
                break
            except _CancelSeen:
                self._refuse(batch)
            except EdgeRefused:
                # Refused by our own outcome, perhaps: stored before, and its answer lost.
                if is_stored(self._store, self._claim, number, or_gone=or_gone):
                    break
                raise
            except ClaimLost as error:
                self._lose(error, batch)
                raise
            except StoreUnavailable as error:
                # The commit's answer may be what was lost: the number tells.
                or_gone |= outcome is not None and isinstance(error, CommitUnknown)
                if is_stored(self._store, self._claim, number, or_gone=or_gone):
                    break
                if time.monotonic() > deadline:
                    self._lose(error, batch)
                    raise ClaimLost(self._claim.job_id, self._claim.epoch) from error
                threading.Event().wait(pause * (0.5 + random.random()))
                pause = min(1.0, pause * 2)
            except Exception as error:
                # Rows that are there already, or no job: this very commit was stored, and its answer lost.
                if is_stored(self._store, self._claim, number, or_gone=or_gone):
                    break
                # Whatever this is, the batch is out of memory and not in the store: this run knows
                # nothing for sure any more. It stops where it is; the store has the last true state.
                self._lose(error, batch)
                raise ClaimLost(self._claim.job_id, self._claim.epoch) from error
        self._write = number
        self.commits += 1
        with self._memory:
            self._tasks.begun_in_store(batch.beginning)
        faults.point("journal.committed")

    def _transact(self, batch: Batch, outcome: Outcome | None) -> None:
        with self._store.write() as connection:
            if outcome is not None:
                write_unfenced(connection, batch)
                outcome(connection, batch.job)
                return
            row = write_fenced(connection, batch)
            if row is None:
                raise ClaimLost(batch.job_id, batch.epoch)
            requested = row.cancel_requested_at is not None
            if requested and self._request is None:
                self._request = request_of(connection, self._claim)
            if requested and batch.beginning:
                raise _CancelSeen

    def _refuse(self, batch: Batch) -> None:
        """No task of the batch begins: a cancel was accepted before any of them could be stored as begun."""
        with self._memory:
            for task in batch.beginning:
                self._tasks.refuse(task)
                self._refused.add(task)
            batch.job |= self._tasks.counts()
            batch.without(batch.beginning)

    def _lose(self, error: Exception, batch: Batch) -> None:
        with self._memory:
            self.lost = error
            # Their begin() raises: they do not run, whatever becomes of the claim.
            self._tasks.begun_in_store(batch.beginning)

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        # Outside both locks: the event's callbacks are anybody's code and may come back here.
        try:
            yield
        finally:
            # One that waits for a body which cannot begin any more would wait for ever, and the job with it.
            why = self._request or (self.lost and _LOST)
            if why and not self._event.requested:
                self._event.set(*why)
