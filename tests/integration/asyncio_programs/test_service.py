"""Service: jobs inside an asyncio program; it shuts down in phases, and what it released goes on later."""

import asyncio
import logging
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from ebbtide import Poster, Service
from ebbtide.conductor import Conductor
from ebbtide.conductor.embedding import NotAccepting, ServiceEnd
from ebbtide.config import load_settings
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


def test_a_job_that_ends_just_before_it_is_cancelled_keeps_no_other_from_being_cancelled(
    database, flows, waiting, monkeypatch
):
    async def program():
        async with Service(database, flows=flows.values(), shutdown_seconds=0, rest="cancel") as service:
            jobs = [await service.post("waits") for _ in range(3)]
            await until(lambda: len(waiting.log) == 3)
            cancel, first, late = service.poster.cancel, [], asyncio.Event()

            async def cancel_late(job, reason):
                if not first:
                    first.append(job)
                    await late.wait()
                    waiting.let_on = True
                    await service.wait(job, timeout=30)
                    await service.poster.delete(job)
                else:
                    await cancel(job, reason)
                    await service.wait(job, timeout=30)
                    late.set()
                return await cancel(job, reason)

            monkeypatch.setattr(service.poster, "cancel", cancel_late)
            return len(jobs), await service.shutdown()

    assert run(program()) == (3, ServiceEnd({"cancelled": 2}, released=0))


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


def conducting():
    """The threads of conductors that there are."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("ebbtide-conductor")]


def test_cancelled_while_it_starts_it_leaves_no_conductor_behind(database, flows, monkeypatch):
    reached, go_on = threading.Event(), threading.Event()
    store_of = Conductor._open_store

    def slowly(conductor):
        reached.set()
        assert go_on.wait(30)
        return store_of(conductor)

    monkeypatch.setattr(Conductor, "_open_store", slowly)

    async def program():
        async def start():
            async with Service(database, flows=flows.values()):
                raise AssertionError("it was cancelled before")

        starting = asyncio.create_task(start())
        await until(reached.is_set)
        starting.cancel()
        await asyncio.sleep(0)
        starting.cancel()  # whoever does not like to wait
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await starting
        return conducting()

    assert run(program()) == []


def test_cancelled_while_it_shuts_down_it_releases_what_runs_and_has_ended_then(database, flows, waiting):
    async def program():
        async def serve(posted):
            async with Service(database, flows=flows.values(), shutdown_seconds=3600) as service:
                posted.set_result(await service.post("waits"))
                await until(lambda: waiting.log)

        posted = asyncio.get_running_loop().create_future()
        serving = asyncio.create_task(serve(posted))
        job = await posted
        await until(lambda: waiting.log)
        serving.cancel()
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        return job, conducting()

    job, left = run(program())

    assert left == []
    assert waiting.log == [("begins", False), "left"]
    with Poster(database) as poster:
        assert poster.show(job.id).state in ("running", "pending")  # whoever comes next goes on with it


def test_two_who_shut_it_down_at_once_are_told_the_same(database, flows, waiting):
    async def program():
        async with Service(database, flows=flows.values(), shutdown_seconds=0) as service:
            await service.post("waits")
            await until(lambda: waiting.log)
            return await asyncio.gather(service.shutdown(), service.shutdown())

    assert run(program()) == [ServiceEnd({}, released=1)] * 2


# In processes


@pytest.fixture
def steps(tmp_path, monkeypatch):
    """A module of flows that processes can import; their tasks write down what they do, and where."""
    shutil.copy(Path(__file__).with_name("steps_in_processes.py"), tmp_path / "steps_of_a_service.py")
    monkeypatch.syspath_prepend(str(tmp_path))
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", paths.rstrip(os.pathsep))
    yield Noted(tmp_path / "noted")
    sys.modules.pop("steps_of_a_service", None)


class Noted:
    """What was written down."""

    def __init__(self, path):
        self.path = path

    @property
    def lines(self):
        return [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []

    def count(self, word):
        return sum(line[0] == word for line in self.lines)


def in_processes(database, **options):
    return Service(database, flows=["steps_of_a_service"], isolation="process", **options)


def test_in_processes_each_job_runs_in_one_of_its_own_and_is_streamed(database, flows, steps):
    async def program():
        async with in_processes(database, runners=2) as service:
            jobs = [await service.post("says-its-process", {"noted": str(steps.path)}) for _ in range(2)]
            chunks = [[c.value async for c in service.stream(job.id, timeout=30)] for job in jobs]
            ended = [(await service.wait(job.id, timeout=30)).state for job in jobs]
            return chunks, ended

    chunks, ended = run(program())

    assert ended == ["completed"] * 2
    assert [len(each) for each in chunks] == [1, 1]
    assert os.getpid() not in chunks[0] + chunks[1]


def test_in_processes_a_deaf_task_is_ended_and_undone_when_the_rest_is_cancelled(database, flows, steps):
    async def program():
        settings = load_settings(database=database, environ={"EBBTIDE_GRACE_SECONDS": "0.1"})
        async with in_processes(database, settings=settings, shutdown_seconds=0, rest="cancel") as service:
            await service.post("deaf", {"noted": str(steps.path)})
            await until(lambda: steps.count("begins"))
            return await service.shutdown()

    assert run(program()) == ServiceEnd({"cancelled": 1}, released=0)
    assert [line[0] for line in steps.lines] == ["begins", "undone"]
    assert not Path("/proc", steps.lines[0][1]).exists()


def test_in_processes_a_deaf_task_that_is_released_is_cut_off_and_begins_again(database, flows, steps):
    async def program():
        async with in_processes(database) as service:
            job = await service.post("deaf", {"noted": str(steps.path)})
            await until(lambda: steps.count("begins"))
            return job, await service.shutdown(timeout=0, rest="release")

    job, end = run(program())
    assert end == ServiceEnd({}, released=1)
    assert not Path("/proc", steps.lines[0][1]).exists()

    async def program_again():
        async with in_processes(database, shutdown_seconds=0) as service:
            await until(lambda: steps.count("begins") == 2)
            await service.cancel(job.id)
            return (await service.wait(job.id, timeout=30)).state

    assert run(program_again()) == "cancelled"
    assert [line[0] for line in steps.lines] == ["begins", "begins", "undone"]
