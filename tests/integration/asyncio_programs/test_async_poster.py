"""AsyncPoster: the names of Poster; who waits, follows or streams holds no thread."""

import asyncio
import inspect
import threading

import pytest

from ebbtide import AsyncPoster, Conductor, Poster
from ebbtide.config import Settings
from ebbtide.errors import FlowNotFound, UsageError
from ebbtide.flows import load_flows


def run(coroutine):
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


def test_it_has_what_a_poster_has():
    names = {name for name, _ in inspect.getmembers(Poster, inspect.isfunction) if not name.startswith("_")}

    # `acting_for` gives another Poster: that is for servers.
    missing = names - {"signal", "marks", "acting_for"} - set(dir(AsyncPoster))

    assert missing == set(), f"add to AsyncPoster: {missing}"


def test_many_wait_follow_and_stream_by_one_thread(database, flows):
    async def program():
        async with AsyncPoster(database, registry=load_flows()) as poster:
            jobs = [await poster.post("talks", {"words": ["a", "b"]}) for _ in range(30)]
            waits = [asyncio.create_task(poster.wait(job.id, timeout=30)) for job in jobs]
            streams = [asyncio.create_task(collect(poster.stream(job.id, timeout=30))) for job in jobs]
            histories = [asyncio.create_task(collect(poster.follow(job.id, timeout=30))) for job in jobs]
            await asyncio.sleep(0)
            conductor = Conductor(Settings(database=database, isolation="thread"), registry=load_flows())
            conductor.start()
            try:
                ended = await asyncio.gather(*waits)
                told = await asyncio.gather(*streams, *histories)
                watching = [t for t in threading.enumerate() if t.name == "ebbtide-watch"]
            finally:
                conductor.stop()
                await asyncio.to_thread(conductor.wait)
            return ended, told, len(watching)

    async def collect(items):
        return [item async for item in items]

    ended, told, watching = run(program())

    assert {job.state for job in ended} == {"completed"}
    assert [[chunk.value for chunk in chunks] for chunks in told[:30]] == [["a", "b"]] * 30
    assert all(entries[-1].name == "completed" for entries in told[30:])
    assert watching <= 1


def test_errors_are_those_of_a_poster(database, flows):
    async def program():
        async with AsyncPoster(database, registry=load_flows()) as poster:
            with pytest.raises(FlowNotFound):
                await poster.post("no-such-flow")
            job = await poster.post("talks", {"words": []})
            with pytest.raises(TimeoutError, match="still pending after 0 seconds"):
                await poster.wait(job.id, timeout=0)
        with pytest.raises(UsageError, match="not open"):
            await poster.show(job.id)

    run(program())
