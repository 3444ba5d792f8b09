"""The time limit of a task: it fails at its next checkpoint, and its job is not cancelled by that."""

import pickle
import threading
from typing import Any

import pytest

from ebbtide import CancelableTask, Cancelled
from ebbtide.tasks import CancelEvent, OutOfTime
from ebbtide.tasks.run import INTERRUPTED, How
from ebbtide.testing import FakeClock, at_checkpoint, run_task

NAME = f"{__name__}.Slow"


class Slow(CancelableTask):
    limit_seconds = 5.0

    def __init__(self, seconds: float, *, caught: bool = False) -> None:
        super().__init__()
        self.seconds = seconds
        self.caught = caught
        self.given: list[Any] = []

    def execute(self):
        try:
            self.sleep(self.seconds)
        except Cancelled as cancelled:
            self.given.append((cancelled.reason, cancelled.source))
            if not self.caught:
                raise
        return "done"

    def revert(self, result):
        self.given.append(result)


def test_past_its_limit_a_task_fails_and_is_undone_as_one_that_did_not_return():
    clock = FakeClock()
    run = run_task(Slow(60), clock=clock)

    assert clock.elapsed == 5
    assert isinstance(run.error, OutOfTime)
    assert str(run.error) == f"{NAME} took longer than 5 s"
    assert (run.how, run.cancelled) == (How.RAISED, False)
    assert run.revert()
    assert run.task.given == [(f"{NAME} took longer than 5 s", "task_limit"), INTERRUPTED]


def test_within_its_limit_nothing_happens_and_nothing_is_left_of_it():
    clock = FakeClock()
    run = run_task(Slow(4), clock=clock)
    clock.advance(100)

    assert run.result == "done"
    assert not run.task.cancel.requested


def test_a_body_that_returns_in_spite_of_it_has_succeeded():
    run = run_task(Slow(60, caught=True))

    assert (run.result, run.how) == ("done", How.RETURNED)


def test_a_cancel_within_the_limit_is_a_cancel():
    class Steps(Slow):
        def execute(self):
            for _ in range(3):
                self.checkpoint()

    run = run_task(Steps(0), cancel=at_checkpoint(2))

    assert run.cancelled
    assert run.how is How.CANCELLED


def test_outside_of_its_body_a_task_has_the_event_of_its_job():
    task = Slow(1)
    events = []

    class Looks(Slow):
        def execute(self):
            events.append(self.cancel)

    run = run_task(Looks(0))

    assert events[0] is not run.task.cancel
    assert pickle.loads(pickle.dumps(task)).seconds == 1


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", True])
def test_a_limit_is_a_number_of_seconds_above_none(seconds):
    with pytest.raises(TypeError, match="limit_seconds"):
        type("Odd", (Slow,), {"limit_seconds": seconds})


def test_without_a_clock_of_a_test_the_limit_is_in_real_time():
    passed = threading.Event()

    with CancelEvent().limited(0.01, "too long", "task_limit") as event:
        event.add_callback(lambda _: passed.set())
        assert passed.wait(30)

    assert (event.reason, event.source) == ("too long", "task_limit")
