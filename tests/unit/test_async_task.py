"""AsyncTask: a cancel is a CancelledError at an await; it spares the cleanup, and comes again if need be."""

import asyncio
import contextlib
import copy
import pickle
import warnings

import pytest
from taskflow.patterns import linear_flow

from ebbtide.tasks import INTERRUPTED, AsyncTask, CancelableTask, Cancelled, PayloadError
from ebbtide.tasks.limit import OutOfTime
from ebbtide.tasks.run import How
from ebbtide.tasks.wrapping import TaskExited
from ebbtide.testing import Place, at_begin, at_checkpoint, at_data, at_return, run_task

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # of oslo.utils, about its own eventlet support
    from taskflow import engines


def made(body, **members):
    """A task whose execute is that coroutine function; it notes what happens in `task.log`."""

    class Made(AsyncTask):
        def __init__(self, **options):
            super().__init__(**options)
            self.log = []

        execute = body

        async def revert(self, result, **given):
            await asyncio.sleep(0)
            self.log.append(("undo", result, self.saved))

    for name, member in members.items():
        setattr(Made, name, member)
    return Made()


async def waits(self):
    self.log.append("begins")
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.log.append("cleaned")


def test_a_cancel_ends_the_await_runs_the_cleanup_and_undoes():
    task = made(waits)

    run = run_task(task, cancel=at_checkpoint(1))

    assert (run.cancelled, run.how, task.log) == (True, How.CANCELLED, ["begins", "cleaned"])
    assert isinstance(run.error, Cancelled)
    assert run.revert()
    assert task.log[2:] == [("undo", INTERRUPTED, None)]


def test_a_body_that_is_not_cancelled_returns_its_result():
    async def body(self, a, b=2):
        await asyncio.sleep(0)
        return (a, b)

    run = run_task(made(body), {"a": 1})

    assert (run.result, run.how) == ([1, 2], How.RETURNED)


def test_a_request_before_the_body_begins_runs_nothing():
    task = made(waits)

    run = run_task(task, cancel=at_begin())

    assert (run.how, task.log, run.revert()) == (None, [], False)


def test_a_request_that_is_seen_after_the_end_gives_the_undo_the_true_result():
    async def body(self):
        return 7

    task = made(body)
    run = run_task(task, cancel=at_return())
    run.revert()

    assert (run.cancelled, run.how, task.log) == (True, How.RETURNED, [("undo", 7, None)])


def test_what_swallows_the_error_meets_another_at_its_next_await():
    async def body(self):
        for number in range(3):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append(number)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = made(body)
    run = run_task(task, cancel=at_checkpoint(1))

    assert (run.how, task.log) == (How.CANCELLED, [0, 1, 2])


def test_what_swallows_the_error_and_returns_has_returned():
    async def body(self):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "part"

    task = made(body)
    run = run_task(task, cancel=at_checkpoint(1))
    run.revert()

    assert (run.how, run.cancelled, task.log) == (How.RETURNED, True, [("undo", "part", None)])


def test_the_cleanup_of_a_context_manager_may_await_and_have_a_time_limit_of_its_own():
    class Connection:
        async def __aenter__(self):
            return self

        async def __aexit__(self, *error):
            try:
                async with asyncio.timeout(0):
                    await asyncio.Event().wait()
            except TimeoutError:
                log.append("closed in time")

    log = []

    async def body(self):
        async with Connection():
            await asyncio.Event().wait()

    assert run_task(made(body), cancel=at_checkpoint(1)).how is How.CANCELLED
    assert log == ["closed in time"]


def test_a_time_limit_of_the_body_itself_is_no_cancel():
    async def body(self):
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"

    assert run_task(made(body)).result == "late"


def test_a_shield_keeps_a_step_whole_and_the_next_await_is_left():
    async def body(self):
        with self.shield():
            await asyncio.sleep(0)
            self.cancel.set("now")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.log.append("whole")
        await asyncio.Event().wait()

    task = made(body)
    run = run_task(task)

    assert (run.how, task.log) == (How.CANCELLED, ["whole"])


def test_a_shield_around_what_a_child_does_holds_the_cancel_of_the_whole_body():
    async def body(self):
        async def step():
            with self.shield():
                self.cancel.set("now")
                for _ in range(5):
                    await asyncio.sleep(0)
                self.log.append("whole")
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(step())

    task = made(body)
    run = run_task(task)

    assert (run.how, task.log) == (How.CANCELLED, ["whole"])


def test_a_group_of_children_is_cancelled_with_its_body():
    async def body(self):
        async def child(number):
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.log.append(number)

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(child(number))

    task = made(body)
    # The group's first await is that for its children.
    run = run_task(task, cancel=at_checkpoint(1))

    assert (run.how, sorted(task.log)) == (How.CANCELLED, [0, 1, 2])


