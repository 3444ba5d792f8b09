"""AsyncRemotePoster: the names of RemotePoster, awaited; who waits holds a stream and no thread."""

import asyncio
import inspect
import threading

import pytest

from ebbtide.api.client import AsyncRemotePoster, RemotePoster
from ebbtide.errors import FlowNotFound, JobNotFound, StoreUnavailable, UsageError

MANY = 40


def run(coroutine):
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


def test_it_has_what_a_remote_poster_has():
    for name in {name for name in dir(RemotePoster) if not name.startswith("_")} - {"registry"}:
        mine, other = (getattr(kind, name) for kind in (AsyncRemotePoster, RemotePoster))
        assert list(inspect.signature(mine).parameters) == list(inspect.signature(other).parameters), name


def test_many_wait_and_follow_at_once_without_a_thread_each(serving, token, poster):
    own = poster.acting_for("ann", jobs_of="ann")

    async def program():
        async with AsyncRemotePoster(serving, token()) as remote:
            jobs = [await remote.post("add", {"a": number}) for number in range(MANY // 2)]
            waiting = [asyncio.create_task(remote.wait(job.id, timeout=30)) for job in jobs]
            following = [asyncio.create_task(collect(remote.follow(job.id, timeout=30))) for job in jobs]
            watched = remote.watch(jobs[0].id)
            first = await anext(watched)
            threads = [each for each in threading.enumerate() if each.name.startswith("ebbtide-poster")]
            for job in jobs:
                await asyncio.to_thread(own.cancel, job.id, "spring")
            rest = [job.state async for job in watched]
            return await asyncio.gather(*waiting), await asyncio.gather(*following), threads, first, rest

    async def collect(entries):
        return [entry.name async for entry in entries]

    ended, told, threads, first, rest = run(program())

    assert {job.state for job in ended} == {"cancelled"}
    assert {entries[-1] for entries in told} == {"cancelled_unclaimed"}
    assert len(threads) < MANY / 2
    assert (first.state, rest[-1]) == ("pending", "cancelled")


def test_errors_are_those_of_a_poster(serving, token):
    async def program():
        async with AsyncRemotePoster(serving, token()) as remote:
            with pytest.raises(FlowNotFound):
                await remote.post("no-such-flow")
            for call in (remote.wait("ffffffff"), anext(remote.follow("ffffffff")), remote.show("../x")):
                with pytest.raises(JobNotFound):
                    await call
            job = await remote.post("add", {"a": 1})
            for call in (remote.wait(job.id, 0.2), drained(remote.stream(job.id, timeout=0.2))):
                with pytest.raises(TimeoutError, match="does not rest after"):
                    await call
        with pytest.raises(UsageError, match="not open"):
            await remote.show(job.id)

    async def drained(chunks):
        return [chunk async for chunk in chunks]

    run(program())


def test_a_job_that_is_deleted_while_it_is_waited_for_is_told(serving, token, poster):
    async def program():
        async with AsyncRemotePoster(serving, token()) as remote:
            job = await remote.post("add", {"a": 1})
            watched = remote.watch(job.id)
            await anext(watched)
            waiting = asyncio.create_task(remote.wait(job.id, timeout=30))
            await asyncio.to_thread(poster.delete, job.id)
            with pytest.raises(JobNotFound):
                await waiting
            with pytest.raises(JobNotFound):
                [each async for each in watched]

    run(program())


def test_a_server_that_was_never_there_is_told_at_once():
    async def program():
        async with AsyncRemotePoster("http://127.0.0.1:9", "ebt_x") as remote:
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                await remote.wait("ff")

    run(program())
