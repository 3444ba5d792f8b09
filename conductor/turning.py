"""What turns an engine round: the part of ours that needs neither journal nor ledger.

Private in TaskFlow 6.5 are the runtime's completer with its `_process_atom_failure` and
`_determine_resolution`, its selector with `_browse_atoms_for_execute` and `_get_maybe_ready_for_execute`, and
the engine's `_change_state` and `_fetch_task_executor`. A guard test fails when they move.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Collection, Generator, Sequence
from functools import partial
from typing import Any

from taskflow import retry as taskflow_retry
from taskflow import states
from taskflow.engines.action_engine import completer as taskflow_completer
from taskflow.engines.action_engine import engine as taskflow_engine
from taskflow.engines.action_engine import executor as taskflow_executor
from taskflow.engines.action_engine.compiler import RETRY, TASK
from taskflow.flow import Flow
from taskflow.persistence import models
from taskflow.types import failure

from ebbtide.conductor.enginerun import EngineRun
from ebbtide.conductor.selector import Selector
from ebbtide.conductor.undoing import UndoPolicy
from ebbtide.tasks import CancelableTask
from ebbtide.tasks.retries import bind_retry
from ebbtide.tasks.wrapping import describe

__all__ = ["Rest", "TurningEngine"]

_ERROR = "ebbtide_error"


class Rest(enum.Enum):
    """How an engine came to rest."""

    FINISHED = "finished"  # every task is done
    UNDONE = "undone"  # every begun task is undone
    REWOUND = "rewound"  # every begun task behind a savepoint is undone, and may begin anew
    STUCK = "stuck"  # an undo failed
    SUSPENDED = "suspended"  # a drain stopped it between tasks
    HELD = "held"  # a task failed for good, and what was done is to stay: stopped where it was
    LOST = "lost"  # another holder has the job: stopped where it was


class TurningEngine(taskflow_engine.ParallelActionEngine):  # type: ignore[misc]  # taskflow is untyped
    """TaskFlow's parallel engine, bound to one run, that can be turned round.

    Always the parallel one: with the serial engine a task executes under the storage lock, and
    nothing can be done to the engine until it ends. Only the thread that follows its course touches it;
    others set the cancel event or `suspend_requested`, and that thread suspends its own engine.
    """

    def __init__(
        self, flow: Flow, detail: models.FlowDetail, backend: Any, options: dict[str, Any], run: EngineRun
    ) -> None:
        self._run = run
        self._undo_seconds = options.get("undo_policy", UndoPolicy()).timeout_seconds
        self._priorities: dict[Any, int] = {}  # of the tasks, as their author gave them
        self._backwards = self._rewinding = False
        self.suspend_requested = threading.Event()
        # Called when all tasks are at rest and an undo is about to begin: ends what they left running.
        self.end_leftovers: Callable[[], None] = lambda: None
        # Called before an undo is begun once the whole flow goes backwards; may request a suspend instead.
        self.before_undo: Callable[[], None] = lambda: None
        # Asked with the names of a failure's classes when nothing but the undo of all is left to do.
        self.is_to_hold: Callable[[Sequence[str]], bool] = lambda names: False
        self.error: str | None = detail.meta.get(_ERROR)  # why it was turned round, when no task is to blame
        self.raised: Exception | None = None  # by the last run of its state machine: the flow's failures
        self.cause: Exception | None = None  # of the engine's own failure, where that turned it round
        given = {
            "defer_reverts": True,
            "run": run,
            "suspend_requested": self.suspend_requested,
            "end_leftovers": lambda: self.end_leftovers(),
            "before_undo": lambda: self._before_undo(),
        }
        super().__init__(flow, detail, backend, options | given)

    def compile(self) -> None:
        if self._compiled:
            return
        super().compile()
        self._runtime._selector = Selector(self._runtime, self._run)
        self._runtime._completer = _Completer(
            self._runtime,
            self._go_backwards,
            self._newest_first,
            self._as_given,
            self._hold,
            stands_beside=lambda: self._rewinding,
        )
        graph = self._compilation.execution_graph
        for node, data in graph.nodes(data=True):
            if data["kind"] == TASK:
                if isinstance(node, CancelableTask):
                    node.bind(self._run)
                self._priorities[node] = node.priority
            elif data["kind"] == RETRY:
                bind_retry(
                    node,
                    self._run,
                    settled=lambda: self._backwards,
                    at_work=partial(self._run.bodies.executing, node.name),
                    undoing=partial(self._run.bodies.undoing, node.name, self._undo_seconds),
                )

    def tasks(self) -> list[CancelableTask]:
        """All tasks, retry controllers not among them."""
        graph = self._compilation.execution_graph
        return [node for node, data in graph.nodes(data=True) if data["kind"] == TASK]

    def task_names(self) -> list[str]:
        """Their names."""
        return [task.name for task in self.tasks()]

    def atom_names(self) -> set[str]:
        """The names of all tasks and retry controllers."""
        return {atom.name for atom in self._atoms()}

    def _atoms(self) -> list[Any]:
        graph = self._compilation.execution_graph
        return [node for node, data in graph.nodes(data=True) if data["kind"] in (TASK, RETRY)]

    @property
    def reverted(self) -> bool:
        """Whether all of the flow was reverted already; it must not be driven then."""
        return bool(self.storage.get_flow_state() == states.REVERTED)

    def _course(self, *, backwards: bool = False) -> Generator[str, None, Rest]:
        """Run forwards until the end, or until the event is set, then backwards; yields the states of the
        state machine on its way, and returns at rest.

        With `backwards` it does so from the start: an undo of an earlier run has failed. Begun again
        after a refused outcome it goes on from where it is.
        """
        if backwards:
            self._turn_round()
        while True:
            if self._run.event.requested and not backwards:
                if self._run.lost is not None:
                    return Rest.LOST  # that is why it is set
                self._turn_round()
                backwards = True
            yield from self._steps(backwards)
            if self._run.lost is not None:
                return Rest.LOST
            if self.reverted:
                return Rest.UNDONE
            if self._run.event.requested and not backwards:
                continue
            if self._run.holding:
                return Rest.HELD
            state = self.storage.get_flow_state()
            if state == states.SUCCESS:
                return Rest.FINISHED
            if state == states.SUSPENDED and self.suspend_requested.is_set():
                return Rest.SUSPENDED
            if backwards or self.storage.get_revert_failures():
                return Rest.STUCK if self._run.undo_owed() else Rest.UNDONE
            # The engine itself failed, say for a result that lacks a name it should provide: nobody
            # has reverted anything yet.
            raised = self.cause = self.raised
            self._fail(describe(raised, self._run.hide) if raised else "the engine stopped without a reason")
            self._turn_round()
            backwards = True

    def _steps(self, backwards: bool) -> Generator[str, None, None]:
        """One run of the state machine, to its next rest."""
        self.raised = None
        machine = super().run_iter()
        asked = False
        try:
            state = next(machine)
            while True:
                yield state
                stop = self._run.lost is not None or self.suspend_requested.is_set() or self._run.holding
                if not asked and (stop or (self._run.event.requested and not backwards)):
                    super().suspend()
                    asked = True
                state = next(machine)
        except StopIteration:
            pass
        except GeneratorExit:
            super().suspend()
            raise
        except Exception as error:  # noqa: BLE001
            # How run_iter() ends whenever a task failed, also when all was reverted: the state tells which.
            self.raised = error
        finally:
            machine.close()  # left in the middle: TaskFlow suspends, and comes to rest here

    def _fail(self, error: str) -> None:
        # Stored with the flow: a later holder that ends the undo still knows why it was begun.
        self.error = self.error or error
        self.storage.update_flow_metadata({_ERROR: self.error})

    def _turn_round(self) -> None:
        """Give every atom the intention REVERT, so that the next run goes backwards.

        Every one: with only begun ones marked, TaskFlow ran the pending ones forwards. What has
        not begun is never reverted: TaskFlow knows no way from PENDING there, and our tasks ask
        the record of what began.
        """
        self.end_leftovers()
        self.compile()
        self.prepare()
        self._run.holding = self._rewinding = False
        self._go_backwards()
        self.before_undo()
        self._mark_for_undo(self.atom_names())

    def _mark_for_undo(self, names: Collection[str]) -> None:
        begun = set(self._run.undo_owed())
        for node, data in self._compilation.execution_graph.nodes(data=True):
            if data["kind"] not in (TASK, RETRY) or node.name not in names:
                continue
            state = self.storage.get_atom_state(node.name)
            if state == states.RETRYING:
                # Interrupted between two rounds: there is no way from RETRYING to REVERTING either.
                self.storage.set_atom_state(node.name, states.SUCCESS)
            elif state == states.RUNNING and data["kind"] == TASK and node.name not in begun:
                # Scheduled and not begun. TaskFlow would look up the arguments of its revert, which may
                # be the very ones whose lack stopped the engine.
                self.storage.set_atom_state(node.name, states.PENDING)
            self.storage.set_atom_intention(node.name, states.REVERT)

    def _rewound(self, savepoint: str) -> Generator[str, None, Rest]:
        """Undo what is behind a savepoint, and let it begin anew in another run; in this one nothing begins.

        A cancel turns all of it round.
        """
        self.compile()
        self.prepare()
        behind = self._behind(savepoint)
        self._rewinding = True
        self._runtime.selector.undoes_only = True
        self._go_backwards()
        if behind & set(self._run.undo_owed()):
            self.end_leftovers()
            self._mark_for_undo(behind)
            self._set_aside(self.atom_names() - behind)
            yield from self._steps(backwards=False)
        if self._run.lost is not None:
            return Rest.LOST
        if self._run.event.requested:
            return (yield from self._course())
        if not behind & set(self._run.undo_owed()):
            self._runtime.reset_atoms([atom for atom in self._atoms() if atom.name in behind])
            return Rest.REWOUND
        return Rest.STUCK if self.storage.get_revert_failures() else Rest.SUSPENDED

    def _behind(self, savepoint: str) -> set[str]:
        """The names of all atoms that come after that one, near or far."""
        graph = self._compilation.execution_graph
        waiting = [atom for atom in self._atoms() if atom.name == savepoint]
        found: set[Any] = set()
        while waiting:
            after = set(graph.successors(waiting.pop())) - found
            found |= after
            waiting += after
        return {node.name for node in found if graph.nodes[node]["kind"] in (TASK, RETRY)}

    @property
    def turned(self) -> bool:
        """Whether a run of this attempt has begun to undo all of it. A flow that has begun is asked."""
        found = self.storage.get_atoms_states(self.atom_names()).values()
        return all(intention == states.REVERT for _, intention in found)

    def _set_aside(self, names: Collection[str]) -> None:
        """What was interrupted beside the savepoint begins again in another run: TaskFlow would do so now."""
        for name in names:
            if self.storage.get_atom_state(name) == states.RUNNING:
                self.storage.set_atom_state(name, states.PENDING)

    def failure_names(self, task: str) -> list[str]:
        """The class of what a task raised, and those that it derives from, without their modules."""
        found = self.storage.get_execute_failures().get(task)
        return [] if found is None else _class_names(found)

    def _hold(self, atom: Any, reason: failure.Failure) -> bool:
        """Whether a failure stops the run where it is. No task begins then, and nothing is undone."""
        if self._backwards or self._run.event.requested:
            return False
        if isinstance(atom, CancelableTask):
            self._run.holding = self._run.holding or self.is_to_hold(_class_names(reason))
        return self._run.holding

    def _before_undo(self) -> None:
        # A part of the flow that is undone, for another round or back to a savepoint, is no end of the job.
        if self._backwards and not self._rewinding:
            self.before_undo()

    def _go_backwards(self) -> None:
        """No task begins from here on."""
        self._backwards = True
        self._run.goes_backwards()
        self._newest_first()

    def _newest_first(self) -> None:
        """Siblings that may be undone at the same time are handed to the pool newest first."""
        positions = self._run.positions()
        for task in self._priorities:
            task.priority = positions.get(task.name, 0)

    def _as_given(self) -> None:
        """Forwards again, in the order that the flow's author gave the tasks; unless all is undone by now."""
        for task, priority in () if self._backwards else self._priorities.items():
            task.priority = priority

    def _change_state(self, state: str) -> None:
        # TaskFlow says REVERTED when it has nothing more to schedule and not all has succeeded.
        if state == states.REVERTED and self.suspend_requested.is_set() and self._handed_back():
            state = states.SUSPENDED
        elif state == states.REVERTED and (self._run.holding or self._run.undo_owed()):
            state = states.FAILURE
        super()._change_state(state)

    def _handed_back(self) -> bool:
        """Whether a drain left something that was scheduled and did not begin, for whoever goes on."""
        states_of = self.storage.get_atoms_states(self.atom_names()).values()
        return any(state in (states.RUNNING, states.REVERTING) for state, _ in states_of)


