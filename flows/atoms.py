"""Whether a flow that a factory returned may become a job: every atom cancelable, named, supplied and new.

TaskFlow would find most of this only in an engine, when the job is claimed already. Here it is found
at the post, and told in words of the flow. No engine is needed for it: a flow's own links say what
comes before what.
"""

from collections.abc import Collection, Iterable
from graphlib import CycleError, TopologicalSorter
from typing import Any

from taskflow import flow as taskflow_flow
from taskflow import retry as taskflow_retry
from taskflow import task as taskflow_task

from ebbtide.errors import FlowRefused
from ebbtide.tasks import CancelableTask
from ebbtide.tasks.base import is_grace
from ebbtide.tasks.savepoint import PREFIX, Savepoint
from ebbtide.wording import one_line

__all__ = ["check_flow"]

_LONGEST_NAME = 255  # what TaskFlow's tables hold
_MARK = "_ebbtide_build"


def check_flow(key: str, flow: Any, *, supplied: Collection[str], returns: str | None) -> None:
    """Refuse a flow that cannot be run, cancelled and undone; mark an accepted one as built.

    Args:
        key: how an error names the flow.
        flow: what the factory returned.
        supplied: names of values that every atom may take: the flow's parameters.
        returns: the name whose value is the job's result, if the flow says so.

    Raises:
        FlowRefused: naming the atom, and the argument when one is missing.
    """
    if not isinstance(flow, taskflow_flow.Flow):
        raise FlowRefused(key, f"its factory returned {_kind(flow)}, not a TaskFlow flow")
    walk = _Walk(key)
    produced = walk.flow(flow, walk.mask(supplied))
    walk.refuse_unsupplied()
    if returns is not None and not produced & walk.mask([returns]):
        raise FlowRefused(key, f"it returns '{returns}', which none of its tasks provides")
    _mark_as_built(key, walk.seen)


