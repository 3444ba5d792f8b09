"""What TaskFlow's engine looks for whenever a task has ended: the tasks that may begin now, or be undone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from taskflow import states
from taskflow.engines.action_engine import deciders
from taskflow.engines.action_engine import selector as taskflow_selector
from taskflow.engines.action_engine.compiler import ATOMS, RETRY

from ebbtide.conductor.enginerun import EngineRun

__all__ = ["Selector"]


class Selector(taskflow_selector.Selector):  # type: ignore[misc]  # taskflow is untyped
    """TaskFlow's own, that looks no further than it must.

    A task may begin when *all* that is before it, near or far, has succeeded or was passed over. TaskFlow
    asks everything behind the task that ended, and for each of those everything before it: in a flow of n
    tasks in a line n times n. Two ends of that search change no answer. What is behind a task that has not
    succeeded cannot begin. And what has succeeded began after all that is before it; a retry controller
    sets back both together. What was passed over tells nothing of what is before it: there the search
    goes on.

    Backwards two ends change no answer. What is before a task that is not undone cannot be undone. And of a
    task that failed TaskFlow asks every task of the flow, so for n that are cancelled together n times n;
    but it is what was resolved upon a failure, a change of intentions, that lets others be undone. Where it
    changed none, only the failed task itself may be undone now and could not be before.
    """

    undoes_only = False  # nothing begins any more, whatever may be ready to
    intentions_changed = True  # since all were asked last

    def __init__(self, runtime: Any, run: EngineRun) -> None:
        super().__init__(runtime)
        self._run = run

    def iter_next_atoms(self, atom: Any = None) -> Iterator[tuple[Any, Any]]:
        state = None if atom is None else self._state_of(atom)[0]
        if state == states.FAILURE and not self.intentions_changed:
            return self._ready_for_revert([atom])
        if state == states.REVERT_FAILURE and self.intentions_changed:
            # TaskFlow stops there. The rest of the flow is to be undone as well now, as far as it can be.
            return self._browse_atoms_for_revert()
        found: Iterator[tuple[Any, Any]] = super().iter_next_atoms(atom)
        return found

    def _browse_atoms_for_execute(self, atom: Any = None) -> Iterator[tuple[Any, Any]]:
        if self.undoes_only:
            return
        if atom is None:
            yield from super()._browse_atoms_for_execute()
            return
        graph = self._execution_graph
        waiting = deque(graph.successors(atom))
        seen = set()
        # Breadth first, as TaskFlow does: a decider is applied by whoever takes what is yielded here, before
        # the next is looked at, and what it passes over may let others begin.
        while waiting:
            node = waiting.popleft()
            if node in seen:
                continue
            if not graph.nodes[node].get("noop"):
                ready, decider = self._get_maybe_ready_for_execute(node)
                if ready:
                    seen.add(node)
                    yield (node, decider)
                if not self._passable(node):
                    continue  # not `seen`, unless yielded: what is passed over after this leads here again
            seen.add(node)
            waiting.extend(graph.successors(node))

    def _get_maybe_ready_for_execute(self, atom: Any) -> tuple[bool, Any]:
        state, intention = self._state_of(atom)
        if intention != states.EXECUTE or not self._may_run(atom, state):
            return (False, None)
        graph = self._execution_graph
        before = list(graph.predecessors(atom))
        seen = set()
        while before:
            node = before.pop()
            if node in seen:
                continue
            seen.add(node)
            if not graph.nodes[node].get("noop"):
                if not self._passable(node):
                    return (False, None)
                if self._state_of(node)[0] == states.SUCCESS:
                    continue
            before.extend(graph.predecessors(node))
        return (True, deciders.IgnoreDecider(atom, list(self._deciders_before(atom))))

    def _deciders_before(self, atom: Any) -> Iterator[Any]:
        for edge in self._runtime.fetch_edge_deciders(atom):
            yield edge._replace(decider=partial(self._decided, atom.name, edge.decider))

    def _decided(self, name: str, decider: Callable[..., Any], **given: Any) -> Any:
        """What a decider says. It is the user's code, and may hold the engine up: it has its grace as a body.

        Once a cancel is requested it is not asked: whatever it would let begin turns back.
        """
        with self._run.bodies.executing(f"the decider before {name}"):
            return self._run.event.requested or decider(**given)

    def _browse_atoms_for_revert(self, atom: Any = None) -> Iterator[tuple[Any, Any]]:
        if atom is None:
            self.intentions_changed = False
            return self._ready_for_revert(self._runtime.iterate_nodes(ATOMS))
        return self._ready_for_revert(self._before(atom))

    def _ready_for_revert(self, atoms: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
        for atom in atoms:
            ready, decider = self._get_maybe_ready_for_revert(atom)
            if ready:
                yield (atom, decider)

    def _before(self, atom: Any) -> Iterator[Any]:
        """What is before an atom, as far as it may be undone now. Not beyond a retry controller, which
        decides itself what becomes of that.
        """
        graph = self._execution_graph
        waiting = deque(graph.predecessors(atom))
        seen = set()
        while waiting:
            node = waiting.popleft()
            if node in seen:
                continue
            seen.add(node)
            if not graph.nodes[node].get("noop"):
                yield node
                if not self._is_back(node):
                    continue
            if graph.nodes[node]["kind"] != RETRY:
                waiting.extend(graph.predecessors(node))

    def _is_back(self, atom: Any) -> bool:
        return self._state_of(atom)[0] in (states.PENDING, states.REVERTED, states.IGNORE)

    def _may_run(self, atom: Any, state: str) -> bool:
        return bool(self._runtime.check_atom_transition(atom, state, states.RUNNING))

    def _passable(self, atom: Any) -> bool:
        state, intention = self._state_of(atom)
        return state in (states.SUCCESS, states.IGNORE) and intention in (states.EXECUTE, states.IGNORE)

    def _state_of(self, atom: Any) -> tuple[str, str]:
        found: tuple[str, str] = self._storage.get_atoms_states([atom.name])[atom.name]
        return found
