"""TaskManager: each test is one that a dict of `asyncio.create_task` would fail."""

import asyncio
import contextlib
import gc
import inspect
import logging
import weakref

import pytest

from ebbtide.tasks.manager import (
    ManagedCancelled,
    NotAccepting,
    Statistics,
    StreamEnd,
    TaskExists,
    TaskManager,
    TaskStatus,
    UnknownTask,
)


def in_loop(test):
    """Run a coroutine test."""

    def run(*args, **kwargs):
        with asyncio.Runner() as runner:
            runner.run(test(*args, **kwargs))

    run.__name__ = test.__name__
    run.__signature__ = inspect.signature(test)
    return run


class Returned:
    """What a task has returned, and may be referred to weakly."""


async def returns(value=None):
    await asyncio.sleep(0)
    return value


async def fails(text="broken"):
    await asyncio.sleep(0)
    raise ValueError(text)


async def for_ever(log=None):
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        if log is not None:
            log.append("cleaned")


async def stubborn(let_go):
    while not let_go.is_set():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def begun():
    for _ in range(3):
        await asyncio.sleep(0)


@in_loop
async def test_a_task_is_waited_for_and_its_result_is_kept():
    manager = TaskManager()
    manager.start("a", returns(3))

    assert manager.status("a") is TaskStatus.RUNNING
    assert await manager.wait("a") == 3
    assert await manager.wait("a") == 3
    assert manager.status("a") is TaskStatus.COMPLETED


@in_loop
async def test_no_task_is_collected_while_it_runs():
    manager = TaskManager()

    async def waits_for_nobody_else():
        future = asyncio.get_running_loop().create_future()
        held.append(weakref.ref(future))
        await future

    held = []
    manager.start("a", waits_for_nobody_else())
    await begun()
    gc.collect()

    assert held[0]() is not None
    assert manager.status("a") is TaskStatus.RUNNING
    manager.cancel("a")
    with pytest.raises(ManagedCancelled):
        await manager.wait("a")


@in_loop
async def test_who_waits_and_is_cancelled_stops_waiting_and_the_task_goes_on():
    manager = TaskManager()
    manager.start("a", for_ever())
    waiter = asyncio.create_task(manager.wait("a"))
    await begun()

    waiter.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert manager.status("a") is TaskStatus.RUNNING
    await manager.shutdown(0)


@in_loop
async def test_the_cancel_of_a_task_is_no_cancel_of_who_waits_for_it():
    manager = TaskManager()
    log = []
    manager.start("a", for_ever(log))
    await begun()

    assert manager.cancel("a")

    with pytest.raises(ManagedCancelled, match="task a was cancelled"):
        await manager.wait("a")
    assert log == ["cleaned"]
    assert manager.status("a") is TaskStatus.CANCELLED
    assert not manager.cancel("a")


@in_loop
async def test_a_wait_has_a_limit_and_the_task_none():
    manager = TaskManager()
    manager.start("a", for_ever())

    with pytest.raises(TimeoutError, match="task a still runs after 0 seconds"):
        await manager.wait("a", timeout=0)
    await begun()
    assert manager.status("a") is TaskStatus.RUNNING
    await manager.shutdown(0)


@in_loop
async def test_a_failure_that_nobody_waits_for_is_logged_once_and_one_that_is_waited_for_is_raised(caplog):
    manager = TaskManager("work")
    manager.start("alone", fails("nobody hears"))
    manager.start("awaited", fails("heard"))
    with pytest.raises(ValueError, match="heard"):
        await manager.wait("awaited")
    await begun()

    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert told == ["work: task alone failed"]
    assert "nobody hears" in caplog.text
    with pytest.raises(ValueError, match="nobody hears"):
        await manager.wait("alone")


@in_loop
async def test_an_id_is_used_by_one_task_at_a_time():
    manager = TaskManager()
    manager.start("a", for_ever())

    with pytest.raises(TaskExists, match="task a runs already"):
        manager.start("a", returns())
    manager.cancel("a")
    with pytest.raises(ManagedCancelled):
        await manager.wait("a")
    manager.start("a", returns(1))
    assert await manager.wait("a") == 1


@in_loop
async def test_an_id_that_nobody_knows_is_told():
    manager = TaskManager(keep=1)
    for name in ("a", "b"):
        manager.start(name, returns())
        await manager.wait(name)

    with pytest.raises(UnknownTask):
        manager.status("a")
    assert manager.status("b") is TaskStatus.COMPLETED


@in_loop
async def test_the_failure_of_one_member_leaves_the_others_alone_and_is_collected(caplog):
    manager = TaskManager()
    gate = asyncio.Event()

    async def slow():
        await gate.wait()

    manager.start("bad", fails(), group="g")
    manager.start("good", slow(), group="g")
    manager.start("other", for_ever())
    await begun()
    assert manager.status("good") is TaskStatus.RUNNING
    gate.set()
    end = await manager.stop_group("g")

    assert (end.completed, end.cancelled, end.running) == (["good"], [], [])
    assert [str(error) for error in end.failures.values()] == ["broken"]
    with pytest.raises(NotAccepting, match="group g"):
        manager.start("late", returns(), group="g")
    manager.start("elsewhere", returns())
    await manager.shutdown(0)