class _Walk:
    """One pass over a flow and its subflows.

    A set of names is an integer with one bit for each name: a chain of 10,000 tasks then takes
    megabytes where sets would take gigabytes.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.seen: list[Any] = []
        self._ids: set[int] = set()
        self._atoms: dict[str, Any] = {}
        self._bits: dict[str, int] = {}
        self._unsupplied: list[tuple[Any, str]] = []

    def mask(self, names: Iterable[str]) -> int:
        total = 0
        for name in names:
            total |= 1 << self._bits.setdefault(name, len(self._bits))
        return total

    def flow(self, flow: Any, visible: int) -> int:
        """Check what is in `flow`, whose atoms may take `visible`; returns what they provide."""
        self._see(flow)
        produced = self._retry(flow, visible) if flow.retry is not None else 0
        visible |= produced
        before: dict[Any, list[Any]] = {item: [] for item in flow}
        for first, then, _ in flow.iter_links():
            before[then].append(first)
        self._refuse_loose_savepoints(flow, before)
        reached: dict[Any, int] = {}
        for item in self._in_order(flow, before):
            taken = visible
            for first in before[item]:
                taken |= reached[first]
            provided = self._item(item, taken)
            reached[item] = taken | provided
            produced |= provided
        return produced

    def refuse_unsupplied(self) -> None:
        if not self._unsupplied:
            return
        atom, symbol = self._unsupplied[0]
        arguments = [name for name, bound in {**atom.revert_rebind, **atom.rebind}.items() if bound == symbol]
        argument = f" (its argument '{arguments[0]}')" if arguments and arguments[0] != symbol else ""
        others = [other for other in self._atoms.values() if other is not atom and symbol in other.provides]
        if others:
            why = f"{_called(others[0])} provides it, but does not come before it"
        else:
            why = "no task provides it and no parameter is called so"
        more = len(self._unsupplied) - 1
        rest = f" (and {more} more such)" if more else ""
        raise self._refusal(f"{_called(atom)} needs '{symbol}'{argument}: {why}{rest}")

    def _refusal(self, problem: str) -> FlowRefused:
        return FlowRefused(self.key, problem)

    def _refuse_loose_savepoints(self, flow: Any, before: dict[Any, list[Any]]) -> None:
        firsts = {id(first) for each in before.values() for first in each}
        for item, each in before.items():
            if isinstance(item, Savepoint) and len(before) > 1 and not each and id(item) not in firsts:
                raise self._refusal(
                    f"{_called(item)} comes neither before nor after anything in {_called(flow)}: "
                    "put it between what it parts"
                )

    def _in_order(self, flow: Any, before: dict[Any, list[Any]]) -> list[Any]:
        try:
            return list(TopologicalSorter(before).static_order())
        except CycleError as exc:
            raise self._refusal(f"the links of {_called(flow)} form a circle") from exc

    def _item(self, item: Any, visible: int) -> int:
        if isinstance(item, taskflow_flow.Flow):
            return self.flow(item, visible)
        if isinstance(item, type) and issubclass(item, taskflow_task.Task):
            raise self._refusal(f"task class '{item.__name__}' was added: call it, to add a task")
        if isinstance(item, taskflow_retry.Retry):
            raise self._refusal(f"{_called(item)} was added as a task: give it to a flow as retry=")
        if not isinstance(item, taskflow_task.Task):
            raise self._refusal(f"{_kind(item)} was added, which is neither a task nor a flow")
        if not isinstance(item, CancelableTask):
            raise self._refusal(
                f"{_called(item)} is a {type(item).__name__}, which cannot be cancelled: "
                "derive it from CancelableTask, or write it with @task",
            )
        if item.bound:
            raise self._refusal(f"{_called(item)} belongs to a run already: make it anew in each call")
        if not is_grace(item.grace_seconds):
            raise self._refusal(
                f"{_called(item)} has grace_seconds {one_line(repr(item.grace_seconds), 40)}: "
                "give a number of seconds, 0 or more, or None"
            )
        return self._supply(item, visible)

    def _retry(self, flow: Any, visible: int) -> int:
        if not isinstance(flow.retry, taskflow_retry.Retry):
            raise self._refusal(f"the retry= of {_called(flow)} is {_kind(flow.retry)}, no controller")
        return self._supply(flow.retry, visible)

    def _supply(self, atom: Any, visible: int) -> int:
        self._see(atom)
        name = atom.name
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME:
            raise self._refusal(f"{_called(atom)} needs a name of 1 to {_LONGEST_NAME} characters")
        if name.startswith(PREFIX) and not isinstance(atom, Savepoint):
            raise self._refusal(f"{_called(atom)} has a name that only savepoints may have")
        if name in self._atoms:
            raise self._refusal(f"two atoms are called '{one_line(name, 100)}': name them apart")
        self._atoms[name] = atom
        self._unsupplied += [(atom, symbol) for symbol in atom.requires if not visible & self.mask([symbol])]
        return self.mask(atom.provides)

    def _see(self, item: Any) -> None:
        if id(item) in self._ids:
            raise self._refusal(f"{_called(item)} is in it twice: make another one for the second place")
        self._ids.add(id(item))
        self.seen.append(item)


def _mark_as_built(key: str, items: Iterable[Any]) -> None:
    # Two jobs that share an object would share its cancel event. The mark travels with copies, as a binding
    # does; setdefault decides between two threads that were given the same object.
    token = object()
    for item in items:
        if vars(item).setdefault(_MARK, token) is not token:
            raise FlowRefused(key, f"{_called(item)} is part of an earlier build: make all anew in each call")


def _called(item: Any) -> str:
    if isinstance(item, taskflow_flow.Flow):
        kind = "flow"
    elif isinstance(item, taskflow_retry.Retry):
        kind = "retry controller"
    else:
        kind = "task"
    return f"{kind} '{one_line(item.name, 100)}'"


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    kind = type(value).__name__
    return f"{'an' if kind[0].lower() in 'aeiou' else 'a'} {kind}"
