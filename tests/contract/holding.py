"""What a runner does with a claim, step by step, through the real journal, and without an engine."""

import uuid
import warnings
from typing import Any

from taskflow import states
from taskflow.persistence import models

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor import journal
    from ebbtide.conductor.outcome import Outcome
    from ebbtide.conductor.stored import load_run
from ebbtide.jobs.claims import Claim
from ebbtide.jobs.states import Ending, settle
from ebbtide.jobs.store import Store
from ebbtide.tasks import CancelEvent
from ebbtide.tasks.run import How

__all__ = ["PATIENCE_SECONDS", "TASKS", "Holding", "journal"]

TASKS = ("a", "b")
PATIENCE_SECONDS = 20.0


class Holding:
    """One run of a claim. `here` is what it knows of its tasks, which is no longer true of a stale one."""

    def __init__(self, store: Store, claim: Claim, owner: str) -> None:
        self.claim, self.owner = claim, owner
        self.event = CancelEvent()
        if claim.cancel is not None:
            self.event.set(claim.cancel.reason, claim.cancel.source)
        stored = load_run(store, claim)
        self.journal = journal.Journal(
            store, claim, self.event, stored, patience_seconds=PATIENCE_SECONDS, log_lines=10
        )
        self._flow = stored.flow
        self.here = {row.task: "undone" if row.undo_ended_at else str(row.how) for row in stored.rows}
        self.positions = {row.task: row.position for row in stored.rows}
        self._undoing = stored.undoing
        self.used = False
        for name in TASKS:
            if self._flow.find(self._uuid(name)) is None:
                self._flow.add(models.TaskDetail(name, self._uuid(name)))

    def _uuid(self, task: str) -> str:
        return str(uuid.uuid5(uuid.UUID(self._flow.uuid), task))

    def _changed(self, task: str, state: str) -> None:
        detail = self._flow.find(self._uuid(task))
        detail.state = state
        self.journal.change_atom(detail)

    # What an engine would come to.

    @property
    def backwards(self) -> bool:
        gone_wrong = {"raised", "cancelled", "undoing", "undone", "stuck"} & set(self.here.values())
        return self.event.requested or self._undoing or bool(gone_wrong)

    @property
    def next_begins(self) -> list[str]:
        if self.backwards:
            return []
        return [task for task in TASKS if self.here.get(task) in (None, "interrupted")]

    @property
    def at_work(self) -> list[str]:
        return [task for task, how in self.here.items() if how == "None"]

    @property
    def undoing(self) -> list[str]:
        return [task for task, how in self.here.items() if how == "undoing"]

    @property
    def next_undo(self) -> str | None:
        standing = [task for task, how in self.here.items() if how not in ("undone", "stuck")]
        if self.at_work or self.undoing or not self.backwards or not standing:
            return None
        return max(standing, key=self.positions.__getitem__)

    @property
    def edge(self) -> str | None:
        """By which it would leave; None: it has to go on."""
        if self.at_work or self.undoing or self.next_undo is not None:
            return None
        if self.backwards:
            ending = Ending.STUCK if "stuck" in self.here.values() else Ending.UNDONE
        elif all(self.here.get(task) == "returned" for task in TASKS):
            ending = Ending.FINISHED
        else:
            return None
        return settle(ending, cancel_requested=self.event.requested)

    # What it does.

    def begin(self, task: str) -> None:
        self.used = True
        self.journal.change_flow(self._flow)
        self.positions[task] = max(self.positions.values(), default=0) + 1
        self.journal.begin(task)
        self.here[task] = "None"

    def end(self, task: str, how: str) -> None:
        self.here[task] = how
        if how == "returned":
            self.journal.returned(task, f'"{task}"')
            self._changed(task, states.SUCCESS)
        else:
            if how == "cancelled":
                self.journal.delivered(task)
            self.journal.stopped(task, How(how), "Error: x")
            self._changed(task, states.FAILURE)
        self.journal.commit()

    def save(self, task: str, text: str) -> None:
        self.journal.save(task, text)

    def begin_undo(self, task: str) -> Any:
        self.used = True
        self.here[task] = "undoing"
        return self.journal.begin_undo(task)

    def end_undo(self, task: str, works: bool) -> None:
        self.here[task] = "undone" if works else "stuck"
        self.journal.end_undo(task, None if works else "OSError: busy")
        self._changed(task, states.REVERTED if works else states.REVERT_FAILURE)
        self.journal.commit()

    def leave(self, edge: str) -> bool:
        outcome = Outcome.of(
            edge,
            self.claim,
            self.owner,
            self.journal.summary(),
            error=None,
            stopped_by=None,
            result="1" if edge == "completed" else None,
        )
        return self.journal.finish(outcome.write)