class _RevertAll(taskflow_completer.RevertAll):  # type: ignore[misc]  # as above
    """Marks all atoms for their revert once in each run of the state machine: a thousand tasks that are
    cancelled together would mark a thousand each.
    """

    applied = False

    def apply(self) -> Any:
        if self.applied:
            return []
        self.applied = True
        return super().apply()


class _Completer(taskflow_completer.Completer):  # type: ignore[misc]  # taskflow is untyped
    def __init__(
        self,
        runtime: Any,
        go_backwards: Callable[[], None],
        newest_first: Callable[[], None],
        as_given: Callable[[], None],
        hold: Callable[[Any, failure.Failure], bool],
        stands_beside: Callable[[], bool],
    ) -> None:
        super().__init__(runtime)
        self._revert_all = _RevertAll(runtime)
        self._hold = hold
        self._go_backwards = go_backwards
        self._newest_first = newest_first
        self._as_given = as_given
        self._stands_beside = stands_beside

    def resume(self) -> Any:
        self._revert_all.applied = False  # whoever runs it again may have set all back
        # A controller that was about to try again sets back its part there, after all were marked.
        unfinished, self._revert_all.applied = super().resume(), False
        return unfinished

    def complete(self, node: Any, outcome: str, result: Any) -> None:
        super().complete(node, outcome, result)
        if outcome == taskflow_executor.EXECUTED and isinstance(node, taskflow_retry.Retry):
            self._as_given()  # a round begins

    def complete_failure(self, node: Any, outcome: str, reason: failure.Failure) -> bool:
        if outcome == taskflow_executor.REVERTED:
            # A failed undo holds its predecessors, and those alone: TaskFlow would stop all others. And
            # nothing goes on forwards from it, not even where a controller was about to try again.
            if self._stands_beside():
                return False  # what is beside a savepoint stays as it is
            self._apply(self._revert_all)
            self._go_backwards()
            return False
        return bool(super().complete_failure(node, outcome, reason))

    def _process_atom_failure(self, atom: Any, reason: failure.Failure) -> None:
        resolver = self._determine_resolution(atom, reason)
        if isinstance(resolver, taskflow_completer.RevertAll):
            if self._hold(atom, reason):
                return
            if not self._revert_all.applied:
                self._go_backwards()
            self._apply(self._revert_all)
        else:
            self._newest_first()
            self._apply(resolver)

    def _apply(self, resolver: taskflow_completer.Strategy) -> None:
        self._runtime.selector.intentions_changed |= bool(resolver.apply())


def _class_names(reason: failure.Failure) -> list[str]:
    return [name.rpartition(".")[2] for name in reason]