@in_loop
async def test_of_groups_that_nobody_stops_no_more_is_kept_than_of_other_tasks():
    """A group for each conversation: what has ended of all of them would fill the memory."""
    manager = TaskManager(keep=3)
    results = []
    for number in range(10):
        result = Returned()
        results.append(weakref.ref(result))
        manager.start(str(number), returns(result), group=f"conversation {number}")
        del result
        await manager.wait(str(number))
    gc.collect()

    assert sum(result() is not None for result in results) == 3
    assert (await manager.stop_group("conversation 9")).completed == ["9"]
    assert (await manager.stop_group("conversation 0")).completed == []


@in_loop
async def test_a_group_is_cancelled_whole_even_by_one_of_its_own():
    manager = TaskManager()
    log, ends = [], []

    async def cancels_all():
        ends.append(await manager.cancel_group("g"))

    manager.start("a", for_ever(log), group="g")
    manager.start("b", for_ever(log), group="g")
    await begun()
    manager.start("self", cancels_all(), group="g")
    await manager.wait("self")

    assert log == ["cleaned", "cleaned"]
    assert sorted(ends[0].cancelled) == ["a", "b"]
    assert ends[0].running == ["self"]


@in_loop
async def test_a_shutdown_waits_first_and_cancels_then(caplog):
    caplog.set_level(logging.INFO)
    manager = TaskManager("work")
    log = []
    gate = asyncio.Event()

    async def finishes():
        await gate.wait()
        log.append("finished")

    manager.start("quick", finishes())
    manager.start("slow", for_ever(log))
    await begun()
    shutting = asyncio.create_task(manager.shutdown(0.2))
    await begun()
    assert not manager.accepting
    with pytest.raises(NotAccepting, match="shutting down"):
        manager.start("late", returns())
    gate.set()
    statistics = await shutting

    assert log == ["finished", "cleaned"]
    assert statistics == Statistics(started=2, completed=1, cancelled=1, refused=1)
    phases = [r.getMessage().split(":")[1].split(";")[0] for r in caplog.records if r.levelno == logging.INFO]
    assert phases == [" accepts no more", " waited", " shut down"]
    assert caplog.messages[-1].endswith(": shut down: 2 started, 1 completed, 1 cancelled, 1 refused")


@in_loop
async def test_what_swallows_its_cancel_is_cancelled_again_and_then_named(caplog):
    manager = TaskManager()
    let_go = asyncio.Event()
    manager.start("deaf", stubborn(let_go))
    await begun()

    statistics = await manager.shutdown(0, cancel_timeout=0)

    assert statistics.running == 1
    assert "do not end although they are cancelled: deaf" in caplog.text
    let_go.set()
    manager.cancel("deaf")
    await manager.wait("deaf")


@in_loop
async def test_what_swallows_one_cancel_meets_another():
    manager = TaskManager()
    swallowed = []

    async def swallows_one():
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            swallowed.append(error)
        await asyncio.Event().wait()

    manager.start("deaf", swallows_one())
    await begun()

    statistics = await manager.shutdown(0, cancel_timeout=30)

    assert (len(swallowed), statistics.cancelled) == (1, 1)


@in_loop
async def test_a_task_may_shut_down_the_manager_that_it_is_one_of():
    manager = TaskManager()
    manager.start("last", manager.shutdown(3600, cancel_timeout=3600))
    manager.start("other", returns())

    async with asyncio.timeout(30):
        statistics = await manager.wait("last")

    assert (statistics.completed, statistics.running) == (1, 1)


@in_loop
async def test_a_shutdown_that_is_cancelled_says_so():
    manager = TaskManager()
    manager.start("a", for_ever())
    shutting = asyncio.create_task(manager.shutdown(60))
    await begun()
    shutting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await shutting
    await manager.shutdown(0)


class Source:
    """Yields what it is given, then waits; knows whether it was closed."""

    def __init__(self, *items, waits=True):
        self.closed = False
        self.items, self.waits = items, waits

    async def run(self):
        try:
            for item in self.items:
                yield item
            if self.waits:
                await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            self.closed = True


@in_loop
async def test_a_stream_passes_on_and_ends_with_its_source():
    manager = TaskManager()
    source = Source(1, 2, waits=False)

    assert [item async for item in manager.stream(source.run())] == [1, 2]
    assert source.closed
    assert manager.statistics.streams == 0


@in_loop
async def test_on_a_shutdown_a_stream_ends_with_a_mark_and_closes_its_source():
    manager = TaskManager()
    source = Source(1)
    stream = manager.stream(source.run())
    assert await anext(stream) == 1
    assert manager.statistics.streams == 1
    rest = asyncio.create_task(anext(stream))
    await begun()

    await manager.shutdown(0)

    assert await rest == StreamEnd("it is shutting down")
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
    assert source.closed
    assert [item async for item in manager.stream(Source(1).run())] == [StreamEnd("it is shutting down")]


@in_loop
async def test_a_reader_that_is_cancelled_is_cancelled_and_the_source_closed():
    manager = TaskManager()
    source = Source(1)

    async def read():
        async for _ in manager.stream(source.run()):
            pass

    reader = asyncio.create_task(read())
    for _ in range(5):
        await begun()
    reader.cancel()

    with pytest.raises(asyncio.CancelledError):
        await reader
    assert source.closed


@in_loop
async def test_an_error_of_the_source_reaches_who_reads():
    async def source():
        yield 1
        raise ValueError("broken")

    manager = TaskManager()
    stream = manager.stream(source())
    assert await anext(stream) == 1
    with pytest.raises(ValueError, match="broken"):
        await anext(stream)
