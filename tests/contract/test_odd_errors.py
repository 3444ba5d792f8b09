"""Whatever a task raises is its failure like any other: retried by its controller, undone, and named."""

import threading
import warnings
from collections.abc import Callable, Iterator

import pytest
from taskflow import retry
from taskflow.patterns import linear_flow

from ebbtide.flows import Registry
from ebbtide.jobs import Job, Poster
from ebbtide.tasks import CancelableTask

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from ebbtide.conductor.execution import Execution
    from ebbtide.conductor.options import RunOptions

ROUNDS = 3


class Odd(Exception): ...


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def circle() -> Exception:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    return first


def after_an_interrupt() -> Exception:
    error = ValueError("after an interrupt")
    error.__context__ = KeyboardInterrupt()
    return error


def endless() -> Exception:
    items: list[object] = []
    items.append(items)
    return Odd(items)


# TaskFlow stores an error's arguments and causes with it. These cannot be stored.
ERRORS: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("broken"),
    "exit": lambda: SystemExit(3),
    "undecodable": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "bytes": lambda: Odd(b"\xff"),
    "object": lambda: Odd(object()),
    "lock": lambda: Odd(threading.Lock()),
    "set": lambda: Odd({1, 2}),
    "surrogate": lambda: Odd("half \ud800 nul \0"),
    "endless": endless,
    "large": lambda: Odd("x" * 2**21),
    "circle": circle,
    "after an interrupt": after_an_interrupt,
    "unspeakable": Unspeakable,
    "group": lambda: ExceptionGroup("several", [ValueError(1), Odd(object())]),
}
seen: list[str] = []
fails_with: dict[str, Callable[[], BaseException]] = {}


class First(CancelableTask):
    def execute(self):
        seen.append("first")

    def revert(self):
        seen.append("undo first")


class Second(CancelableTask):
    def execute(self):
        seen.append("second")
        raise fails_with["execute"]()

    def revert(self):
        seen.append("undo second")
        if "revert" in fails_with:
            raise fails_with["revert"]()


@pytest.fixture
def run(made, conductor) -> Iterator[Callable[..., Job]]:
    """Run a job of two tasks, the second of which is retried, to its end; returns it as it is then."""
    registry = Registry()

    @registry.flow("copy")
    def copy():
        retried = linear_flow.Flow("retried", retry=retry.Times(ROUNDS, "times")).add(Second(name="second"))
        return linear_flow.Flow("copy").add(First(name="first"), retried)

    claims = conductor("one")
    with Poster(made, registry=registry) as poster:

        def run_with(**fails: Callable[[], BaseException]) -> Job:
            seen.clear()
            fails_with.clear()
            fails_with.update(fails)
            job = poster.post("copy")
            claim = claims.claim(["copy@1"])
            options = RunOptions(made, (), "one", task_threads=1, patience_seconds=5.0, log_lines=100)
            Execution(claims._store, registry, claim, options).run()
            return poster.show(job.id)

        yield run_with


@pytest.mark.parametrize("kind", ERRORS)
def test_it_is_retried_as_often_as_any_other_then_undone_and_named(run, kind):
    job = run(execute=ERRORS[kind])

    assert seen == ["first", *["second", "undo second"] * ROUNDS, "undo first"]
    assert (job.state, job.undo, job.error_task) == ("failed", "complete", "second")
    assert job.error is not None
    assert job.error.startswith(type(ERRORS[kind]()).__name__)
    assert len(job.error) < 1100


@pytest.mark.parametrize("kind", sorted(set(ERRORS) - {"plain"}))
def test_raised_by_an_undo_it_parks_the_job_naming_the_task_and_the_error(run, kind):
    job = run(execute=ERRORS["plain"], revert=ERRORS[kind])

    assert (job.state, job.undo) == ("parked", None)
    assert job.park_reason is not None
    assert job.park_reason.startswith(f"the undo of second failed: {type(ERRORS[kind]()).__name__}")
    assert "undo first" not in seen
