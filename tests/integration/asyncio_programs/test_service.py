"""Service: jobs inside an asyncio program; it shuts down in phases, and what it released goes on later."""

import asyncio
import logging

import pytest

from ebbtide import Service
from ebbtide.conductor.embedding import NotAccepting, ServiceEnd
from ebbtide.errors import ConfigError


def run(coroutine):
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


async def until(predicate):
    async with asyncio.timeout(30):
        while not predicate():
            await asyncio.sleep(0.005)


def test_a_job_is_posted_streamed_and_waited_for(database, flows, caplog):
    caplog.set_level(logging.INFO)

    async def program():
        async with Service(database, flows=[flows["talks"]]) as service:
            job = await service.post("talks", {"words": ["a", "b"]})
            values = [chunk.value async for chunk in service.stream(job.id, timeout=30)]
            names = [entry.name async for entry in service.follow(job.id, timeout=30)]
            ended = await service.wait(job.id, timeout=30)
            return values, names, ended.state, await service.poster.result(job.id)

    assert run(program()) == (["a", "b"], ["posted", "claimed", "completed"], "completed", {"said": "ab"})
    phases = [r.getMessage().split()[0] for r in caplog.records if r.getMessage().startswith("service.")]
    assert phases == ["service.ready", "service.accepts_no_more", "service.waited", "service.ended"]


def test_what_runs_may_end_within_the_limit_and_nothing_new_is_taken(database, flows, waiting):
    async def program():
        async with Service(database, flows=flows.values(), shutdown_seconds=30) as service:
            job = await service.post("waits")
            queued = [await service.post("waits") for _ in range(4)]
            await until(lambda: len(waiting.log) == 4)
            shutting = asyncio.create_task(service.shutdown())
            await until(lambda: not service.accepting)
            with pytest.raises(NotAccepting):
                await service.post("waits")
            waiting.let_on = True
            end = await shutting
        return end, job, queued

    end, _, _ = run(program())

    assert end == ServiceEnd({"completed": 4}, released=0)


def test_the_rest_is_cancelled_and_undone(database, flows, waiting):
    async def program():
        async with Service(database, flows=flows.values(), shutdown_seconds=0, rest="cancel") as service:
            await service.post("waits")
            await until(lambda: waiting.log)
            return await service.shutdown()

    assert run(program()) == ServiceEnd({"cancelled": 1}, released=0)
    assert waiting.log == [("begins", False), "left", "undone"]


def test_the_rest_is_released_and_goes_on_when_the_program_starts_again(database, flows, waiting):
    async def program():
        async with Service(database, flows=flows.values()) as service:
            jobs = [await service.post("waits") for _ in range(3)]
            await until(lambda: len(waiting.log) == 3)
            return jobs, await service.shutdown(timeout=0, rest="release")

    jobs, end = run(program())
    assert end == ServiceEnd({}, released=3)
    assert "undone" not in waiting.log
    waiting.log.clear()
    waiting.let_on = True

    async def program_again():
        async with Service(database, flows=flows.values()) as service:
            return [(await service.wait(job.id, timeout=30)).state for job in jobs]

    assert run(program_again()) == ["completed"] * 3
    assert waiting.log.count(("begins", True)) == 3


def test_only_the_flows_that_are_named_are_taken(database, flows):
    async def program():
        async with Service(database, flows=[flows["talks"]]) as service:
            return {definition.name for definition in service.poster.registry.definitions()}

    assert run(program()) == {"talks"}


def test_flows_of_the_program_itself_are_refused_for_processes(database, flows, monkeypatch):
    monkeypatch.setattr(flows["talks"], "__module__", "__main__")
    with pytest.raises(ConfigError, match="put them into a module"):
        Service(database, flows=[flows["talks"]], isolation="process")


def test_what_keeps_it_from_starting_is_raised(database, flows):
    async def program():
        async with Service(database, flows=["no_such_module_anywhere"]):
            pass

    with pytest.raises(ConfigError, match="no_such_module_anywhere"):
        run(program())
