"""What TaskFlow's engine looks for whenever a task has succeeded: the tasks that may begin now."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from taskflow import states
from taskflow.engines.action_engine import deciders
from taskflow.engines.action_engine import selector as taskflow_selector

__all__ = ["Selector"]


class Selector(taskflow_selector.Selector):  # type: ignore[misc]  # taskflow is untyped
    """TaskFlow's own, that looks no further than it must.

    A task may begin when *all* that is before it, near or far, has succeeded or was passed over. TaskFlow
    asks everything behind the task that ended, and for each of those everything before it: in a flow of n
    tasks in a line n times n. Two ends of that search change no answer. What is behind a task that has not
    succeeded cannot begin. And what has succeeded began after all that is before it; a retry controller
    sets back both together. What was passed over tells nothing of what is before it: there the search
    goes on.
    """

    undoes_only = False  # nothing begins any more, whatever may be ready to

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
        return (True, deciders.IgnoreDecider(atom, self._runtime.fetch_edge_deciders(atom)))

    def _may_run(self, atom: Any, state: str) -> bool:
        return bool(self._runtime.check_atom_transition(atom, state, states.RUNNING))

    def _passable(self, atom: Any) -> bool:
        state, intention = self._state_of(atom)
        return state in (states.SUCCESS, states.IGNORE) and intention in (states.EXECUTE, states.IGNORE)

    def _state_of(self, atom: Any) -> tuple[str, str]:
        found: tuple[str, str] = self._storage.get_atoms_states([atom.name])[atom.name]
        return found
