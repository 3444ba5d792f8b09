"""The engine of a conductor's runs: turns round, stores through the journal, and tells how it came to rest.

Private in TaskFlow 6.5, beside what `ebbtide.conductor.turning` uses, are the storage's `_save_flow_detail`
and `_save_atom_detail`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from taskflow import states
from taskflow.engines.action_engine.compiler import TASK
from taskflow.flow import Flow
from taskflow.persistence import models
from taskflow.utils import misc

from ebbtide.conductor.backend import Backend, Storage
from ebbtide.conductor.executor import TaskExecutor
from ebbtide.conductor.jobrun import JobRun
from ebbtide.conductor.loop import RunLoop
from ebbtide.conductor.shape import SHAPE, shape_of
from ebbtide.conductor.turning import Rest, TurningEngine
from ebbtide.conductor.undoing import UndoPolicy
from ebbtide.errors import ClaimLost
from ebbtide.tasks.savepoint import PREFIX

__all__ = ["CutOff", "Engine", "Rest"]

_T = TypeVar("_T")


class CutOff(Exception):
    """Whoever has started the run wants it to stop where it stands; another goes on with it."""


class LeaseOver(Exception):
    """Another conductor may have the job by now."""


class Engine(TurningEngine):
    """An engine that stores through the journal of its run. Only the thread in `drive` touches it."""

    _run: JobRun

    def __init__(
        self,
        flow: Flow,
        detail: models.FlowDetail,
        run: JobRun,
        workers: int,
        undo_policy: UndoPolicy = UndoPolicy(),  # noqa: B008  # frozen
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="ebbtide-task")
        self._journal = run.journal
        self._loop = RunLoop(run.event)
        options = {"pool": self._pool, "loop": self._loop, "undo_policy": undo_policy}
        super().__init__(flow, detail, Backend(run.journal), options, run)

    @classmethod
    def _fetch_task_executor(cls, options: dict[str, Any]) -> TaskExecutor:
        return TaskExecutor(
            options["pool"],
            options["run"],
            options["suspend_requested"],
            options["end_leftovers"],
            options["undo_policy"],
            options["before_undo"],
            options["loop"],
        )

    @misc.cachedproperty  # type: ignore[untyped-decorator]
    def storage(self) -> Storage:
        def scopes_of(atom: str) -> Any:
            return self._runtime.fetch_scopes_for(atom) if self._compiled else None

        return Storage(self._flow_detail, backend=self._backend, scope_fetcher=scopes_of)

    def compile(self) -> None:
        if self._compiled:
            return
        super().compile()
        self._flow_detail.meta[SHAPE] = shape_of(self._compilation.execution_graph)
        self._journal.tasks_total = sum(not name.startswith(PREFIX) for name in self.task_names())
        self._journal.allowed_seconds = self._allowed_seconds()
        self._journal.cannot_undo({task.name: task.no_undo for task in self.tasks() if task.no_undo})

    def _allowed_seconds(self) -> dict[str, float]:
        """Of each task with a limit, how long its body may take before its runner has to be ended."""
        return {
            task.name: task.limit_seconds + self._run.bodies.grace_of(task.grace_seconds)
            for task in self.tasks()
            if task.limit_seconds is not None
        }

    def outputs(self) -> list[str]:
        """What tasks provide and none of them takes: the result of a flow that names none."""
        tasks = [
            node for node, data in self._compilation.execution_graph.nodes(data=True) if data["kind"] == TASK
        ]
        taken = {name for node in tasks for name in node.rebind.values()}
        return sorted({name for node in tasks for name in node.provides} - taken)

    def drive(self, *, backwards: bool = False) -> Rest:
        """Follow the engine's course to its rest; see `_course`."""
        if not backwards and self._journal.undoing:
            # Whoever ran it before has turned it round already, and told this engine's siblings nothing.
            self.compile()
            self._newest_first()
        return self._follow(self._course(backwards=backwards))

    def rewind(self, savepoint: str) -> Rest:
        """Undo what is behind that atom, to its rest; see `_rewound`."""
        return self._follow(self._rewound(savepoint))

    def undo_all(self, error: str) -> Rest:
        """Undo a flow whose tasks have all finished, since its end could not be stored; `error` says why."""
        self._fail(error)
        self._turn_round()
        self._follow(self._steps(backwards=True))
        if self._journal.lost is not None:
            return Rest.LOST
        rests = {states.REVERTED: Rest.UNDONE, states.SUSPENDED: Rest.SUSPENDED}
        return rests.get(self.storage.get_flow_state(), Rest.STUCK)

    def give_up(self) -> None:
        """Store nothing more, and have bodies leave at their next checkpoint; from any thread."""
        self._journal.give_up(LeaseOver("the lease of its conductor is over"))

    def cut_off(self) -> None:
        """Leave coroutines at their awaits, if any is at work, and store nothing more; from any thread."""
        self._loop.cut_off(self._store_nothing_more)

    def _store_nothing_more(self) -> None:
        # What is stored tells the next holder where to go on.
        self._journal.lost = self._journal.lost or CutOff("the run was cut off")

    def close(self) -> None:
        """Let the worker threads and the loop go. Does not wait for a task that is deaf to its event."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._loop.close()

    def _follow(self, course: Generator[str, None, _T]) -> _T:
        while True:
            try:
                state = next(course)
            except StopIteration as end:
                rest: _T = end.value
                return rest
            if state == states.WAITING:
                with contextlib.suppress(ClaimLost):  # seen by the course, as `lost`
                    self._run.settle()
