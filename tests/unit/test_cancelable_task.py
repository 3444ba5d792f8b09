"""What one task keeps of its promises by itself: its result, its end, a cancel before, inside and after."""

import asyncio
import concurrent.futures
import math
import threading
from typing import Any

import pytest

from ebbtide.tasks import INTERRUPTED, CancelableTask, CancelEvent, Cancelled, JobInfo, PayloadError
from ebbtide.tasks.run import DetachedRun, How
from ebbtide.tasks.wrapping import TaskExited

LONG = 30.0


class SeenRun(DetachedRun):
    """Notes what the tasks tell it."""

    def __init__(self, event: CancelEvent | None = None) -> None:
        super().__init__(event, JobInfo("7f3a", "copy", attempt=2, epoch=5, labels={"team": "a"}))
        self.told: list[tuple[Any, ...]] = []

    def returned(self, task, text):
        self.told.append(("returned", text))
        super().returned(task, text)

    def stopped(self, task, how, error):
        self.told.append(("stopped", how, error))
        super().stopped(task, how, error)

    def delivered(self, task):
        self.told.append(("delivered",))

    def end_undo(self, task, error):
        self.told.append(("end_undo", error))
        super().end_undo(task, error)


class Body(CancelableTask):
    """Runs what the test gives it; its undo notes what it was given."""

    def __init__(self, body=lambda task: None, undo=lambda task: None) -> None:
        super().__init__(name="body")
        self.body, self.undo = body, undo
        self.undone: list[Any] = []

    def execute(self):
        return self.body(self)

    def revert(self, result, **given):
        self.undone.append((result, self.interrupted, self.saved))
        self.undo(self)


def bound(body=lambda task: None, undo=lambda task: None, run: DetachedRun | None = None):
    task = Body(body, undo)
    run = run or SeenRun()
    task.bind(run)
    return task, run


def undo(task: CancelableTask) -> None:
    """Revert as TaskFlow calls it."""
    task.revert(result="what TaskFlow has", flow_failures={})


def raises(error: BaseException):
    def body(task):
        raise error

    return body


# -- results


@pytest.mark.parametrize("value", [None, 0, "", False, [], {"a": [1, None]}, "é\ud800\0"])
def test_a_result_is_returned_stored_and_given_to_the_undo(value):
    task, run = bound(lambda task: value)

    returned = task.execute()
    undo(task)

    assert returned == value
    assert run.told[0][0] == "returned"
    assert task.undone == [(value, False, None)]


def test_a_tuple_becomes_a_list_for_everybody_alike():
    task, _ = bound(lambda task: (1, (2,)))

    assert task.execute() == [1, [2]]
    undo(task)
    assert task.undone[0][0] == [1, [2]]


def test_what_others_do_to_a_result_does_not_change_what_the_undo_sees():
    kept: dict[str, Any] = {"files": ["a"]}
    task, _ = bound(lambda task: kept)

    result = task.execute()
    result["files"].append("changed by a later task")
    kept["files"].clear()
    undo(task)

    assert task.undone == [({"files": ["a"]}, False, None)]


@pytest.mark.parametrize(
    "value", [{1}, b"a", math.nan, object(), {1: 2}, "x" * 2**21], ids=lambda v: str(type(v))
)
def test_a_result_that_is_not_json_fails_the_task_and_undoes_it(value):
    task, run = bound(lambda task: value)

    with pytest.raises(PayloadError, match=r"^the result of body "):
        task.execute()
    undo(task)

    assert run.told[0][:2] == ("stopped", How.RAISED)
    assert run.told[0][2].startswith("PayloadError: the result of body ")
    assert task.undone == [(INTERRUPTED, True, None)]


# -- cancelled before, inside, after


def test_a_cancel_before_the_body_runs_neither_the_body_nor_its_undo():
    event = CancelEvent()
    event.set("enough")
    task, run = bound(raises(AssertionError("ran")), run=SeenRun(event))

    with pytest.raises(Cancelled, match="enough"):
        task.execute()
    undo(task)

    assert task.undone == []
    assert run.told == []


def test_a_cancel_inside_the_body_is_delivered_at_its_next_checkpoint_and_undone():
    def body(task):
        task.checkpoint({"copied": 3})
        task.cancel.set("enough")
        task.checkpoint()
        raise AssertionError("went on")

    task, run = bound(body)

    with pytest.raises(Cancelled, match="enough"):
        task.execute()
    undo(task)

    assert run.told[:2] == [("delivered",), ("stopped", How.CANCELLED, "Cancelled: cancelled: enough")]
    assert task.undone == [(INTERRUPTED, True, {"copied": 3})]


