"""Planted bugs: what the proofs have to find. Each patches the product in the process that it is called in.

A conductor, its keeper and its runners get one through a flow module that calls `plant_from_environment`;
within a test `planted` takes it back. Nothing of this is in the product, and nothing there knows of it.
"""

import contextlib
import os
from collections.abc import Callable, Generator, Iterator
from typing import Any

__all__ = ["BUGS", "VARIABLE", "plant", "plant_from_environment", "planted"]

#: Names the planted bugs of a process, with commas between them.
VARIABLE = "EBBTIDE_TEST_PLANTED"

BUGS: dict[str, Callable[[], None]] = {}
_replaced: list[tuple[Any, str, Any]] = []


def _bug(function: Callable[[], None]) -> Callable[[], None]:
    BUGS[function.__name__] = function
    return function


def _replace(owner: Any, name: str, value: Any) -> None:
    """Put `value` where the product has something of that name of its own; fails where it has not."""
    _replaced.append((owner, name, vars(owner)[name]))
    setattr(owner, name, value)


def plant(name: str) -> None:
    """Plant the bug of that name in this process."""
    BUGS[name]()


def plant_from_environment() -> None:
    """Plant the bugs that the environment names."""
    for name in filter(None, os.environ.get(VARIABLE, "").split(",")):
        plant(name)


@contextlib.contextmanager
def planted(name: str) -> Iterator[list[tuple[Any, str]]]:
    """The bug is in this process while this lasts; yields what it has replaced, as owners and names."""
    before = len(_replaced)
    try:
        plant(name)
        yield [(owner, attribute) for owner, attribute, _ in _replaced[before:]]
    finally:
        while len(_replaced) > before:
            owner, attribute, value = _replaced.pop()
            setattr(owner, attribute, value)


@_bug
def fence_off() -> None:
    """Every holder of a job may store, whoever has claimed it since."""
    from ebbtide.conductor import batch
    from ebbtide.jobs import tables

    of_any_epoch = batch._update(tables.jobs, ("id",), batch._FENCED)
    _replace(batch, "_fence", batch._Statement(of_any_epoch.returning(tables.jobs.c.cancel_requested_at)))


@_bug
def cancel_only_signalled() -> None:
    """A cancel is answered as accepted and never stored."""
    from ebbtide.jobs.ledger import ACCEPTED, Ledger

    def cancel(self: Ledger, job_id: str, *, reason: str, who: str, source: str = "user") -> str:
        return ACCEPTED

    _replace(Ledger, "cancel", cancel)


@_bug
def nobody_looks() -> None:
    """A cancel request is stored, and neither the sweep nor the journal's commits look for it."""
    from ebbtide.conductor import batch, journal
    from ebbtide.jobs.claims import Claims, Request

    real = batch.write_fenced

    class Unasked:
        cancel_requested_at = None

    def write_fenced(*args: Any) -> Any:
        return real(*args) and Unasked()

    def requests(self: Claims) -> list[Request]:
        return []

    _replace(journal, "write_fenced", write_fenced)
    _replace(Claims, "requests", requests)


@_bug
def outcome_before_undo() -> None:
    """A run that has turned round stores its outcome first and undoes its tasks then."""
    from ebbtide.conductor.engine import Engine
    from ebbtide.conductor.execution import Execution
    from ebbtide.conductor.journal import Journal
    from ebbtide.conductor.turning import TurningEngine

    steps, leave = TurningEngine._steps, Execution._leave
    reverted: Any = vars(TurningEngine)["reverted"]

    def only_forwards(self: TurningEngine, backwards: bool) -> Generator[str, None, None]:
        if not backwards:
            yield from steps(self, backwards)

    def undo_then(self: Execution, name: str, engine: Engine, *args: Any) -> bool:
        left = leave(self, name, engine, *args)
        if left and engine._backwards:
            _replace(Journal, "commit", lambda journal: None)  # the job is nobody's any more
            engine._follow(steps(engine, True))
        return left

    _replace(TurningEngine, "_steps", only_forwards)
    _replace(TurningEngine, "reverted", property(lambda self: self._backwards or reverted.fget(self)))
    _replace(Execution, "_leave", undo_then)


@_bug
def outcome_ignores_the_request() -> None:
    """A job completes although its cancel was accepted meanwhile."""
    from ebbtide.conductor import outcome
    from ebbtide.jobs.edges import apply_edge as real

    def apply_edge(*args: Any, conditions: Any = (), **kwargs: Any) -> Any:
        return real(*args, **kwargs)

    _replace(outcome, "apply_edge", apply_edge)


@_bug
def name_as_owner_id() -> None:
    """A conductor goes by the name of its host, as do all others there."""
    from ebbtide.conductor import service

    _replace(service, "new_owner_id", lambda: "this host")
