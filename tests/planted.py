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


def _leave_out(module: Any, verb: str, edge: str, column: str) -> None:
    """Where that module applies that edge, by that verb, the column stays as it was."""
    real = getattr(module, verb)

    def apply(connection: Any, name: str, *args: Any, values: Any = None, **options: Any) -> Any:
        if name == edge:
            values = {key: value for key, value in values.items() if key != column}
        return real(connection, name, *args, values=values, **options)

    _replace(module, verb, apply)


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
    from ebbtide.jobs.scripts import Statement

    of_any_epoch = batch._update(tables.jobs, ("id",), batch._FENCED)
    _replace(batch, "_fence", Statement(of_any_epoch.returning(tables.jobs.c.cancel_requested_at)))


@_bug
def cancel_only_signalled() -> None:
    """A cancel is answered as accepted and never stored."""
    from ebbtide.jobs.ledger import ACCEPTED, Ledger

    def cancel(self: Ledger, job_id: str, **_: Any) -> str:
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

    steps, outcome_of, finish = TurningEngine._steps, Execution._outcome, Journal.finish
    engines: list[Engine] = []
    reverted: Any = vars(TurningEngine)["reverted"]

    def only_forwards(self: TurningEngine, backwards: bool) -> Generator[str, None, None]:
        if not backwards:
            yield from steps(self, backwards)

    def of_engine(self: Execution, name: str, engine: Engine, *args: Any, **kwargs: Any) -> Any:
        engines.append(engine)
        return outcome_of(self, name, engine, *args, **kwargs)

    def undo_then(self: Journal, outcome: Any) -> bool:
        stored = finish(self, outcome)
        for engine in engines:
            if stored and engine._journal is self and engine._backwards:
                _replace(Journal, "commit", lambda journal: None)  # the job is nobody's any more
                engine._follow(steps(engine, True))
        return stored

    _replace(TurningEngine, "_steps", only_forwards)
    _replace(TurningEngine, "reverted", property(lambda self: self._backwards or reverted.fget(self)))
    _replace(Execution, "_outcome", of_engine)
    _replace(Journal, "finish", undo_then)


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


@_bug
def epoch_stays_on_reclaim() -> None:
    """Who takes a job over has the epoch of the one before."""
    from ebbtide.jobs import claims

    _leave_out(claims, "apply_edge", "reclaimed", "epoch")


@_bug
def retry_keeps_the_request() -> None:
    """The next attempt inherits the cancel request of the one before."""
    from ebbtide.jobs import retrying

    _leave_out(retrying, "apply_edge_to_all", "retried", "cancel_requested_at")


@_bug
def lost_answer_counts_as_stored() -> None:
    """A change whose answer is lost is taken to be stored, without a look."""
    from ebbtide.jobs.changes import Changes

    _replace(Changes, "_is_marked", lambda self, job_id, marker: True)


@_bug
def lost_answer_counts_as_not_stored() -> None:
    """A change whose answer is lost is taken not to be stored, without a look."""
    from ebbtide.jobs.changes import Changes

    _replace(Changes, "_is_marked", lambda self, job_id, marker: False)


@_bug
def barrier_lets_pass() -> None:
    """A task begins although a cancel was accepted before."""
    from ebbtide.conductor.journal import Journal

    real = Journal._transact

    def transact(self: Journal, batch: Any, outcome: Any) -> None:
        beginning, batch.beginning = batch.beginning, set()
        try:
            real(self, batch, outcome)
        finally:
            batch.beginning = beginning

    _replace(Journal, "_transact", transact)


@_bug
def lease_is_renewed_when_over() -> None:
    """A conductor whose lease is over gets it back."""
    import sqlalchemy as sa

    from ebbtide.jobs import tables
    from ebbtide.jobs.claims import Claims
    from ebbtide.jobs.moments import LeaseNow

    def renew(self: Claims) -> bool:
        mine = sa.update(tables.conductors).where(tables.conductors.c.id == self.owner)
        with self._store.write() as connection:
            connection.execute(mine.values(lease_until=LeaseNow() + self._lease_seconds))
        return True

    _replace(Claims, "renew", renew)
