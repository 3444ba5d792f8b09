"""How often an undo is tried and how long between, as arithmetic; and which undo takes longer than it may."""

import threading
import warnings
from types import SimpleNamespace
from typing import Any

import pytest

from ebbtide.errors import ClaimLost
from ebbtide.tasks.wrapping import SecretMissing

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of a module that TaskFlow's engines import
    from ebbtide.conductor.bodies import Bodies
    from ebbtide.conductor.ladder import Rung
    from ebbtide.conductor.undoing import HandedBack, UndoFailed, UndoPolicy, UndoTries
    from ebbtide.conductor.undowatch import UndoWatch
from ebbtide.tasks.event import CancelEvent


class Run:
    """A run of which only the undos are asked, with a record of what is told of each."""

    def __init__(self, failures: int = 0) -> None:
        self.told: list[Any] = []
        self.bodies = Bodies(CancelEvent(), 1.0, lambda grace: None, lambda *facts: self.told.append(facts))
        self.lost = None
        self.failures = failures
        self.ended: list[Any] = []

    def undo_failures(self, task):
        return self.failures, "the last one failed"

    def undo_failed(self, task):
        self.failures += 1

    def end_undo(self, task, error):
        self.ended.append((task, error))


@pytest.fixture
def tries():
    def make(run, *, retries=3, **policy):
        chosen = UndoPolicy(retries, **({"retry_seconds": 0.0, "timeout_seconds": 9.0} | policy))
        return UndoTries(run, chosen, threading.Event())

    return make


TASK = SimpleNamespace(name="copy", revert_retries=None, revert_timeout_seconds=None)


def failing(times, error=OSError):
    """An undo that fails so often; how often it was tried is its attribute `tried`."""

    def attempt():
        attempt.tried += 1
        if attempt.tried <= times:
            raise error(f"no. {attempt.tried}")
        return "undone"

    attempt.tried = 0
    return attempt


# Pauses.


def test_each_pause_is_twice_as_long_as_the_one_before_up_to_a_minute():
    policy = UndoPolicy(10, retry_seconds=1.0)

    assert [policy.pause_seconds(n, luck=1.0) for n in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert [policy.pause_seconds(n, luck=0.0) for n in (1, 2, 10**6)] == [0.5, 1.0, 30.0]
    assert UndoPolicy(1, retry_seconds=0.0).pause_seconds(1, luck=1.0) == 0.0


def test_a_task_class_may_have_tries_and_a_limit_of_its_own():
    own = SimpleNamespace(name="copy", revert_retries=0, revert_timeout_seconds=5)

    assert UndoPolicy(3, 2.0, 600.0).of(own) == UndoPolicy(0, 2.0, 5)
    assert UndoPolicy(3, 2.0, 600.0).of(TASK) == UndoPolicy(3, 2.0, 600.0)


# Tries.


@pytest.mark.parametrize("failures", range(4))
def test_an_undo_is_tried_until_it_succeeds(tries, failures):
    run, attempt = Run(), failing(failures)

    assert tries(run, retries=3).undo(TASK, attempt) == "undone"

    assert (attempt.tried, run.failures) == (failures + 1, failures)
    assert run.told == [("copy", 9.0), ("copy", None)] * (failures + 1)


@pytest.mark.parametrize("retries", range(3))
def test_an_undo_that_fails_for_good_raises_what_its_last_try_raised(tries, retries):
    run, attempt = Run(), failing(99)

    with pytest.raises(OSError, match=rf"no\. {retries + 1}"):
        tries(run, retries=retries).undo(TASK, attempt)

    # The last failure is for the engine to hear of, which stores it with its own record.
    assert (attempt.tried, run.failures) == (retries + 1, retries)


def test_the_tries_of_an_earlier_runner_count(tries):
    run, attempt = Run(failures=2), failing(99)

    with pytest.raises(OSError, match=r"no\. 2"):
        tries(run, retries=3).undo(TASK, attempt)


def test_an_undo_whose_tries_an_earlier_runner_has_used_up_is_not_tried(tries):
    run, attempt = Run(failures=4), failing(0)

    with pytest.raises(UndoFailed, match="the last one failed"):
        tries(run, retries=3).undo(TASK, attempt)

    assert (attempt.tried, run.ended, run.told) == (0, [("copy", "the last one failed")], [])


@pytest.mark.parametrize("error", [lambda told: ClaimLost("job", 1), SecretMissing])
def test_what_does_not_come_back_by_itself_is_tried_once(tries, error):
    run, attempt = Run(), failing(99, error)

    with pytest.raises((ClaimLost, SecretMissing)):
        tries(run).undo(TASK, attempt)

    assert (attempt.tried, run.failures) == (1, 0)


def test_a_drain_ends_the_wait_between_two_tries_and_the_failure_is_stored():
    run, attempt, suspended = Run(), failing(99), threading.Event()
    suspended.set()
    tries = UndoTries(run, UndoPolicy(3, retry_seconds=3600.0), suspended)

    with pytest.raises(HandedBack):
        tries.undo(TASK, attempt)

    assert (attempt.tried, run.failures) == (1, 1)


def test_a_lost_claim_ends_the_wait_as_well(tries):
    run = Run()

    def attempt():
        if run.lost is None:
            run.lost = ClaimLost("job", 1)
            raise OSError
        raise run.lost

    with pytest.raises(ClaimLost):
        tries(run, retry_seconds=3600.0).undo(TASK, attempt)


# Those that take longer than they may.


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watch(clock):
    return UndoWatch(kill_after_seconds=5.0, clock=clock)


def test_an_undo_that_hangs_is_first_told_to_end_then_its_runner_is_ended(watch, clock):
    watch.hear("copy", 600.0)
    clock.now = 599.0
    assert (watch.climb(), watch.climbing) == (None, True)

    clock.now = 600.0
    assert (watch.climb(), watch.hung) == (Rung.OVERDUE, {})
    clock.now = 605.0
    assert watch.climb() is Rung.ENDED

    assert (watch.climb(), watch.climbing) == (None, False)
    assert watch.hung == {"copy": "it did not end within 600 s, and its runner was ended"}


def test_an_undo_that_has_ended_is_watched_no_more(watch, clock):
    watch.hear("copy", 600.0)
    watch.hear("copy", None)
    clock.now = 1e6

    assert (watch.climb(), watch.climbing, watch.hung) == (None, False, {})


def test_only_the_undo_that_hangs_is_told_of(watch, clock):
    watch.hear("copy", 10.0)
    watch.hear("other", 600.0)
    for clock.now in (10.0, 15.0):
        watch.climb()

    assert (list(watch.hung), watch.climbing) == (["copy"], True)


def test_each_try_has_the_whole_time(watch, clock):
    watch.hear("copy", 10.0)
    clock.now = 9.0
    watch.hear("copy", None)
    watch.hear("copy", 10.0)
    clock.now = 18.0

    assert watch.climb() is None