@pytest.mark.parametrize("ends", ["returns", "raises", "is cancelled"])
def test_what_a_body_has_started_and_left_is_over_before_its_end_is_told(ends):
    async def body(self):
        async def left():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                self.log.append("left is over")

        self.child = asyncio.create_task(left())
        await asyncio.sleep(0)
        if ends == "raises":
            raise ValueError("broken")
        if ends == "is cancelled":
            self.cancel.set("now")
            await asyncio.Event().wait()

    task = made(body)

    def told(moment):
        if moment.place is Place.RETURNED:
            task.log.append("told")
        return moment.place is Place.RETURNED

    run_task(task, cancel=told)

    assert task.log == ["left is over", "told"]
    assert task.child.done()


def test_a_cancelled_error_of_its_own_making_is_a_failure():
    async def body(self):
        raise asyncio.CancelledError("mine")

    run = run_task(made(body))

    assert run.how is How.RAISED
    assert isinstance(run.error, TaskExited)


def test_an_error_in_the_cleanup_is_told_as_the_failure():
    async def body(self):
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cleanup broke")

    run = run_task(made(body), cancel=at_checkpoint(1))

    assert (run.how, str(run.error)) == (How.RAISED, "cleanup broke")


def test_data_of_a_checkpoint_is_stored_before_the_cancel_is_delivered():
    async def body(self):
        for number in range(9):
            await self.checkpoint({"done": number})

    task = made(body)
    run = run_task(task, cancel=at_data({"done": 4}))
    run.revert()

    assert (run.how, task.log) == (How.CANCELLED, [("undo", INTERRUPTED, {"done": 4})])


def test_data_that_is_no_json_fails_the_task():
    async def body(self):
        await self.checkpoint({1, 2})

    assert isinstance(run_task(made(body)).error, PayloadError)


def test_sleeps_are_by_the_clock_of_the_test():
    async def body(self):
        await self.sleep(3600)

    run = run_task(made(body))

    assert run.clock.elapsed == 3600


def test_past_its_limit_it_fails_at_its_next_await_and_is_cleaned_up():
    async def body(self):
        try:
            while True:
                await self.sleep(4)
        finally:
            await asyncio.sleep(0)
            self.log.append("cleaned")

    task = made(body, limit_seconds=10)
    run = run_task(task)

    assert (run.how, type(run.error), task.log) == (How.RAISED, OutOfTime, ["cleaned"])
    assert run.clock.elapsed == 12


def test_in_an_undo_nothing_is_delivered_however_it_waits():
    async def undo(self, result):
        for _ in range(3):
            await asyncio.sleep(0)
        await self.checkpoint()
        self.cancel.check()
        self.log.append("all undone")

    class Undone(AsyncTask):
        execute = waits
        revert = undo

    task = Undone()
    task.log = []
    run = run_task(task, cancel=at_checkpoint(1))

    assert run.revert()
    assert task.log[-1] == "all undone"


def test_a_body_may_call_that_of_its_base():
    class Base(AsyncTask):
        async def execute(self, n):
            await asyncio.sleep(0)
            return n

    class Derived(Base):
        async def execute(self, n):
            return await super().execute(n) + 1

    assert run_task(Derived(), {"n": 1}).result == 2


def test_a_task_that_a_conductor_would_run_runs_in_any_engine_of_taskflow():
    async def body(self, n):
        await asyncio.sleep(0)
        return n + 1

    class Provides(AsyncTask):
        default_provides = "m"
        execute = body

    assert engines.run(linear_flow.Flow("f").add(Provides()), store={"n": 1})["m"] == 2


def test_a_plain_body_is_refused_with_what_to_write():
    with pytest.raises(
        TypeError, match=r"execute is not async: an AsyncTask runs an `async def execute\(self"
    ):

        class Plain(AsyncTask):
            def execute(self): ...

    with pytest.raises(TypeError, match=r"revert is not async"):

        class PlainUndo(AsyncTask):
            execute = waits

            def revert(self): ...


@pytest.mark.parametrize("name", ["checkpoint", "sleep", "shield"])
def test_what_running_relies_on_may_not_be_hidden(name):
    with pytest.raises(TypeError, match=f"hides AsyncTask.{name}"):
        type("Hides", (AsyncTask,), {name: lambda self: None, "execute": waits})


def test_a_plain_task_with_an_async_body_is_told_of_this_kind():
    with pytest.raises(TypeError, match="an AsyncTask runs this one"):
        type("Wrong", (CancelableTask,), {"execute": waits})


def test_a_task_may_be_copied_and_pickled_without_its_loop():
    task = Copied()
    run_task(task)

    assert pickle.loads(pickle.dumps(copy.copy(task))).name == task.name


class Copied(AsyncTask):
    async def execute(self):
        await asyncio.sleep(0)
