"""AsyncRemotePoster: an `AsyncPoster` that asks an API server instead of a store."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator

from ebbtide.api.client.connection import Event, EventConnection
from ebbtide.api.client.following import STREAM_SECONDS, Following
from ebbtide.api.client.poster import RemotePoster, path_of
from ebbtide.api.client.records import read
from ebbtide.errors import JobNotFound, StoreUnavailable
from ebbtide.flows.published import PublishedFlows
from ebbtide.jobs.inthreads import InThreads, in_thread
from ebbtide.jobs.poster import WATCH_SECONDS
from ebbtide.jobs.records import Chunk, Entry, Job
from ebbtide.jobs.streams import rests

__all__ = ["AsyncRemotePoster"]


class AsyncRemotePoster(InThreads[RemotePoster]):
    """A `RemotePoster` whose methods are awaited; they have the same names, arguments and errors.

        async with AsyncRemotePoster("http://127.0.0.1:8765", token) as poster:
            job = await poster.post("answer", {"prompt": "hello"})
            async for entry in poster.follow(job.id):
                print(entry.name)

    Waiting, following and watching hold no thread, but a stream each: the server allows a token 64 of them
    unless told otherwise. For one event loop; opened by ``async with``.
    """

    def __init__(self, server: str, token: str) -> None:
        super().__init__(functools.partial(RemotePoster, server, token))
        self._streams = EventConnection(server, token)

    async def __aenter__(self) -> AsyncRemotePoster:
        await self._open()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections. May be called twice."""
        await self._streams.close()
        if self._poster is not None:
            poster, self._poster = self._poster, None
            await self._call(poster.close)
        self._pool.shutdown(wait=False)

    @property
    def registry(self) -> PublishedFlows:
        """As `RemotePoster.registry`; it asks the server, and does so in the calling thread."""
        return self._opened.registry

    post = in_thread(RemotePoster.post)
    cancel = in_thread(RemotePoster.cancel)
    retry = in_thread(RemotePoster.retry)
    unpark = in_thread(RemotePoster.unpark)
    accept = in_thread(RemotePoster.accept)
    delete = in_thread(RemotePoster.delete)
    show = in_thread(RemotePoster.show)
    list = in_thread(RemotePoster.list)
    tasks = in_thread(RemotePoster.tasks)
    entries = in_thread(RemotePoster.entries)
    logs = in_thread(RemotePoster.logs)
    chunks = in_thread(RemotePoster.chunks)
    result = in_thread(RemotePoster.result)
    cancel_many = in_thread(RemotePoster.cancel_many)
    delete_many = in_thread(RemotePoster.delete_many)
    retry_many = in_thread(RemotePoster.retry_many)
    preview = in_thread(RemotePoster.preview)
    receipt = in_thread(RemotePoster.receipt)
    conductors = in_thread(RemotePoster.conductors)
    pause = in_thread(RemotePoster.pause)
    pause_many = in_thread(RemotePoster.pause_many)
    pause_flow = in_thread(RemotePoster.pause_flow)
    paused_flows = in_thread(RemotePoster.paused_flows)
    resume = in_thread(RemotePoster.resume)
    resume_many = in_thread(RemotePoster.resume_many)
    resume_flow = in_thread(RemotePoster.resume_flow)
    rewind = in_thread(RemotePoster.rewind)
    savepoints = in_thread(RemotePoster.savepoints)
    statistics = in_thread(RemotePoster.statistics)

    async def wait(self, job_id: str, timeout: float | None = None) -> Job:
        """As `Poster.wait`."""
        async with contextlib.aclosing(self._events(job_id, timeout)) as events:
            async for event, value in events:
                if event == "job" and rests(job := read(Job, value)):
                    return job
        raise JobNotFound(job_id)  # it was deleted meanwhile

    async def follow(self, job_id: str, timeout: float | None = None) -> AsyncIterator[Entry]:
        """As `Poster.follow`. A stream that breaks is taken up where it was."""
        async with contextlib.aclosing(self._events(job_id, timeout)) as events:
            async for event, value in events:
                if event == "entry":
                    yield read(Entry, value)

    async def watch(self, job_id: str, seconds: float = WATCH_SECONDS) -> AsyncIterator[Job]:
        """As `RemotePoster.watch`."""
        async with contextlib.aclosing(self._events(job_id, None)) as events:
            async for event, value in events:
                if event == "job":
                    yield (job := read(Job, value))
                    if not rests(job):
                        await asyncio.sleep(seconds)
                        yield job
                elif event == "deleted":
                    raise JobNotFound(job_id)

    async def stream(self, job_id: str, after: int = 0, timeout: float | None = None) -> AsyncIterator[Chunk]:
        """As `Poster.stream`; asked for four times a second."""
        following = Following(job_id, timeout)
        while True:
            # The job is read first: what it has sent by then is surely among what is read after it.
            job = await self.show(job_id)
            while chunks := await self.chunks(job_id, after):
                after = chunks[-1].number
                for chunk in chunks:
                    yield chunk
            if rests(job):
                return
            following.left()
            await asyncio.sleep(STREAM_SECONDS)

    async def _events(self, job_id: str, timeout: float | None) -> AsyncGenerator[Event, None]:
        """As `RemotePoster._events`."""
        following, path = Following(job_id, timeout), f"{path_of(job_id)}/events"
        while True:
            left = following.left()
            try:
                async with contextlib.aclosing(
                    self._streams.events(path, silence_seconds=left, **following.query)
                ) as events:
                    async for event, value in events:
                        last = following.note(event, value)
                        yield event, value
                        if last:
                            return
                        following.left()
                pause = following.pause()
            except TimeoutError:
                continue  # either all the time is over, or the server was silent for too long
            except StoreUnavailable as error:
                pause = following.pause(error)
            await asyncio.sleep(pause)