def test_a_cancel_that_comes_before_the_body_returns_raises_after_it_with_the_result_kept():
    def body(task):
        task.cancel.set("enough", "deadline")
        return {"files": ["a"]}

    task, run = bound(body)

    with pytest.raises(Cancelled) as caught:
        task.execute()
    undo(task)

    assert caught.value.returned
    assert caught.value.result == {"files": ["a"]}
    assert (caught.value.reason, caught.value.source) == ("enough", "deadline")
    assert [each[0] for each in run.told] == ["returned", "delivered", "end_undo"]
    assert task.undone == [({"files": ["a"]}, False, None)]


def test_a_body_that_swallows_a_cancel_meets_it_again_after_it():
    def body(task):
        task.cancel.set("enough")
        for _ in range(2):
            with pytest.raises(Cancelled):
                task.checkpoint()
        return "done"

    task, _ = bound(body)

    with pytest.raises(Cancelled) as caught:
        task.execute()

    assert caught.value.result == "done"


def test_a_shield_holds_the_cancel_back_until_its_end():
    reached: list[str] = []

    def body(task):
        with task.shield():
            task.cancel.set()
            task.checkpoint()
            task.sleep(0)
            reached.append("end of the shield")
        task.checkpoint()
        reached.append("beyond it")

    task, _ = bound(body)

    with pytest.raises(Cancelled):
        task.execute()

    assert reached == ["end of the shield"]


def test_a_sleep_ends_with_the_cancel():
    sleeping = threading.Event()

    def body(task):
        sleeping.set()
        task.sleep(math.inf)

    task, run = bound(body)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(task.execute)
        assert sleeping.wait(LONG)
        run.event.set("enough")

        with pytest.raises(Cancelled):
            outcome.result(LONG)
    assert ("delivered",) in run.told


def test_a_sleep_that_nobody_ends_is_over():
    task, _ = bound(lambda task: task.sleep(0.001))

    assert task.execute() is None


# -- what else ends a body


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such\n  file"), "ValueError: no such file"),
        (KeyError(), "KeyError"),
        (ValueError("x" * 5000), f"ValueError: {'x' * 1000}"),
        (concurrent.futures.CancelledError(), "CancelledError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_passes_and_is_recorded_on_one_line(error, told):
    task, run = bound(raises(error))

    with pytest.raises(type(error)) as caught:
        task.execute()
    undo(task)

    assert caught.value is error
    assert run.told == [("stopped", How.RAISED, told), ("end_undo", None)]
    assert task.undone == [(INTERRUPTED, True, None)]


def test_an_error_that_cannot_be_shown_is_recorded_by_its_kind():
    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    task, run = bound(raises(Unspeakable()))

    with pytest.raises(Unspeakable):
        task.execute()

    assert run.told == [("stopped", How.RAISED, "Unspeakable")]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), asyncio.CancelledError()], ids=repr
)
def test_what_is_no_exception_becomes_a_failure_that_taskflow_reverts_from(error):
    task, run = bound(raises(error))

    with pytest.raises(TaskExited, match=f"^body left with {type(error).__name__}") as caught:
        task.execute()
    undo(task)

    assert isinstance(caught.value, Exception)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert run.told[0][:2] == ("stopped", How.RAISED)
    assert task.undone == [(INTERRUPTED, True, None)]


# -- what a body tells and knows


@pytest.mark.parametrize(
    ("fraction", "stored"),
    [
        (0, 0.0),
        (0.25, 0.25),
        (1, 1.0),
        (-1, 0.0),
        (7, 1.0),
        (math.inf, 1.0),
        (-math.inf, 0.0),
        (math.nan, 0.0),
    ],
)
def test_a_reported_fraction_is_brought_between_0_and_1(fraction, stored):
    task, run = bound(lambda task: task.report(fraction, "copying"))

    task.execute()

    assert run.progress == {"body": (stored, "copying")}


def test_a_task_knows_its_job():
    task, _ = bound()

    assert task.job == JobInfo("7f3a", "copy", attempt=2, epoch=5, labels={"team": "a"})


def test_a_task_alone_works_and_belongs_to_no_job():
    task = Body(lambda task: task.job.id)

    assert task.execute() == "detached"
    undo(task)
    assert task.undone == [("detached", False, None)]
