"""PlainRun: what the tasks of one run are bound to where there is no journal: TaskFlow stores by itself."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from taskflow import exceptions, states
from taskflow.persistence import models

from ebbtide.conductor.bodies import Bodies
from ebbtide.conductor.enginerun import EngineRun, GoesBackwards
from ebbtide.tasks import payload
from ebbtide.tasks.event import CancelEvent
from ebbtide.tasks.run import INTERRUPTED, Begun, How, JobInfo, Undo

__all__ = ["PlainRun"]

LOG = logging.getLogger(__name__)

_SAVED = "ebbtide_saved"
_REPORT_SECONDS = 0.25
# What TaskFlow has stored says so: it began, or was about to.
_BEGUN = frozenset({states.RUNNING, states.SUCCESS, states.FAILURE, states.REVERTING, states.REVERT_FAILURE})


@dataclass
class _Task:
    position: int
    result: Any = INTERRUPTED
    saved: Any = None


class PlainRun(EngineRun):
    """Knows in memory what began, and after a crash takes TaskFlow's states for it.

    Those are stored when a task is *scheduled*: what an owner that died had scheduled and not begun counts
    as begun and interrupted, and its revert is called.
    """

    def __init__(self, job: JobInfo, event: CancelEvent) -> None:
        # Nobody is told of grace here: no one could end a body that takes too long.
        super().__init__(job, event, Bodies(event, math.inf, lambda grace: None))
        self._memory = threading.Lock()  # guards what follows
        self._tasks: dict[str, _Task] = {}  # began, and not undone
        self._backwards = False
        self._reported: dict[str, float] = {}
        self._storage: Any = None

    def load(self, detail: models.FlowDetail, storage: Any, names: Collection[str]) -> None:
        """Take up what an earlier owner has left of these tasks."""
        self._storage = storage
        for atom in detail:
            if atom.name not in names or atom.state not in _BEGUN:
                continue
            returned = atom.failure is None and atom.state in (states.SUCCESS, states.REVERTING)
            saved = atom.meta.get(_SAVED)
            self._tasks[atom.name] = _Task(
                len(self._tasks) + 1,
                atom.results if returned else INTERRUPTED,
                None if saved is None else payload.decode(saved),
            )

    # EngineRun.

    def goes_backwards(self) -> None:
        with self._memory:
            self._backwards = True

    def undo_owed(self) -> list[str]:
        with self._memory:
            return sorted(self._tasks, key=lambda name: self._tasks[name].position)

    def positions(self) -> dict[str, int]:
        with self._memory:
            return {name: task.position for name, task in self._tasks.items()}

    # Run.

    def begin(self, task: str) -> Begun:
        self._passing(task)
        with self._memory:
            self.event.check()
            if self._backwards:
                raise GoesBackwards(f"{task} does not begin: the run goes backwards")
            before = self._tasks.get(task)
            newest = max((known.position for known in self._tasks.values()), default=0)
            saved = None if before is None else before.saved
            self._tasks[task] = _Task(newest + 1, saved=saved)
        return Begun(before is not None and before.result is INTERRUPTED, saved)

    def returned(self, task: str, text: str) -> None:
        with self._memory:
            self._tasks[task].result = payload.decode(text)

    def stopped(self, task: str, how: How, error: str) -> None:
        pass  # it began, and its result stays INTERRUPTED

    def save(self, task: str, text: str) -> None:
        self._storage.update_atom_metadata(task, {_SAVED: text})
        with self._memory:
            self._tasks[task].saved = payload.decode(text)

    def report(self, task: str, fraction: float, message: str) -> None:
        now = time.monotonic()
        if fraction < 1.0 and now - self._reported.get(task, -math.inf) < _REPORT_SECONDS:
            return
        self._reported[task] = now
        try:
            self._storage.set_task_progress(task, fraction, {"message": message} if message else None)
        except exceptions.TaskFlowException:  # best effort, as TaskFlow's own
            LOG.warning("task.progress_not_stored %s of flow %s", task, self.job.id, exc_info=True)

    def delivered(self, task: str) -> None:
        pass

    def begin_undo(self, task: str) -> Undo | None:
        self._passing(task)
        with self._memory:
            known = self._tasks.get(task)
            return None if known is None else Undo(known.result, known.saved)

    def end_undo(self, task: str, error: str | None) -> None:
        if error is not None:
            return
        with self._memory:
            known = self._tasks.pop(task)
        if known.saved is not None:
            self._storage.update_atom_metadata(task, {_SAVED: None})
